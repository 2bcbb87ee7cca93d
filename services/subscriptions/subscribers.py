"""The Kafka subscribers of the service: a decorated function for each topic, which calls its use case."""

from collections.abc import Sequence

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
from services.subscriptions.quantities.settle_quantities import SettleQuantities
from services.subscriptions.settings import SubscriptionsSettings
from services.subscriptions.store.advance_activations import directory_has_changed, payments_were_settled

__all__ = ["build"]


def build(
    settings: SubscriptionsSettings, *, database: Database, clock: Clock, faults: FaultPoints, health: Health
) -> list[Consumer]:
    """The consumers of one worker."""
    kafka = Subscribers(settings, group=GROUP, database=database, clock=clock, health=health)

    # What the store waits for is told in the transaction that keeps it.
    async def of_directory(connection: AsyncConnection, changes: Sequence[DirectoryChanged]) -> None:
        if await directory_has_changed(connection, changes, now=clock()):
            faults.reach("store_directory_before_commit")

    async def of_quantities(connection: AsyncConnection, answers: Sequence[QuantitySettled]) -> None:
        await payments_were_settled(connection, answers, now=clock())
        faults.reach("store_payment_before_commit")

    apply_directory = ApplyDirectory(database, clock=clock, waiting=of_directory)
    settle_quantities = SettleQuantities(database, clock=clock, waiting=of_quantities)

    @kafka.subscriber(TOPIC, faults=faults)
    async def directory_changed(events: Sequence[Received], refused: Sequence[Refused]) -> Sequence[Refused]:
        return await apply_directory(events, refused)

    @kafka.subscriber("quantity.settled", faults=faults)
    async def quantity_settled(events: Sequence[Received], refused: Sequence[Refused]) -> Sequence[Refused]:
        return await settle_quantities(events, refused)

    return kafka.consumers
