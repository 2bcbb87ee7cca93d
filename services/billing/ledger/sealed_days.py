"""Rows of sealed days, and the seals; the rows are streamed, so that a day or a ledger of any size takes little memory.

The caller has opened the transaction, and set its time limits.
"""

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple

import asyncpg

from services.billing.ledger.day_digests import FORM, FORMS, DayDigest, row_digest

__all__ = [
    "LedgerRow",
    "Seal",
    "digest_of_day",
    "insert_seal",
    "last_seal",
    "read_seals",
    "stream_rows",
    "unsealed_days",
]

ROWS_AT_ONCE = 5_000
# For the driver, whose own limit is that of a short statement; the server's is the transaction's.
FETCH_TIMEOUT_S = 1800.0
# Nothing was recorded before.
_EARLIEST = date(2000, 1, 1)

_DAY = "(t.recorded_at AT TIME ZONE 'UTC')::date"
_KEY = "t.mandate_no, t.event_id, t.own"


class Seal(NamedTuple):
    """What was sealed of a day: in which form, how many rows, after which digest, with which one."""

    day: date
    form: int
    rows: int
    previous: bytes
    digest: bytes


class LedgerRow(NamedTuple):
    """A row by its day, as the database writes it, and its digest in the form of that day's seal; None without one."""

    day: str
    digest: bytes | None


async def last_seal(connection: asyncpg.Connection) -> Seal | None:
    """The newest seal."""
    row = await connection.fetchrow(
        "SELECT day, form, rows, previous_digest, digest FROM sealed_days ORDER BY day DESC LIMIT 1"
    )
    return None if row is None else Seal(*row)


async def read_seals(connection: asyncpg.Connection) -> list[Seal]:
    """All seals, the oldest first."""
    rows = await connection.fetch("SELECT day, form, rows, previous_digest, digest FROM sealed_days ORDER BY day")
    return [Seal(*row) for row in rows]


async def insert_seal(connection: asyncpg.Connection, seal: Seal, *, now: datetime) -> None:
    """Keeps a seal for good; raises `UniqueViolationError` for a day that has one."""
    await connection.execute(
        "INSERT INTO sealed_days (day, form, rows, previous_digest, digest, sealed_at) VALUES ($1, $2, $3, $4, $5, $6)",
        *seal,
        now,
    )


async def unsealed_days(connection: asyncpg.Connection, after: date | None, last: date) -> list[date]:
    """The days up to `last` that have rows and come after `after`; and `last` itself, with which all are sealed."""
    begin = _EARLIEST if after is None else after + timedelta(days=1)
    rows = await connection.fetch(
        f"SELECT DISTINCT {_DAY} AS day FROM transactions t WHERE t.recorded_at >= $1 AND t.recorded_at < $2",
        _begin(begin),
        _begin(last + timedelta(days=1)),
        timeout=FETCH_TIMEOUT_S,
    )
    return sorted({row["day"] for row in rows} | {last})


async def digest_of_day(connection: asyncpg.Connection, day: date, previous: bytes) -> Seal:
    """The seal of a day in the form of now."""
    found = DayDigest(FORM, day, previous)
    statement = (
        f"SELECT {row_digest(FORM)} FROM transactions t WHERE t.recorded_at >= $1 AND t.recorded_at < $2"
        f" ORDER BY {_KEY}"
    )
    arguments = _begin(day), _begin(day + timedelta(days=1))
    async for row in connection.cursor(statement, *arguments, prefetch=ROWS_AT_ONCE, timeout=FETCH_TIMEOUT_S):
        found.add(row[0])
    return Seal(day, FORM, found.rows, previous, found.value())


async def stream_rows(connection: asyncpg.Connection, last: date) -> AsyncIterator[LedgerRow]:
    """All rows up to a day, by day and key; days are written as ISO 8601 does."""
    await connection.execute("SET LOCAL datestyle = 'ISO'; SET LOCAL cursor_tuple_fraction = 1")
    of_forms = " ".join(f"WHEN {form} THEN {row_digest(form)}" for form in FORMS)
    statement = (
        f"SELECT ({_DAY})::text, CASE s.form {of_forms} END FROM transactions t"
        f" LEFT JOIN sealed_days s ON s.day = {_DAY} WHERE t.recorded_at < $1 ORDER BY {_DAY}, {_KEY}"
    )
    end = _begin(last + timedelta(days=1))
    async for row in connection.cursor(statement, end, prefetch=ROWS_AT_ONCE, timeout=FETCH_TIMEOUT_S):
        yield LedgerRow(*row)


def _begin(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
