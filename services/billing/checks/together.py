"""Requests that wait together are worked on together, in one transaction: the busier the service, the less each costs.

One that is alone waits for nobody. In this process a mandate is in one transaction at a time, so that none of them
waits for another at its lock. Where somebody else has the lock, the requests of that mandate wait for it by themselves
and hold nobody up.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Sequence
from typing import Any, NamedTuple, TypeVar

from services.chassis.database import DatabaseUnavailable, is_transient
from services.chassis.requests import ANSWER_S

__all__ = ["Locked", "Together"]

# How many transactions run at once, how many more wait for locks of others, how many requests one of them takes. While
# one runs, more requests gather for the next: two at once cost a quarter more CPU for each hold, and its slowest
# answers take half as long again. One that takes so long waits for something that others may not need, and no longer
# counts as running, so that they go on; only so many do at a time.
RUNNING_MAX = 1
SLOW_S = 0.5
SLOW_MAX = 2
WAITING_FOR_LOCKS_MAX = 4
TOGETHER_MAX = 64
# Waiting requests; a further one is refused at once.
WAITING_MAX = 1_000

_Asked = TypeVar("_Asked")
_Answered = TypeVar("_Answered")
# Gives answers or refusals in the order of the requests; the second argument is whether to wait for locks.
Work = Callable[[Sequence[_Asked], bool], Awaitable[Sequence[_Answered | Exception]]]


class Locked(Exception):  # noqa: N818 - a signal to ask again, not an error.
    """Given by the work for a request whose mandate somebody else has locked, when it was told not to wait for that."""


class _Waiting(NamedTuple):
    work: Work[Any, Any]
    asked: Any
    mandate: Hashable
    answered: asyncio.Future[Any]


class Together:
    """Gathers the requests of one process for all works that lock mandates."""

    def __init__(self) -> None:
        self._waiting: list[_Waiting] = []
        self._busy: set[Hashable] = set()
        self._running = 0
        # Transactions that no longer count as running.
        self._slow: set[asyncio.Task[Any] | None] = set()
        self._for_locks = asyncio.Semaphore(WAITING_FOR_LOCKS_MAX)
        self._tasks: set[asyncio.Task[None]] = set()

    async def __call__(self, work: Work[_Asked, _Answered], asked: _Asked, mandate: Hashable) -> _Answered:
        """The answer of the work to one request of a mandate. Raises its refusal, what the work as a whole raised, or
        `DatabaseUnavailable` where too many wait."""
        if len(self._waiting) >= WAITING_MAX:
            # Callers whose deadline has passed no longer wait.
            self._waiting = [each for each in self._waiting if not each.answered.done()]
            if len(self._waiting) >= WAITING_MAX:
                raise DatabaseUnavailable
        answered: asyncio.Future[_Answered] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(work, asked, mandate, answered))
        self._go_on()
        return await answered

    def _go_on(self) -> None:
        """Begins as many transactions as may run and have something to do."""
        while self._running < RUNNING_MAX and (some := self._take()):
            self._running += 1
            self._begin(self._run(some))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _take(self) -> list[_Waiting]:
        """The request that has waited longest and may go on, with those of the same work that may too."""
        some: list[_Waiting] = []
        left: list[_Waiting] = []
        for each in self._waiting:
            if each.answered.done():
                continue
            free = each.mandate not in self._busy and len(some) < TOGETHER_MAX
            (some if free and (not some or each.work == some[0].work) else left).append(each)
        self._waiting = left
        self._busy |= {each.mandate for each in some}
        return some

    async def _run(self, some: Sequence[_Waiting]) -> None:
        task = asyncio.current_task()
        slow = asyncio.get_running_loop().call_later(SLOW_S, self._let_others_go_on, task)
        try:
            locked = await self._answer(some, wait=False)
        finally:
            slow.cancel()
            if task in self._slow:
                self._slow.discard(task)
            else:
                self._running -= 1
        by_mandate: dict[Hashable, list[_Waiting]] = {}
        for each in locked:
            by_mandate.setdefault(each.mandate, []).append(each)
        for of_mandate in by_mandate.values():
            self._begin(self._run_waiting_for_lock(of_mandate))
        self._free({each.mandate for each in some} - by_mandate.keys())

    def _let_others_go_on(self, slow: asyncio.Task[Any] | None) -> None:
        if len(self._slow) < SLOW_MAX:
            self._slow.add(slow)
            self._running -= 1
            self._go_on()

    async def _run_waiting_for_lock(self, of_mandate: Sequence[_Waiting]) -> None:
        async with self._for_locks:
            await self._answer(_still_there(of_mandate), wait=True)
        self._free({of_mandate[0].mandate})

    def _free(self, mandates: set[Hashable]) -> None:
        self._busy -= mandates
        self._go_on()

    async def _answer(self, some: Sequence[_Waiting], *, wait: bool) -> list[_Waiting]:
        """Answers requests of one work; gives those whose mandates are locked."""
        if not some:
            return []
        try:
            # Their callers are answered by then; a server that stands still must not keep those who come later.
            async with asyncio.timeout(ANSWER_S):
                outcomes = await some[0].work([each.asked for each in some], wait)
        except Exception as error:  # noqa: BLE001 - it is raised where the request was made.
            if len(some) > 1 and not is_transient(error):
                # The fault of one of them: each by itself, so that the others do not suffer for it.
                return [locked for each in some for locked in await self._answer(_still_there([each]), wait=wait)]
            outcomes = [error] * len(some)
        locked = []
        for each, outcome in zip(some, outcomes, strict=True):
            if isinstance(outcome, Locked):
                locked.append(each)
            elif each.answered.done():
                # The caller has gone meanwhile.
                continue
            elif isinstance(outcome, Exception):
                each.answered.set_exception(outcome)
            else:
                each.answered.set_result(outcome)
        return locked


def _still_there(some: Sequence[_Waiting]) -> list[_Waiting]:
    """Those whose callers have not gone while they waited: what is done for the others keeps those who come later."""
    return [each for each in some if not each.answered.done()]
