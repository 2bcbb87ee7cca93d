"""Windows of the week in UTC, in which other prices hold (half price at night, a rush hour)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

__all__ = ["ALL_DAYS", "DAY_MINUTES", "Week", "Window"]

DAY_MINUTES = 24 * 60
_WEEK_MINUTES = 7 * DAY_MINUTES
ALL_DAYS = (1, 2, 3, 4, 5, 6, 7)


@dataclass(frozen=True, slots=True)
class Window:
    """From `start` to before `end` (minutes of the UTC day), on ISO weekdays (Monday is 1).

    An end at or before the start lies on the next day; the weekday is the one on which the window starts. Equal ends
    are a whole day.
    """

    start: int
    end: int
    weekdays: tuple[int, ...] = ALL_DAYS

    def __post_init__(self) -> None:
        if not (0 <= self.start < DAY_MINUTES and 0 <= self.end <= DAY_MINUTES):
            raise ValueError("a window lies between 00:00 and 24:00")
        if not self.weekdays or any(day not in ALL_DAYS for day in self.weekdays):
            raise ValueError("weekdays are numbers from 1 (Monday) to 7")

    @property
    def length(self) -> int:
        """Minutes from start to end."""
        return (self.end - self.start - 1) % DAY_MINUTES + 1

    def starts(self) -> Iterable[int]:
        """The minutes of the week (Monday 00:00 UTC is 0) at which the window opens."""
        return ((day - 1) * DAY_MINUTES + self.start for day in self.weekdays)

    def contains(self, minute: int) -> bool:
        """Whether a minute of the week lies in the window, also over midnight and over the end of the week."""
        return any((minute - start) % _WEEK_MINUTES < self.length for start in self.starts())


class Week:
    """The week cut at every border of some windows, so that a moment is one of a few segments."""

    def __init__(self, windows: Iterable[Window]) -> None:
        borders = {0}
        for window in windows:
            for start in window.starts():
                borders.add(start)
                borders.add((start + window.length) % _WEEK_MINUTES)
        self._borders = sorted(borders)

    def segment(self, at: datetime) -> int:
        """The minute of the week with which the segment of this moment begins."""
        if at.utcoffset() != timedelta(0):
            at = at.astimezone(UTC)
        minute = at.weekday() * DAY_MINUTES + at.hour * 60 + at.minute
        return self._borders[bisect_right(self._borders, minute) - 1]
