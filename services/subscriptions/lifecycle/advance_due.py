"""What our own clock does: trials end, and plans that need no payment get their next period."""

from datetime import timedelta

from services.chassis.clock import Clock
from services.chassis.database import Database, is_transient, savepoint
from services.chassis.logging import get_logger
from services.chassis.metrics import SET_ASIDE
from services.subscriptions.lifecycle.domain import Change, Subscription, advance
from services.subscriptions.lifecycle.record_changes import record_changes
from services.subscriptions.lifecycle.repository import lock_due, postpone
from services.subscriptions.plans.catalogue import Catalogue

__all__ = ["AdvanceDue"]

# How many subscriptions one transaction advances.
DUE_MAX = 500
SET_ASIDE_FOR = timedelta(hours=1)
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
        self._limit = DUE_MAX

    async def __call__(self) -> int:
        """Advances one batch in one transaction. A subscription that cannot be advanced is found by smaller batches and
        left alone for an hour; the others go on."""
        try:
            found = await self._advance(self._limit)
        except Exception as error:
            if is_transient(error) or self._limit == 1:
                raise
            _log.warning("due subscriptions isolated", count=self._limit, error=type(error).__name__)
            self._limit = max(1, self._limit // 8)
            return self._limit
        self._limit = min(DUE_MAX, self._limit * 2)
        return found

    async def _advance(self, limit: int) -> int:
        now = self._clock()
        async with self._database.transaction() as connection:
            due, failed = await lock_due(connection, now=now, limit=limit)
            try:
                if due:
                    async with savepoint(connection):
                        changes = [self._step(subscription) for subscription in due]
                        await record_changes(connection, changes, cause=CAUSE, actor=None, now=now)
            except Exception as error:
                if is_transient(error) or len(due) > 1:
                    raise
                failed[due[0].id] = error
            for number, reason in failed.items():
                SET_ASIDE.labels("due subscription").inc()
                _log.error("subscription set aside", id=str(number), error=type(reason).__name__, exc_info=reason)
            if failed:
                await postpone(connection, list(failed), until=now + SET_ASIDE_FOR)
        if due:
            _log.info("subscriptions advanced", count=len(due))
        return len(due) + len(failed)

    def _step(self, subscription: Subscription) -> Change:
        return advance(subscription, self._catalogue.next_terms(subscription.plan))
