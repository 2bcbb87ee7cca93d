"""Waiting, for a bounded time, until the worker has brought something to its end; no connection is held meanwhile."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

__all__ = ["awaited"]

POLL_S = 0.02
POLL_S_MAX = 0.1

T = TypeVar("T")


async def awaited(look: Callable[[], Awaitable[T | None]], *, seconds: float) -> T | None:
    """What `look` finds, looked for again and again; None where it found nothing in that time."""
    delay_s, ends = POLL_S, time.monotonic() + seconds
    while (found := await look()) is None and time.monotonic() < ends:
        await asyncio.sleep(delay_s)
        delay_s = min(POLL_S_MAX, delay_s * 1.5)
    return found
