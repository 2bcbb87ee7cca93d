"""Processing a stored event: the object is fetched as Stripe has it now, then effect and mark are one transaction."""

import random
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.clock import Clock
from services.chassis.database import Database, is_transient
from services.chassis.faults import FaultPoints
from services.chassis.logging import get_logger
from services.chassis.problems import Problem
from services.payments.checkouts.domain import CheckoutState, session_id_is_valid
from services.payments.checkouts.errors import PaymentNotPlaceable
from services.payments.checkouts.settle_checkout import Settlement, report, settle_checkout
from services.payments.inbox.domain import StoredEvent
from services.payments.inbox.metrics import EVENTS_FAILED, EVENTS_PROCESSED
from services.payments.inbox.repository import claim_events, mark_processed, postpone_event
from services.payments.stripe.errors import StripeObjectUnknown
from services.payments.stripe.gateway import StripeGateway

__all__ = ["ProcessEvents"]

# How long an event stays with a worker that does not answer. Two that overlap do no harm, only double work.
LEASE: Final = timedelta(seconds=15)
BACK_OFF_S: Final = 1.0
BACK_OFF_S_MAX: Final = 300.0

# The effect of an event in an open transaction; gives the outcome, and what to report after the commit.
Effect = Callable[[AsyncConnection, datetime], Awaitable[tuple[str, Settlement | None]]]
# Fetches what the effect needs, before any transaction.
Handler = Callable[[StoredEvent], Awaitable[Effect]]

_log = get_logger(__name__)


class ProcessEvents:
    """Works off the webhook's inbox. What an event does is one entry in the table of handlers."""

    def __init__(self, database: Database, stripe: StripeGateway, *, clock: Clock, faults: FaultPoints) -> None:
        self._database = database
        self._stripe = stripe
        self._clock = clock
        self._faults = faults
        self._handlers: dict[str, Handler] = {
            "checkout.session.completed": self._settle_checkout,
            "checkout.session.async_payment_succeeded": self._settle_checkout,
            "checkout.session.async_payment_failed": self._settle_checkout,
            "checkout.session.expired": self._settle_checkout,
        }

    async def claim(self, limit: int) -> list[StoredEvent]:
        """Takes up to `limit` due events for this worker."""
        now = self._clock()
        async with self._database.transaction() as connection:
            return await claim_events(connection, limit=limit, now=now, lease_until=now + LEASE)

    async def process(self, event: StoredEvent) -> None:
        """Processes one event; whatever fails is noted, and the event comes again."""
        try:
            outcome, settlement = await self._processed(event)
        except Exception as error:  # noqa: BLE001 - one event's fault must not stop the others.
            await self._note_failure(event, error)
        else:
            EVENTS_PROCESSED.labels(outcome).inc()
            if settlement is not None:
                report(settlement)

    async def _processed(self, event: StoredEvent) -> tuple[str, Settlement | None]:
        handler = self._handlers.get(event.type, _ignored)
        effect = await handler(event)
        now = self._clock()
        async with self._database.transaction() as connection:
            outcome, settlement = await effect(connection, now)
            await mark_processed(connection, event.event_id, outcome=outcome, now=now)
            self._faults.reach("payments_before_commit")
        return outcome, settlement

    async def _settle_checkout(self, event: StoredEvent) -> Effect:
        if event.object_id is None or not session_id_is_valid(event.object_id):
            return _not_ours
        try:
            session = await self._stripe.checkout_session(event.object_id)
        except StripeObjectUnknown:
            return _not_ours

        async def settle(connection: AsyncConnection, now: datetime) -> tuple[str, Settlement | None]:
            settlement = await settle_checkout(connection, session, cause=event.event_id, now=now)
            return _outcome(settlement), settlement

        return settle

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
                await self._give_back(connection, event, name, hopeless=isinstance(error, PaymentNotPlaceable))
        except Exception as failure:
            # Without a database nothing can be noted; the lease ends by itself and the event comes again.
            if not is_transient(failure):
                raise

    async def _give_back(self, connection: AsyncConnection, event: StoredEvent, name: str, *, hopeless: bool) -> None:
        """Lets the event come again later, or sets it aside where no repetition can help, for an operator to find."""
        now = self._clock()
        if hopeless:
            await mark_processed(connection, event.event_id, outcome="SET_ASIDE", now=now, error=name)
        else:
            due = now + timedelta(seconds=_back_off_s(event.attempts))
            await postpone_event(connection, event.event_id, error=name, next_attempt_at=due)


async def _ignored(_: StoredEvent) -> Effect:
    return _ignore


async def _ignore(_: AsyncConnection, __: datetime) -> tuple[str, Settlement | None]:
    return "IGNORED", None


async def _not_ours(_: AsyncConnection, __: datetime) -> tuple[str, Settlement | None]:
    return "NOT_OURS", None


def _outcome(settlement: Settlement | None) -> str:
    if settlement is None:
        return "NOT_OURS"
    if settlement.credited:
        return "CREDITED"
    if settlement.payment is not None:
        return "ALREADY_CREDITED"
    return "NOTHING_PAID" if settlement.state is CheckoutState.PAID else settlement.state.value


def _back_off_s(attempts: int) -> float:
    """Doubles from a second to five minutes, spread so that an outage does not end in a rush."""
    return min(BACK_OFF_S_MAX, BACK_OFF_S * 2.0 ** min(attempts - 1, 16)) * random.uniform(0.5, 1.0)
