"""Charging what was parked, once a price or rate has been added: through the same charge, exactly once."""

from datetime import datetime
from decimal import Decimal

import asyncpg
from asyncpg.exceptions import UniqueViolationError

from rappen_contracts import Event, decode
from rappen_contracts.payment.v1 import PaymentSucceeded
from rappen_contracts.usage.v1 import UsageRecorded
from services.billing.repository.ledger import recorded_digests
from services.billing.repository.mandates import read_terms
from services.billing.repository.prices import Tariffs
from services.billing.repository.uncharged import insert_uncharged, take_parked
from services.billing.use_cases.charge_usage import Charges, TermsChanged, Usage
from services.billing.use_cases.credit_payment import credit_payment
from services.chassis.clock import Clock
from services.chassis.database import Database
from services.chassis.logging import get_logger

__all__ = ["SettleParked"]

BATCH = 500

_log = get_logger(__name__)


class SettleParked:
    """Looks again at parked events that were last looked at under an older price book."""

    def __init__(self, database: Database, *, default_markup: Decimal, clock: Clock) -> None:
        self._database = database
        self._default_markup = default_markup
        self._clock = clock
        self._charges = Charges(default_markup)
        self._tariffs = Tariffs()

    async def __call__(self) -> int:
        """Settles one batch in one transaction; returns how many events were looked at."""
        now = self._clock()
        async with self._database.bare() as connection:
            try:
                async with connection.transaction():
                    return await self._settle(connection, now)
            except (UniqueViolationError, TermsChanged):
                # A redelivery charged one of them at the same moment, or settings moved: the next run sees it. Places
                # that were made in the transaction that is gone are forgotten.
                self._charges = Charges(self._default_markup)
                return BATCH

    async def _settle(self, connection: asyncpg.Connection, now: datetime) -> int:
        _, revision = await read_terms(connection, (), default_markup=self._default_markup)
        rows = await take_parked(connection, revision=revision, limit=BATCH)
        if not rows:
            return 0
        # One that a redelivery has charged meanwhile only leaves the parking place.
        charged = await recorded_digests(
            connection, "transactions", [(row["mandate_no"], row["event_id"]) for row in rows]
        )
        events = [_event(row["event"], now) for row in rows if (row["mandate_no"], row["event_id"]) not in charged]
        usages = [Usage(event) for event in events if isinstance(event.data, UsageRecorded)]
        await self._charges.find_places(connection, usages, now)
        outcome = await self._charges.charge(connection, usages, now)
        tariff = await self._tariffs.at(connection, revision)
        for event in events:
            if isinstance(event.data, PaymentSucceeded):
                parked = await credit_payment(connection, event, tariff, now=now)
                if not isinstance(parked, str):
                    await insert_uncharged(connection, [parked])
        _log.info("parked events looked at", events=len(rows), **outcome)
        return len(rows)


def _event(text: str, now: datetime) -> Event:
    """The stored event; it was valid when it was parked, so it is valid now."""
    headers = [("content-type", b"application/cloudevents+json")]
    return decode(headers, text.encode(), now=now)
