"""What payments has seen at Stripe: added to what is known of the record, which is then brought to it."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from prometheus_client import Counter
from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts.stripe.v1 import StripeObserved
from services.chassis.clock import Clock
from services.chassis.consumer import Received, data_of
from services.chassis.database import Database
from services.chassis.faults import FaultPoints
from services.chassis.logging import get_logger
from services.chassis.metrics import EVENTS_CONSUMED
from services.chassis.quarantine import Refused, quarantine
from services.subscriptions.lifecycle.repository import lock_mandate, mandate_of
from services.subscriptions.lifecycle.settle_mandate import LifecycleRules, settle_mandate
from services.subscriptions.stripe.domain import Facts, added, begins_period, paid_period
from services.subscriptions.stripe.repository import add_paid_period, facts_of, save_facts

__all__ = ["GROUP", "OBSERVED", "ObserveStripe"]

GROUP = "subscriptions"
OBSERVED = "stripe.observed"
PERIODS_UNKNOWN = Counter(
    "rappen_subscriptions_periods_unknown_total", "Paid invoices that do not say for which period."
)

_log = get_logger(__name__)


class ObserveStripe:
    """Handler of stripe.observed. What is told of a record that is not there yet is kept until it is."""

    def __init__(self, database: Database, rules: LifecycleRules, *, clock: Clock, faults: FaultPoints) -> None:
        self._database = database
        self._rules = rules
        self._clock = clock
        self._faults = faults

    async def __call__(self, events: Sequence[Received], refused: Sequence[Refused]) -> Sequence[Refused]:
        """Settles a batch in one transaction, each observation by itself, so that each change has its cause."""
        now = self._clock()
        rejected = list(refused)
        observations = [(data_of(received.event, StripeObserved), received) for received in events]
        async with self._database.transaction() as connection:
            for mandate_id in sorted({observed.mandate_id for observed, _ in observations}):
                await lock_mandate(connection, mandate_id)
            for observed, received in observations:
                of_mandate = await mandate_of(connection, observed.subscription_id)
                if of_mandate not in (None, observed.mandate_id):
                    rejected.append(Refused(received.record, "CONFLICT", "the subscription is of another mandate"))
                    continue
                await self._observe(connection, observed, now, known=of_mandate is not None)
            await quarantine(connection, rejected, group=GROUP, now=now)
            self._faults.reach("subscriptions_observed_uncommitted")
        self._faults.reach("subscriptions_observed_committed")
        EVENTS_CONSUMED.labels(OBSERVED, "applied").inc(len(events) + len(refused) - len(rejected))
        return rejected

    async def _observe(
        self, connection: AsyncConnection, observed: StripeObserved, now: datetime, *, known: bool
    ) -> None:
        identity: UUID = observed.subscription_id
        facts = (await facts_of(connection, [identity])).get(identity)
        facts = facts or Facts(subscription_id=identity, mandate_id=observed.mandate_id)
        await save_facts(connection, added(facts, observed))
        paid = paid_period(observed)
        if paid is not None:
            await add_paid_period(connection, identity, paid)
        elif observed.invoice is not None and begins_period(observed.invoice, observed.subscription):
            PERIODS_UNKNOWN.inc()
            _log.error("paid invoice without its period", invoice=observed.invoice.stripe_invoice_id)
        if known:
            await settle_mandate(
                connection, observed.mandate_id, self._rules, also=[identity], cause=observed.cause, now=now
            )
