"""Writes of subscriptions: what is locked to be changed, and changes with the record of each."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection

from services.subscriptions.lifecycle.domain import Change, Subscription
from services.subscriptions.lifecycle.rows import SUBSCRIPTIONS, subscription_of
from services.subscriptions.lifecycle.states import OCCUPYING
from services.subscriptions.plans.json_form import PlanForm
from services.subscriptions.tables import subscriptions, transitions, trials

__all__ = ["lock_due", "lock_occupying", "plan_of", "postpone", "save", "use_trial"]


async def lock_occupying(connection: AsyncConnection, mandate_id: str) -> Subscription | None:
    """The mandate's one subscription that rules out another operative one, locked."""
    occupying = sa.and_(subscriptions.c.mandate_id == mandate_id, subscriptions.c.state.in_(OCCUPYING))
    row = (await connection.execute(SUBSCRIPTIONS.where(occupying).with_for_update())).mappings().first()
    return None if row is None else subscription_of(row)


async def plan_of(connection: AsyncConnection, subscription_id: UUID) -> str | None:
    """The plan of a subscription; None when there is none of that id."""
    read = sa.select(subscriptions.c.plan_key).where(subscriptions.c.id == subscription_id)
    return (await connection.execute(read)).scalar_one_or_none()


async def lock_due(
    connection: AsyncConnection, *, now: datetime, limit: int
) -> tuple[list[Subscription], dict[UUID, Exception]]:
    """Subscriptions with which our clock has something to do, the longest due first, and the ids of those whose rows
    cannot be read; another worker's are left out."""
    rows = await connection.execute(
        SUBSCRIPTIONS.where(subscriptions.c.due_at <= now)
        .order_by(subscriptions.c.due_at, subscriptions.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    due: list[Subscription] = []
    unreadable: dict[UUID, Exception] = {}
    for row in rows.mappings():
        try:
            due.append(subscription_of(row))
        except (ValueError, ArithmeticError) as error:
            unreadable[row["id"]] = error
    return due, unreadable


async def postpone(connection: AsyncConnection, ids: Sequence[UUID], *, until: datetime) -> None:
    """Lets our clock leave subscriptions alone for a while."""
    await connection.execute(sa.update(subscriptions).where(subscriptions.c.id.in_(ids)).values(due_at=until))


async def save(
    connection: AsyncConnection, changes: Sequence[Change], *, cause: str, actor: str | None, now: datetime
) -> None:
    """Writes changes with their records.

    At most one change of each subscription. What exists is written before what is new, because the unique index admits
    a new operative subscription only after its predecessor has ended.
    """
    await _update(connection, [change for change in changes if change.before is not None])
    await _insert(connection, [change.after for change in changes if change.before is None])
    await _record(connection, changes, cause=cause, actor=actor, now=now)


async def use_trial(
    connection: AsyncConnection, subscription: Subscription, *, user_id: str | None, now: datetime
) -> None:
    """Marks that the mandate, and the user if it is a user's own, had their trial; a second one is a violation."""
    await connection.execute(
        sa.insert(trials).values(
            mandate_id=subscription.mandate_id, user_id=user_id, subscription_id=subscription.id, started_at=now
        )
    )


# One statement whatever the number of rows, which says how many of them were as they had been locked.
_UPDATE = sa.text(
    "UPDATE subscriptions AS s SET terms = CAST(g.terms AS jsonb), state = g.state, version = g.version,"
    " effective_from = g.effective_from, period_start = g.period_start, period_end = g.period_end,"
    " trial_ends_at = g.trial_ends_at, grace_ends_at = g.grace_ends_at, recurring = g.recurring, due_at = g.due_at"
    " FROM unnest(CAST(:id AS uuid[]), CAST(:terms AS text[]), CAST(:state AS text[]), CAST(:version AS bigint[]),"
    " CAST(:effective_from AS timestamptz[]), CAST(:period_start AS timestamptz[]),"
    " CAST(:period_end AS timestamptz[]), CAST(:trial_ends_at AS timestamptz[]),"
    " CAST(:grace_ends_at AS timestamptz[]), CAST(:recurring AS bool[]), CAST(:due_at AS timestamptz[]))"
    " AS g (id, terms, state, version, effective_from, period_start, period_end, trial_ends_at, grace_ends_at,"
    " recurring, due_at) WHERE s.id = g.id AND s.version = g.version - 1 RETURNING s.id"
)
_INSERT = sa.insert(subscriptions).values(terms=sa.cast(sa.bindparam("terms_text", type_=sa.Text), JSONB))


async def _update(connection: AsyncConnection, changes: Sequence[Change]) -> None:
    if not changes:
        return
    rows = [_changing(change.after) for change in changes]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    updated = (await connection.execute(_UPDATE, columns)).all()
    if len(updated) != len(changes):
        raise RuntimeError(f"{len(changes) - len(updated)} subscriptions were changed without their lock")


async def _insert(connection: AsyncConnection, begun: Sequence[Subscription]) -> None:
    rows = [
        {
            **_changing(entry),
            "mandate_id": entry.mandate_id,
            "plan_key": entry.plan.key,
            "created_by": entry.created_by,
            "created_at": entry.created_at,
        }
        for entry in begun
    ]
    for row in rows:
        row["terms_text"] = row.pop("terms")
    if rows:
        await connection.execute(_INSERT, rows)


async def _record(
    connection: AsyncConnection, changes: Sequence[Change], *, cause: str, actor: str | None, now: datetime
) -> None:
    rows = [
        {
            "subscription_id": change.after.id,
            "version": change.after.version,
            "name": change.name,
            "from_state": change.before.state if change.before else None,
            "to_state": change.after.state,
            "occurred_at": change.occurred_at,
            "cause": cause,
            "actor": actor,
            "recorded_at": now,
        }
        for change in changes
    ]
    if rows:
        await connection.execute(sa.insert(transitions), rows)


def _changing(subscription: Subscription) -> dict[str, Any]:
    """The id, and every column that a change may write; the terms as their text."""
    period = subscription.period
    return {
        "id": subscription.id,
        "terms": PlanForm.text_of(subscription.plan),
        "state": subscription.state,
        "version": subscription.version,
        "effective_from": subscription.effective_from,
        "period_start": period.start if period else None,
        "period_end": period.end if period else None,
        "trial_ends_at": subscription.trial_ends_at,
        "grace_ends_at": subscription.grace_ends_at,
        "recurring": subscription.recurring,
        "due_at": subscription.due_at,
    }
