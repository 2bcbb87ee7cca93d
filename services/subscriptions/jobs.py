"""The periodic jobs of the service."""

from services.chassis.clock import Clock
from services.chassis.database import Database
from services.chassis.jobs import RepeatedJob
from services.chassis.process import Component
from services.subscriptions.lifecycle.advance_due import AdvanceDue
from services.subscriptions.plans.catalogue import Catalogue
from services.subscriptions.settings import SubscriptionsSettings

__all__ = ["build"]


def build(
    settings: SubscriptionsSettings, *, database: Database, catalogue: Catalogue, clock: Clock
) -> list[Component]:
    """The jobs of one worker; each is safe beside those of other workers."""
    advance_due = AdvanceDue(database, catalogue, clock=clock)
    return [RepeatedJob("period clock", advance_due, every_s=settings.clock_interval_s, clock=clock)]
