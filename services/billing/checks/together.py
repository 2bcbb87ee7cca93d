"""Requests that wait together are worked on together, in one transaction: the busier the service, the less each costs.

One that is alone waits for nobody. Nobody waits for another mandate either: the requests of a mandate that somebody
else has locked go on in a lane of their own, one at a time for each mandate.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, NamedTuple, TypeVar

from services.chassis.database import DatabaseUnavailable, is_transient

__all__ = ["Locked", "Together"]

# How many transactions run at once beside the lanes, and how many requests one of them takes.
SHARED_MAX = 2
LANES_MAX = 4
TOGETHER_MAX = 64
# Waiting requests; a further one is refused at once.
WAITING_MAX = 1_000

_Asked = TypeVar("_Asked")
_Answered = TypeVar("_Answered")
# Answers or refusals in the order of the requests.
Work = Callable[[Sequence[_Asked], bool], Awaitable[Sequence[_Answered | Exception]]]


class Locked(Exception):  # noqa: N818 - a signal to ask again, not an error.
    """Given by the work for a request whose mandate somebody else has locked, when it was told not to wait for that."""


class _Waiting(NamedTuple, Generic[_Asked, _Answered]):
    asked: _Asked
    lane: Hashable
    answered: asyncio.Future[_Answered]


class Together(Generic[_Asked, _Answered]):
    """Gathers the requests of one process. `work` is given some and whether to wait for locks, which it does only where
    all of them are of one mandate; an exception that it raises is that of each request."""

    def __init__(self, work: Work[_Asked, _Answered]) -> None:
        self._work = work
        self._shared: list[_Waiting[_Asked, _Answered]] = []
        self._lanes: dict[Hashable, list[_Waiting[_Asked, _Answered]]] = {}
        self._lanes_open = asyncio.Semaphore(LANES_MAX)
        self._running = 0
        self._count = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def __call__(self, asked: _Asked, lane: Hashable) -> _Answered:
        """The answer to one request; `lane` is its mandate. Raises the refusal, what the database raised, or
        `DatabaseUnavailable` where too many wait."""
        if self._count >= WAITING_MAX:
            raise DatabaseUnavailable
        waiting = _Waiting[_Asked, _Answered](asked, lane, asyncio.get_running_loop().create_future())
        self._count += 1
        try:
            if lane in self._lanes:
                self._lanes[lane].append(waiting)
            else:
                self._shared.append(waiting)
                if self._running < SHARED_MAX:
                    # Counted here and not in the task, which begins later.
                    self._running += 1
                    self._begin(self._work_off_shared())
            return await waiting.answered
        finally:
            self._count -= 1

    def _begin(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work_off_shared(self) -> None:
        try:
            while self._shared:
                some, self._shared = self._shared[:TOGETHER_MAX], self._shared[TOGETHER_MAX:]
                await self._answer(some, wait=False)
        finally:
            # In the same turn as the last look at the waiting requests.
            self._running -= 1

    async def _work_off_lane(self, lane: Hashable) -> None:
        async with self._lanes_open:
            waiting = self._lanes[lane]
            while waiting:
                some, waiting[:] = waiting[:TOGETHER_MAX], waiting[TOGETHER_MAX:]
                await self._answer(some, wait=True)
            del self._lanes[lane]

    async def _answer(self, some: Sequence[_Waiting[_Asked, _Answered]], *, wait: bool) -> None:
        try:
            outcomes = await self._work([each.asked for each in some], wait)
        except Exception as error:  # noqa: BLE001 - it is raised where the request was made.
            if len(some) > 1 and not is_transient(error):
                # The fault of one of them: each by itself, so that the others do not suffer for it.
                for each in some:
                    await self._answer([each], wait=wait)
                return
            outcomes = [error] * len(some)
        for each, outcome in zip(some, outcomes, strict=True):
            if isinstance(outcome, Locked):
                self._to_lane(each)
            elif each.answered.done():
                # The caller has gone meanwhile.
                continue
            elif isinstance(outcome, Exception):
                each.answered.set_exception(outcome)
            else:
                each.answered.set_result(outcome)

    def _to_lane(self, waiting: _Waiting[_Asked, _Answered]) -> None:
        if waiting.lane in self._lanes:
            self._lanes[waiting.lane].append(waiting)
        else:
            self._lanes[waiting.lane] = [waiting]
            self._begin(self._work_off_lane(waiting.lane))
