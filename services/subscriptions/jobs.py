"""What this service does by the clock."""

import asyncio

from services.chassis.clock import Clock
from services.chassis.database import Database, is_transient
from services.chassis.logging import get_logger
from services.chassis.process import Part, pause
from services.subscriptions.catalogue import Catalogue
from services.subscriptions.settings import SubscriptionsSettings
from services.subscriptions.use_cases.advance_due import AdvanceDue

__all__ = ["build"]

_log = get_logger(__name__)


class _PeriodClock:
    """Advances what is due until nothing is, then waits; what is transient is tried again at the next turn."""

    name = "period clock"

    def __init__(self, advance_due: AdvanceDue, *, every_s: float) -> None:
        self._advance_due = advance_due
        self._every_s = every_s

    async def run(self, stop: asyncio.Event) -> None:
        """Works until told to stop."""
        while not stop.is_set():
            try:
                advanced = await self._advance_due()
            except Exception as error:
                if not is_transient(error):
                    raise
                _log.warning("job tried again", job=self.name, error=type(error).__name__)
                advanced = 0
            if not advanced:
                await pause(stop, self._every_s)


def build(settings: SubscriptionsSettings, *, database: Database, catalogue: Catalogue, clock: Clock) -> list[Part]:
    """The jobs of one worker; each is safe beside those of other workers."""
    return [_PeriodClock(AdvanceDue(database, catalogue, clock=clock), every_s=settings.clock_interval_s)]
