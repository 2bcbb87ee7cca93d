"""Reads and writes of what is known of subscriptions at Stripe, and of what was asked there."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts.stripe.v1 import StripeCheckout, StripeSettled, StripeSubscription
from services.subscriptions.stripe.domain import Facts, PaidPeriod
from services.subscriptions.tables import paid_periods, stripe_facts, stripe_requests, subscriptions

__all__ = [
    "add_paid_period",
    "add_request",
    "count_settled",
    "facts_of",
    "is_asked",
    "mark_applied",
    "mark_due",
    "paid_of",
    "save_facts",
    "settle_request",
    "withdrawn_of",
]

# What payments says when it has cancelled a subscription at Stripe.
_CANCELED: Final = ("CANCELED", "CANCELED_AND_REFUNDED")


async def facts_of(connection: AsyncConnection, ids: Collection[UUID]) -> dict[UUID, Facts]:
    """What is known of these records; of none that Stripe does not have."""
    rows = await connection.execute(sa.select(stripe_facts).where(stripe_facts.c.subscription_id.in_(ids)))
    return {facts.subscription_id: facts for facts in map(_facts, rows.mappings())}


async def save_facts(connection: AsyncConnection, facts: Facts) -> None:
    """Writes the facts of a record, which was locked by its mandate, as still to be applied."""
    values = {
        "mandate_id": facts.mandate_id,
        "checkout_version": facts.checkout_version,
        "checkout": None if facts.checkout is None else facts.checkout.model_dump(mode="json"),
        "version": facts.version,
        "subscription": None if facts.subscription is None else facts.subscription.model_dump(mode="json"),
        "observed_at": facts.observed_at,
        "paid_up_version": facts.paid_up_version,
        "past_due": [[version, at.isoformat()] for version, at in facts.past_due],
        "applied": False,
    }
    new = insert(stripe_facts).values(subscription_id=facts.subscription_id, **values)
    await connection.execute(new.on_conflict_do_update(index_elements=["subscription_id"], set_=values))


async def mark_applied(connection: AsyncConnection, ids: Collection[UUID]) -> None:
    """Notes that these records are where their facts have them."""
    due = sa.and_(stripe_facts.c.subscription_id.in_(ids), ~stripe_facts.c.applied)
    await connection.execute(sa.update(stripe_facts).where(due).values(applied=True))


async def mark_due(connection: AsyncConnection, subscription_id: UUID) -> None:
    """Has what is known of a record that waits for its checkout applied again soon: there is an answer on which that
    may depend. Of any other, Stripe's next word says what became of the request."""
    waits = sa.exists().where(subscriptions.c.id == subscription_id, subscriptions.c.state == "PENDING")
    known = (stripe_facts.c.subscription_id == subscription_id, waits)
    await connection.execute(sa.update(stripe_facts).where(*known).values(applied=False))


async def add_paid_period(connection: AsyncConnection, subscription_id: UUID, paid: PaidPeriod) -> None:
    """Adds a paid period, of which one that begins at the same moment is another word."""
    new = insert(paid_periods).values(
        subscription_id=subscription_id,
        period_start=paid.start,
        period_end=paid.end,
        stripe_invoice_id=paid.stripe_invoice_id,
    )
    await connection.execute(new.on_conflict_do_nothing())


async def paid_of(connection: AsyncConnection, ids: Collection[UUID]) -> Mapping[UUID, list[PaidPeriod]]:
    """The paid periods of these records."""
    found: dict[UUID, list[PaidPeriod]] = defaultdict(list)
    rows = await connection.execute(sa.select(paid_periods).where(paid_periods.c.subscription_id.in_(ids)))
    for row in rows.mappings():
        found[row["subscription_id"]].append(
            PaidPeriod(row["period_start"], row["period_end"], row["stripe_invoice_id"])
        )
    return found


async def add_request(
    connection: AsyncConnection,
    *,
    request_id: UUID,
    subscription_id: UUID,
    action: str,
    return_url: str | None,
    now: datetime,
) -> bool:
    """Notes a request; whether it is new."""
    new = insert(stripe_requests).values(
        request_id=request_id,
        subscription_id=subscription_id,
        action=action,
        return_url=return_url,
        requested_at=now,
    )
    added = await connection.execute(new.on_conflict_do_nothing().returning(stripe_requests.c.request_id))
    return added.first() is not None


async def count_settled(
    connection: AsyncConnection, subscription_id: UUID, action: str, *, opposite: str | None
) -> int:
    """How many requests stand no longer in the way of another one of this kind: where there is an `opposite`, those
    that were refused and those of the opposite; else those that were answered."""
    requests = stripe_requests.c
    over = requests.outcome.is_not(None) if opposite is None else requests.outcome == "refused"
    settled = sa.or_(sa.and_(requests.action == action, over), requests.action == opposite)
    counted = sa.select(sa.func.count()).where(requests.subscription_id == subscription_id, settled)
    return int((await connection.execute(counted)).scalar_one())


async def withdrawn_of(connection: AsyncConnection, ids: Collection[UUID]) -> set[UUID]:
    """Which of these records Stripe was asked to cancel, and is not known to have had nothing to cancel."""
    requests = stripe_requests.c
    stands = sa.or_(requests.outcome.is_(None), requests.code.in_(_CANCELED))
    asked = sa.select(requests.subscription_id).where(
        requests.subscription_id.in_(ids), requests.action == "cancel", stands
    )
    return {UUID(bytes=each.bytes) for each in await connection.scalars(asked)}


async def is_asked(connection: AsyncConnection, request_id: UUID) -> bool:
    """Whether there is a request of that id."""
    asked = sa.select(sa.exists().where(stripe_requests.c.request_id == request_id))
    return bool(await connection.scalar(asked))


async def settle_request(connection: AsyncConnection, settled: StripeSettled) -> str | None:
    """Notes what became of a request, once, and gives its action; None for one that was settled before, or is not ours.

    A checkout that was refused or came too late may still be opened by a repeat, so a later answer `done` counts.
    """
    requests = stripe_requests.c
    mine = sa.and_(requests.request_id == settled.request_id, requests.subscription_id == settled.subscription_id)
    open_still = sa.or_(requests.outcome.is_(None), requests.outcome != "done")
    changed = await connection.execute(
        sa.update(stripe_requests)
        .where(mine, open_still)
        .values(
            outcome=settled.outcome,
            code=settled.code,
            redirect_url=settled.redirect_url,
            settled_at=settled.settled_at,
        )
        .returning(requests.action)
    )
    action: str | None = changed.scalar_one_or_none()
    return action


def _facts(row: Mapping[Any, Any]) -> Facts:
    return Facts(
        subscription_id=UUID(bytes=row["subscription_id"].bytes),
        mandate_id=row["mandate_id"],
        checkout_version=row["checkout_version"],
        checkout=None if row["checkout"] is None else StripeCheckout.model_validate_json(orjson.dumps(row["checkout"])),
        version=row["version"],
        subscription=_subscription(row["subscription"]),
        observed_at=row["observed_at"],
        paid_up_version=row["paid_up_version"],
        past_due=tuple((version, datetime.fromisoformat(at)) for version, at in row["past_due"]),
    )


def _subscription(stored: object) -> StripeSubscription | None:
    return None if stored is None else StripeSubscription.model_validate_json(orjson.dumps(stored))
