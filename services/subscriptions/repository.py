"""Writes of subscriptions: what is locked to be changed, and changes with the record of each."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from services.subscriptions.domain.states import OCCUPYING
from services.subscriptions.domain.subscription import Change, Subscription
from services.subscriptions.plan_form import PlanForm
from services.subscriptions.rows import subscription_of

__all__ = ["lock_due", "lock_occupying", "plan_of", "postpone", "save", "use_trial"]

_READ = (
    "SELECT id, mandate_id, terms::text AS terms, state, version, effective_from, period_start, period_end,"
    " trial_ends_at, grace_ends_at, recurring, created_by, created_at FROM subscriptions"
)


async def lock_occupying(connection: asyncpg.Connection, mandate_id: str) -> Subscription | None:
    """The one subscription that takes the mandate's place, locked."""
    row = await connection.fetchrow(
        f"{_READ} WHERE mandate_id = $1 AND state = ANY($2) FOR UPDATE", mandate_id, list(OCCUPYING)
    )
    return None if row is None else subscription_of(row)


async def plan_of(connection: asyncpg.Connection, subscription_id: UUID) -> str | None:
    """The plan of a subscription; None when there is none of that id."""
    found: str | None = await connection.fetchval("SELECT plan_key FROM subscriptions WHERE id = $1", subscription_id)
    return found


async def lock_due(
    connection: asyncpg.Connection, *, now: datetime, limit: int
) -> tuple[list[Subscription], dict[UUID, Exception]]:
    """Subscriptions with which our clock has something to do, the longest due first, and the ids of those whose rows
    cannot be read; another worker's are left out."""
    rows = await connection.fetch(
        f"{_READ} WHERE due_at <= $1 ORDER BY due_at, id LIMIT $2 FOR UPDATE SKIP LOCKED", now, limit
    )
    due: list[Subscription] = []
    unreadable: dict[UUID, Exception] = {}
    for row in rows:
        try:
            due.append(subscription_of(row))
        except (ValueError, ArithmeticError) as error:
            unreadable[row["id"]] = error
    return due, unreadable


async def postpone(connection: asyncpg.Connection, ids: Sequence[UUID], *, until: datetime) -> None:
    """Lets our clock leave subscriptions alone for a while."""
    await connection.execute("UPDATE subscriptions SET due_at = $2 WHERE id = ANY($1)", list(ids), until)


async def save(
    connection: asyncpg.Connection, changes: Sequence[Change], *, cause: str, actor: str | None, now: datetime
) -> None:
    """Writes changes with their records, in at most three statements whatever their number.

    At most one change of each subscription. What exists is written before what is new, because a new operative
    subscription has no place until its predecessor has left.
    """
    await _update(connection, [change for change in changes if change.before is not None])
    await _insert(connection, [change.after for change in changes if change.before is None])
    await _record(connection, changes, cause=cause, actor=actor, now=now)


async def use_trial(
    connection: asyncpg.Connection, subscription: Subscription, *, user_id: str | None, now: datetime
) -> None:
    """Marks that the mandate, and the user if it is a user's own, had their trial; a second one is a violation."""
    await connection.execute(
        "INSERT INTO trials (mandate_id, user_id, subscription_id, started_at) VALUES ($1, $2, $3, $4)",
        subscription.mandate_id,
        user_id,
        subscription.id,
        now,
    )


async def _update(connection: asyncpg.Connection, changes: Sequence[Change]) -> None:
    if not changes:
        return
    updated = await connection.fetch(
        "UPDATE subscriptions AS s SET terms = g.terms::jsonb, state = g.state, version = g.version,"
        " effective_from = g.effective_from, period_start = g.period_start, period_end = g.period_end,"
        " trial_ends_at = g.trial_ends_at, grace_ends_at = g.grace_ends_at, recurring = g.recurring, due_at = g.due_at"
        " FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::timestamptz[], $6::timestamptz[],"
        " $7::timestamptz[], $8::timestamptz[], $9::timestamptz[], $10::bool[], $11::timestamptz[]) AS g (id, terms,"
        " state, version, effective_from, period_start, period_end, trial_ends_at, grace_ends_at, recurring, due_at)"
        " WHERE s.id = g.id AND s.version = g.version - 1 RETURNING s.id",
        *_columns([_changing(change.after) for change in changes]),
    )
    if len(updated) != len(changes):
        raise RuntimeError(f"{len(changes) - len(updated)} subscriptions were changed without their lock")


async def _insert(connection: asyncpg.Connection, subscriptions: Sequence[Subscription]) -> None:
    if not subscriptions:
        return
    rows = [
        (*_changing(entry), entry.mandate_id, entry.plan.key, entry.created_by, entry.created_at)
        for entry in subscriptions
    ]
    await connection.execute(
        "INSERT INTO subscriptions (id, terms, state, version, effective_from, period_start, period_end,"
        " trial_ends_at, grace_ends_at, recurring, due_at, mandate_id, plan_key, created_by, created_at)"
        " SELECT id, terms::jsonb, state, version, effective_from, period_start, period_end, trial_ends_at,"
        " grace_ends_at, recurring, due_at, mandate_id, plan_key, created_by, created_at"
        " FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::timestamptz[], $6::timestamptz[],"
        " $7::timestamptz[], $8::timestamptz[], $9::timestamptz[], $10::bool[], $11::timestamptz[], $12::text[],"
        " $13::text[], $14::text[], $15::timestamptz[]) AS g (id, terms, state, version, effective_from, period_start,"
        " period_end, trial_ends_at, grace_ends_at, recurring, due_at, mandate_id, plan_key, created_by, created_at)",
        *_columns(rows),
    )


async def _record(
    connection: asyncpg.Connection, changes: Sequence[Change], *, cause: str, actor: str | None, now: datetime
) -> None:
    rows = [
        (
            change.after.id,
            change.after.version,
            change.name,
            change.before.state if change.before else None,
            change.after.state,
            change.occurred_at,
        )
        for change in changes
    ]
    await connection.execute(
        "INSERT INTO transitions (subscription_id, version, name, from_state, to_state, occurred_at, cause, actor,"
        " recorded_at) SELECT g.*, $7, $8, $9 FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[],"
        " $5::text[], $6::timestamptz[]) AS g",
        *_columns(rows),
        cause,
        actor,
        now,
    )


def _changing(subscription: Subscription) -> tuple[object, ...]:
    """The id, and every column that a change may write."""
    period = subscription.period
    return (
        subscription.id,
        PlanForm.text_of(subscription.plan),
        subscription.state,
        subscription.version,
        subscription.effective_from,
        period.start if period else None,
        period.end if period else None,
        subscription.trial_ends_at,
        subscription.grace_ends_at,
        subscription.recurring,
        subscription.due_at,
    )


def _columns(rows: Sequence[tuple[object, ...]]) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)]
