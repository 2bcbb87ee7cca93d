"""The periodic jobs of the service."""

from services.chassis.clock import Clock
from services.chassis.database import Database
from services.chassis.jobs import RepeatedJob
from services.chassis.process import Component
from services.subscriptions.catalogue import Catalogue
from services.subscriptions.settings import SubscriptionsSettings
from services.subscriptions.use_cases.advance_due import AdvanceDue

__all__ = ["build"]


def build(
    settings: SubscriptionsSettings, *, database: Database, catalogue: Catalogue, clock: Clock
) -> list[Component]:
    """The jobs of one worker; each is safe beside those of other workers."""
    advance_due = AdvanceDue(database, catalogue, clock=clock)
    return [RepeatedJob("period clock", advance_due, every_s=settings.clock_interval_s, clock=clock)]
