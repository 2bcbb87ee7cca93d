"""Settling what payments tells of payments: money that arrived, and money that went back."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts import Event
from rappen_contracts.payment.v1 import PaymentRefunded, PaymentSucceeded
from services.billing.credits.credit_payment import credit_payment
from services.billing.credits.refund_payment import refund_payment
from services.billing.credits.repository import digest_of_parked_payment
from services.billing.ledger.domain import BEYOND_BALANCE_MAX
from services.billing.ledger.errors import BalanceOutOfRange
from services.billing.ledger.keys import ensure_mandates
from services.billing.mandates.repository import LockedMandate, lock_mandates, read_terms
from services.billing.pricing.rating import Tariff
from services.billing.pricing.repository import Tariffs
from services.billing.pricing.unposted import UnpostedEvent, insert_unposted
from services.chassis.clock import Clock
from services.chassis.consumer import Received
from services.chassis.database import Database, savepoint
from services.chassis.metrics import EVENTS_CONSUMED
from services.chassis.quarantine import Refused, quarantine

__all__ = ["CreditPayments", "RefundPayments", "settle_payment"]

# Why an event of a payment is refused: code and detail.
_REFUSALS = {
    "conflict": ("CONFLICT", "the payment was reported with other data"),
    "too_large": ("AMOUNT_TOO_LARGE", BEYOND_BALANCE_MAX),
}
# Settles an event in the caller's transaction and says what became of it, or gives it to be parked.
_Settle = Callable[..., Awaitable[str | UnpostedEvent]]
_SETTLE: Final[Mapping[type[Any], _Settle]] = {PaymentSucceeded: credit_payment, PaymentRefunded: refund_payment}


class _PaymentEvents:
    """The handler of a topic of payments."""

    topic: str

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
            ids = [_mandate_id(received.event) for received in events]
            numbers = await ensure_mandates(connection, ids)
            mandates = await lock_mandates(connection, numbers.values())
            for mandate_id, received in zip(ids, events, strict=True):
                try:
                    async with savepoint(connection):
                        outcome = await self._settle(connection, mandates[numbers[mandate_id]], received.event, now)
                except BalanceOutOfRange:
                    outcome = "too_large"
                outcomes.append(outcome)
                if outcome in _REFUSALS:
                    rejected.append(Refused(received.record, *_REFUSALS[outcome]))
            await quarantine(connection, rejected, group="billing", now=now)
        for outcome in outcomes:
            EVENTS_CONSUMED.labels(self.topic, outcome).inc()
        return rejected

    async def _settle(self, connection: AsyncConnection, mandate: LockedMandate, event: Event, now: datetime) -> str:
        # What is parked is settled from there, so that it never stands in both places.
        known = await digest_of_parked_payment(connection, mandate.no, event.id)
        if known is not None:
            return "repeated" if known == event.digest else "conflict"
        _, revision = await read_terms(connection, (), default_markup=Decimal(0))
        tariff = await self._tariffs.at(connection, revision)
        parked = await settle_payment(connection, mandate, event, tariff, now=now)
        if isinstance(parked, str):
            return parked
        await insert_unposted(connection, [parked])
        return "parked"


class CreditPayments(_PaymentEvents):
    """The handler of payment.succeeded."""

    topic = "payment.succeeded"


class RefundPayments(_PaymentEvents):
    """The handler of payment.refunded."""

    topic = "payment.refunded"


async def settle_payment(
    connection: AsyncConnection, mandate: LockedMandate, event: Event, tariff: Tariff, *, now: datetime
) -> str | UnpostedEvent:
    """Settles an event of a payment in the caller's transaction and says what became of it, or gives it to be parked
    until there is a rate; TypeError for an event of another kind."""
    settle = _SETTLE.get(type(event.data))
    if settle is None:
        raise TypeError(f"{type(event.data).__name__} is no event of a payment")
    return await settle(connection, mandate, event, tariff, now=now)


def _mandate_id(event: Event) -> str:
    if not isinstance(event.data, PaymentSucceeded | PaymentRefunded):
        raise TypeError(f"{type(event.data).__name__} is no event of a payment")
    return event.data.mandate_id
