"""Windows of the week in which other prices hold (half price at night, a rush hour)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from rappen_contracts.types import TIME_START
from services.billing.ledger.calendars import HOST_ZONES, zone_known

__all__ = ["ALL_DAYS", "DAY_MINUTES", "Clock", "Window"]

DAY_MINUTES = 24 * 60
_WEEK_MINUTES = 7 * DAY_MINUTES
ALL_DAYS = (1, 2, 3, 4, 5, 6, 7)
_UTC = "UTC"
# Minutes whose segments are remembered.
_MINUTES_MAX = 2 * DAY_MINUTES
# Zones that count leap seconds, half a minute beside everybody's clock; few machines have them.
_WITH_LEAP_SECONDS = "right/"


@dataclass(frozen=True, slots=True)
class Window:
    """From `start` to before `end` (minutes of the day in the local time of `zone`), on ISO weekdays (Monday is 1).

    An end at or before the start lies on the next day; the weekday is the one on which the window starts. Equal ends
    are a whole day. Where the clock is set back, an hour is in the window twice; where it is set forward, never.
    """

    start: int
    end: int
    weekdays: tuple[int, ...] = ALL_DAYS
    zone: str = _UTC

    def __post_init__(self) -> None:
        if not (0 <= self.start < DAY_MINUTES and 0 <= self.end <= DAY_MINUTES):
            raise ValueError("a window lies between 00:00 and 24:00")
        if not self.weekdays or any(day not in ALL_DAYS for day in self.weekdays):
            raise ValueError("weekdays are numbers from 1 (Monday) to 7")
        if self.zone in HOST_ZONES or self.zone.startswith(_WITH_LEAP_SECONDS) or not zone_known(self.zone):
            raise ValueError("zone is the name of a time zone, like Europe/Zurich")

    @property
    def hours(self) -> str:
        """Start and end as `HH:MM-HH:MM`."""
        return "-".join(f"{minute // 60:02d}:{minute % 60:02d}" for minute in (self.start, self.end))

    @property
    def length(self) -> int:
        """Minutes from start to end."""
        return (self.end - self.start - 1) % DAY_MINUTES + 1

    def starts(self) -> Iterable[int]:
        """The minutes of the week (Monday 00:00 is 0) at which the window opens."""
        return ((day - 1) * DAY_MINUTES + self.start for day in self.weekdays)

    def contains(self, minute: int) -> bool:
        """Whether a minute of the week lies in the window, also over midnight and over the end of the week."""
        return any((minute - start) % _WEEK_MINUTES < self.length for start in self.starts())


class Clock:
    """The week of each zone that the windows are in, cut at their borders, so that every moment is in one of a few
    segments."""

    def __init__(self, windows: Iterable[Window]) -> None:
        by_zone: dict[str, list[Window]] = {}
        for window in windows:
            by_zone.setdefault(window.zone, []).append(window)
        self._weeks = [_Week(zone, those) for zone, those in by_zone.items()]
        self._places = {zone: place for place, zone in enumerate(by_zone)}
        self._by_minute: dict[int, tuple[int, ...]] = {}

    def segments(self, at: datetime) -> tuple[int, ...]:
        """The segment of this moment in each zone."""
        weeks = self._weeks
        return (weeks[0].segment(at),) if len(weeks) == 1 else tuple(week.segment(at) for week in weeks)

    def segments_of_minute(self, minute: int) -> tuple[int, ...]:
        """The segment in each zone of a minute, by its number since the year 2000. From that year on every zone is
        whole minutes apart from UTC, so no segment begins within one."""
        found = self._by_minute.get(minute)
        if found is None:
            if len(self._by_minute) >= _MINUTES_MAX:
                self._by_minute.clear()
            found = self._by_minute[minute] = self.segments(TIME_START + timedelta(minutes=minute))
        return found

    def is_open(self, window: Window, segments: tuple[int, ...]) -> bool:
        """Whether a window, one of those that were given, is open in these segments."""
        return window.contains(segments[self._places[window.zone]])


class _Week:
    """The week of one zone, in its local time."""

    def __init__(self, zone: str, windows: Iterable[Window]) -> None:
        borders = {0}
        for window in windows:
            for start in window.starts():
                borders.add(start)
                borders.add((start + window.length) % _WEEK_MINUTES)
        self._borders = sorted(borders)
        self._zone = UTC if zone == _UTC else ZoneInfo(zone)

    def segment(self, at: datetime) -> int:
        """The minute of the week with which the segment of this moment begins."""
        if at.tzinfo is not self._zone:
            at = at.astimezone(self._zone)
        minute = at.weekday() * DAY_MINUTES + at.hour * 60 + at.minute
        return self._borders[bisect_right(self._borders, minute) - 1]
