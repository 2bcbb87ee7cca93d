"""The components of the worker that process what is stored, and forget it later: webhook events, and requests of other
services."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from prometheus_client import Gauge
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.clock import Clock, offset_s_of
from services.chassis.database import Database, is_transient
from services.chassis.logging import get_logger
from services.chassis.metrics import JOB_CLOCK_OFFSET_SECONDS
from services.chassis.process import pause
from services.payments.inbox.metrics import EVENTS_WAITING
from services.payments.inbox.process_event import ProcessEvents
from services.payments.inbox.queries import count_waiting_events
from services.payments.requests.metrics import REQUESTS_WAITING
from services.payments.requests.process_requests import ProcessRequests
from services.payments.requests.queries import count_waiting_requests
from services.payments.requests.receive_requests import REQUESTS

__all__ = ["Forgetting", "Processing", "inbox", "requests"]

# Also the delay of what another process has stored while the worker is idle.
POLL_S: Final = 0.1
RETRY_S: Final = 1.0
# Entries of a queue that are taken at the same time. Events have their turns (`process_event.OBJECTS_AT_ONCE`), so that
# one statement takes more of them than are processed at once.
REQUESTS_AT_ONCE: Final = 4
EVENTS_AT_ONCE: Final = 32
MEASURE_INTERVAL_S: Final = 5.0
# Rows that are deleted at once, so that no statement is long.
FORGOTTEN_AT_ONCE: Final = 1_000

_log = get_logger(__name__)


class Queue(Protocol):
    """What is stored and waits: taken under a lease, then processed."""

    async def claim(self, limit: int) -> list[Any]:
        """Takes up to `limit` due entries for this worker."""

    async def process(self, entry: Any) -> None:
        """Processes one; whatever fails is noted."""


class Processing:
    """Processes the entries of a queue, a few at a time, so that one that waits for Stripe does not hold up the
    others."""

    def __init__(
        self,
        name: str,
        queue: Queue,
        *,
        database: Database,
        count: Callable[[AsyncConnection], Awaitable[int]],
        gauge: Gauge,
        clock: Clock,
        at_once: int,
    ) -> None:
        """`name` is also that of the notice by which it learns at once of what this process has stored."""
        self.name = name
        self._stored = database.notice(name)
        self._at_once = at_once
        self._queue = queue
        self._database = database
        self._count = count
        self._gauge = gauge
        self._clock = clock
        self._measured_at = float("-inf")
        JOB_CLOCK_OFFSET_SECONDS.labels(self.name).set(0)

    async def run(self, stop: asyncio.Event) -> None:
        """Works until told to stop, then finishes what it has taken."""
        running: set[asyncio.Task[None]] = set()
        while not stop.is_set():
            self._stored.clear()
            try:
                offset_s = offset_s_of(self._clock)
                running |= await self._take(self._at_once - len(running))
                if not running:
                    JOB_CLOCK_OFFSET_SECONDS.labels(self.name).set(offset_s)
                await self._measure()
            except Exception as error:
                if not is_transient(error):
                    raise
                _log.warning("queue tried again", queue=self.name, error=type(error).__name__)
                await pause(stop, RETRY_S)
            running = await _after_first(running, self._stored, stop)
        await asyncio.gather(*running)

    async def _take(self, limit: int) -> set[asyncio.Task[None]]:
        """Up to `limit` more, once a quarter of all have ended: each taking costs a statement and a commit."""
        entries = await self._queue.claim(limit) if limit >= self._at_once // 4 else []
        return {asyncio.create_task(self._queue.process(entry), name=self.name) for entry in entries}

    async def _measure(self) -> None:
        if time.monotonic() - self._measured_at < MEASURE_INTERVAL_S:
            return
        self._measured_at = time.monotonic()
        async with self._database.reading() as connection:
            self._gauge.set(await self._count(connection))


class Deletion(Protocol):
    """Deletes up to `limit` rows that came before a time and are done with; how many."""

    async def __call__(self, connection: AsyncConnection, *, received_before: datetime, limit: int) -> int: ...


class Forgetting:
    """Each call is one turn of deleting what was done with long ago: events of the webhook, whose effects are in our
    books and which hold more of payers than need be kept for ever, and requests, which no reader of the topics gets
    again."""

    def __init__(self, database: Database, delete: Deletion, *, keep: timedelta, clock: Clock) -> None:
        self._database = database
        self._delete = delete
        self._keep = keep
        self._clock = clock

    async def __call__(self) -> int:
        """How many were deleted."""
        async with self._database.transaction() as connection:
            return await self._delete(connection, received_before=self._clock() - self._keep, limit=FORGOTTEN_AT_ONCE)


def inbox(database: Database, events: ProcessEvents, *, clock: Clock) -> Processing:
    """Processes stored webhook events."""
    return Processing(
        "inbox",
        events,
        database=database,
        count=count_waiting_events,
        gauge=EVENTS_WAITING,
        clock=clock,
        at_once=EVENTS_AT_ONCE,
    )


def requests(database: Database, asked: ProcessRequests, *, clock: Clock) -> Processing:
    """Does what other services ask for."""
    return Processing(
        REQUESTS,
        asked,
        database=database,
        count=count_waiting_requests,
        gauge=REQUESTS_WAITING,
        clock=clock,
        at_once=REQUESTS_AT_ONCE,
    )


async def _after_first(
    running: set[asyncio.Task[None]], stored: asyncio.Event, stop: asyncio.Event
) -> set[asyncio.Task[None]]:
    """Waits for a task to end, for something new, for the stop or the next poll; gives those that still run, and raises
    what one raised."""
    waiting = {asyncio.create_task(each.wait()) for each in (stored, stop)}
    try:
        done, _ = await asyncio.wait(running | waiting, timeout=POLL_S, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in waiting:
            each.cancel()
    for task in running & done:
        task.result()
    return running - done
