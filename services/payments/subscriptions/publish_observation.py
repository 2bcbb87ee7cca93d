"""Tells the subscriptions service what Stripe has now of a subscription, its checkout or its invoice
(`stripe.observed`): the objects as they were fetched, in the order in which they were; and everybody of payments of
its invoices that failed (`payment.failed`)."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid5

from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts.payment.v1 import PaymentFailed
from rappen_contracts.registry import PAYMENT_FAILED_V1, STRIPE_OBSERVED_V1
from rappen_contracts.stripe.v1 import StripeObserved
from rappen_contracts.types import NonNegativeMoney
from services.chassis.bodies import IDENTIFIER
from services.chassis.logging import get_logger
from services.chassis.outbox import OutboxRow, append_outbox, outbox_row
from services.payments.customers.metrics import UNPLACED
from services.payments.observations import FetchedTooEarly, next_observation
from services.payments.stripe.objects import CheckoutSession
from services.payments.subscriptions.domain import (
    Fetched,
    Record,
    UnknownAtStripe,
    checkout_form,
    failed_attempts,
    invoice_form,
    subscription_form,
    subscription_id_in,
)
from services.payments.subscriptions.repository import (
    add_record,
    lock_record,
    lock_record_of,
    lock_record_of_session,
    note_failed_attempts,
    save_observation,
)
from services.payments.subscriptions.take_back_subscription import ask_to_take_back

__all__ = ["Observed", "lock_own_record", "publish_observation"]

_NAMESPACE = UUID("c9a7d0f4-2b39-5d1e-8b6f-93e5a0d4f712")

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Observed:
    """What became of it: `OBSERVED`; `UNPLACED` where it is ours and cannot be told of; `SUPERSEDED` where a checkout
    has ended that another one took the place of."""

    outcome: str
    object_id: str

    def report(self) -> None:
        """Counts and logs what could not be placed; called after the commit."""
        if self.outcome == "UNPLACED":
            UNPLACED.labels("subscription").inc()
            _log.error("object of stripe cannot be placed", object_id=self.object_id)


async def publish_observation(
    connection: AsyncConnection, fetched: Fetched, *, cause: str, now: datetime
) -> Observed | None:
    """Publishes it in the caller's transaction; None where it is no subscription of ours. Raises FetchedTooEarly where
    something was published of it since the fetch was begun."""
    object_id = fetched.object_id
    try:
        record = await lock_own_record(connection, fetched, now)
    except UnknownAtStripe:
        return Observed("UNPLACED", object_id)
    if record is None:
        return None
    if record.version > fetched.number:
        raise FetchedTooEarly
    await ask_to_take_back(connection, record, fetched, now)
    if fetched.checkout is not None and _is_superseded(fetched.checkout, record):
        return Observed("SUPERSEDED", object_id)
    try:
        data = await _observation(connection, record, fetched, cause=cause, now=now)
    except UnknownAtStripe:
        return Observed("UNPLACED", object_id)
    subscription, session = fetched.subscription, fetched.checkout
    await save_observation(
        connection,
        record.subscription_id,
        version=data.version,
        stripe_subscription_id=None if subscription is None else subscription.id,
        status=None if subscription is None else subscription.status,
        session_id=None if session is None else session.id,
        now=now,
    )
    event_id = uuid5(_NAMESPACE, f"{record.subscription_id}/{data.version}")
    row = outbox_row(STRIPE_OBSERVED_V1, data, event_id=event_id, occurred_at=now, key=record.mandate_id)
    await append_outbox(connection, [row, *await _failures(connection, record, fetched, cause=cause, now=now)])
    return Observed("OBSERVED", object_id)


async def _failures(
    connection: AsyncConnection, record: Record, fetched: Fetched, *, cause: str, now: datetime
) -> list[OutboxRow]:
    """`payment.failed` for each attempt to pay the invoice that has failed, once, whichever event told of it first."""
    invoice = fetched.invoice
    if invoice is None:
        return []
    failed = failed_attempts(invoice, fetched.needs_action)
    rows = []
    for attempt in await note_failed_attempts(connection, invoice.id, failed, now):
        data = PaymentFailed(
            mandate_id=record.mandate_id,
            amount=NonNegativeMoney(amount=invoice.total, currency=invoice.currency),
            reason="subscription",
            outcome="action_required" if fetched.needs_action else "declined",
            reference=invoice.id,
            action_url=invoice.hosted_url,
            failed_at=now,
            cause=cause,
        )
        event_id = uuid5(_NAMESPACE, f"{invoice.id}/{attempt}")
        rows.append(outbox_row(PAYMENT_FAILED_V1, data, event_id=event_id, occurred_at=now, key=record.mandate_id))
    return rows


def _is_superseded(session: CheckoutSession, record: Record) -> bool:
    """Whether a checkout has ended in whose place another one was opened."""
    return checkout_form(session).state == "closed" and record.checkout_session_id != session.id


async def _observation(
    connection: AsyncConnection, record: Record, fetched: Fetched, *, cause: str, now: datetime
) -> StripeObserved:
    subscription, session, invoice = fetched.subscription, fetched.checkout, fetched.invoice
    if record.taken_back_at is not None:
        # What is paid for it goes back, so it pays for no period.
        invoice = None
    return StripeObserved(
        mandate_id=record.mandate_id,
        subscription_id=record.subscription_id,
        version=await next_observation(connection),
        checkout=None if session is None else checkout_form(session),
        subscription=None if subscription is None else subscription_form(subscription, record.plan_key),
        invoice=None if invoice is None else invoice_form(invoice, now),
        trial_will_end=fetched.trial_will_end,
        observed_at=now,
        cause=cause,
    )


async def lock_own_record(connection: AsyncConnection, fetched: Fetched, now: datetime) -> Record | None:
    """The record, held until the end of the transaction: by Stripe's ids, else by the id of ours that Stripe's object
    carries. One made before this service was there, which carries that, is taken over."""
    subscription, session = fetched.subscription, fetched.checkout
    if subscription is not None and (known := await lock_record_of(connection, subscription.id)) is not None:
        return known
    if session is not None and (known := await lock_record_of_session(connection, session.id)) is not None:
        return known
    # The system before this one may have marked the session alone.
    metadata = {**(session.metadata if session is not None else {}), **(subscription.metadata if subscription else {})}
    subscription_id = subscription_id_in(metadata)
    if subscription_id is None:
        return None
    mandate_id = metadata.get("mandateId")
    found = await lock_record(connection, subscription_id)
    if found is None and mandate_id is not None and IDENTIFIER.fullmatch(mandate_id):
        plan_key = metadata.get("planKey")
        await add_record(connection, subscription_id, mandate_id=mandate_id, plan_key=plan_key, now=now)
        found = await lock_record(connection, subscription_id)
    if found is None or found.mandate_id != mandate_id:
        return None
    if subscription is not None and found.stripe_subscription_id not in (None, subscription.id):
        # A second one that carries the same id is not the one that we know, and somebody is charged for it.
        raise UnknownAtStripe
    return found
