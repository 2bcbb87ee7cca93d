"""Keeps what other services ask for: a consumer never waits for Stripe, and nothing that was asked for is forgotten."""

from collections.abc import Sequence

from pydantic_core import to_json

from services.chassis.clock import Clock
from services.chassis.consumer import Received
from services.chassis.database import Database, announce
from services.chassis.metrics import EVENTS_CONSUMED
from services.chassis.quarantine import Refused, quarantine
from services.payments.requests.domain import request_of
from services.payments.requests.repository import add_request

__all__ = ["GROUP", "REQUESTS", "ReceiveRequests"]

GROUP = "payments"
# The queue of what is asked for, and the notice that there is something.
REQUESTS = "requests"


class ReceiveRequests:
    """The handler of every topic that asks for something at Stripe."""

    def __init__(self, database: Database, topic: str, *, clock: Clock) -> None:
        self._database = database
        self._topic = topic
        self._clock = clock

    async def __call__(self, events: Sequence[Received], refused: Sequence[Refused]) -> Sequence[Refused]:
        """Settles a batch in one transaction."""
        now = self._clock()
        rejected, outcomes = list(refused), []
        async with self._database.transaction() as connection:
            for received in events:
                data = received.event.data
                text = to_json(data, exclude_none=True).decode()
                outcome = await add_request(connection, request_of(data), topic=self._topic, data=text, now=now)
                outcomes.append(outcome)
                if outcome == "conflict":
                    why = "another request of the same id says something else"
                    rejected.append(Refused(received.record, "CONFLICT", why))
            await quarantine(connection, rejected, group=GROUP, now=now)
            announce(connection, REQUESTS)
        for outcome in outcomes:
            EVENTS_CONSUMED.labels(self._topic, outcome).inc()
        return rejected
