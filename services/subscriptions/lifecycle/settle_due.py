"""What the time does to subscriptions that wait: a scheduled one begins, a grace ends, a checkout counts as given up.

So is what was told of a record before it was there, once it is.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

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
    """Each call settles the mandates with which something is due, and returns in how many something has changed."""

    def __init__(self, database: Database, rules: LifecycleRules, *, clock: Clock, faults: FaultPoints) -> None:
        self._database = database
        self._rules = rules
        self._clock = clock
        self._faults = faults
        # Mandates at which it has failed, and until when they are left alone.
        self._aside: dict[str, datetime] = {}

    async def __call__(self) -> int:
        """Settles each mandate in a transaction of its own; one that fails is left alone for an hour."""
        now = self._clock()
        self._aside = {mandate_id: until for mandate_id, until in self._aside.items() if until > now}
        async with self._database.reading() as connection:
            due = await mandates_to_settle(connection, now=now, limit=DUE_MAX)
        changed = 0
        for mandate_id, records in due.items():
            if mandate_id in self._aside:
                continue
            try:
                changed += await self._settle(mandate_id, records, now)
            except Exception as error:
                if is_transient(error):
                    raise
                await self._set_aside(mandate_id, error, now)
        return changed

    async def _settle(self, mandate_id: str, records: Sequence[UUID], now: datetime) -> bool:
        async with self._database.transaction() as connection:
            settlement = await settle_mandate(connection, mandate_id, self._rules, also=records, cause=CAUSE, now=now)
            if not settlement.changes:
                # It waits for Stripe too, whose word moves it when it comes.
                await postpone_settlement(connection, mandate_id, now=now, until=now + SET_ASIDE_FOR)
            self._faults.reach("subscriptions_due_uncommitted")
        self._faults.reach("subscriptions_due_committed")
        return bool(settlement.changes)

    async def _set_aside(self, mandate_id: str, error: Exception, now: datetime) -> None:
        SET_ASIDE.labels("due subscription").inc()
        _log.error("mandate set aside", mandate=mandate_id, error=type(error).__name__, exc_info=error)
        self._aside[mandate_id] = now + SET_ASIDE_FOR
        async with self._database.transaction() as connection:
            await postpone_settlement(connection, mandate_id, now=now, until=now + SET_ASIDE_FOR)
