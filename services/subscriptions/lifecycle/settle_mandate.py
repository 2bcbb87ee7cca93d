"""Bringing a mandate's subscriptions to where Stripe and the time have them, in the caller's transaction."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from prometheus_client import Counter
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.logging import get_logger
from services.subscriptions.lifecycle.domain import Subscription
from services.subscriptions.lifecycle.record_changes import record_changes
from services.subscriptions.lifecycle.repository import credited_of, lock_mandate, lock_records, use_trial_if_unused
from services.subscriptions.lifecycle.settlement import Book, Settlement, settle
from services.subscriptions.plans.catalogue import Catalogue
from services.subscriptions.quantities.repository import follow_subscription
from services.subscriptions.stripe.ask_stripe import ask_stripe
from services.subscriptions.stripe.domain import Facts
from services.subscriptions.stripe.repository import facts_of, mark_applied, paid_of, withdrawn_of

__all__ = ["LifecycleRules", "settle_mandate"]

UNPLACED = Counter(
    "rappen_subscriptions_unplaced_total", "Subscriptions at Stripe whose plan or period is not known here."
)

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LifecycleRules:
    """What the operator has decided: the plans, and how long what is not paid may still be used."""

    catalogue: Catalogue
    grace: timedelta


async def settle_mandate(
    connection: AsyncConnection,
    mandate_id: str,
    rules: LifecycleRules,
    *,
    also: Collection[UUID] = (),
    cause: str,
    actor: str | None = None,
    now: datetime,
) -> Settlement:
    """Locks the mandate, and writes and asks for what follows. `also` names records that may be over by now."""
    await lock_mandate(connection, mandate_id)
    records = await lock_records(connection, mandate_id, also)
    facts = await facts_of(connection, list(records))
    book = Book(
        records,
        facts,
        paid=await paid_of(connection, list(records)),
        credited=await credited_of(connection, list(records)),
        withdrawn=await withdrawn_of(connection, list(records)),
    )
    settlement = settle(book, now=now, grace=rules.grace, terms=rules.catalogue.renewed_terms)
    # One by one, because an index holds that a mandate has one operative subscription at any moment.
    for change in settlement.changes:
        await record_changes(connection, [change], cause=cause, actor=actor, now=now)
        records[change.after.id] = change.after
    for call in settlement.calls:
        await ask_stripe(
            connection,
            mandate_id=mandate_id,
            subscription_id=call.subscription.id,
            version=call.subscription.version,
            action=call.action,
            actor=actor,
            cause=cause,
            now=now,
        )
    for record in records.values():
        await _follow(connection, record, facts.get(record.id), now)
    await mark_applied(connection, list(records))
    for unplaced in settlement.unplaced:
        UNPLACED.inc()
        _log.error("subscription at Stripe not placed", id=str(unplaced))
    return settlement


async def _follow(connection: AsyncConnection, record: Subscription, facts: Facts | None, now: datetime) -> None:
    """Tells quantities whether there is something at Stripe to keep in step, and notes a trial that was begun there."""
    observed = None if facts is None or not facts.is_live else facts.subscription
    if record.state == "EXPIRED":
        observed = None
    await follow_subscription(connection, record.id, record.mandate_id, observed, now=now)
    if record.trial_ends_at is not None and record.plan.requires_stripe:
        await use_trial_if_unused(connection, record, now=now)
