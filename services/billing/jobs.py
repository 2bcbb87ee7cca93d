"""What billing does by the clock."""

import asyncio
from collections.abc import Awaitable, Callable

from services.billing.settings import BillingSettings
from services.billing.use_cases.settle_parked import SettleParked
from services.chassis.clock import Clock
from services.chassis.database import Database, is_transient
from services.chassis.logging import get_logger
from services.chassis.process import Part, pause

__all__ = ["build"]

_log = get_logger(__name__)


class _Repeated:
    """Runs a job until it finds nothing to do, then waits; what is transient is tried again at the next turn."""

    def __init__(self, name: str, job: Callable[[], Awaitable[int]], *, every_s: float) -> None:
        self.name = name
        self._job = job
        self._every_s = every_s

    async def run(self, stop: asyncio.Event) -> None:
        """Works until told to stop."""
        while not stop.is_set():
            try:
                found = await self._job()
            except Exception as error:
                if not is_transient(error):
                    raise
                _log.warning("job tried again", job=self.name, error=type(error).__name__)
                found = 0
            if not found:
                await pause(stop, self._every_s)


def build(settings: BillingSettings, *, database: Database, clock: Clock) -> list[Part]:
    """The jobs of one worker; each is safe beside those of other workers."""
    settle = SettleParked(database, default_markup=settings.default_markup_percent, clock=clock)
    return [_Repeated("settle parked", settle, every_s=1.0)]
