"""Billing's periodic jobs."""

from services.billing.charging.settle_parked import SettleParked
from services.billing.checks.release_holds import ReleaseHolds
from services.billing.credits.expire_grants import ExpireGrants
from services.billing.credits.settle_payments import SettlePayments
from services.billing.settings import BillingSettings
from services.chassis.clock import Clock
from services.chassis.database import Database
from services.chassis.jobs import RepeatedJob
from services.chassis.process import Component

__all__ = ["build"]


def build(settings: BillingSettings, *, database: Database, clock: Clock) -> list[Component]:
    """The jobs of one worker; each is safe beside those of other workers."""
    usage = SettleParked(database, default_markup=settings.default_markup_percent, clock=clock)
    payments = SettlePayments(database, clock=clock)

    async def settle() -> int:
        # One after the other, because payments are few: once no usage is left to look at, nothing stands before them in
        # the index of what is parked.
        return await usage() or await payments()

    return [
        RepeatedJob("settle parked", settle, every_s=1.0, clock=clock),
        RepeatedJob("release holds", ReleaseHolds(database, clock=clock), every_s=1.0, clock=clock),
        RepeatedJob("expire grants", ExpireGrants(database, clock=clock), every_s=1.0, clock=clock),
    ]
