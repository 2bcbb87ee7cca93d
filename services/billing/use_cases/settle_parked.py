"""Charging what was parked, once a price or rate has been added: through the same charge, exactly once."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

import asyncpg
import orjson
from asyncpg.exceptions import CheckViolationError, DataError, UniqueViolationError

from rappen_contracts import Event, decode_structured
from services.billing.domain.charging import Parked, Tariff
from services.billing.repository.ledger import recorded_digests
from services.billing.repository.mandates import LockedMandate, lock_mandates, read_terms
from services.billing.repository.uncharged import UnchargedEvent, insert_uncharged, take_parked
from services.billing.use_cases.charge_usage import AlreadyRecorded, Charges, TermsChanged, Usage
from services.billing.use_cases.credit_payment import credit_payment
from services.chassis.clock import Clock
from services.chassis.database import Database
from services.chassis.logging import get_logger

__all__ = ["SettleParked"]

BATCH = 500
# An amount or a balance that the ledger cannot hold, or text that the database refuses.
_FAULTS_OF_DATA = (ArithmeticError, ValueError, DataError, CheckViolationError)

_CONTRADICTS = Parked("CONFLICT", "the event was recorded with other data", None)
_TOO_LARGE = Parked("AMOUNT_TOO_LARGE", "with this amount the balance would leave the range of the ledger", None)

_log = get_logger(__name__)


class SettleParked:
    """Looks again at parked events that were last looked at under an older price book."""

    def __init__(self, database: Database, *, default_markup: Decimal, clock: Clock) -> None:
        self._database = database
        self._default_markup = default_markup
        self._clock = clock
        self._charges = Charges(default_markup)
        self._limit = BATCH

    async def __call__(self) -> int:
        """Settles one batch in one transaction; returns how many events were looked at."""
        now = self._clock()
        async with self._database.bare() as connection:
            try:
                async with connection.transaction():
                    looked_at = await self._settle(connection, now)
            except (UniqueViolationError, AlreadyRecorded, TermsChanged):
                # A redelivery charged one of them at the same moment, or settings moved: the next run sees it. Places
                # that were made in the transaction that is gone are forgotten.
                self._charges = Charges(self._default_markup)
                return BATCH
            except _FAULTS_OF_DATA as error:
                # Fewer at once, until the one that cannot be charged is alone and its neighbours are settled.
                _log.warning("parked events isolated", events=self._limit, error=type(error).__name__)
                self._charges = Charges(self._default_markup)
                self._limit = max(1, self._limit // 2)
                return BATCH
        self._limit = min(BATCH, self._limit * 2)
        return looked_at

    async def _settle(self, connection: asyncpg.Connection, now: datetime) -> int:
        _, revision = await read_terms(connection, (), default_markup=self._default_markup)
        rows = await take_parked(connection, revision=revision, limit=self._limit)
        try:
            async with connection.transaction():
                await self._charge(connection, rows, revision, now)
        except _FAULTS_OF_DATA as error:
            if len(rows) > 1:
                raise
            _log.error("parked event cannot be charged", event_id=str(rows[0]["event_id"]), error=type(error).__name__)
            why = Parked("UNPROCESSABLE", type(error).__name__, None)
            await insert_uncharged(connection, [_parked(rows[0], why, revision, now)])
        return len(rows)

    async def _charge(
        self, connection: asyncpg.Connection, rows: Sequence[asyncpg.Record], revision: int, now: datetime
    ) -> None:
        if not rows:
            return
        # All of them first, in one order; what is posted below locks some of them again.
        mandates = await lock_mandates(connection, {row["mandate_no"] for row in rows})
        usages = await self._usages(connection, [row for row in rows if not row["own"]], revision, now)
        await self._charges.find_places(connection, usages, now)
        basis = await self._charges.basis(connection, usages)
        outcome = await self._charges.charge(connection, usages, basis, now)
        await insert_uncharged(
            connection,
            [
                UnchargedEvent.parked(usage.place.mandate_no, usage.event, _TOO_LARGE, now, revision)
                for usage in outcome.too_large
            ],
        )
        for row in rows:
            if row["own"]:
                await _credit(connection, mandates[row["mandate_no"]], row, basis.tariff, now)
        _log.info(
            "parked events looked at", events=len(rows), **(outcome._asdict() | {"too_large": len(outcome.too_large)})
        )

    async def _usages(
        self, connection: asyncpg.Connection, rows: Sequence[asyncpg.Record], revision: int, now: datetime
    ) -> list[Usage]:
        """The usage that is to be charged. What a redelivery has charged meanwhile only leaves the parking place; what
        contradicts it stays there."""
        charged = await recorded_digests(
            connection, "transactions", [(row["mandate_no"], row["event_id"]) for row in rows]
        )
        await insert_uncharged(
            connection,
            [
                _parked(row, _CONTRADICTS, revision, now)
                for row in rows
                if charged.get((row["mandate_no"], row["event_id"]), row["digest"]) != row["digest"]
            ],
        )
        return [Usage(_event(row["event"], now)) for row in rows if (row["mandate_no"], row["event_id"]) not in charged]


async def _credit(
    connection: asyncpg.Connection, mandate: LockedMandate, row: asyncpg.Record, tariff: Tariff, now: datetime
) -> None:
    """Credits a parked payment; what still has no rate, or contradicts what was credited, is parked again."""
    outcome = await credit_payment(connection, mandate, _event(row["event"], now), tariff, now=now)
    if outcome == "conflict":
        outcome = _parked(row, _CONTRADICTS, tariff.revision, now)
    if not isinstance(outcome, str):
        await insert_uncharged(connection, [outcome])


def _parked(row: asyncpg.Record, why: Parked, revision: int, now: datetime) -> UnchargedEvent:
    """The event parked again, for another reason."""
    return UnchargedEvent.parked(row["mandate_no"], _event(row["event"], now), why, now, revision)


def _event(text: str, now: datetime) -> Event:
    """The stored event; it was valid when it was parked, whatever its envelope adds to its length."""
    return decode_structured(orjson.loads(text), now=now)
