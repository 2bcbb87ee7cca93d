"""Rows of recharges and the accounts that are to be recharged. Every write here is made under the lock of the mandate,
which the caller has."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.tables import accounts, directory_mandates, directory_members, mandates, recharges
from services.chassis.statements import one_of

__all__ = [
    "Due",
    "NewRecharge",
    "RechargedAccount",
    "expire_recharges",
    "insert_recharges",
    "mandates_with_due_accounts",
    "mandates_with_overdue_recharges",
    "mark_failed",
    "mark_succeeded",
    "read_due_accounts",
    "read_recharged_account",
    "turn_off_recharges",
    "units_by_month",
]

PREPAID = ("PREPAY_MANDATE", "PREPAY_USER")


class Due(NamedTuple):
    """When an account is to be recharged: at which time, for how long not again after a declined recharge, and up to
    which amount (micro-CHF)."""

    now: datetime
    retry_after: timedelta
    amount_max: int


class NewRecharge(NamedTuple):
    """A recharge to be requested; the amount is micro-CHF."""

    mandate_no: int
    id: UUID
    account_no: int
    amount: int
    units: int
    month: date
    crossing: int
    requested_at: datetime
    expires_at: datetime


class RechargedAccount(NamedTuple):
    """The account that a recharge fills; of a member, or the pool."""

    account_no: int
    user_id: str | None


def _is_due(due: Due) -> sa.ColumnElement[bool]:
    """Whether an account of a mandate is to be recharged now, its monthly maximum aside.

    A low balance is enough, whether or not it has just become so: also where recharges were turned on later, a recharge
    has not lifted it for long, or a month has begun. Where nothing was spent since the last credit, as with a threshold
    of 100 percent, another one would not help. After a declined recharge the next one waits, unless the balance has
    been above its threshold meanwhile, or another recharge of the mandate has succeeded.
    """
    of_account = sa.and_(recharges.c.mandate_no == accounts.c.mandate_no, recharges.c.account_no == accounts.c.no)
    pending = sa.and_(of_account, recharges.c.state == "PENDING", recharges.c.expires_at > due.now)
    declined = sa.and_(
        of_account,
        recharges.c.state == "FAILED",
        recharges.c.crossing == accounts.c.crossings,
        recharges.c.settled_at > due.now - due.retry_after,
        mandates.c.recharge_failures > 0,
    )
    # By the key, one at a time: as a condition beside another one it could be planned as a pass over all members.
    of_member = (directory_members.c.mandate_id == mandates.c.id, directory_members.c.user_id == accounts.c.user_id)
    member = sa.select(directory_members.c.enabled).where(*of_member).correlate(accounts, mandates).scalar_subquery()
    spent = sa.or_(accounts.c.balance < accounts.c.balance_after_last_credit, accounts.c.balance <= 0)
    return sa.and_(
        accounts.c.mandate_no == mandates.c.no,
        accounts.c.low,
        accounts.c.enabled,
        spent,
        sa.func.coalesce(member, accounts.c.type == "MANDATE"),
        ~_of_the_account(pending),
        ~_of_the_account(declined),
    )


def _of_the_account(condition: sa.ColumnElement[bool]) -> sa.Exists:
    """Whether there is such a row, for the account and mandate of the statement around it."""
    return sa.exists().where(condition).correlate(accounts, mandates)


def _recharges_itself(due: Due) -> sa.ColumnElement[bool]:
    """Whether a mandate has its accounts recharged at all. What the directory does not know, or has disabled, is not
    charged, and neither are the operator's own mandates."""
    return sa.and_(
        mandates.c.auto_recharge_enabled,
        mandates.c.billing_model.in_(PREPAID),
        mandates.c.recharge_amount.between(1, due.amount_max),
        directory_mandates.c.id == mandates.c.id,
        directory_mandates.c.enabled,
        ~directory_mandates.c.is_system,
    )


async def mandates_with_due_accounts(connection: AsyncConnection, due: Due) -> Sequence[sa.RowMapping]:
    """The mandates with accounts that are to be recharged, their calendars and how many units a month may have."""
    columns = (mandates.c.no, mandates.c.time_zone, mandates.c.past_time_zones, mandates.c.recharge_max_per_month)
    some = sa.exists().where(_is_due(due)).correlate(mandates)
    read = sa.select(*columns).where(_recharges_itself(due), some).order_by(mandates.c.no)
    return (await connection.execute(read)).mappings().all()


async def read_due_accounts(connection: AsyncConnection, mandate_no: int, due: Due) -> Sequence[sa.RowMapping]:
    """The accounts of a mandate that are to be recharged, in the order of their numbers, with what decides how much."""
    read = (
        sa.select(
            accounts.c.no,
            accounts.c.user_id,
            accounts.c.balance,
            accounts.c.balance_after_last_credit,
            accounts.c.crossings,
            mandates.c.billing_model,
            mandates.c.warning_threshold_percent,
            mandates.c.recharge_amount,
            mandates.c.recharge_max_per_month,
        )
        .where(mandates.c.no == mandate_no, _recharges_itself(due), _is_due(due))
        .order_by(accounts.c.no)
    )
    return (await connection.execute(read)).mappings().all()


async def units_by_month(
    connection: AsyncConnection, numbers: Sequence[int], *, since: date, now: datetime
) -> dict[tuple[int, date], int]:
    """How many units of recharge amounts have succeeded or are pending, by mandate and month, from a month on."""
    counts = sa.or_(
        recharges.c.state == "SUCCEEDED", sa.and_(recharges.c.state == "PENDING", recharges.c.expires_at > now)
    )
    read = (
        sa.select(recharges.c.mandate_no, recharges.c.month, sa.func.sum(recharges.c.units))
        .where(one_of(recharges.c.mandate_no, numbers), recharges.c.month >= since, counts)
        .group_by(recharges.c.mandate_no, recharges.c.month)
    )
    return {(no, month): units for no, month, units in await connection.execute(read)}


async def insert_recharges(connection: AsyncConnection, requested: Sequence[NewRecharge]) -> None:
    """Notes recharges that are requested."""
    await connection.execute(sa.insert(recharges), [each._asdict() for each in requested])


async def mandates_with_overdue_recharges(connection: AsyncConnection, *, now: datetime, limit: int) -> list[int]:
    """The mandates of at most `limit` recharges that were pending for too long, those first that have waited
    longest."""
    overdue = sa.and_(recharges.c.settled_at.is_(None), recharges.c.expires_at <= now)
    read = sa.select(recharges.c.mandate_no).where(overdue).order_by(recharges.c.expires_at).limit(limit)
    return list(await connection.scalars(read))


async def expire_recharges(connection: AsyncConnection, mandate_no: int, *, now: datetime) -> int:
    """Gives up the recharges of a mandate that were pending for too long; returns how many."""
    overdue = sa.and_(
        recharges.c.mandate_no == mandate_no, recharges.c.state == "PENDING", recharges.c.expires_at <= now
    )
    expired = await connection.execute(sa.update(recharges).where(overdue).values(state="EXPIRED", settled_at=now))
    return expired.rowcount


async def read_recharged_account(
    connection: AsyncConnection, mandate_no: int, recharge_id: UUID
) -> RechargedAccount | None:
    """The account that a recharge is for; None where it was never requested."""
    of_account = sa.and_(accounts.c.mandate_no == recharges.c.mandate_no, accounts.c.no == recharges.c.account_no)
    read = (
        sa.select(accounts.c.no, accounts.c.user_id)
        .select_from(recharges.join(accounts, of_account))
        .where(*_of(mandate_no, recharge_id))
    )
    row = (await connection.execute(read)).first()
    return None if row is None else RechargedAccount(*row)


async def mark_succeeded(
    connection: AsyncConnection, mandate_no: int, recharge_id: UUID, *, cause: str, now: datetime
) -> bool:
    """Notes that a recharge was paid, also where it had failed or expired before; whether that is new. What was
    declined before it counts no more."""
    change = sa.update(recharges).where(*_of(mandate_no, recharge_id), recharges.c.state != "SUCCEEDED")
    marked = await connection.execute(change.values(state="SUCCEEDED", settled_at=now, cause=cause))
    if marked.rowcount:
        await connection.execute(sa.update(mandates).where(mandates.c.no == mandate_no).values(recharge_failures=0))
    return marked.rowcount > 0


async def mark_failed(
    connection: AsyncConnection, mandate_no: int, recharge_id: UUID, *, cause: str, now: datetime
) -> int | None:
    """Notes that a recharge was declined, and gives how many were so in a row; None where that changes nothing,
    because it was declined or paid before, or never requested."""
    change = sa.update(recharges).where(*_of(mandate_no, recharge_id), recharges.c.state.in_(("PENDING", "EXPIRED")))
    marked = await connection.execute(change.values(state="FAILED", settled_at=now, cause=cause))
    if not marked.rowcount:
        return None
    count = sa.update(mandates).where(mandates.c.no == mandate_no)
    count = count.values(recharge_failures=mandates.c.recharge_failures + 1)
    failures: int = (await connection.execute(count.returning(mandates.c.recharge_failures))).scalar_one()
    return failures


async def turn_off_recharges(connection: AsyncConnection, mandate_no: int) -> bool:
    """Turns recharges of a mandate off, and begins to count anew; whether they were on."""
    enabled = sa.and_(mandates.c.no == mandate_no, mandates.c.auto_recharge_enabled)
    change = sa.update(mandates).where(enabled).values(auto_recharge_enabled=False, recharge_failures=0)
    return (await connection.execute(change)).rowcount > 0


def _of(mandate_no: int, recharge_id: UUID) -> tuple[sa.ColumnElement[bool], ...]:
    return recharges.c.mandate_no == mandate_no, recharges.c.id == recharge_id
