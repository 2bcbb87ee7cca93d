"""Repeated jobs of a worker. One that fails is tried again and stops nothing that runs beside it."""

import asyncio
from collections.abc import Awaitable, Callable

from services.chassis.database import is_transient
from services.chassis.logging import get_logger
from services.chassis.metrics import JOB_FAILURES
from services.chassis.process import pause

__all__ = ["RepeatedJob"]

BACK_OFF_S_MAX = 60.0

_log = get_logger(__name__)


class RepeatedJob:
    """Runs a job until it finds nothing to do, then waits; one that fails is tried again, with growing delays."""

    def __init__(self, name: str, job: Callable[[], Awaitable[int]], *, every_s: float) -> None:
        self.name = name
        self._job = job
        self._every_s = every_s

    async def run(self, stop: asyncio.Event) -> None:
        """Works until told to stop."""
        delay_s = self._every_s
        while not stop.is_set():
            try:
                found = await self._job()
            except Exception as error:  # noqa: BLE001 - it is logged, and the consumers of this process go on.
                JOB_FAILURES.labels(self.name, type(error).__name__).inc()
                if is_transient(error):
                    _log.warning("job tried again", job=self.name, error=type(error).__name__)
                else:
                    _log.error("job failed", job=self.name, error=type(error).__name__, exc_info=error)
                await pause(stop, delay_s)
                delay_s = min(max(delay_s, 0.1) * 2, max(BACK_OFF_S_MAX, self._every_s))
                continue
            delay_s = self._every_s
            if not found:
                await pause(stop, self._every_s)
