"""What was used in a period, by provider, model, feature and mandate, and over time."""

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Any, Literal

from services.billing.ledger.calendars import Calendar
from services.billing.money import from_micro
from services.billing.reports.scope import Scope
from services.billing.statistics.domain import StatisticsPeriod, label, month_period, year_period
from services.billing.statistics.queries import EntrySum, UsageSums, read_calendar, read_usage
from services.chassis.clock import Clock
from services.chassis.database import Database

__all__ = ["PeriodName", "show_own_statistics", "show_statistics"]

PeriodName = Literal["day", "month", "year"]


async def show_own_statistics(
    database: Database, scope: Scope, name: PeriodName, period: StatisticsPeriod
) -> dict[str, Any]:
    """The totals of a period of what the scope shows; `name` is the one asked for."""
    async with database.reading() as connection:
        sums = await read_usage(connection, scope, period)
    features: dict[str, int] = {}
    for (_, feature), cost in sums.by_feature.items():
        features[feature] = features.get(feature, 0) + cost
    return {"period": name, **_totals(sums), "costByFeature": _costs(features)}


async def show_statistics(
    database: Database,
    scope: Scope,
    *,
    grain: Literal["day", "month"],
    year: int | None,
    month: int | None,
    platform: Calendar,
    language: str,
    clock: Clock,
) -> dict[str, Any]:
    """The days of a month or the months of a year, those of now where none are named, of what the scope shows."""
    async with database.reading() as connection:
        calendar = await read_calendar(connection, scope, platform)
        today = calendar.day(clock())
        year = today.year if year is None else year
        period = year_period(year) if grain == "month" else month_period(year, today.month if month is None else month)
        sums = await read_usage(connection, scope, period)
    features: dict[str, int] = {}
    by_mandate: dict[str, int] = {}
    for (mandate_no, feature), cost in sums.by_feature.items():
        name = sums.names[mandate_no]
        by_mandate[name] = by_mandate.get(name, 0) + cost
        features[f"{name} / {feature}"] = features.get(f"{name} / {feature}", 0) + cost
    nothing = EntrySum()
    series = [_entry(period, first, sums.entries.get(first, nothing), language) for first in period.entries(today)]
    return {
        **_totals(sums),
        "costByFeature": _costs(features),
        "costByMandate": _costs(by_mandate),
        "timeSeries": series,
    }


def _totals(sums: UsageSums) -> dict[str, Any]:
    return {
        "totalCost": from_micro(sums.cost),
        "transactionCount": sums.count,
        "costByProvider": _costs(sums.by_provider),
        "costByModel": _costs(sums.by_model),
    }


def _entry(period: StatisticsPeriod, first: date, entry: EntrySum, language: str) -> dict[str, Any]:
    when = {"date": first.isoformat()} if period.grain == "day" else {"month": first.isoformat()[:7]}
    cost = from_micro(entry.cost)
    return {
        "label": label(period.grain, first, language),
        **when,
        "cost": cost,
        "totalCost": cost,
        "count": entry.count,
        "byProvider": _costs(entry.by_provider),
    }


def _costs(micros: Mapping[str, int]) -> dict[str, Decimal]:
    """In CHF, by name."""
    return {name: from_micro(micros[name]) for name in sorted(micros)}
