"""The one way to wait for what others do: look until it is so, for a bounded time, and say what did not happen."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

__all__ = ["eventually", "wait_until"]

POLL_S = 0.05

T = TypeVar("T")


async def eventually(look: Callable[[], Awaitable[T] | T], *, what: str, timeout_s: float = 60.0) -> T:
    """The first true answer; raises AssertionError that names `what` when there is none in time."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = look()
        answer: T = await found if inspect.isawaitable(found) else found
        if answer:
            return answer
        _check(deadline, what, timeout_s)
        await asyncio.sleep(POLL_S)


def wait_until(look: Callable[[], T], *, what: str, timeout_s: float = 60.0) -> T:
    """The same for tests and fixtures without an event loop."""
    deadline = time.monotonic() + timeout_s
    while not (answer := look()):
        _check(deadline, what, timeout_s)
        time.sleep(POLL_S)
    return answer


def _check(deadline: float, what: str, timeout_s: float) -> None:
    if time.monotonic() > deadline:
        raise AssertionError(f"not within {timeout_s:g} s: {what}")
