"""Writes of subscriptions: what is locked to be changed, and changes with the record of each."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.subscriptions.lifecycle.domain import Change, Subscription
from services.subscriptions.lifecycle.rows import SUBSCRIPTIONS, subscription_of
from services.subscriptions.plans.json_form import PlanForm
from services.subscriptions.tables import given_budgets, subscriptions, transitions, trial_reminders, trials

__all__ = [
    "credited_of",
    "lock_due",
    "lock_mandate",
    "lock_records",
    "lock_trials_to_remind",
    "mandate_of",
    "note_reminders",
    "plan_of",
    "postpone",
    "postpone_settlement",
    "save",
    "trial_in_checkout",
    "trial_used",
    "use_trial",
    "use_trial_if_unused",
]


async def lock_mandate(connection: AsyncConnection, mandate_id: str) -> None:
    """Lets the caller's transaction alone decide on the mandate's subscriptions; who decides on several takes them in
    the order of their ids. The clock's renewals go by rows alone and never wait for anybody."""
    await connection.execute(
        sa.text("SELECT pg_advisory_xact_lock(hashtextextended(:mandate_id, 0))"), {"mandate_id": mandate_id}
    )


async def lock_records(
    connection: AsyncConnection, mandate_id: str, also: Collection[UUID] = ()
) -> dict[UUID, Subscription]:
    """The mandate's subscriptions that are not over, and those of the given ids, locked."""
    of_mandate = subscriptions.c.mandate_id == mandate_id
    wanted = sa.or_(subscriptions.c.state != "EXPIRED", subscriptions.c.id.in_(also))
    rows = await connection.execute(
        SUBSCRIPTIONS.where(of_mandate, wanted).order_by(subscriptions.c.id).with_for_update()
    )
    return {record.id: record for record in map(subscription_of, rows.mappings())}


async def mandate_of(connection: AsyncConnection, subscription_id: UUID) -> str | None:
    """Whose a record is; None when there is none of that id."""
    read = sa.select(subscriptions.c.mandate_id).where(subscriptions.c.id == subscription_id)
    return (await connection.execute(read)).scalar_one_or_none()


async def credited_of(connection: AsyncConnection, ids: Collection[UUID]) -> Mapping[UUID, list[datetime]]:
    """The starts of the periods whose budget was told to be due."""
    found: dict[UUID, list[datetime]] = defaultdict(list)
    rows = await connection.execute(sa.select(given_budgets).where(given_budgets.c.subscription_id.in_(ids)))
    for row in rows.mappings():
        found[row["subscription_id"]].append(row["period_start"])
    return found


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


async def postpone_settlement(connection: AsyncConnection, mandate_id: str, *, now: datetime, until: datetime) -> None:
    """Lets our clock leave what is due of a mandate alone for a while."""
    due = sa.and_(subscriptions.c.mandate_id == mandate_id, subscriptions.c.settle_at <= now)
    await connection.execute(sa.update(subscriptions).where(due).values(settle_at=until))


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
    await _note_budgets(connection, changes)


async def use_trial(
    connection: AsyncConnection, subscription: Subscription, *, user_id: str | None, now: datetime
) -> None:
    """Marks that the mandate, and the user if it is a user's own, had their trial; a second one is a violation."""
    await connection.execute(
        sa.insert(trials).values(
            mandate_id=subscription.mandate_id, user_id=user_id, subscription_id=subscription.id, started_at=now
        )
    )


async def trial_used(connection: AsyncConnection, mandate_id: str, user_id: str) -> bool:
    """Whether the mandate or the user had a trial."""
    either = sa.or_(trials.c.mandate_id == mandate_id, trials.c.user_id == user_id)
    return (await connection.execute(sa.select(trials.c.mandate_id).where(either).limit(1))).first() is not None


async def trial_in_checkout(
    connection: AsyncConnection, mandate_id: str, user_id: str | None, *, of_mandate: bool
) -> bool:
    """Whether the user has a checkout open for another mandate, in which a plan with trial days may begin; with
    `of_mandate` anybody's checkout for this mandate counts too. Who asks for the same user waits until the end of the
    transaction; the lock comes after that of a mandate."""
    if user_id is not None:
        await connection.execute(
            sa.text("SELECT pg_advisory_xact_lock(hashtextextended('trial of ' || :user_id, 0))"), {"user_id": user_id}
        )
    elsewhere = sa.and_(subscriptions.c.created_by == user_id, subscriptions.c.mandate_id != mandate_id)
    here = sa.and_(subscriptions.c.mandate_id == mandate_id, sa.literal(of_mandate))
    open_ = sa.exists().where(
        sa.or_(elsewhere, here),
        subscriptions.c.state == "PENDING",
        sa.cast(subscriptions.c.terms["trialDays"].astext, sa.Integer) > 0,
    )
    return bool(await connection.scalar(sa.select(open_)))


async def lock_trials_to_remind(
    connection: AsyncConnection, days: int, *, ends_by: datetime, now: datetime, limit: int
) -> list[Subscription]:
    """Trials that end by then and of which it was not said yet, for so many days or fewer. One that has no more days
    than that is not told of its end at its start. Another worker's are left out."""
    told = sa.exists().where(
        trial_reminders.c.subscription_id == subscriptions.c.id, trial_reminders.c.days_left <= days
    )
    longer = subscriptions.c.trial_ends_at - subscriptions.c.period_start > timedelta(days=days)
    rows = await connection.execute(
        SUBSCRIPTIONS.where(
            subscriptions.c.state == "TRIALING",
            subscriptions.c.trial_ends_at > now,
            subscriptions.c.trial_ends_at <= ends_by,
            longer,
            ~told,
        )
        .order_by(subscriptions.c.trial_ends_at, subscriptions.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return [subscription_of(row) for row in rows.mappings()]


async def note_reminders(connection: AsyncConnection, ids: Sequence[UUID], days: int, *, now: datetime) -> None:
    """Notes that it was said of these trials that they end."""
    if ids:
        rows = [{"subscription_id": each, "days_left": days, "reminded_at": now} for each in ids]
        await connection.execute(sa.insert(trial_reminders), rows)


async def use_trial_if_unused(connection: AsyncConnection, subscription: Subscription, *, now: datetime) -> None:
    """Marks a trial that was begun at Stripe, which cannot be taken back where there was one before."""
    used = insert(trials).values(
        mandate_id=subscription.mandate_id,
        user_id=subscription.created_by,
        subscription_id=subscription.id,
        started_at=now,
    )
    await connection.execute(used.on_conflict_do_nothing())


# One statement whatever the number of rows, which says how many of them were as they had been locked.
_UPDATE = sa.text(
    "UPDATE subscriptions AS s SET plan_key = g.plan_key, terms = CAST(g.terms AS jsonb), state = g.state,"
    " version = g.version, effective_from = g.effective_from, period_start = g.period_start,"
    " period_end = g.period_end, trial_ends_at = g.trial_ends_at, grace_ends_at = g.grace_ends_at,"
    " recurring = g.recurring, starts_at = g.starts_at, due_at = g.due_at, settle_at = g.settle_at"
    " FROM unnest(CAST(:id AS uuid[]), CAST(:plan_key AS text[]), CAST(:terms AS text[]), CAST(:state AS text[]),"
    " CAST(:version AS bigint[]), CAST(:effective_from AS timestamptz[]), CAST(:period_start AS timestamptz[]),"
    " CAST(:period_end AS timestamptz[]), CAST(:trial_ends_at AS timestamptz[]),"
    " CAST(:grace_ends_at AS timestamptz[]), CAST(:recurring AS bool[]), CAST(:starts_at AS timestamptz[]),"
    " CAST(:due_at AS timestamptz[]), CAST(:settle_at AS timestamptz[]))"
    " AS g (id, plan_key, terms, state, version, effective_from, period_start, period_end, trial_ends_at,"
    " grace_ends_at, recurring, starts_at, due_at, settle_at)"
    " WHERE s.id = g.id AND s.version = g.version - 1 RETURNING s.id"
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
            "created_by": entry.created_by,
            "created_at": entry.created_at,
        }
        for entry in begun
    ]
    for row in rows:
        row["terms_text"] = row.pop("terms")
    if rows:
        await connection.execute(_INSERT, rows)


async def _note_budgets(connection: AsyncConnection, changes: Sequence[Change]) -> None:
    """Notes the budgets of what Stripe renews, each once: a second one of a period is a violation. Those that our own
    clock gives follow each other by it."""
    given = [
        {"subscription_id": after.id, "period_start": after.period.start, "version": after.version}
        for after in (change.after for change in changes if change.budget_due)
        if after.plan.requires_stripe and after.period is not None
    ]
    if given:
        await connection.execute(sa.insert(given_budgets), given)


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
        "plan_key": subscription.plan.key,
        "terms": PlanForm.text_of(subscription.plan),
        "state": subscription.state,
        "version": subscription.version,
        "effective_from": subscription.effective_from,
        "period_start": period.start if period else None,
        "period_end": period.end if period else None,
        "trial_ends_at": subscription.trial_ends_at,
        "grace_ends_at": subscription.grace_ends_at,
        "recurring": subscription.recurring,
        "starts_at": subscription.starts_at,
        "due_at": subscription.due_at,
        "settle_at": subscription.settle_at,
    }
