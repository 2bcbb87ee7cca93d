"""Crediting money that arrived: one credit per payment, however often and by whichever event it is reported."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from hashlib import blake2b

from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts import Event
from rappen_contracts.payment.v1 import PaymentSucceeded
from services.billing.credits.credit_mandate import MandateCredit, credit_mandate
from services.billing.credits.repository import digest_of_parked_payment, mark_payment, read_payment_mark
from services.billing.ledger.domain import BEYOND_BALANCE_MAX
from services.billing.ledger.errors import BalanceOutOfRange
from services.billing.ledger.keys import ensure_mandates
from services.billing.mandates.repository import LockedMandate, lock_mandates, read_terms
from services.billing.money import converted, post
from services.billing.pricing.rating import Tariff, no_rate
from services.billing.pricing.repository import Tariffs
from services.billing.pricing.unposted import UnpostedEvent, insert_unposted
from services.billing.recharges.repository import mark_succeeded, read_recharged_account
from services.chassis.clock import Clock
from services.chassis.consumer import Received, data_of
from services.chassis.database import Database, savepoint
from services.chassis.metrics import EVENTS_CONSUMED
from services.chassis.quarantine import Refused, quarantine

__all__ = ["CreditPayments", "credit_payment"]

# Why an event of a payment is refused: code and detail.
_REFUSALS = {
    "conflict": ("CONFLICT", "the payment was reported with other data"),
    "too_large": ("AMOUNT_TOO_LARGE", BEYOND_BALANCE_MAX),
}
# A subscription's payment gives its budget through subscription.changed, not a balance of its own.
_CREDITED_REASONS = frozenset({"top_up", "recharge", "invoice"})


class CreditPayments:
    """The handler of payment.succeeded."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._tariffs = Tariffs()

    async def __call__(self, events: Sequence[Received], refused: Sequence[Refused]) -> Sequence[Refused]:
        """Settles a batch in one transaction."""
        now = self._clock()
        outcomes: list[str] = []
        rejected = list(refused)
        async with self._database.transaction() as connection:
            numbers = await ensure_mandates(
                connection, [data_of(received.event, PaymentSucceeded).mandate_id for received in events]
            )
            mandates = await lock_mandates(connection, numbers.values())
            for received in events:
                mandate = mandates[numbers[data_of(received.event, PaymentSucceeded).mandate_id]]
                try:
                    async with savepoint(connection):
                        outcome = await self._settle(connection, mandate, received.event, now)
                except BalanceOutOfRange:
                    outcome = "too_large"
                outcomes.append(outcome)
                if outcome in _REFUSALS:
                    rejected.append(Refused(received.record, *_REFUSALS[outcome]))
            await quarantine(connection, rejected, group="billing", now=now)
        for outcome in outcomes:
            EVENTS_CONSUMED.labels("payment.succeeded", outcome).inc()
        return rejected

    async def _settle(self, connection: AsyncConnection, mandate: LockedMandate, event: Event, now: datetime) -> str:
        # What is parked is credited from there, so that it never stands in both places.
        known = await digest_of_parked_payment(connection, mandate.no, event.id)
        if known is not None:
            return "repeated" if known == event.digest else "conflict"
        _, revision = await read_terms(connection, (), default_markup=Decimal(0))
        tariff = await self._tariffs.at(connection, revision)
        parked = await credit_payment(connection, mandate, event, tariff, now=now)
        if isinstance(parked, str):
            return parked
        await insert_unposted(connection, [parked])
        return "parked"


async def credit_payment(
    connection: AsyncConnection, mandate: LockedMandate, event: Event, tariff: Tariff, *, now: datetime
) -> str | UnpostedEvent:
    """Credits a payment in the caller's transaction and says what became of it (credited, repeated, noted, or a
    conflict with an earlier event of it), or, where it has to wait for a rate, the event to be parked."""
    paid = data_of(event, PaymentSucceeded)
    if paid.reason not in _CREDITED_REASONS:
        return "noted"
    rate = tariff.rates.at(paid.amount.currency, paid.paid_at)
    amount = 0 if rate is None else post(converted(paid.amount.amount, rate.rate), Decimal(0))[0]
    # A recharge is credited to the account that it was requested for, whatever the payment says of it.
    recharged = paid.recharge_id and await read_recharged_account(connection, mandate.no, paid.recharge_id)
    credit = MandateCredit(
        user_id=recharged.user_id if recharged else paid.user_id,
        cause=f"payment/{paid.reference}",
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
    return "credited"


def _digest(paid: PaymentSucceeded) -> bytes:
    """A hash of what makes payments the same, whichever event reports them: amount, currency, reason and user."""
    text = f"{paid.reason}|{paid.amount.amount.normalize():f}|{paid.amount.currency}|{paid.user_id}"
    return blake2b(text.encode(), digest_size=16).digest()
