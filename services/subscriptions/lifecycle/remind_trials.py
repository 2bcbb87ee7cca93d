"""Telling that trials are about to end, as many days before as the operator wants, once for each."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import uuid5

from rappen_contracts.registry import TRIAL_ENDING_V1
from rappen_contracts.subscription.v1 import TrialEnding
from services.chassis.clock import Clock
from services.chassis.database import Database
from services.chassis.outbox import append_outbox, outbox_row
from services.subscriptions.lifecycle.domain import Subscription
from services.subscriptions.lifecycle.repository import lock_trials_to_remind, note_reminders

__all__ = ["RemindTrials"]

# How many trials one transaction tells of.
REMINDERS_MAX = 200
CAUSE = "clock"


class RemindTrials:
    """Each call tells of a batch, and returns how many there were.

    The fewest days come first: after an outage a mandate is told once how long it really has, not twice.
    """

    def __init__(self, database: Database, days: Sequence[int], *, clock: Clock) -> None:
        self._database = database
        self._days = sorted(set(days))
        self._clock = clock

    async def __call__(self) -> int:
        """One transaction for each number of days."""
        return sum([await self._remind(days) for days in self._days])

    async def _remind(self, days: int) -> int:
        now = self._clock()
        before = timedelta(days=days)
        async with self._database.transaction() as connection:
            trials = await lock_trials_to_remind(connection, days, ends_by=now + before, now=now, limit=REMINDERS_MAX)
            await note_reminders(connection, [trial.id for trial in trials], days, now=now)
            rows = [
                outbox_row(
                    TRIAL_ENDING_V1,
                    _ending(trial, days),
                    event_id=uuid5(trial.id, f"reminder/{days}"),
                    occurred_at=now,
                    key=trial.mandate_id,
                )
                for trial in trials
            ]
            await append_outbox(connection, rows)
        return len(trials)


def _ending(trial: Subscription, days: int) -> TrialEnding:
    if trial.trial_ends_at is None:
        raise ValueError(f"the trial {trial.id} has no end")
    return TrialEnding(
        mandate_id=trial.mandate_id,
        subscription_id=trial.id,
        plan_key=trial.plan.key,
        trial_ends_at=trial.trial_ends_at,
        days_left=days,
        cause=CAUSE,
    )
