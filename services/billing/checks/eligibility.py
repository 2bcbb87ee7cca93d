"""Reads what decides a check: membership, settings, accounts and provider permissions, as they are now. Grants
that have expired and holds that are due do not count, whether or not their rows say so yet.

Every AI call asks first, so checks that arrive while others are being read are read together, by one statement: the
busier the service, the less a check costs. A check that is alone waits for nobody. Those of mandates with limits need a
second statement, which they share too.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.checks.limit_use import read_limit_use
from services.billing.checks.limits import LimitUse, Spending
from services.billing.ledger.grants import BALANCE_NOW
from services.billing.ledger.holds import HELD_NOW
from services.billing.mandates.repository import USABLE_PERCENT, calendar_of
from services.chassis.clock import Clock
from services.chassis.database import Database, DatabaseUnavailable, driver_connection

__all__ = ["Asked", "EligibilityBatcher", "Found", "read_eligibility"]

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
       m.limits_since IS NOT NULL AS has_limits,
       CASE WHEN m.limits_since IS NOT NULL THEN m.time_zone END AS time_zone,
       CASE WHEN m.limits_since IS NOT NULL THEN m.past_time_zones END AS past_time_zones,
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


class Asked(NamedTuple):
    """Who wants to spend, and what for as far as that was said."""

    mandate_id: str
    user_id: str
    provider: str | None
    model: str | None
    feature_instance_id: str | None


class Found(NamedTuple):
    """What decides a question: its row, with nulls for what does not exist, and the limits that it would use."""

    row: asyncpg.Record
    limits: Sequence[LimitUse]


async def read_eligibility(connection: AsyncConnection, asked: Sequence[Asked], *, now: datetime) -> list[Found]:
    """What decides each question, in their order, as the caller's transaction sees it."""
    return await _fetch(driver_connection(connection), asked, now)


class _Waiting(NamedTuple):
    asked: Asked
    found: asyncio.Future[Found]


class EligibilityBatcher:
    """Batches the reads of one process."""

    def __init__(self, database: Database, clock: Clock, *, readers_max: int = READERS_MAX) -> None:
        self._database = database
        self._clock = clock
        self._readers_max = readers_max
        self._waiting: list[_Waiting] = []
        self._readers: set[asyncio.Task[None]] = set()

    async def read(self, asked: Asked) -> Found:
        """What decides one question; raises what the database raised, or `DatabaseUnavailable`."""
        if len(self._waiting) >= WAITING_MAX:
            # Callers whose deadline has passed no longer wait.
            self._waiting = [each for each in self._waiting if not each.found.done()]
            if len(self._waiting) >= WAITING_MAX:
                raise DatabaseUnavailable
        found: asyncio.Future[Found] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(asked, found))
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
                        _answer(together, await _fetch(connection, [each.asked for each in together], self._clock()))
                        together = [] if self._database.awaited else self._take()
            except Exception as error:  # noqa: BLE001 - it is raised where the check was asked.
                for each in together:
                    if not each.found.done():
                        each.found.set_exception(error)

    def _take(self) -> list[_Waiting]:
        together, self._waiting = self._waiting[:TOGETHER_MAX], self._waiting[TOGETHER_MAX:]
        return together


async def _fetch(connection: asyncpg.Connection, asked: Sequence[Asked], now: datetime) -> list[Found]:
    mandates, users, providers, _, _ = zip(*asked, strict=True)
    rows: list[asyncpg.Record] = await connection.fetch(
        _STATEMENT, mandates, users, providers, now, timeout=READ_TIMEOUT_S
    )
    limited = [number for number, row in enumerate(rows) if row["has_limits"] and row["member"]]
    if not limited:
        return [Found(row, ()) for row in rows]
    spendings = [_spending(asked[number], rows[number], now) for number in limited]
    uses = await read_limit_use(connection, spendings, now=now, timeout_s=READ_TIMEOUT_S)
    by_number = dict(zip(limited, uses, strict=True))
    return [Found(row, by_number.get(number, ())) for number, row in enumerate(rows)]


def _spending(asked: Asked, row: asyncpg.Record, now: datetime) -> Spending:
    number = row["mandate_no"]
    return Spending(
        mandate_no=number,
        user_id=asked.user_id,
        feature_instance_id=asked.feature_instance_id,
        provider=asked.provider,
        model=asked.model,
        today=calendar_of(number, row["time_zone"], row["past_time_zones"]).day(now),
    )


def _answer(together: list[_Waiting], found: list[Found]) -> None:
    for each, of_question in zip(together, found, strict=True):
        # A caller that has gone meanwhile has cancelled its future.
        if not each.found.done():
            each.found.set_result(of_question)
