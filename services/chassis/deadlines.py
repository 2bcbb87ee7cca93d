"""How long the answer to a request may take, whatever a dependency does.

The limits lie one inside the other, so that the inner one can still say what it knows: a lock before a service's
answer, that before the gateway's patience with the service, and that before the gateway's own answer.
"""

import asyncio
from types import TracebackType
from typing import Self

from fastapi import Request

__all__ = ["ANSWER_S", "LONG_ANSWER_S", "Deadline", "deadline_of"]

ANSWER_S = 9.0
# For the few operations whose work grows with a mandate or a file. They ask for it once the database has answered.
LONG_ANSWER_S = 55.0


class Deadline:
    """An asynchronous context that raises TimeoutError at the end of the time, which can be moved while it runs."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._limit = asyncio.timeout(seconds)

    async def __aenter__(self) -> Self:
        await self._limit.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._limit.__aexit__(kind, error, trace)

    def restart(self, seconds: float | None = None) -> None:
        """Restarts the deadline from now, with the given seconds or those it began with."""
        self._move(asyncio.get_running_loop().time() + (self._seconds if seconds is None else seconds))

    def lift(self) -> None:
        """The answer has begun: from here on the caller's connection sets the pace."""
        self._move(None)

    def left_s(self) -> float:
        """The seconds that are left."""
        when = self._limit.when()
        return self._seconds if when is None else max(0.0, when - asyncio.get_running_loop().time())

    def _move(self, when: float | None) -> None:
        if self._limit.expired():
            raise TimeoutError
        self._limit.reschedule(when)


def deadline_of(request: Request) -> Deadline:
    """The deadline of this request."""
    deadline: Deadline = request.state.deadline
    return deadline
