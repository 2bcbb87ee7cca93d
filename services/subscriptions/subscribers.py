"""What this service reads from Kafka."""

from services.chassis.clock import Clock
from services.chassis.consumer import Consumer
from services.chassis.database import Database
from services.chassis.faults import FaultPoints
from services.chassis.health import Health
from services.subscriptions.settings import SubscriptionsSettings
from services.subscriptions.use_cases.apply_directory import GROUP, TOPIC, ApplyDirectory

__all__ = ["build"]


def build(
    settings: SubscriptionsSettings, *, database: Database, clock: Clock, faults: FaultPoints, health: Health
) -> list[Consumer]:
    """One consumer a topic."""
    return [
        Consumer(
            settings.kafka,
            client_id=f"subscriptions-{settings.instance}-{TOPIC}",
            group=GROUP,
            topics=[TOPIC],
            handler=ApplyDirectory(database, clock=clock),
            clock=clock,
            faults=faults,
            health=health,
        )
    ]
