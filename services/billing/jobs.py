"""Billing's periodic jobs."""

from datetime import timedelta

from services.billing.charging.settle_parked import SettleParked
from services.billing.checks.release_holds import ReleaseHolds
from services.billing.corrections.run_reratings import RunReratings
from services.billing.credits.expire_grants import ExpireGrants
from services.billing.credits.settle_payments import SettlePayments
from services.billing.invoices.close_months import CloseMonths
from services.billing.ledger.merge_workflow_blocks import MergeWorkflowBlocks
from services.billing.ledger.seal_days import SealDays
from services.billing.publishers.notice_silences import NoticeSilences
from services.billing.recharges.request_recharges import RechargeLimits, RequestRecharges
from services.billing.settings import BillingSettings
from services.billing.statistics.keep_sums import KeepSums
from services.chassis.clock import Clock
from services.chassis.database import Database
from services.chassis.faults import FaultPoints
from services.chassis.jobs import RepeatedJob
from services.chassis.process import Component

__all__ = ["build"]


def build(settings: BillingSettings, *, database: Database, clock: Clock, faults: FaultPoints) -> list[Component]:
    """The jobs of one worker; each is safe beside those of other workers."""
    usage = SettleParked(database, default_markup=settings.default_markup_percent, clock=clock)
    payments = SettlePayments(database, clock=clock)
    limits = RechargeLimits(
        settings.amount_max_chf,
        timeout=timedelta(seconds=settings.recharge_timeout_s),
        retry_after=timedelta(seconds=settings.recharge_retry_s),
    )
    recharges = RequestRecharges(database, limits=limits, clock=clock)
    minimum = timedelta(seconds=settings.publisher_silence_min_s)
    silences = NoticeSilences(database, minimum=minimum, settle=minimum / 12, clock=clock)
    look_every_s = min(60.0, settings.publisher_silence_min_s / 12)
    seal = SealDays(database, after_s=settings.seal_after_s, clock=clock, faults=faults)
    merge = MergeWorkflowBlocks(database, faults=faults)
    close = CloseMonths(database, settings=settings.invoicing, clock=clock, faults=faults)

    async def settle() -> int:
        # One after the other, because payments are few: once no usage is left to look at, nothing stands before them in
        # the index of what is parked.
        return await usage() or await payments()

    return [
        RepeatedJob("settle parked", settle, every_s=1.0, clock=clock),
        RepeatedJob("request recharges", recharges, every_s=2.0, clock=clock),
        RepeatedJob("release holds", ReleaseHolds(database, clock=clock), every_s=1.0, clock=clock),
        RepeatedJob("expire grants", ExpireGrants(database, clock=clock), every_s=1.0, clock=clock),
        RepeatedJob("re-rate", RunReratings(database, clock=clock, faults=faults), every_s=1.0, clock=clock),
        RepeatedJob("notice silences", silences, every_s=look_every_s, clock=clock),
        RepeatedJob("keep sums", KeepSums(database, clock=clock), every_s=10.0, clock=clock),
        RepeatedJob("merge workflow blocks", merge, every_s=10.0, clock=clock),
        RepeatedJob("close months", close, every_s=10.0, clock=clock),
        RepeatedJob("seal days", seal, every_s=10.0, clock=clock),
    ]
