"""Which day of a mandate a time falls on, also after its time zone was changed. Pure."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from rappen_contracts.types import TIME_START

__all__ = ["DEFAULT_ZONE", "HOST_ZONES", "MINUTE", "Calendar", "day_of_minute", "period_day", "zone_known"]

# The default time zone of a mandate.
DEFAULT_ZONE: Final = "Europe/Zurich"
# Names that stand for the machine's own setting: two machines would put one event on different days.
HOST_ZONES: Final = frozenset({"Factory", "localtime", "posixrules"})


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
            first = since if day <= begun else max(since, _first_moment(day, zone))
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
            until, in_force = _next_month(self.day(now), self.zone), self.zone
        return Calendar(zone, past if zone == in_force else (*past, (until, in_force)))


# In the unit of the ledger's times, microseconds.
MINUTE: Final = 60_000_000


@lru_cache(maxsize=20_000)
def day_of_minute(calendar: Calendar, minute: int) -> date:
    """The day on which the times of a minute fall, counted in minutes since the year 2000.

    Since then every zone has begun its days, and has been changed, at a full minute.
    """
    return calendar.day(TIME_START + timedelta(minutes=minute))


def _next_month(today: date, zone: str) -> datetime:
    """The first moment of the month after that of a day in a zone, in UTC."""
    year, month = divmod(today.year * 12 + today.month, 12)
    return datetime.combine(date(year, month + 1, 1), time.min, ZoneInfo(zone)).astimezone(UTC)


# The day a zone is in, by name: its first moment, the next day's first moment (both UTC), and the date.
_days: dict[str, tuple[datetime, datetime, date]] = {}
# The first and last time that a `datetime` can represent.
_BEGIN, _END = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


def period_day(at: datetime, zone: str) -> date:
    """The day of a time in a zone, [start, next start). The last day asked for is remembered for each zone, because
    events come in the order of time."""
    known = _days.get(zone)
    if known is not None and known[0] <= at < known[1]:
        return known[2]
    place = ZoneInfo(zone)
    try:
        day = at.astimezone(place).date()
    except OverflowError:
        # The local time is before year 1 or after year 9999, outside what a date can represent: the day in UTC counts.
        return at.astimezone(UTC).date()
    end = _end(day, place)
    if end <= at < _END:
        # The clock was put back over midnight, so the evening comes once more; the day that has begun goes on.
        day += timedelta(days=1)
        end = _end(day, place)
    _days[zone] = _first_moment(day, zone), end, day
    return day


def _first_moment(day: date, zone: str) -> datetime:
    """The moment at which a day begins in a zone, in UTC."""
    try:
        return datetime.combine(day, time.min, ZoneInfo(zone)).astimezone(UTC)
    except OverflowError:
        return _BEGIN


def _end(day: date, place: ZoneInfo) -> datetime:
    # There is no day after the last representable one; such a day is not cached but computed each time.
    try:
        return datetime.combine(day + timedelta(days=1), time.min, place).astimezone(UTC)
    except OverflowError:
        return _END


@lru_cache(maxsize=1024)
def zone_known(name: str) -> bool:
    """Whether the time zone data of this machine, which is not the same on every machine, has a zone."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True
