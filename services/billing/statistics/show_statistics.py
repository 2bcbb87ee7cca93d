"""What was used in a period, by provider, model, feature, mandate and member, and over time."""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.ledger.calendars import Calendar
from services.billing.money import from_micro
from services.billing.reports.scope import Scope
from services.billing.statistics.domain import StatisticsPeriod, UsageSum, label, month_period, year_period
from services.billing.statistics.queries import UsageSums, read_calendar, read_members, read_usage
from services.chassis.clock import Clock
from services.chassis.database import Database

__all__ = ["Asked", "PeriodName", "show_own_statistics", "show_statistics"]

PeriodName = Literal["day", "month", "year"]


@dataclass(frozen=True, slots=True)
class Asked:
    """The days of a month or the months of a year, those of now where none are named; whether members are shown."""

    grain: Literal["day", "month"]
    year: int | None = None
    month: int | None = None
    by_member: bool = False

    def period(self, today: date) -> StatisticsPeriod:
        """The period, as seen on a day."""
        year = today.year if self.year is None else self.year
        if self.grain == "month":
            return year_period(year)
        return month_period(year, today.month if self.month is None else self.month)


async def show_own_statistics(
    database: Database, scope: Scope, name: PeriodName, period: StatisticsPeriod
) -> dict[str, Any]:
    """The totals of a period of what the scope shows; `name` is the one asked for."""
    async with database.reading() as connection:
        sums = await read_usage(connection, scope, period)
    features = _added((feature, each) for (_, feature), each in sums.by_feature.items())
    return {"period": name, **_totals(sums), **_told("Feature", features)}


async def show_statistics(
    database: Database, scope: Scope, asked: Asked, *, platform: Calendar, language: str, clock: Clock
) -> dict[str, Any]:
    """What the scope shows, with an entry for each day or month up to now."""
    # Members are read by a statement of their own, which has to see what the others saw.
    async with _snapshot(database) if asked.by_member else database.reading() as connection:
        calendar = await read_calendar(connection, scope, platform)
        today = calendar.day(clock())
        period = asked.period(today)
        sums = await read_usage(connection, scope, period)
        members = await read_members(connection, scope, period) if asked.by_member else None
    names, of_mandates = sums.names, sums.by_feature.items()
    return {
        **_totals(sums),
        **_told("Feature", _added((f"{names[no]} / {feature}", each) for (no, feature), each in of_mandates)),
        **_told("Mandate", _added((names[no], each) for (no, _), each in of_mandates)),
        **({} if members is None else _told("Member", members)),
        "timeSeries": [_entry(period, first, sums.entries.get(first, {}), language) for first in period.entries(today)],
    }


@asynccontextmanager
async def _snapshot(database: Database) -> AsyncIterator[AsyncConnection]:
    """A connection on which all statements see one moment."""
    async with database.transaction() as connection:
        await connection.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
        yield connection


def _totals(sums: UsageSums) -> dict[str, Any]:
    providers = _added(each for entry in sums.entries.values() for each in entry.items())
    return {
        "totalCost": from_micro(sum(each.cost for each in providers.values())),
        "transactionCount": sum(each.count for each in providers.values()),
        **_told("Provider", providers),
        **_told("Model", sums.by_model),
    }


def _entry(period: StatisticsPeriod, first: date, providers: Mapping[str, UsageSum], language: str) -> dict[str, Any]:
    when = {"date": first.isoformat()} if period.grain == "day" else {"month": first.isoformat()[:7]}
    cost = from_micro(sum(each.cost for each in providers.values()))
    return {
        "label": label(period.grain, first, language),
        **when,
        "cost": cost,
        "totalCost": cost,
        "count": sum(each.count for each in providers.values()),
        "byProvider": {name: from_micro(each.cost) for name, each in sorted(providers.items())},
    }


def _added(given: Iterable[tuple[str, UsageSum]]) -> dict[str, UsageSum]:
    """Sums of one name together."""
    sums: dict[str, UsageSum] = {}
    for name, each in given:
        sums.setdefault(name, UsageSum()).add(each.cost, each.count)
    return sums


def _told(what: str, sums: Mapping[str, UsageSum]) -> dict[str, Any]:
    """Costs in CHF and counts, by name."""
    ordered = sorted(sums.items())
    return {
        f"costBy{what}": {name: from_micro(each.cost) for name, each in ordered},
        f"countBy{what}": {name: each.count for name, each in ordered},
    }
