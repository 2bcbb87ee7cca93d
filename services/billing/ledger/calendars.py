"""Which day of a mandate a time falls on, also after its time zone was changed (S5, L13). Pure."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from typing import NamedTuple
from zoneinfo import ZoneInfo

from services.billing.pricing.rating import first_moment, period_day

__all__ = ["Calendar"]


class Calendar(NamedTuple):
    """A mandate's time zone, and those that held before, oldest first, each until the moment at which a month began.

    A new zone counts from the next month on, so no month is of two zones, and a late event falls on the day that its
    time had in the zone of its month.
    """

    zone: str
    past: tuple[tuple[datetime, str], ...] = ()

    def day(self, at: datetime) -> date:
        """The day on which a time falls.

        Where the new zone is behind the old one, the first hours of its first month are still the day before there;
        they belong to the month that has begun.
        """
        begun = date.min
        for until, zone in self.past:
            if at < until:
                return max(begun, period_day(at, zone))
            begun = period_day(until, zone)
        return max(begun, period_day(at, self.zone))

    def begin(self, day: date) -> datetime:
        """The first moment, in UTC, of a day or, where the calendar leaves it out, of the next one after it.

        Times from this one on until the next day's fall on the day, as `day` says.
        """
        begun, since = date.min, datetime.min.replace(tzinfo=UTC)
        for until, zone in (*self.past, (datetime.max.replace(tzinfo=UTC), self.zone)):
            first = since if day <= begun else max(since, first_moment(day, zone))
            if first < until:
                break
            begun, since = period_day(until, zone), until
        return first

    def changed(self, zone: str, now: datetime) -> Calendar:
        """The calendar with another zone from the next month on; one that never came into force is forgotten."""
        past = self.past
        if past and past[-1][0] > now:
            until, in_force = past[-1]
            past = past[:-1]
        else:
            until, in_force = _next_month(now, self.zone), self.zone
        return Calendar(zone, past if zone == in_force else (*past, (until, in_force)))


def _next_month(now: datetime, zone: str) -> datetime:
    """The first moment of the next month in a zone, in UTC."""
    today = period_day(now, zone)
    year, month = divmod(today.year * 12 + today.month, 12)
    return datetime.combine(date(year, month + 1, 1), time.min, ZoneInfo(zone)).astimezone(UTC)
