"""What became of requested quantities: kept as what Stripe is known to have, and passed on to who waits for it."""

from collections.abc import Awaitable, Callable, Sequence

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts.stripe.v1 import QuantitySettled
from services.chassis.clock import Clock
from services.chassis.consumer import Received
from services.chassis.database import Database
from services.chassis.metrics import EVENTS_CONSUMED
from services.chassis.quarantine import Refused, quarantine
from services.subscriptions.tables import quantities

__all__ = ["TOPIC", "SettleQuantities"]

TOPIC = "quantity.settled"
GROUP = "subscriptions"

# Told of every answer in the transaction that keeps it, in their order.
Waiting = Callable[[AsyncConnection, Sequence[QuantitySettled]], Awaitable[None]]


class SettleQuantities:
    """Handler of quantity.settled: what is older than what is known changes nothing, so repeats are harmless."""

    def __init__(self, database: Database, *, clock: Clock, waiting: Waiting) -> None:
        self._database = database
        self._clock = clock
        self._waiting = waiting

    async def __call__(self, events: Sequence[Received], refused: Sequence[Refused]) -> Sequence[Refused]:
        """Settles a batch in one transaction."""
        rejected = list(refused)
        settled: list[QuantitySettled] = []
        for received in events:
            data = received.event.data
            if isinstance(data, QuantitySettled):
                settled.append(data)
            else:
                rejected.append(Refused(received.record, "WRONG_TOPIC", f"{received.event.type} on {TOPIC}"))
        async with self._database.transaction() as connection:
            # First, because it takes the mandates' locks, before which nothing may be locked.
            await self._waiting(connection, settled)
            for answer in settled:
                await _keep(connection, answer)
            await quarantine(connection, rejected, group=GROUP, now=self._clock())
        EVENTS_CONSUMED.labels(TOPIC, "applied").inc(len(events) + len(refused) - len(rejected))
        return rejected


async def _keep(connection: AsyncConnection, answer: QuantitySettled) -> None:
    if answer.quantities is None:
        return
    await connection.execute(
        sa.update(quantities)
        .where(quantities.c.subscription_id == answer.subscription_id, quantities.c.settled_version < answer.version)
        .values(
            settled_version=answer.version,
            settled_members=answer.quantities.members,
            settled_feature_instances=answer.quantities.feature_instances,
        )
    )
