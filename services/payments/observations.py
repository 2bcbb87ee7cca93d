"""Which of two fetches of an object of Stripe's is newer: a number is taken before each fetch, and another one, under
the lock of what is known of the object, for what is told of it. A fetch whose number is lower than that may be older.
"""

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.database import Database
from services.chassis.migrations import service_metadata
from services.chassis.problems import Problem
from services.chassis.validation import both

__all__ = ["FetchedTooEarly", "NextNumber", "next_observation", "numbers_of", "observations", "until_newest"]

# Times that an object is fetched because others tell of it meanwhile.
FETCHES_MAX: Final = 5

# Gives a number that is taken before a fetch, and tells which of two fetches was begun later.
NextNumber = Callable[[], Awaitable[int]]

T = TypeVar("T")

observations = sa.Sequence("observations", metadata=service_metadata("payments"))
_NEXT = sa.select(observations.next_value())


class FetchedTooEarly(Problem):
    """Something newer was told while this was fetched, so it may be older and is fetched again."""

    status = 503
    code = "FETCHED_TOO_EARLY"
    title = "Fetched too early"
    texts = both("This was changed meanwhile.", "Das wurde inzwischen geändert.")


async def next_observation(connection: AsyncConnection) -> int:
    """A number higher than all that were taken before."""
    return int(await connection.scalar(_NEXT) or 0)


def numbers_of(database: Database) -> NextNumber:
    """Gives numbers outside of any transaction."""

    async def take() -> int:
        async with database.reading() as connection:
            return await next_observation(connection)

    return take


async def until_newest(look: Callable[[], Awaitable[T]]) -> T:
    """Fetches and applies an object by `look`, again where something newer was told meanwhile; raises FetchedTooEarly
    where that happens each time."""
    for _ in range(1, FETCHES_MAX):
        try:
            return await look()
        except FetchedTooEarly:
            continue
    return await look()
