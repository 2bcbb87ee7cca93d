"""A mandate's limits, and what counts towards them."""

from collections.abc import Sequence
from datetime import date

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.checks.limits import Limit
from services.billing.tables import accounts, dimensions, holds, limit_costs, limits, mandates, rollups

__all__ = ["read_limits", "replace_limits"]


async def read_limits(connection: AsyncConnection, mandate_no: int) -> list[Limit]:
    """The limits of a mandate: by kind, key and period."""
    columns = limits.c
    read = sa.select(columns.kind, columns.key, columns.period, columns.amount).where(columns.mandate_no == mandate_no)
    ordered = read.order_by(columns.kind, columns.key, columns.period)
    return [Limit(*row) for row in await connection.execute(ordered)]


async def replace_limits(connection: AsyncConnection, mandate_no: int, given: Sequence[Limit], *, since: date) -> None:
    """Puts these limits in place of all that there were, and sums what counts towards them, of costs from the day
    `since` on; the caller has the lock of the mandate, so no charge or hold adds to it meanwhile."""
    for table in (limit_costs, limits):
        await connection.execute(sa.delete(table).where(table.c.mandate_no == mandate_no))
    of_mandate = sa.update(mandates).where(mandates.c.no == mandate_no)
    await connection.execute(of_mandate.values(limits_since=since if given else None))
    if given:
        await connection.execute(sa.insert(limits), [{"mandate_no": mandate_no, **limit._asdict()} for limit in given])
        await connection.execute(_sum_costs(mandate_no, since))
        await connection.execute(_sum_holds(mandate_no))


def _sum_costs(mandate_no: int, since: date) -> sa.Insert:
    """Sums the rollups by member and by dimension, and of these what is limited. The rollups are read by account,
    because their key begins so: the days before are not read at all."""
    of_account = sa.and_(
        rollups.c.mandate_no == accounts.c.mandate_no,
        rollups.c.member_account_no == accounts.c.no,
        rollups.c.day >= since,
    )
    costs = (
        sa.select(accounts.c.user_id, rollups.c.dimension_no, rollups.c.day, rollups.c.cost)
        .select_from(accounts.join(rollups, of_account))
        .where(accounts.c.mandate_no == mandate_no)
        .cte("costs")
    )
    cost = sa.func.sum(costs.c.cost).label("cost")
    by_member = sa.select(sa.literal("member").label("kind"), costs.c.user_id.label("key"), costs.c.day, cost)
    by_dimension = (
        sa.select(costs.c.dimension_no, costs.c.day, cost)
        .group_by(costs.c.dimension_no, costs.c.day)
        .cte("dimensional")
    )
    of_dimension = sa.and_(dimensions.c.mandate_no == mandate_no, dimensions.c.no == by_dimension.c.dimension_no)
    sums = [by_member.group_by(costs.c.user_id, costs.c.day)]
    for kind, name in (
        ("feature", dimensions.c.feature_instance_id),
        ("provider", dimensions.c.provider),
        ("model", dimensions.c.model),
    ):
        day, summed = by_dimension.c.day, sa.func.sum(by_dimension.c.cost)
        read = sa.select(sa.literal(kind), name, day, summed).select_from(by_dimension.join(dimensions, of_dimension))
        sums.append(read.group_by(name, day))
    found = sa.union_all(*sums).subquery("found")
    limited = sa.exists().where(
        limits.c.mandate_no == mandate_no, limits.c.kind == found.c.kind, limits.c.key == found.c.key
    )
    counted = sa.select(sa.literal(mandate_no, sa.Integer), found).where(limited)
    return sa.insert(limit_costs).from_select(["mandate_no", "kind", "key", "day", "cost"], counted)


def _sum_holds(mandate_no: int) -> sa.Update:
    """Sums the open holds that count towards each limit."""
    of_account = sa.and_(accounts.c.mandate_no == holds.c.mandate_no, accounts.c.no == holds.c.member_account_no)
    key = sa.case(
        (limits.c.kind == "member", accounts.c.user_id),
        (limits.c.kind == "feature", holds.c.feature_instance_id),
        (limits.c.kind == "provider", holds.c.provider),
        else_=holds.c.model,
    )
    held = (
        sa.select(limits.c.kind, limits.c.key, limits.c.period, sa.func.sum(holds.c.amount).label("amount"))
        .select_from(holds.join(accounts, of_account))
        .where(holds.c.mandate_no == mandate_no, holds.c.state == "OPEN")
        .where(limits.c.mandate_no == mandate_no, limits.c.key == key)
        .group_by(limits.c.kind, limits.c.key, limits.c.period)
        .subquery("summed")
    )
    same = sa.and_(limits.c.kind == held.c.kind, limits.c.key == held.c.key, limits.c.period == held.c.period)
    return sa.update(limits).where(limits.c.mandate_no == mandate_no, same).values(held=held.c.amount)
