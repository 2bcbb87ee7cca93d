"""What billing reads from Kafka, and which use case settles each topic."""

from services.billing.charging.charge_usage import GROUP, ChargeUsage
from services.billing.credits.apply_subscription import ApplySubscription
from services.billing.credits.credit_payment import CreditPayments
from services.billing.mandates.apply_directory import ApplyDirectory
from services.billing.settings import BillingSettings
from services.chassis.clock import Clock
from services.chassis.consumer import Consumer, Handler
from services.chassis.database import Database
from services.chassis.faults import FaultPoints
from services.chassis.health import Health

__all__ = ["build"]

# How long usage may gather into a batch; part of the time from event to visible balance.
USAGE_LINGER_S = 0.08


def build(
    settings: BillingSettings, *, database: Database, clock: Clock, faults: FaultPoints, health: Health
) -> list[Consumer]:
    """One consumer a topic: each has its own pace, and a stop of one does not hold the others."""
    handlers: dict[str, Handler] = {
        "usage.recorded": ChargeUsage(
            database, default_markup=settings.default_markup_percent, clock=clock, faults=faults
        ),
        "payment.succeeded": CreditPayments(database, clock=clock),
        "subscription.changed": ApplySubscription(database, clock=clock),
        "directory.changed": ApplyDirectory(database, clock=clock),
    }
    return [
        Consumer(
            settings.kafka,
            client_id=f"billing-{settings.instance}-{topic}",
            group=GROUP,
            topics=[topic],
            handler=handler,
            clock=clock,
            faults=faults if topic == "usage.recorded" else FaultPoints(None),
            health=health,
            linger_s=USAGE_LINGER_S if topic == "usage.recorded" else 0.0,
        )
        for topic, handler in handlers.items()
    ]
