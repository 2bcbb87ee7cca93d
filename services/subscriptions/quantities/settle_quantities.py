"""What became of requested quantities."""

from collections.abc import Sequence

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


class SettleQuantities:
    """Handler of quantity.settled."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def __call__(self, events: Sequence[Received], refused: Sequence[Refused]) -> Sequence[Refused]:
        """Settles a batch in one transaction."""
        now = self._clock()
        answers = [data_of(received.event, QuantitySettled) for received in events]
        async with self._database.transaction() as connection:
            # In the order of their keys, so that two workers never wait for each other in a circle.
            for settled in sorted(answers, key=lambda each: (each.subscription_id, each.version)):
                await note_answer(connection, settled, now=now)
            await quarantine(connection, list(refused), group=GROUP, now=now)
        EVENTS_CONSUMED.labels(SETTLED, "applied").inc(len(events))
        return refused
