"""Processing a stored event: the object is fetched as Stripe has it now, then effect and mark are one transaction.

What an event does follows from its object as Stripe has it now, never from its type or its order, so every type of one
kind of object has the same class.
"""

import random
from datetime import timedelta
from typing import Final

from services.chassis.clock import Clock
from services.chassis.database import Database, is_transient
from services.chassis.faults import FaultPoints
from services.chassis.logging import get_logger
from services.chassis.problems import Problem
from services.payments.checkouts.errors import PaymentNotPlaceable
from services.payments.inbox.domain import StoredEvent
from services.payments.inbox.event_types import Effect, fetch_for
from services.payments.inbox.metrics import EVENTS_FAILED, EVENTS_PROCESSED
from services.payments.inbox.repository import claim_events, mark_processed, postpone_event
from services.payments.stripe.gateway import StripeGateway
from services.payments.subscriptions.errors import FetchedTooEarly
from services.payments.subscriptions.repository import next_observation

__all__ = ["ProcessEvents"]

# How long an event stays with a worker that does not answer, by the platform's time like all times of an event. Two
# that overlap, as when that time is moved, do no harm, only double work.
LEASE: Final = timedelta(seconds=15)
BACK_OFF_S: Final = 1.0
BACK_OFF_S_MAX: Final = 300.0
# Times that an object is fetched because another worker has told of it meanwhile, before it waits.
FETCHES_MAX: Final = 5

_log = get_logger(__name__)


class ProcessEvents:
    """Processes the stored events."""

    def __init__(self, database: Database, stripe: StripeGateway, *, clock: Clock, faults: FaultPoints) -> None:
        self._database = database
        self._stripe = stripe
        self._clock = clock
        self._faults = faults

    async def claim(self, limit: int) -> list[StoredEvent]:
        """Takes up to `limit` due events for this worker."""
        now = self._clock()
        async with self._database.transaction() as connection:
            return await claim_events(connection, limit=limit, now=now, lease_until=now + LEASE)

    async def process(self, event: StoredEvent) -> None:
        """Processes one event; whatever fails is noted, and the event comes again."""
        try:
            outcome, effect = await self._processed(event)
        except Exception as error:  # noqa: BLE001 - one event's fault must not stop the others.
            await self._note_failure(event, error)
        else:
            EVENTS_PROCESSED.labels(outcome).inc()
            if effect is not None:
                effect.report()

    async def _processed(self, event: StoredEvent) -> tuple[str, Effect | None]:
        for _ in range(1, FETCHES_MAX):
            try:
                return await self._fetched_and_applied(event)
            except FetchedTooEarly:
                continue
        return await self._fetched_and_applied(event)

    async def _fetched_and_applied(self, event: StoredEvent) -> tuple[str, Effect | None]:
        fetch, observed = fetch_for(event.type), None
        if fetch is not None and event.object_id is not None:
            async with self._database.reading() as connection:
                number = await next_observation(connection)
            observed = await fetch(self._stripe, event.object_id, number)
        now = self._clock()
        async with self._database.transaction() as connection:
            effect = None if observed is None else await observed.apply(connection, cause=event.event_id, now=now)
            without_effect = "IGNORED" if fetch is None else "NOT_OURS"
            outcome = without_effect if effect is None else effect.outcome
            await mark_processed(connection, event.event_id, outcome=outcome, now=now)
            self._faults.reach("payments_before_commit")
        return outcome, effect

    async def _note_failure(self, event: StoredEvent, error: Exception) -> None:
        name = error.actual_code if isinstance(error, Problem) else type(error).__name__
        EVENTS_FAILED.labels(name).inc()
        expected = isinstance(error, Problem) or is_transient(error)
        _log.warning(
            "event failed",
            event_id=event.event_id,
            type=event.type,
            attempts=event.attempts,
            error=name,
            exc_info=None if expected else error,
        )
        try:
            async with self._database.transaction() as connection:
                now = self._clock()
                if isinstance(error, PaymentNotPlaceable):
                    # Trying again cannot help; the event is left to an operator.
                    await mark_processed(connection, event.event_id, outcome="SET_ASIDE", now=now, error=name)
                else:
                    due = now + timedelta(seconds=_back_off_s(event.attempts))
                    await postpone_event(connection, event.event_id, error=name, next_attempt_at=due)
        except Exception as failure:
            # Without a database nothing can be noted; the lease ends by itself and the event comes again.
            if not is_transient(failure):
                raise


def _back_off_s(attempts: int) -> float:
    """Doubles from a second to five minutes, spread so that an outage does not end in a rush."""
    return min(BACK_OFF_S_MAX, BACK_OFF_S * 2.0 ** min(attempts - 1, 16)) * random.uniform(0.5, 1.0)
