"""Days on which nothing is recorded any more, and how a writer finds that out.

A day is closed by a row in `closed_days`, which closes all days before it too. Whoever writes into the ledger asks
`is_day_open`, in the transaction that writes: the function first gives the transaction its number and then looks. So a
transaction that found the day open had its number before the day was closed, and once all numbers that were given until
then belong to transactions that are over (`writers_are_over`), no row of that day is still to come. Nobody waits for
anybody, and a charge pays one statement for a batch of any size.
"""

from collections.abc import Sequence
from datetime import date, datetime, timedelta

from asyncpg.exceptions import SerializationError
from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.ledger.rows import recorded_at_of
from services.chassis.database import driver_connection

__all__ = ["close_days", "keep_day_open", "newest_number", "writers_are_over"]

_EPOCH = date(2000, 1, 1)
_DAY = 24 * 3600 * 1_000_000


async def keep_day_open(connection: AsyncConnection, rows: Sequence[bytes]) -> None:
    """Makes sure that the day on which rows are recorded is not sealed before this transaction is over.

    Raises SerializationError where the day is closed, as after a process stood still for long: the work is then tried
    again, at a time of now. All rows of a call were recorded at one time.
    """
    day = _EPOCH + timedelta(days=recorded_at_of(rows[0]) // _DAY)
    if not await driver_connection(connection).fetchval("SELECT is_day_open($1)", day):
        raise SerializationError(f"nothing is recorded on {day} any more")


async def close_days(connection: AsyncConnection, last: date, *, now: datetime) -> date:
    """Closes all days up to `last`, and gives the last one that is closed then; one statement, which is committed by
    itself, so that every transaction that begins to look after it finds the day closed."""
    driver = driver_connection(connection)
    known: date | None = await driver.fetchval("SELECT max(day) FROM closed_days")
    if known is not None and known >= last:
        return known
    await driver.execute("INSERT INTO closed_days (day, closed_at) VALUES ($1, $2) ON CONFLICT DO NOTHING", last, now)
    return last


async def newest_number(connection: AsyncConnection) -> int:
    """A number above those of all transactions that have one by now: that of one of its own, which is over at once. The
    end of a snapshot would not do, because it is only above those that have ended."""
    number: int = await driver_connection(connection).fetchval("SELECT pg_current_xact_id()::text::bigint")
    return number


async def writers_are_over(connection: AsyncConnection, number: int) -> bool:
    """Whether every transaction with a number below this one has ended."""
    over: bool = await driver_connection(connection).fetchval(
        "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint >= $1", number
    )
    return over
