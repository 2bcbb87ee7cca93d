"""The Kafka subscribers of the gateway: a decorated function for each topic, which calls its use case."""

from collections.abc import Sequence

from services.chassis.clock import Clock
from services.chassis.consumer import Consumer, Received, Subscribers
from services.chassis.database import Database
from services.chassis.faults import FaultPoints
from services.chassis.health import Health
from services.chassis.quarantine import Refused
from services.gateway.directory.apply_requests import GROUP, TOPIC, ApplyRequests
from services.gateway.settings import GatewaySettings

__all__ = ["build"]


def build(
    settings: GatewaySettings, *, database: Database, clock: Clock, faults: FaultPoints, health: Health
) -> list[Consumer]:
    """The consumers of one worker."""
    kafka = Subscribers(settings, group=GROUP, database=database, clock=clock, health=health)
    apply_requests = ApplyRequests(database, clock=clock, faults=faults)

    @kafka.subscriber(TOPIC, faults=faults)
    async def directory_requested(events: Sequence[Received], refused: Sequence[Refused]) -> Sequence[Refused]:
        return await apply_requests(events, refused)

    return kafka.consumers
