"""The Kafka subscribers of the service: a decorated function for each topic, which calls its use case."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts.directory.v1 import DirectoryChanged
from rappen_contracts.stripe.v1 import QuantitySettled
from services.chassis.clock import Clock
from services.chassis.consumer import Consumer, Received, Subscribers
from services.chassis.database import Database
from services.chassis.faults import FaultPoints
from services.chassis.health import Health
from services.chassis.quarantine import Refused
from services.subscriptions.directory.apply_directory import GROUP, TOPIC, ApplyDirectory
from services.subscriptions.lifecycle.observe_stripe import OBSERVED, ObserveStripe
from services.subscriptions.lifecycle.settle_mandate import LifecycleRules
from services.subscriptions.lifecycle.settle_requests import SETTLED as REQUESTS_SETTLED
from services.subscriptions.lifecycle.settle_requests import SettleRequests
from services.subscriptions.plans.catalogue import Catalogue
from services.subscriptions.quantities.repository import look_at_mandates
from services.subscriptions.quantities.settle_quantities import SETTLED as QUANTITIES_SETTLED
from services.subscriptions.quantities.settle_quantities import SettleQuantities
from services.subscriptions.settings import SubscriptionsSettings
from services.subscriptions.store.advance_activations import advance_mandates, payments_were_settled

__all__ = ["build"]


def build(
    settings: SubscriptionsSettings,
    *,
    database: Database,
    catalogue: Catalogue,
    clock: Clock,
    faults: FaultPoints,
    health: Health,
) -> list[Consumer]:
    """The consumers of one worker."""
    kafka = Subscribers(settings, group=GROUP, database=database, clock=clock, health=health)

    # What waits for other services is told in the transaction that keeps what they say; the store first, because its
    # locks come before all others.
    async def directory_moved(
        connection: AsyncConnection, changes: Sequence[DirectoryChanged], *, now: datetime
    ) -> None:
        mandate_ids = {change.mandate_id for change in changes if change.mandate_id is not None}
        if await advance_mandates(connection, mandate_ids, changes=changes, now=now):
            faults.reach("store_directory_before_commit")
        await look_at_mandates(connection, mandate_ids, now=now)

    async def payments_answered(
        connection: AsyncConnection, answers: Sequence[QuantitySettled], *, now: datetime
    ) -> None:
        if await payments_were_settled(connection, answers, now=now):
            faults.reach("store_payment_before_commit")

    apply_directory = ApplyDirectory(database, clock=clock, followed=directory_moved)
    rules = LifecycleRules(catalogue, grace=timedelta(days=settings.grace_days))
    observe_stripe = ObserveStripe(database, rules, clock=clock, faults=faults)
    settle_requests = SettleRequests(database, clock=clock)
    settle_quantities = SettleQuantities(database, clock=clock, waiting=payments_answered)

    @kafka.subscriber(TOPIC, faults=faults)
    async def directory_changed(events: Sequence[Received], refused: Sequence[Refused]) -> Sequence[Refused]:
        return await apply_directory(events, refused)

    @kafka.subscriber(OBSERVED, faults=faults)
    async def stripe_observed(events: Sequence[Received], refused: Sequence[Refused]) -> Sequence[Refused]:
        return await observe_stripe(events, refused)

    @kafka.subscriber(REQUESTS_SETTLED, faults=faults)
    async def stripe_settled(events: Sequence[Received], refused: Sequence[Refused]) -> Sequence[Refused]:
        return await settle_requests(events, refused)

    @kafka.subscriber(QUANTITIES_SETTLED, faults=faults)
    async def quantity_settled(events: Sequence[Received], refused: Sequence[Refused]) -> Sequence[Refused]:
        return await settle_quantities(events, refused)

    return kafka.consumers
