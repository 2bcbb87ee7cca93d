"""What our own clock does: trials end, and plans that need no payment get their next period."""

from services.chassis.clock import Clock
from services.chassis.database import Database
from services.chassis.logging import get_logger
from services.subscriptions.catalogue import Catalogue
from services.subscriptions.domain.subscription import Change, Subscription, advance
from services.subscriptions.repository import lock_due
from services.subscriptions.use_cases.record_changes import record_changes

__all__ = ["AdvanceDue"]

# Subscriptions in one transaction.
DUE_MAX = 500
CAUSE = "clock"

_log = get_logger(__name__)


class AdvanceDue:
    """Each call takes what is due and not taken by another worker one step on, and returns how many there were.

    A step is one period, so after an outage every period that was missed begins, with its budget, in its order.
    """

    def __init__(self, database: Database, catalogue: Catalogue, *, clock: Clock) -> None:
        self._database = database
        self._catalogue = catalogue
        self._clock = clock

    async def __call__(self) -> int:
        """Advances one batch in one transaction."""
        now = self._clock()
        async with self._database.bare() as connection, connection.transaction():
            due = await lock_due(connection, now=now, limit=DUE_MAX)
            if due:
                changes = [self._step(subscription) for subscription in due]
                await record_changes(connection, changes, cause=CAUSE, actor=None, now=now)
        if due:
            _log.info("subscriptions advanced", count=len(due))
        return len(due)

    def _step(self, subscription: Subscription) -> Change:
        return advance(subscription, self._catalogue.next_terms(subscription.plan))
