"""Reads what decides a check: membership, settings, accounts and provider permissions, as they are now. Grants
that have expired and holds that are due do not count, whether or not their rows say so yet.

Every AI call asks first, so checks that arrive while others are being read are read together, by one statement: the
busier the service, the less a check costs. A check that is alone waits for nobody.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.ledger.grants import BALANCE_NOW
from services.billing.ledger.holds import HELD_NOW
from services.billing.mandates.repository import USABLE_PERCENT
from services.chassis.clock import Clock
from services.chassis.database import Database, DatabaseUnavailable, driver_connection

__all__ = ["EligibilityBatcher", "read_eligibility"]

# How many statements run at once, and how many checks one of them reads.
READERS_MAX = 2
TOGETHER_MAX = 64
# Waiting checks; a further one is refused at once.
WAITING_MAX = 1_000
# A read is short; a longer one means that the server does not respond, and its checks fail.
READ_TIMEOUT_S = 4.0

_STATEMENT = f"""
SELECT d.id IS NOT NULL AS known, d.enabled AND s.enabled AND coalesce(u.enabled, true) AS member, s.roles,
       m.no AS mandate_no, m.billing_model, m.block_on_zero_balance, m.subscription_operative,
       {USABLE_PERCENT.format("m.markup_percent")} AS markup_percent,
       {USABLE_PERCENT.format("m.plan_markup_percent")} AS plan_markup_percent,
       pool.no AS pool_no, pool.enabled AS pool_enabled,
       {BALANCE_NOW.format("pool", "$4::timestamptz")} AS pool_balance,
       {HELD_NOW.format("pool", "$4::timestamptz")} AS pool_held,
       pool.credit_limit,
       own.no AS own_no, own.enabled AS own_enabled,
       {BALANCE_NOW.format("own", "$4::timestamptz")} AS own_balance,
       {HELD_NOW.format("own", "$4::timestamptz")} AS own_held,
       p.granting_roles, p.ruled_roles, (SELECT revision FROM price_book) AS revision
  FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS asked (mandate_id, user_id, provider, number)
  LEFT JOIN directory_mandates d ON d.id = asked.mandate_id
  LEFT JOIN directory_members s ON s.mandate_id = asked.mandate_id AND s.user_id = asked.user_id
  LEFT JOIN directory_users u ON u.id = asked.user_id
  LEFT JOIN mandates m ON m.id = asked.mandate_id
  LEFT JOIN accounts pool ON pool.mandate_no = m.no AND pool.type = 'MANDATE' AND pool.user_id IS NULL
  LEFT JOIN accounts own ON own.mandate_no = m.no AND own.type = 'USER' AND own.user_id = asked.user_id
 CROSS JOIN LATERAL (
       SELECT array_agg(role) AS ruled_roles,
              array_agg(role) FILTER (WHERE asked.provider = ANY (providers)) AS granting_roles
         FROM provider_permissions WHERE mandate_id = asked.mandate_id AND providers IS NOT NULL) p
 ORDER BY asked.number
"""


async def read_eligibility(
    connection: AsyncConnection, asked: Sequence[tuple[str, str, str | None]], *, now: datetime
) -> list[asyncpg.Record]:
    """The rows of mandates, users and providers, in their order, as the caller's transaction sees them."""
    return await _fetch(driver_connection(connection), asked, now)


class _Asked(NamedTuple):
    mandate_id: str
    user_id: str
    provider: str | None
    found: asyncio.Future[asyncpg.Record]


class EligibilityBatcher:
    """Batches the reads of one process."""

    def __init__(self, database: Database, clock: Clock, *, readers_max: int = READERS_MAX) -> None:
        self._database = database
        self._clock = clock
        self._readers_max = readers_max
        self._waiting: list[_Asked] = []
        self._readers: set[asyncio.Task[None]] = set()

    async def read(self, mandate_id: str, user_id: str, provider: str | None) -> asyncpg.Record:
        """One row, with nulls for what does not exist; raises what the database raised, or `DatabaseUnavailable`."""
        if len(self._waiting) >= WAITING_MAX:
            # Callers whose deadline has passed no longer wait.
            self._waiting = [asked for asked in self._waiting if not asked.found.done()]
            if len(self._waiting) >= WAITING_MAX:
                raise DatabaseUnavailable
        found: asyncio.Future[asyncpg.Record] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Asked(mandate_id, user_id, provider, found))
        if len(self._readers) < self._readers_max:
            self._readers.add(asyncio.create_task(self._read_waiting()))
        return await found

    async def _read_waiting(self) -> None:
        """Reads until no check waits, and leaves the set of readers at that very moment.

        Nothing may run between the last look at the waiting checks and leaving: a done callback of the task would run
        after the callers that it has just answered, whose next checks would then wait for a reader that has ended.
        """
        try:
            await self._read_until_nobody_waits()
        finally:
            reader = asyncio.current_task()
            if reader is not None:
                self._readers.discard(reader)

    async def _read_until_nobody_waits(self) -> None:
        """An error goes to the callers of the checks in that batch; the next batch is read anyway, on a connection that
        is borrowed anew. So it is where others wait for a connection, because checks may come without end."""
        while together := self._take():
            try:
                async with self._database.driver_reading() as connection:
                    while together:
                        _answer(together, await _fetch(connection, [each[:3] for each in together], self._clock()))
                        together = [] if self._database.awaited else self._take()
            except Exception as error:  # noqa: BLE001 - it is raised where the check was asked.
                for asked in together:
                    if not asked.found.done():
                        asked.found.set_exception(error)

    def _take(self) -> list[_Asked]:
        together, self._waiting = self._waiting[:TOGETHER_MAX], self._waiting[TOGETHER_MAX:]
        return together


async def _fetch(
    connection: asyncpg.Connection, asked: Sequence[tuple[str, str, str | None]], now: datetime
) -> list[asyncpg.Record]:
    mandates, users, providers = zip(*asked, strict=True)
    rows: list[asyncpg.Record] = await connection.fetch(
        _STATEMENT, mandates, users, providers, now, timeout=READ_TIMEOUT_S
    )
    return rows


def _answer(together: list[_Asked], rows: list[asyncpg.Record]) -> None:
    for asked, row in zip(together, rows, strict=True):
        # A caller that has gone meanwhile has cancelled its future.
        if not asked.found.done():
            asked.found.set_result(row)
