"""Billing periods [start, end) in UTC: months and years that keep their day of the month, and trials in days."""

from calendar import monthrange
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from services.subscriptions.plans.domain import BillingPeriod

__all__ = ["Period", "period_of_days", "period_of_plan"]

_MONTHS: dict[BillingPeriod, int] = {"month": 1, "year": 12}


class Period(NamedTuple):
    """A stretch of time; its end is the next one's start."""

    start: datetime
    end: datetime


def period_of_plan(start: datetime, length: BillingPeriod, *, anchor: datetime) -> Period:
    """The period that begins at `start`.

    It ends on the anchor's day of the month, or on the month's last day where there is no such day, so what began on
    31 January ends on 28 February and then on 31 March.
    """
    start = start.astimezone(UTC)
    months = start.year * 12 + start.month - 1 + _MONTHS[length]
    year, month = months // 12, months % 12 + 1
    day = min(anchor.astimezone(UTC).day, monthrange(year, month)[1])
    return Period(start, start.replace(year=year, month=month, day=day))


def period_of_days(start: datetime, days: int) -> Period:
    """The period of a trial; a day is 24 hours."""
    start = start.astimezone(UTC)
    return Period(start, start + timedelta(days=days))
