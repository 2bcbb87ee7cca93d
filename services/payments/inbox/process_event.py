"""Processing a stored event: the object is fetched as Stripe has it now, then effect and mark are one transaction.

What an event does follows from its object as Stripe has it now, never from its type or its order, so every type of one
kind of object has the same class.
"""

import asyncio
import random
from datetime import timedelta
from functools import partial
from typing import Final

from services.chassis.clock import Clock
from services.chassis.database import Database, is_transient
from services.chassis.faults import FaultPoints
from services.chassis.logging import get_logger
from services.chassis.problems import Problem
from services.payments.checkouts.errors import PaymentNotPlaceable
from services.payments.inbox.domain import EventsOfObject, by_object, outcome_of_others
from services.payments.inbox.event_types import Effect, fetch_for
from services.payments.inbox.metrics import EVENTS_FAILED, EVENTS_PROCESSED
from services.payments.inbox.repository import claim_events, mark_processed, postpone_events
from services.payments.observations import numbers_of, until_newest
from services.payments.stripe.gateway import StripeGateway

__all__ = ["ProcessEvents"]

# How long an event stays with a worker that does not answer, by the platform's time like all times of an event. Two
# that overlap, as when that time is moved, do no harm, only double work.
LEASE: Final = timedelta(seconds=15)
BACK_OFF_S: Final = 1.0
BACK_OFF_S_MAX: Final = 300.0
# Objects processed at the same time: Stripe bounds calls a second, and people at a checkout come first.
OBJECTS_AT_ONCE: Final = 8

_log = get_logger(__name__)


class ProcessEvents:
    """Processes the stored events."""

    def __init__(self, database: Database, stripe: StripeGateway, *, clock: Clock, faults: FaultPoints) -> None:
        self._database = database
        self._stripe = stripe
        self._clock = clock
        self._faults = faults
        self._numbers = numbers_of(database)
        self._turns = asyncio.Semaphore(OBJECTS_AT_ONCE)

    async def claim(self, limit: int) -> list[EventsOfObject]:
        """Takes up to `limit` due events for this worker."""
        now = self._clock()
        async with self._database.reading() as connection:
            events = await claim_events(connection, limit=limit, now=now, lease_until=now + LEASE)
        return by_object(events, lambda event: fetch_for(event.type), leased_until=now + LEASE)

    async def process(self, taken: EventsOfObject) -> None:
        """Processes the events about one object by one fetch of it, because none was sent after that; whatever fails
        is noted, and they come again."""
        async with self._turns:
            # Where others took long, they are due again by now, and somebody has them.
            if self._clock() < taken.leased_until:
                await self._process(taken)

    async def _process(self, taken: EventsOfObject) -> None:
        try:
            outcome, effect = await until_newest(partial(self._fetched_and_applied, taken))
        except Exception as error:  # noqa: BLE001 - one object's fault must not stop the others.
            await self._note_failure(taken, error)
        else:
            EVENTS_PROCESSED.labels(outcome).inc()
            EVENTS_PROCESSED.labels(outcome_of_others(outcome)).inc(len(taken.others))
            if effect is not None:
                effect.report()

    async def _fetched_and_applied(self, taken: EventsOfObject) -> tuple[str, Effect | None]:
        event = taken.first
        fetch, observed = fetch_for(event.type), None
        if fetch is not None and event.object_id is not None:
            observed = await fetch(self._stripe, event.object_id, self._numbers)
        now = self._clock()
        async with self._database.transaction() as connection:
            effect = None if observed is None else await observed.apply(connection, cause=event.event_id, now=now)
            without_effect = "IGNORED" if fetch is None else "NOT_OURS"
            outcome = without_effect if effect is None else effect.outcome
            await mark_processed(connection, taken, outcome=outcome, now=now)
            self._faults.reach("payments_before_commit")
        return outcome, effect

    async def _note_failure(self, taken: EventsOfObject, error: Exception) -> None:
        name = error.actual_code if isinstance(error, Problem) else type(error).__name__
        EVENTS_FAILED.labels(name).inc()
        expected, event = isinstance(error, Problem) or is_transient(error), taken.first
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
                    await mark_processed(connection, taken, outcome="SET_ASIDE", now=now, error=name)
                else:
                    due = now + timedelta(seconds=_back_off_s(event.attempts))
                    await postpone_events(connection, taken, error=name, next_attempt_at=due)
        except Exception as failure:
            # Without a database nothing can be noted; the lease ends by itself and the event comes again.
            if not is_transient(failure):
                raise


def _back_off_s(attempts: int) -> float:
    """Doubles from a second to five minutes, spread so that an outage does not end in a rush."""
    return min(BACK_OFF_S_MAX, BACK_OFF_S * 2.0 ** min(attempts - 1, 16)) * random.uniform(0.5, 1.0)
