"""The periodic jobs of the service."""

from collections.abc import Awaitable, Callable
from datetime import timedelta

from services.chassis.clock import Clock
from services.chassis.database import Database
from services.chassis.faults import FaultPoints
from services.chassis.jobs import RepeatedJob
from services.chassis.process import Component
from services.subscriptions.directory.fill_copy import FillCopy
from services.subscriptions.lifecycle.advance_due import AdvanceDue
from services.subscriptions.lifecycle.remind_trials import RemindTrials
from services.subscriptions.lifecycle.settle_due import SettleDue
from services.subscriptions.lifecycle.settle_mandate import LifecycleRules
from services.subscriptions.plans.catalogue import Catalogue
from services.subscriptions.quantities.keep_in_step import KeepInStep
from services.subscriptions.settings import SubscriptionsSettings
from services.subscriptions.store.recover_work import RecoverWork

__all__ = ["build"]


def build(
    settings: SubscriptionsSettings, *, database: Database, catalogue: Catalogue, clock: Clock, faults: FaultPoints
) -> list[Component]:
    """The jobs of one worker; each is safe beside those of other workers."""
    rules = LifecycleRules(catalogue, grace=timedelta(days=settings.grace_days))
    jobs: dict[str, Callable[[], Awaitable[int]]] = {
        "period clock": AdvanceDue(database, catalogue, clock=clock),
        "settlements": SettleDue(database, rules, clock=clock, faults=faults),
        "trial reminders": RemindTrials(database, settings.trial_reminder_days, clock=clock),
        "quantities": KeepInStep(database, clock=clock, faults=faults),
        "store recovery": RecoverWork(database, clock=clock),
        "copy of the directory": FillCopy(
            database, settings.kafka, client_id=f"subscriptions-{settings.instance}", clock=clock
        ),
    }
    return [RepeatedJob(name, job, every_s=settings.clock_interval_s, clock=clock) for name, job in jobs.items()]
