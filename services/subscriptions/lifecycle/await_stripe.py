"""Waiting, for a bounded time, for what payments answers; no connection is held meanwhile."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar
from uuid import UUID

from services.chassis.database import Database
from services.subscriptions.stripe.queries import RequestAnswer, answer_of

__all__ = ["await_answer", "until"]

POLL_S = 0.03
# Each look costs the others time, so who waits for long looks less and less often.
POLL_GROWTH = 1.1
POLL_S_MAX = 0.15

_Found = TypeVar("_Found")


async def await_answer(database: Database, request_id: UUID, *, timeout_s: float) -> RequestAnswer | None:
    """What became of a request; None where nothing did in time."""

    async def look() -> RequestAnswer | None:
        async with database.reading() as connection:
            return await answer_of(connection, request_id)

    return await until(look, timeout_s=timeout_s)


async def until(look: Callable[[], Awaitable[_Found | None]], *, timeout_s: float) -> _Found | None:
    """What `look` gives as soon as it gives something; None at the end of the time."""
    end = time.monotonic() + timeout_s
    pause_s = POLL_S
    found = await look()
    while found is None and time.monotonic() < end:
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * POLL_GROWTH, POLL_S_MAX)
        found = await look()
    return found
