"""The Kafka subscribers of the service: a decorated function for each topic, which calls its use case."""

from collections.abc import Sequence

from services.chassis.clock import Clock
from services.chassis.consumer import Consumer, Received, Subscribers
from services.chassis.database import Database
from services.chassis.faults import FaultPoints
from services.chassis.health import Health
from services.chassis.quarantine import Refused
from services.subscriptions.directory.apply_directory import GROUP, TOPIC, ApplyDirectory
from services.subscriptions.settings import SubscriptionsSettings

__all__ = ["build"]


def build(
    settings: SubscriptionsSettings, *, database: Database, clock: Clock, faults: FaultPoints, health: Health
) -> list[Consumer]:
    """The consumers of one worker."""
    kafka = Subscribers(settings, group=GROUP, database=database, clock=clock, health=health)
    apply_directory = ApplyDirectory(database, clock=clock)

    @kafka.subscriber(TOPIC, faults=faults)
    async def directory_changed(events: Sequence[Received], refused: Sequence[Refused]) -> Sequence[Refused]:
        return await apply_directory(events, refused)

    return kafka.consumers
