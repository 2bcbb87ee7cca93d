"""What the time does to subscriptions that wait: a scheduled one begins, a grace ends, a checkout counts as given up.

So is what was told of a record before it was there, once it is.
"""

from services.chassis.clock import Clock
from services.chassis.database import Database, is_transient
from services.chassis.faults import FaultPoints
from services.chassis.logging import get_logger
from services.chassis.metrics import SET_ASIDE
from services.subscriptions.lifecycle.advance_due import CAUSE, SET_ASIDE_FOR
from services.subscriptions.lifecycle.queries import mandates_to_settle
from services.subscriptions.lifecycle.repository import postpone_settlement
from services.subscriptions.lifecycle.settle_mandate import LifecycleRules, settle_mandate

__all__ = ["SettleDue"]

# How many mandates one look takes.
DUE_MAX = 100

_log = get_logger(__name__)


class SettleDue:
    """Each call settles the mandates with which something is due, and returns how many there were."""

    def __init__(self, database: Database, rules: LifecycleRules, *, clock: Clock, faults: FaultPoints) -> None:
        self._database = database
        self._rules = rules
        self._clock = clock
        self._faults = faults

    async def __call__(self) -> int:
        """Settles each mandate in a transaction of its own; one that fails is left alone for an hour."""
        now = self._clock()
        async with self._database.reading() as connection:
            due = await mandates_to_settle(connection, now=now, limit=DUE_MAX)
        for mandate_id, records in due.items():
            try:
                async with self._database.transaction() as connection:
                    await settle_mandate(connection, mandate_id, self._rules, also=records, cause=CAUSE, now=now)
                    self._faults.reach("subscriptions_due_uncommitted")
                self._faults.reach("subscriptions_due_committed")
            except Exception as error:
                if is_transient(error):
                    raise
                SET_ASIDE.labels("due subscription").inc()
                _log.error("mandate set aside", mandate=mandate_id, error=type(error).__name__, exc_info=error)
                async with self._database.transaction() as connection:
                    await postpone_settlement(connection, mandate_id, now=now, until=now + SET_ASIDE_FOR)
        return len(due)
