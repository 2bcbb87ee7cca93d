"""What became of requested quantities."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts.stripe.v1 import QuantitySettled
from services.chassis.clock import Clock
from services.chassis.consumer import Received, data_of
from services.chassis.database import Database
from services.chassis.metrics import EVENTS_CONSUMED
from services.chassis.quarantine import Refused, quarantine
from services.subscriptions.quantities.repository import note_answer

__all__ = ["SETTLED", "SettleQuantities"]

GROUP = "subscriptions"
SETTLED = "quantity.settled"


class Waiting(Protocol):
    """Told of answers in their order, in the transaction that notes them."""

    async def __call__(
        self, connection: AsyncConnection, answers: Sequence[QuantitySettled], *, now: datetime
    ) -> None: ...


class SettleQuantities:
    """Handler of quantity.settled."""

    def __init__(self, database: Database, *, clock: Clock, waiting: Waiting) -> None:
        self._database = database
        self._clock = clock
        self._waiting = waiting

    async def __call__(self, events: Sequence[Received], refused: Sequence[Refused]) -> Sequence[Refused]:
        """Settles a batch in one transaction."""
        now = self._clock()
        answers = [data_of(received.event, QuantitySettled) for received in events]
        async with self._database.transaction() as connection:
            # First, because it takes the locks of mandates, before which nothing may be locked.
            await self._waiting(connection, answers, now=now)
            # In the order of their keys, so that two workers never wait for each other in a circle.
            for settled in sorted(answers, key=lambda each: (each.subscription_id, each.version)):
                await note_answer(connection, settled, now=now)
            await quarantine(connection, list(refused), group=GROUP, now=now)
        EVENTS_CONSUMED.labels(SETTLED, "applied").inc(len(events))
        return refused
