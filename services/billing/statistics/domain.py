"""Periods of statistics, and how answers name and label what is in them. Pure."""

from calendar import monthrange
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final, Literal, NamedTuple, TypeVar

__all__ = [
    "UNKNOWN",
    "Grain",
    "Named",
    "StatisticsPeriod",
    "UsageSum",
    "distinct_names",
    "label",
    "month_period",
    "year_period",
]

# What sums are kept by.
Grain = Literal["day", "month"]
# The key of usage without a provider, model or feature.
UNKNOWN: Final = "unknown"

K = TypeVar("K", bound=Hashable)

_MONTHS: Final = {
    "en": ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
    "de": ("Jan.", "Feb.", "März", "Apr.", "Mai", "Juni", "Juli", "Aug.", "Sept.", "Okt.", "Nov.", "Dez."),
}


@dataclass(frozen=True, slots=True)
class StatisticsPeriod:
    """Whole days, from the first to the last one, in entries of a day or a calendar month. A mandate's days are those
    of its own time zone, so the period begins and ends for each when it does there."""

    grain: Grain
    first: date
    last: date

    def entries(self, today: date) -> Iterator[date]:
        """The first day of each entry, oldest first, up to the one that has today."""
        last = min(self.last, today)
        if self.grain == "month":
            yield from (first for month in range(1, 13) if (first := self.first.replace(month=month)) <= last)
        else:
            yield from (self.first + timedelta(days=number) for number in range((last - self.first).days + 1))


def month_period(year: int, month: int) -> StatisticsPeriod:
    """The days of a calendar month."""
    return StatisticsPeriod("day", date(year, month, 1), date(year, month, monthrange(year, month)[1]))


def year_period(year: int) -> StatisticsPeriod:
    """The months of a calendar year."""
    return StatisticsPeriod("month", date(year, 1, 1), date(year, 12, 31))


def label(grain: Grain, first: date, language: str) -> str:
    """What a chart writes under an entry: the day and month, or the month and year."""
    month = _MONTHS["de" if language == "de" else "en"][first.month - 1]
    if grain == "month":
        return f"{month} {first.year}"
    return f"{first.day}. {month}" if language == "de" else f"{first.day} {month}"


@dataclass(slots=True)
class UsageSum:
    """Cost (micro-CHF), and how many charges there were less those that were taken back."""

    cost: int = 0
    count: int = 0

    def add(self, cost: int, count: int) -> None:
        """Adds another sum."""
        self.cost += cost
        self.count += count


class Named(NamedTuple):
    """The id of a mandate or member, and what it is called."""

    id: str
    name: str


def distinct_names(named: Mapping[K, Named]) -> dict[K, str]:
    """What each is called in an answer: its name, with its id behind it where others have the same one.

    A name may look as if it had an id behind it, so it is looked again until no two are equal.
    """
    shown = {key: each.name for key, each in named.items()}
    while True:
        taken = Counter(shown.values())
        equal = [key for key in named if taken[shown[key]] > 1]
        if not equal:
            return shown
        for key in equal:
            shown[key] += f" ({named[key].id})"
