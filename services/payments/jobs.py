"""The component of the worker that processes stored webhook events."""

import asyncio
import time
from typing import Final

from services.chassis.clock import Clock, offset_s_of
from services.chassis.database import Database, is_transient
from services.chassis.logging import get_logger
from services.chassis.metrics import JOB_CLOCK_OFFSET_SECONDS
from services.chassis.process import pause
from services.payments.inbox.metrics import EVENTS_WAITING
from services.payments.inbox.process_event import ProcessEvents
from services.payments.inbox.queries import count_waiting_events

__all__ = ["Inbox"]

# Also the delay of an event that arrives while the worker is idle.
POLL_S: Final = 0.1
RETRY_S: Final = 1.0
PARALLEL: Final = 4
MEASURE_INTERVAL_S: Final = 5.0

_log = get_logger(__name__)


class Inbox:
    """Processes stored events, a few at a time, so that one that waits for Stripe does not hold up the others."""

    name = "inbox"

    def __init__(self, database: Database, events: ProcessEvents, *, clock: Clock) -> None:
        self._database = database
        self._events = events
        self._clock = clock
        self._measured_at = float("-inf")
        JOB_CLOCK_OFFSET_SECONDS.labels(self.name).set(0)

    async def run(self, stop: asyncio.Event) -> None:
        """Works until told to stop, then finishes what it has taken."""
        running: set[asyncio.Task[None]] = set()
        while not stop.is_set():
            try:
                offset_s = offset_s_of(self._clock)
                running |= await self._take(PARALLEL - len(running))
                if not running:
                    JOB_CLOCK_OFFSET_SECONDS.labels(self.name).set(offset_s)
                await self._measure()
            except Exception as error:
                if not is_transient(error):
                    raise
                _log.warning("inbox tries again", error=type(error).__name__)
                await pause(stop, RETRY_S)
            running = await _after_first(running, stop)
        await asyncio.gather(*running)

    async def _take(self, limit: int) -> set[asyncio.Task[None]]:
        events = await self._events.claim(limit) if limit > 0 else []
        return {asyncio.create_task(self._events.process(event), name=event.event_id) for event in events}

    async def _measure(self) -> None:
        if time.monotonic() - self._measured_at < MEASURE_INTERVAL_S:
            return
        self._measured_at = time.monotonic()
        async with self._database.reading() as connection:
            EVENTS_WAITING.set(await count_waiting_events(connection))


async def _after_first(running: set[asyncio.Task[None]], stop: asyncio.Event) -> set[asyncio.Task[None]]:
    """Waits for a task to end or the next poll; gives those that still run, and raises what one raised."""
    if not running:
        await pause(stop, POLL_S)
        return running
    done, pending = await asyncio.wait(running, timeout=POLL_S, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()
    return pending
