"""Waiting, for a bounded time, for what other services answer; no connection is held meanwhile."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar
from uuid import UUID

from services.chassis.database import Database
from services.chassis.process import pause
from services.subscriptions.stripe.queries import RequestAnswer, answer_of

__all__ = ["ANSWERS", "await_answer", "until"]

# The notice that payments has answered.
ANSWERS = "answers"

POLL_S = 0.05
# Each look costs the others time, so who waits for long looks less and less often.
POLL_GROWTH = 1.2
POLL_S_MAX = 0.2

_Found = TypeVar("_Found")


async def await_answer(database: Database, request_id: UUID, *, timeout_s: float) -> RequestAnswer | None:
    """What became of a request; None where nothing did in time."""

    async def look() -> RequestAnswer | None:
        async with database.reading() as connection:
            return await answer_of(connection, request_id)

    return await until(look, timeout_s=timeout_s, notice=database.notice(ANSWERS))


async def until(
    look: Callable[[], Awaitable[_Found | None]],
    *,
    timeout_s: float,
    notice: asyncio.Event | None = None,
    pause_s: float = POLL_S,
) -> _Found | None:
    """What `look` gives as soon as it gives something; None at the end of the time. It looks at once when `notice` is
    set, where this process does what is waited for, and else by and by, because another one may."""
    notice = asyncio.Event() if notice is None else notice
    end = time.monotonic() + timeout_s
    while True:
        # Before the look: what is committed during it is seen by the next one.
        notice.clear()
        found = await look()
        left_s = end - time.monotonic()
        if found is not None or left_s <= 0:
            return found
        await pause(notice, min(pause_s, left_s))
        pause_s = min(pause_s * POLL_GROWTH, max(pause_s, POLL_S_MAX))
