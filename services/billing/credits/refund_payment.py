"""Taking back money that went back to who paid it: once for each refund or lost dispute, also below zero."""

from datetime import datetime
from decimal import Decimal
from hashlib import blake2b

from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts import Event
from rappen_contracts.payment.v1 import PaymentRefunded
from services.billing.credits.credit_mandate import MandateCredit, credit_mandate
from services.billing.credits.credit_payment import CREDITED_REASONS
from services.billing.credits.repository import mark_refund, read_refund
from services.billing.credits.return_budget import take_budget
from services.billing.invoices.settle_invoice import settle_invoice
from services.billing.mandates.repository import LockedMandate
from services.billing.money import converted, post
from services.billing.pricing.rating import Tariff, no_rate
from services.billing.pricing.unposted import UnpostedEvent
from services.chassis.consumer import data_of

__all__ = ["refund_payment"]

_DESCRIPTIONS = {"refund": "Refund", "dispute_lost": "Lost dispute"}


async def refund_payment(
    connection: AsyncConnection, mandate: LockedMandate, event: Event, tariff: Tariff, *, now: datetime
) -> str | UnpostedEvent:
    """Takes back what a payment was credited, in the caller's transaction, and says what became of the event (refunded,
    repeated, noted, waiting for the budget of a subscription's period, or a conflict with an earlier one of the
    refund), or, where it has to wait for a rate, the event to be parked.

    It does not look for the credit, which may come later by another topic. A dispute that was won took nothing. Of a
    subscription, its budget is taken back.
    The rate is that of the payment, so that a payment which went back as a whole leaves nothing.
    """
    refunded = data_of(event, PaymentRefunded)
    if refunded.outcome == "dispute_won":
        return "noted"
    digest = _digest(refunded)
    description = f"{_DESCRIPTIONS[refunded.outcome]}: {refunded.description or refunded.reference}"
    if refunded.reason not in CREDITED_REASONS:
        return await take_budget(connection, mandate, refunded, digest=digest, description=description, now=now)
    rate = tariff.rates.at(refunded.amount.currency, refunded.paid_at)
    amount = 0 if rate is None else post(converted(refunded.amount.amount, rate.rate), Decimal(0))[0]
    taken = MandateCredit(
        user_id=refunded.user_id,
        cause=f"refund/{refunded.refund_id}",
        amount=-amount,
        contra_account="PAYMENT_PROVIDER",
        reference_type="PAYMENT",
        reference_id=refunded.refund_id,
        description=description,
        occurred_at=refunded.refunded_at,
        created_by_user_id=refunded.created_by_user_id,
        transaction_type="ADJUSTMENT",
    )
    event_id = taken.event_id(mandate)
    known = await read_refund(connection, mandate.no, event_id)
    if known is not None:
        return "repeated" if known.digest == digest else "conflict"
    if rate is None:
        why = no_rate(refunded.amount.currency, refunded.paid_at)
        return UnpostedEvent.parked(mandate.no, event, why, now, tariff.revision)
    await credit_mandate(connection, mandate, taken, now=now)
    await mark_refund(
        connection,
        mandate.no,
        event_id,
        refund_id=refunded.refund_id,
        reference=refunded.reference,
        amount=amount,
        digest=digest,
        now=now,
    )
    if refunded.reason == "invoice":
        await settle_invoice(
            connection,
            mandate.no,
            event_id,
            refunded.reference,
            amount=-amount,
            paid_at=refunded.refunded_at,
            now=now,
        )
    return "refunded"


def _digest(refunded: PaymentRefunded) -> bytes:
    """A hash of what makes refunds the same, whichever event reports them."""
    amount = refunded.amount
    text = f"{refunded.reference}|{amount.amount.normalize():f}|{amount.currency}|{refunded.user_id}"
    return blake2b(text.encode(), digest_size=16).digest()
