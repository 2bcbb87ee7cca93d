"""Charging what was parked, once a price or rate has been added: through the same charge, exactly once."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

import asyncpg
import orjson
from asyncpg.exceptions import CheckViolationError, DataError, UniqueViolationError

from rappen_contracts import ContractError, Event, decode_structured
from services.billing.charging.charge_usage import AlreadyRecorded, Charges, TermsChanged
from services.billing.charging.usage_events import Usage
from services.billing.credits.credit_payment import credit_payment
from services.billing.errors import BalanceOutOfRange
from services.billing.ledger.domain import BEYOND_BALANCE_MAX
from services.billing.ledger.repository import recorded_digests
from services.billing.mandates.repository import LockedMandate, lock_mandates, read_terms
from services.billing.pricing.rating import Parked, Tariff
from services.billing.pricing.uncharged import UnchargedEvent, insert_uncharged, take_parked
from services.chassis.clock import Clock
from services.chassis.database import Database
from services.chassis.logging import get_logger
from services.chassis.metrics import SET_ASIDE

__all__ = ["SettleParked"]

BATCH = 500
# So many halvings lead from a batch to a single event.
TRIES_AT_ONCE = 10
# An amount or a balance that the ledger cannot hold, or text that the database refuses.
_FAULTS_OF_DATA = (ArithmeticError, ValueError, DataError, CheckViolationError, BalanceOutOfRange)

_CONTRADICTS = Parked("CONFLICT", "the event was recorded with other data", None)
_TOO_LARGE = Parked("AMOUNT_TOO_LARGE", BEYOND_BALANCE_MAX, None)

_log = get_logger(__name__)


class SettleParked:
    """Looks again at parked events that were last looked at under an older price book."""

    def __init__(self, database: Database, *, default_markup: Decimal, clock: Clock) -> None:
        self._database = database
        self._default_markup = default_markup
        self._clock = clock
        self._charges = Charges(default_markup)
        self._limit = BATCH
        self._failed = 0

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
                return self._again()
            except _FAULTS_OF_DATA as error:
                # Fewer at once, until the one that cannot be charged is alone and its neighbours are settled.
                _log.warning("parked events isolated", events=self._limit, error=type(error).__name__)
                self._charges = Charges(self._default_markup)
                self._limit = max(1, self._limit // 2)
                return self._again()
        self._limit, self._failed = min(BATCH, self._limit * 2), 0
        return looked_at

    def _again(self) -> int:
        """At once while halving may help; then at the job's own pace."""
        self._failed += 1
        return BATCH if self._failed <= TRIES_AT_ONCE else 0

    async def _settle(self, connection: asyncpg.Connection, now: datetime) -> int:
        _, revision = await read_terms(connection, (), default_markup=self._default_markup)
        taken = await take_parked(connection, revision=revision, limit=self._limit)
        rows, events = await self._read(connection, taken, revision, now)
        try:
            async with connection.transaction():
                await self._charge(connection, rows, events, revision, now)
        except _FAULTS_OF_DATA as error:
            if len(rows) > 1:
                raise
            too_large = isinstance(error, BalanceOutOfRange)
            why = _TOO_LARGE if too_large else Parked("UNPROCESSABLE", type(error).__name__, None)
            await self._set_aside(connection, rows[0], why, revision, now)
        return len(taken)

    async def _read(
        self, connection: asyncpg.Connection, taken: Sequence[asyncpg.Record], revision: int, now: datetime
    ) -> tuple[list[asyncpg.Record], list[Event]]:
        """The rows whose events can be read, and those. The others were valid once; they are set aside by themselves,
        until the price book changes again: by then somebody may have mended them, or the code."""
        rows, events = [], []
        for row in taken:
            try:
                event = decode_structured(orjson.loads(row["event"]), now=now)
            except ValueError as error:
                code = error.code if isinstance(error, ContractError) else type(error).__name__
                await self._set_aside(connection, row, Parked("UNREADABLE", code, None), revision, now)
            else:
                rows.append(row)
                events.append(event)
        return rows, events

    async def _set_aside(
        self, connection: asyncpg.Connection, row: asyncpg.Record, why: Parked, revision: int, now: datetime
    ) -> None:
        SET_ASIDE.labels("parked event").inc()
        _log.error("parked event set aside", event_id=str(row["event_id"]), code=why.reason, error=why.detail)
        await insert_uncharged(connection, [UnchargedEvent.kept(row, why, now, revision)])

    async def _charge(
        self,
        connection: asyncpg.Connection,
        rows: Sequence[asyncpg.Record],
        events: Sequence[Event],
        revision: int,
        now: datetime,
    ) -> None:
        if not rows:
            return
        # All of them first, in one order; what is posted below locks some of them again.
        mandates = await lock_mandates(connection, {row["mandate_no"] for row in rows})
        read = list(zip(rows, events, strict=True))
        usages = await _usages(connection, [pair for pair in read if not pair[0]["own"]], revision, now)
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
        for pair in read:
            if pair[0]["own"]:
                await _credit(connection, mandates[pair[0]["mandate_no"]], pair, basis.tariff, now)
        counts = outcome._asdict() | {"too_large": len(outcome.too_large)}
        _log.info("parked events looked at", events=len(rows), **counts)


async def _usages(
    connection: asyncpg.Connection, read: Sequence[tuple[asyncpg.Record, Event]], revision: int, now: datetime
) -> list[Usage]:
    """The usage that is to be charged. What a redelivery has charged meanwhile only leaves the parking place; what
    contradicts it stays there."""
    charged = await recorded_digests(
        connection, "transactions", [(row["mandate_no"], row["event_id"]) for row, _ in read]
    )
    await insert_uncharged(
        connection,
        [
            UnchargedEvent.kept(row, _CONTRADICTS, now, revision)
            for row, _ in read
            if charged.get((row["mandate_no"], row["event_id"]), row["digest"]) != row["digest"]
        ],
    )
    return [Usage(event) for row, event in read if (row["mandate_no"], row["event_id"]) not in charged]


async def _credit(
    connection: asyncpg.Connection,
    mandate: LockedMandate,
    read: tuple[asyncpg.Record, Event],
    tariff: Tariff,
    now: datetime,
) -> None:
    """Credits a parked payment; what still has no rate, or contradicts what was credited, is parked again."""
    row, event = read
    outcome = await credit_payment(connection, mandate, event, tariff, now=now)
    if outcome == "conflict":
        outcome = UnchargedEvent.kept(row, _CONTRADICTS, now, tariff.revision)
    if not isinstance(outcome, str):
        await insert_uncharged(connection, [outcome])
