"""The Kafka subscribers of the service: a decorated function for each topic, which keeps what is asked for."""

from collections.abc import Sequence

from services.chassis.clock import Clock
from services.chassis.consumer import Consumer, Received, Subscribers
from services.chassis.database import Database
from services.chassis.faults import FaultPoints
from services.chassis.health import Health
from services.chassis.quarantine import Refused
from services.payments.requests.receive_requests import GROUP, ReceiveRequests
from services.payments.settings import PaymentsSettings

__all__ = ["build"]


def build(
    settings: PaymentsSettings, *, database: Database, clock: Clock, faults: FaultPoints, health: Health
) -> list[Consumer]:
    """The consumers of one worker."""
    kafka = Subscribers(settings, group=GROUP, database=database, clock=clock, health=health)
    receive_actions = ReceiveRequests(database, "stripe.requested", clock=clock)
    receive_quantities = ReceiveRequests(database, "quantity.requested", clock=clock)

    receive_recharges = ReceiveRequests(database, "recharge.requested", clock=clock)
    receive_invoices = ReceiveRequests(database, "invoice.issued", clock=clock)

    @kafka.subscriber("stripe.requested", faults=faults)
    async def stripe_requested(events: Sequence[Received], refused: Sequence[Refused]) -> Sequence[Refused]:
        return await receive_actions(events, refused)

    @kafka.subscriber("quantity.requested", faults=faults)
    async def quantity_requested(events: Sequence[Received], refused: Sequence[Refused]) -> Sequence[Refused]:
        return await receive_quantities(events, refused)

    @kafka.subscriber("recharge.requested", faults=faults)
    async def recharge_requested(events: Sequence[Received], refused: Sequence[Refused]) -> Sequence[Refused]:
        return await receive_recharges(events, refused)

    @kafka.subscriber("invoice.issued", faults=faults)
    async def invoice_issued(events: Sequence[Received], refused: Sequence[Refused]) -> Sequence[Refused]:
        return await receive_invoices(events, refused)

    return kafka.consumers
