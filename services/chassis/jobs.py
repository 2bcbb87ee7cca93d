"""Repeated jobs of a worker. One that fails is tried again and stops nothing that runs beside it."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from services.chassis.clock import LOOK_EVERY_S, AdjustableClock, Clock, offset_s_of
from services.chassis.database import is_transient
from services.chassis.logging import get_logger
from services.chassis.metrics import JOB_CLOCK_OFFSET_SECONDS, JOB_FAILURES
from services.chassis.process import pause

__all__ = ["RepeatedJob"]

BACK_OFF_S_MAX = 60.0

_log = get_logger(__name__)


class RepeatedJob:
    """Runs a job until it finds nothing to do, then waits; one that fails is tried again, with growing delays.

    A wait ends at once when the clock is moved, which may have made something due.
    """

    def __init__(self, name: str, job: Callable[[], Awaitable[int]], *, every_s: float, clock: Clock) -> None:
        self.name = name
        self._job = job
        self._every_s = every_s
        self._clock = clock
        JOB_CLOCK_OFFSET_SECONDS.labels(name).set(0)

    async def run(self, stop: asyncio.Event) -> None:
        """Works until told to stop."""
        delay_s = self._every_s
        while not stop.is_set():
            # Before the run, so that one at which the clock is moved does not count as made by the new time.
            offset_s = offset_s_of(self._clock)
            try:
                found = await self._job()
            except Exception as error:  # noqa: BLE001 - it is logged, and the consumers of this process go on.
                JOB_FAILURES.labels(self.name, type(error).__name__).inc()
                if is_transient(error):
                    _log.warning("job tried again", job=self.name, error=type(error).__name__)
                else:
                    _log.error("job failed", job=self.name, error=type(error).__name__, exc_info=error)
                await self._rest(stop, delay_s, offset_s)
                delay_s = min(max(delay_s, 0.1) * 2, max(BACK_OFF_S_MAX, self._every_s))
                continue
            delay_s = self._every_s
            if not found:
                JOB_CLOCK_OFFSET_SECONDS.labels(self.name).set(offset_s)
                await self._rest(stop, self._every_s, offset_s)

    async def _rest(self, stop: asyncio.Event, timeout_s: float, offset_s: int) -> None:
        """Sleeps until the time is over, the process stops or the clock is no longer ahead by `offset_s`."""
        if not isinstance(self._clock, AdjustableClock):
            await pause(stop, timeout_s)
            return
        end = time.monotonic() + timeout_s
        while not stop.is_set() and self._clock.offset_s == offset_s and (left_s := end - time.monotonic()) > 0:
            await pause(stop, min(left_s, LOOK_EVERY_S))
