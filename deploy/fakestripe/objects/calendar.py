"""Billing periods: borders that keep the day of their anchor, also when a month is too short for it."""

from __future__ import annotations

import calendar
from datetime import UTC, datetime

from deploy.fakestripe.store import Json

_SECONDS = {"day": 24 * 3600, "week": 7 * 24 * 3600}
_MONTHS = {"month": 1, "year": 12}


def border(anchor: int, recurring: Json, number: int) -> int:
    """Return the moment (seconds since 1970) so many periods after the anchor; of one begun on the 31st, month ends."""
    count: int = recurring["interval_count"] * number
    if recurring["interval"] in _SECONDS:
        return anchor + _SECONDS[recurring["interval"]] * count
    start = datetime.fromtimestamp(anchor, UTC)
    months = start.year * 12 + start.month - 1 + _MONTHS[recurring["interval"]] * count
    year, month = months // 12, months % 12 + 1
    day = min(start.day, calendar.monthrange(year, month)[1])
    return int(start.replace(year=year, month=month, day=day).timestamp())


def next_border(anchor: int, recurring: Json, after: int) -> int:
    """Return the first border later than a moment; an anchor in the future is the first one itself."""
    number = 0
    while border(anchor, recurring, number) <= after:
        number += 1
    return border(anchor, recurring, number)


def period_ending(anchor: int, recurring: Json, end: int) -> tuple[int, int]:
    """Return the whole period that ends at a border."""
    number = 0
    while border(anchor, recurring, number) < end:
        number += 1
    return border(anchor, recurring, number - 1), end


def part_of(amount: int, seconds: int, whole: int) -> int:
    """Return the share of an amount for a part of its period, rounded half up (away from zero) as Stripe does."""
    share, sign = abs(amount) * seconds, 1 if amount >= 0 else -1
    return sign * ((2 * share + whole) // (2 * whole))
