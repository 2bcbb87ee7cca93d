"""Crediting money that arrived: one credit per payment, however often and by whichever event it is reported."""

from datetime import datetime
from decimal import Decimal
from hashlib import blake2b

from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts import Event
from rappen_contracts.payment.v1 import PaymentSucceeded
from services.billing.credits.credit_mandate import MandateCredit, credit_mandate
from services.billing.credits.repository import mark_payment, read_payment_mark
from services.billing.credits.return_budget import give_budget_again
from services.billing.invoices.settle_invoice import settle_invoice
from services.billing.mandates.repository import LockedMandate
from services.billing.money import converted, post
from services.billing.pricing.rating import Tariff, no_rate
from services.billing.pricing.unposted import UnpostedEvent
from services.billing.recharges.repository import mark_succeeded, read_recharged_account
from services.chassis.consumer import data_of

__all__ = ["CREDITED_REASONS", "credit_payment"]

# A subscription's payment gives its budget through subscription.changed, not a balance of its own. What is told of one
# came back after it had gone.
CREDITED_REASONS = frozenset({"top_up", "recharge", "invoice"})


async def credit_payment(
    connection: AsyncConnection, mandate: LockedMandate, event: Event, tariff: Tariff, *, now: datetime
) -> str | UnpostedEvent:
    """Credits a payment in the caller's transaction and says what became of it (credited, repeated, noted, or a
    conflict with an earlier event of it), or, where it has to wait for a rate, the event to be parked."""
    paid = data_of(event, PaymentSucceeded)
    if paid.reason not in CREDITED_REASONS:
        return await give_budget_again(connection, mandate, paid, digest=_digest(paid), now=now)
    rate = tariff.rates.at(paid.amount.currency, paid.paid_at)
    amount = 0 if rate is None else post(converted(paid.amount.amount, rate.rate), Decimal(0))[0]
    # A recharge is credited to the account that it was requested for, whatever the payment says of it.
    recharged = paid.recharge_id and await read_recharged_account(connection, mandate.no, paid.recharge_id)
    credit = MandateCredit(
        user_id=recharged.user_id if recharged else paid.user_id,
        cause=_cause(paid),
        amount=amount,
        contra_account="PAYMENT_PROVIDER",
        reference_type="PAYMENT",
        reference_id=paid.reference,
        description=paid.description or "Stripe payment",
        occurred_at=paid.paid_at,
        created_by_user_id=paid.created_by_user_id,
    )
    event_id, digest = credit.event_id(mandate), _digest(paid)
    known = await read_payment_mark(connection, mandate.no, event_id)
    if known is not None:
        return "repeated" if known["digest"] in (None, digest) else "conflict"
    if rate is None:
        why = no_rate(paid.amount.currency, paid.paid_at)
        return UnpostedEvent.parked(mandate.no, event, why, now, tariff.revision)
    await credit_mandate(connection, mandate, credit, now=now)
    await mark_payment(
        connection, mandate.no, event_id, reference=paid.reference, amount=amount, digest=digest, now=now
    )
    if paid.recharge_id is not None:
        await mark_succeeded(connection, mandate.no, paid.recharge_id, cause=paid.reference, now=now)
    if paid.reason == "invoice":
        await settle_invoice(
            connection, mandate.no, event_id, paid.reference, amount=amount, paid_at=paid.paid_at, now=now
        )
    return "credited"


def _cause(paid: PaymentSucceeded) -> str:
    """What makes a payment the same, whichever event reports it. An invoice can be paid in parts, each by a payment
    intent of its own."""
    intent = f"/{paid.stripe_payment_intent_id}" if paid.reason == "invoice" and paid.stripe_payment_intent_id else ""
    return f"payment/{paid.reference}{intent}"


def _digest(paid: PaymentSucceeded) -> bytes:
    """A hash of what makes payments the same, whichever event reports them: amount, currency, reason and user."""
    text = f"{paid.reason}|{paid.amount.amount.normalize():f}|{paid.amount.currency}|{paid.user_id}"
    return blake2b(text.encode(), digest_size=16).digest()
