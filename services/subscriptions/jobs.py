"""The periodic jobs of the service."""

from services.chassis.clock import Clock
from services.chassis.database import Database
from services.chassis.jobs import RepeatedJob
from services.chassis.process import Component
from services.subscriptions.lifecycle.advance_due import AdvanceDue
from services.subscriptions.plans.catalogue import Catalogue
from services.subscriptions.settings import SubscriptionsSettings
from services.subscriptions.store.recover_work import RecoverWork

__all__ = ["build"]


def build(
    settings: SubscriptionsSettings, *, database: Database, catalogue: Catalogue, clock: Clock
) -> list[Component]:
    """The jobs of one worker; each is safe beside those of other workers."""
    advance_due = AdvanceDue(database, catalogue, clock=clock)
    recover_work = RecoverWork(database, clock=clock)
    return [
        RepeatedJob("period clock", advance_due, every_s=settings.clock_interval_s, clock=clock),
        RepeatedJob("store recovery", recover_work, every_s=settings.recovery_interval_s, clock=clock),
    ]
