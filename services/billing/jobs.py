"""What billing does by the clock."""

from services.billing.charging.settle_parked import SettleParked
from services.billing.settings import BillingSettings
from services.chassis.clock import Clock
from services.chassis.database import Database
from services.chassis.jobs import RepeatedJob
from services.chassis.process import Part

__all__ = ["build"]


def build(settings: BillingSettings, *, database: Database, clock: Clock) -> list[Part]:
    """The jobs of one worker; each is safe beside those of other workers."""
    settle = SettleParked(database, default_markup=settings.default_markup_percent, clock=clock)
    return [RepeatedJob("settle parked", settle, every_s=1.0)]
