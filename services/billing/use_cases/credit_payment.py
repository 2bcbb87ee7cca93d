"""Crediting money that arrived: one credit per payment, whichever way and however often it is told."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

import asyncpg
from asyncpg.exceptions import UniqueViolationError

from rappen_contracts import Event
from rappen_contracts.payment.v1 import PaymentSucceeded
from services.billing.domain.charging import Tariff, no_rate
from services.billing.domain.money import converted, post
from services.billing.repository.keys import ensure_mandates
from services.billing.repository.mandates import read_terms
from services.billing.repository.prices import Tariffs
from services.billing.repository.uncharged import UnchargedEvent, insert_uncharged
from services.billing.use_cases.credit_mandate import MandateCredit, credit_mandate
from services.chassis.clock import Clock
from services.chassis.consumer import Received
from services.chassis.database import Database
from services.chassis.metrics import EVENTS_CONSUMED
from services.chassis.quarantine import Refused, quarantine

__all__ = ["CreditPayments", "credit_payment"]

# A subscription's payment gives its budget through subscription.changed, not a balance of its own.
_CREDITED_REASONS = frozenset({"top_up", "recharge", "invoice"})


class CreditPayments:
    """The handler of payment.succeeded."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._tariffs = Tariffs()

    async def __call__(self, events: Sequence[Received], refused: Sequence[Refused]) -> None:
        """Settles a batch in one transaction."""
        now = self._clock()
        outcomes: list[str] = []
        async with self._database.bare() as connection, connection.transaction():
            for received in events:
                outcomes.append(await self._settle(connection, received.event, now))
            await quarantine(connection, refused, group="billing", now=now)
        for outcome in outcomes:
            EVENTS_CONSUMED.labels("payment.succeeded", outcome).inc()

    async def _settle(self, connection: asyncpg.Connection, event: Event, now: datetime) -> str:
        _, revision = await read_terms(connection, (), default_markup=Decimal(0))
        tariff = await self._tariffs.at(connection, revision)
        parked = await credit_payment(connection, event, tariff, now=now)
        if isinstance(parked, str):
            return parked
        try:
            async with connection.transaction():
                await insert_uncharged(connection, [parked])
        except UniqueViolationError:
            return "repeated"
        return "parked"


async def credit_payment(
    connection: asyncpg.Connection, event: Event, tariff: Tariff, *, now: datetime
) -> str | UnchargedEvent:
    """Credits a payment in the caller's transaction and says what became of it, or why it has to wait for a rate."""
    paid = event.data
    if not isinstance(paid, PaymentSucceeded):
        raise TypeError(f"{type(paid).__name__} is no payment")
    if paid.reason not in _CREDITED_REASONS:
        return "noted"
    rate = tariff.rates.at(paid.amount.currency, paid.paid_at)
    if rate is None:
        mandate_no = (await ensure_mandates(connection, [paid.mandate_id]))[paid.mandate_id]
        why = no_rate(paid.amount.currency, paid.paid_at)
        return UnchargedEvent.parked(mandate_no, event, why, now, tariff.revision)
    amount, _ = post(converted(paid.amount.amount, rate.rate), Decimal(0))
    credit = MandateCredit(
        mandate_id=paid.mandate_id,
        user_id=paid.user_id,
        cause=f"payment/{paid.reference}",
        amount=amount,
        counter="PAYMENT_PROVIDER",
        reference_type="PAYMENT",
        reference_id=paid.reference,
        description=paid.description or "Stripe payment",
        occurred_at=paid.paid_at,
        created_by_user_id=paid.created_by_user_id,
    )
    return "credited" if await credit_mandate(connection, credit, now=now) else "repeated"
