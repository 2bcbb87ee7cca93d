"""Reconciliation: every difference is found and told; those that are safe are healed where that is asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from prometheus_client import Gauge

from services.chassis.clock import Clock
from services.chassis.database import Database
from services.chassis.logging import get_logger
from services.payments.reconciliation.domain import Difference, Kind, Others, Window
from services.payments.reconciliation.find_differences import find_differences
from services.payments.reconciliation.heal_difference import HealDifference
from services.payments.stripe.errors import StripeNotConfigured
from services.payments.stripe.gateway import StripeGateway

__all__ = ["Finding", "Reconcile", "ScheduledReconciliation"]

# As long as Stripe itself sends an event again.
PAST: Final = timedelta(days=3)
# What happened just now is still on its way by an event of its own.
SETTLING: Final = timedelta(hours=1)

DIFFERENCES = Gauge("rappen_payments_differences", "Differences to Stripe at the last reconciliation.", ["kind"])

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Finding:
    """A difference, and whether it was healed."""

    difference: Difference
    healed: bool


class Reconcile:
    """Compares a time, and heals what is safe where `apply` says so."""

    def __init__(self, database: Database, stripe: StripeGateway, *, clock: Clock) -> None:
        self._database = database
        self._stripe = stripe
        self._clock = clock
        self._heal = HealDifference(database, stripe, clock=clock)

    async def __call__(self, window: Window, others: Others, *, apply: bool) -> Sequence[Finding]:
        """What was found, with what became of it."""
        found = await find_differences(self._database, self._stripe, window, others, now=self._clock())
        return [Finding(each, apply and each.is_safe and await self._heal(each)) for each in found]


class ScheduledReconciliation:
    """The job of the worker: the last days, with Stripe alone, because nobody else can be asked from here."""

    def __init__(self, reconcile: Reconcile, *, apply: bool, clock: Clock) -> None:
        self._reconcile = reconcile
        self._apply = apply
        self._clock = clock

    async def __call__(self) -> int:
        """Looks once; there is never more to do at once."""
        now = self._clock()
        try:
            findings = await self._reconcile(Window(now - PAST, now - SETTLING), Others(), apply=self._apply)
        except StripeNotConfigured:
            return 0
        left = [each.difference for each in findings if not each.healed]
        for kind in Kind:
            DIFFERENCES.labels(kind.value).set(sum(each.kind is kind for each in left))
        for each in findings:
            difference = each.difference
            _log.warning(
                "difference to stripe",
                kind=difference.kind.value,
                object_id=difference.stripe_id,
                mandate_id=difference.mandate_id,
                detail=difference.detail,
                healed=each.healed,
            )
        return 0
