"""What is kept of refunds of subscriptions' payments, and what they have moved of the budgets of the periods."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.ledger.domain import AccountType
from services.billing.tables import (
    accounts,
    budget_movements,
    budget_refunds,
    grants,
    payment_credits,
    subscription_budgets,
)
from services.chassis.statements import one_of

__all__ = [
    "BudgetGrant",
    "BudgetMovement",
    "BudgetRefund",
    "GivenBudget",
    "Period",
    "insert_budget_refund",
    "insert_movements",
    "read_budget_grants",
    "read_budget_refund",
    "read_budget_refunds",
    "read_came_back",
    "read_given_budget",
    "read_period_of_refund",
    "read_taken",
    "read_unspent",
]


class Period(NamedTuple):
    """A period of a subscription, whose budget is given once."""

    mandate_no: int
    subscription_id: UUID
    start: datetime


class BudgetRefund(NamedTuple):
    """So much of a payment went back, both amounts in its currency; the fields are the columns."""

    refund_id: str
    reference: str
    amount: Decimal
    paid_amount: Decimal
    description: str
    refunded_at: datetime
    digest: bytes


_BUDGET_REFUND = [budget_refunds.c[name] for name in BudgetRefund._fields]


async def read_budget_refund(connection: AsyncConnection, mandate_no: int, refund_id: str) -> BudgetRefund | None:
    """The refund of that identity, where it was told of."""
    of_id = (budget_refunds.c.mandate_no == mandate_no, budget_refunds.c.refund_id == refund_id)
    row = (await connection.execute(sa.select(*_BUDGET_REFUND).where(*of_id))).first()
    return None if row is None else BudgetRefund(*row)


async def insert_budget_refund(
    connection: AsyncConnection, period: Period, refund: BudgetRefund, *, now: datetime
) -> None:
    """Keeps a refund of the payment of a period."""
    row = sa.insert(budget_refunds).values(
        mandate_no=period.mandate_no,
        subscription_id=period.subscription_id,
        period_start=period.start,
        noted_at=now,
        **refund._asdict(),
    )
    await connection.execute(row)


async def read_budget_refunds(connection: AsyncConnection, period: Period) -> Sequence[BudgetRefund]:
    """All refunds of the payment of a period that were told of, in the order of their times at Stripe."""
    kept = budget_refunds.c
    read = sa.select(*_BUDGET_REFUND).where(*_of(budget_refunds, period)).order_by(kept.refunded_at, kept.refund_id)
    return [BudgetRefund(*row) for row in await connection.execute(read)]


async def read_period_of_refund(connection: AsyncConnection, mandate_no: int, stripe_id: str) -> Period | None:
    """The period of whose payment a refund or dispute is, by Stripe's id of it; None while none of it was told of."""
    kept = budget_refunds.c
    read = (
        sa.select(kept.mandate_no, kept.subscription_id, kept.period_start)
        .where(kept.mandate_no == mandate_no, _stripe_id(kept.refund_id) == stripe_id)
        .limit(1)
    )
    row = (await connection.execute(read)).first()
    return None if row is None else Period(*row)


async def read_came_back(connection: AsyncConnection, mandate_no: int, stripe_ids: Sequence[str]) -> Sequence[str]:
    """Which of the takings of these refunds and disputes are told to have come back; each stands for those before
    it."""
    mark = payment_credits.c
    read = sa.select(mark.reference).where(
        mark.mandate_no == mandate_no, one_of(_stripe_id(mark.reference), stripe_ids)
    )
    return (await connection.scalars(read)).all()


class GivenBudget(NamedTuple):
    """A budget as it was credited: how much, in micro-CHF, which grants, and what all of these have in common."""

    amount: int
    grant_nos: Sequence[int]
    expires_at: datetime | None
    granted_at: datetime
    description: str

    def is_over(self, now: datetime) -> bool:
        """Whether its time is over."""
        return self.expires_at is not None and self.expires_at <= now


async def read_given_budget(connection: AsyncConnection, period: Period) -> GivenBudget | None:
    """The budget of a period; None while it was not told of, and for one that came to nothing."""
    mark = subscription_budgets.c
    first = sa.and_(grants.c.mandate_no == mark.mandate_no, grants.c.no == mark.grant_nos[1])
    shown = (mark.amount, mark.grant_nos, grants.c.expires_at, grants.c.granted_at, grants.c.description)
    read = sa.select(*shown).select_from(subscription_budgets.join(grants, first))
    row = (await connection.execute(read.where(*_of(subscription_budgets, period)))).first()
    return None if row is None else GivenBudget(*row)


class BudgetGrant(NamedTuple):
    """A grant of a budget: what remains, and what refunds have taken of it, in micro-CHF."""

    no: int
    account_no: int
    account_type: AccountType
    remaining: int
    taken: int


async def read_budget_grants(connection: AsyncConnection, period: Period, budget: GivenBudget) -> list[BudgetGrant]:
    """The grants of a budget, on whatever accounts it is by now, and what refunds have done to each. Where a change of
    the model has moved it, they are known by their expiry, because no other period ends when it does. Of those that do
    not expire it has made one of all periods, of which `read_unspent` says how much is this one's."""
    net = (
        sa.select(budget_movements.c.grant_no, sa.func.sum(budget_movements.c.amount).label("amount"))
        .where(*_of(budget_movements, period))
        .group_by(budget_movements.c.grant_no)
        .subquery("net")
    )
    moved = sa.and_(
        grants.c.kind == "BUDGET",
        grants.c.reference_type == "SUBSCRIPTION",
        grants.c.reference_id == str(period.subscription_id),
        grants.c.open,
        grants.c.expires_at == budget.expires_at if budget.expires_at is not None else _is_of_no_period(period),
    )
    taken = sa.cast(sa.func.greatest(-sa.func.coalesce(net.c.amount, 0), 0), sa.BigInteger)
    of_account = sa.and_(accounts.c.mandate_no == grants.c.mandate_no, accounts.c.no == grants.c.account_no)
    read = (
        sa.select(grants.c.no, grants.c.account_no, accounts.c.type, grants.c.remaining, taken)
        .select_from(grants.join(accounts, of_account).outerjoin(net, net.c.grant_no == grants.c.no))
        .where(
            grants.c.mandate_no == period.mandate_no,
            sa.or_(one_of(grants.c.no, budget.grant_nos), net.c.grant_no.is_not(None), moved),
        )
        .order_by(grants.c.no)
    )
    return [BudgetGrant(*row) for row in await connection.execute(read)]


async def read_unspent(
    connection: AsyncConnection, period: Period, budget: GivenBudget, found: Sequence[BudgetGrant]
) -> int:
    """What remains of a budget, whose grants were found, in micro-CHF. Of what does not expire the oldest is spent
    first; so what was moved is that of the newest periods, as far as they have it no more themselves."""
    own = sum(grant.remaining for grant in found if grant.no in budget.grant_nos)
    moved = sum(grant.remaining for grant in found) - own
    if budget.expires_at is not None or moved == 0:
        return own + moved
    mark = subscription_budgets.c
    net = sa.select(sa.func.coalesce(sa.func.sum(budget_movements.c.amount), 0)).where(
        budget_movements.c.mandate_no == mark.mandate_no,
        budget_movements.c.subscription_id == mark.subscription_id,
        budget_movements.c.period_start == mark.period_start,
    )
    theirs = sa.and_(grants.c.mandate_no == mark.mandate_no, grants.c.no == sa.any_(mark.grant_nos))
    remaining = sa.select(sa.func.coalesce(sa.func.sum(grants.c.remaining), 0)).where(theirs)
    expires = sa.exists().where(theirs, grants.c.expires_at.is_not(None))
    elsewhere = sa.func.greatest(mark.amount + net.scalar_subquery() - remaining.scalar_subquery(), 0)
    later = sa.select(sa.func.coalesce(sa.func.sum(elsewhere), 0)).where(
        mark.mandate_no == period.mandate_no,
        mark.subscription_id == period.subscription_id,
        mark.period_start > period.start,
        ~expires,
    )
    of_later = int(await connection.scalar(later) or 0)
    missing = budget.amount - await read_taken(connection, period) - own
    return own + max(min(moved - of_later, missing), 0)


def _is_of_no_period(period: Period) -> sa.ColumnElement[bool]:
    """What does not expire, and was not made for a period: a change of the model has made it of others."""
    mark = subscription_budgets.c
    made = sa.exists().where(
        mark.mandate_no == period.mandate_no,
        mark.subscription_id == period.subscription_id,
        grants.c.no == sa.any_(mark.grant_nos),
    )
    return sa.and_(grants.c.expires_at.is_(None), ~made)


async def read_taken(connection: AsyncConnection, period: Period) -> int:
    """How much of the budget is taken at present, in micro-CHF: what refunds took, less what was given again."""
    read = sa.select(sa.func.coalesce(-sa.func.sum(budget_movements.c.amount), 0))
    return int(await connection.scalar(read.where(*_of(budget_movements, period))) or 0)


class BudgetMovement(NamedTuple):
    """A row that has taken of a budget (below zero) or given it again; the fields are the columns."""

    event_id: UUID
    reference: str
    grant_no: int
    amount: int


async def insert_movements(connection: AsyncConnection, period: Period, moved: Iterable[BudgetMovement]) -> None:
    """Notes what of the budget was moved."""
    of_period = {
        "mandate_no": period.mandate_no,
        "subscription_id": period.subscription_id,
        "period_start": period.start,
    }
    rows = [{**of_period, **each._asdict()} for each in moved]
    if rows:
        await connection.execute(sa.insert(budget_movements), rows)


def _of(table: sa.Table, period: Period) -> list[sa.ColumnElement[bool]]:
    return [
        table.c.mandate_no == period.mandate_no,
        table.c.subscription_id == period.subscription_id,
        table.c.period_start == period.start,
    ]


def _stripe_id(told: sa.ColumnElement[str]) -> sa.ColumnElement[str]:
    """Stripe's id from the identity of a taking."""
    return sa.func.split_part(told, "/", 1, type_=sa.Text)
