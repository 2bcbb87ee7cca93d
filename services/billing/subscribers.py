"""Billing's Kafka subscribers: a decorated function for each topic, which calls the use case that settles it."""

from collections.abc import Sequence

from services.billing.charging import usage_events
from services.billing.charging.cancellation_event import CancellationEvent
from services.billing.charging.charge_usage import GROUP, ChargeUsage
from services.billing.charging.usage_events import Usage
from services.billing.credits.apply_subscription import ApplySubscription
from services.billing.credits.payment_events import CreditPayments, RefundPayments
from services.billing.mandates.apply_directory import ApplyDirectory
from services.billing.recharges.fail_recharges import FailRecharges
from services.billing.settings import BillingSettings
from services.chassis.clock import Clock
from services.chassis.consumer import Consumer, Received, Subscribers
from services.chassis.database import Database
from services.chassis.faults import FaultPoints
from services.chassis.health import Health
from services.chassis.quarantine import Refused

__all__ = ["build"]

# How long usage may gather into a batch at most; part of the time from event to visible balance.
USAGE_LINGER_S = 0.08


def build(
    settings: BillingSettings, *, database: Database, clock: Clock, faults: FaultPoints, health: Health
) -> list[Consumer]:
    """The consumers of one worker."""
    kafka = Subscribers(settings, group=GROUP, database=database, clock=clock, health=health)
    charge_usage = ChargeUsage(database, default_markup=settings.default_markup_percent, clock=clock, faults=faults)
    credit_payments = CreditPayments(database, clock=clock)
    refund_payments = RefundPayments(database, clock=clock)
    fail_recharges = FailRecharges(database, clock=clock)
    apply_subscription = ApplySubscription(database, clock=clock)
    apply_directory = ApplyDirectory(database, clock=clock)

    @kafka.subscriber("usage.recorded", linger_s=USAGE_LINGER_S, faults=faults, reader=usage_events.reader)
    async def usage_recorded(
        events: Sequence[Usage | CancellationEvent], refused: Sequence[Refused]
    ) -> Sequence[Refused]:
        return await charge_usage(events, refused)

    @kafka.subscriber("payment.succeeded")
    async def payment_succeeded(events: Sequence[Received], refused: Sequence[Refused]) -> Sequence[Refused]:
        return await credit_payments(events, refused)

    @kafka.subscriber("payment.failed")
    async def payment_failed(events: Sequence[Received], refused: Sequence[Refused]) -> Sequence[Refused]:
        return await fail_recharges(events, refused)

    @kafka.subscriber("payment.refunded")
    async def payment_refunded(events: Sequence[Received], refused: Sequence[Refused]) -> Sequence[Refused]:
        return await refund_payments(events, refused)

    @kafka.subscriber("subscription.changed")
    async def subscription_changed(events: Sequence[Received], refused: Sequence[Refused]) -> Sequence[Refused]:
        return await apply_subscription(events, refused)

    @kafka.subscriber("directory.changed")
    async def directory_changed(events: Sequence[Received], refused: Sequence[Refused]) -> Sequence[Refused]:
        return await apply_directory(events, refused)

    return kafka.consumers
