"""Which of two fetches of an object of Stripe's is newer: a number is taken before each fetch, and another one, under
the lock of what is known of the object, for what is told of it. A fetch whose number is lower than that may be older.
"""

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.migrations import service_metadata
from services.chassis.problems import Problem
from services.chassis.validation import both

__all__ = ["FetchedTooEarly", "next_observation", "observations"]

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
