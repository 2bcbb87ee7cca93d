"""Reads of what was spent by day, and of what can still be spent, of one mandate within a scope."""

from collections import defaultdict
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.ledger.calendars import Calendar
from services.billing.ledger.domain import BillingModel
from services.billing.ledger.grants import balance_at
from services.billing.mandates.queries import display_name
from services.billing.mandates.repository import calendar_of
from services.billing.reports.scope import Scope
from services.billing.statistics.domain import UNKNOWN, StatisticsPeriod
from services.billing.statistics.queries import usage_parts
from services.billing.statistics.runway import Expiring
from services.billing.tables import (
    accounts,
    dimensions,
    directory_mandates,
    directory_users,
    grants,
    mandates,
    rollups,
)

__all__ = ["Costs", "MandateFacts", "Money", "read_costs", "read_facts", "read_member_costs", "read_money"]

# By day, in micro-CHF.
Costs = Mapping[date, int]
_TICK = timedelta(microseconds=1)


class MandateFacts(NamedTuple):
    """What a mandate is called, whose balance pays, and its calendar."""

    no: int
    name: str
    billing_model: BillingModel
    calendar: Calendar


class Money(NamedTuple):
    """A balance (micro-CHF), the credit limit on it, and the parts of it that expire."""

    balance: int
    credit_limit: int | None
    expiring: tuple[Expiring, ...]


async def read_facts(connection: AsyncConnection, mandate_no: int) -> MandateFacts:
    """The facts of a mandate that is there."""
    columns = (mandates.c.id, directory_mandates.c.label, directory_mandates.c.name, mandates.c.billing_model)
    read = sa.select(*columns, mandates.c.time_zone, mandates.c.past_time_zones)
    read = read.select_from(mandates.outerjoin(directory_mandates, directory_mandates.c.id == mandates.c.id))
    mandate_id, label, name, model, *zones = (await connection.execute(read.where(mandates.c.no == mandate_no))).one()
    return MandateFacts(
        mandate_no, display_name(label, name, mandate_id), model, calendar_of(mandate_no, zones[0], zones[1])
    )


async def read_costs(
    connection: AsyncConnection, scope: Scope, period: StatisticsPeriod
) -> tuple[Costs, dict[str, Costs]]:
    """What the scope shows, by day: all of it, and by the code of the feature."""
    used = sa.union_all(*usage_parts(scope, period)).lateral("used")
    of_use = sa.and_(dimensions.c.mandate_no == mandates.c.no, dimensions.c.no == used.c.dimension_no)
    columns = (dimensions.c.feature_code, used.c.entry)
    read = (
        sa.select(*columns, sa.func.sum(used.c.cost).label("cost"))
        .select_from(mandates.join(used, sa.true()).join(dimensions, of_use))
        .where(scope.shows_mandate(mandates.c.id))
        .group_by(*columns)
    )
    whole: dict[date, int] = defaultdict(int)
    features: dict[str, dict[date, int]] = defaultdict(lambda: defaultdict(int))
    for row in await connection.execute(read):
        whole[row.entry] += int(row.cost)
        features[row.feature_code or UNKNOWN][row.entry] += int(row.cost)
    return whole, dict(features)


async def read_member_costs(
    connection: AsyncConnection, scope: Scope, mandate_no: int, period: StatisticsPeriod
) -> dict[tuple[str, str], Costs]:
    """What members have spent by day, by their id and what they are called: all where the scope shows the mandate, else
    the caller alone."""
    used = (
        sa.select(rollups.c.day, rollups.c.cost)
        .where(
            rollups.c.mandate_no == accounts.c.mandate_no,
            rollups.c.member_account_no == accounts.c.no,
            rollups.c.day.between(period.first, period.last),
        )
        .correlate(accounts)
        # Keeps it a look-up of each account, whatever the statistics.
        .offset(0)
        .lateral("used")
    )
    columns = (accounts.c.user_id, directory_users.c.display_name, used.c.day)
    of_mandate = accounts.join(used, sa.true()).join(mandates, mandates.c.no == accounts.c.mandate_no)
    read = (
        sa.select(*columns, sa.func.sum(used.c.cost).label("cost"))
        .select_from(of_mandate.outerjoin(directory_users, directory_users.c.id == accounts.c.user_id))
        .where(accounts.c.mandate_no == mandate_no, accounts.c.type == "USER")
        .where(scope.shows_balance(mandates.c.id, accounts.c.user_id))
        .group_by(*columns)
    )
    members: dict[tuple[str, str], dict[date, int]] = defaultdict(dict)
    for row in await connection.execute(read):
        members[row.user_id, row.display_name or row.user_id][row.day] = int(row.cost)
    return dict(members)


async def read_money(connection: AsyncConnection, facts: MandateFacts, *, now: datetime) -> dict[str | None, Money]:
    """What can be spent in a mandate, by member where they have budgets, and of the pool (None) elsewhere; nothing
    where nobody's balance pays."""
    if facts.billing_model == "UNLIMITED":
        return {}
    kind = "USER" if facts.billing_model == "PREPAY_USER" else "MANDATE"
    of_kind = sa.and_(accounts.c.mandate_no == facts.no, accounts.c.type == kind)
    expiring: dict[int, list[Expiring]] = defaultdict(list)
    of_account = sa.and_(grants.c.mandate_no == accounts.c.mandate_no, grants.c.account_no == accounts.c.no)
    open_now = sa.and_(grants.c.open, grants.c.expires_at > now)
    read: sa.Select[Any] = sa.select(accounts.c.no, grants.c.expires_at, grants.c.remaining)
    for no, expires_at, remaining in await connection.execute(
        read.select_from(accounts.join(grants, of_account)).where(of_kind, open_now)
    ):
        expiring[no].append(Expiring(facts.calendar.day(expires_at - _TICK), remaining))
    money = sa.select(accounts.c.no, accounts.c.user_id, balance_at(now).label("balance"), accounts.c.credit_limit)
    on_credit = facts.billing_model == "CREDIT_POSTPAY"
    return {
        row.user_id: Money(row.balance, row.credit_limit if on_credit else None, tuple(sorted(expiring[row.no])))
        for row in await connection.execute(money.where(of_kind))
    }
