"""How fast a balance is spent, when it ends at this rate, and which days were unusual. Pure; amounts are micro-CHF.

Both are robust: a single day, however expensive, changes neither the rate nor what counts as usual.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from fractions import Fraction
from statistics import median
from typing import Final, NamedTuple

__all__ = ["DAYS_READ", "HORIZON_DAYS", "Burn", "Expiring", "UnusualDay", "burn_rate", "ends_on", "unusual_days"]

# The rate is that of the last weeks, the usual is that of the same weekday in more of them.
_WEEK: Final = 7
RATE_WEEKS: Final = 4
USUAL_WEEKS: Final = 8
# Days that are looked at for what is unusual: today and those before it.
RECENT_DAYS: Final = 7
# So many days, today included, decide on all of it.
DAYS_READ: Final = USUAL_WEEKS * _WEEK + RECENT_DAYS
# How far ahead it is looked.
HORIZON_DAYS: Final = 366
# So many of the same weekday say what is usual on it.
USUAL_MIN: Final = 4
# How many deviations from the median are unusual: 3.5 times the median absolute deviation, which is made comparable
# with a standard deviation by the factor of a normal distribution.
DEVIATIONS: Final = Fraction(7, 2)
_NORMAL: Final = Fraction(14826, 10_000)
# The least deviation that counts: a quarter of what is usual, and half a franc.
_SHARE_MIN: Final = Fraction(1, 4)
_AMOUNT_MIN: Final = 500_000


class Burn(NamedTuple):
    """What is spent in a day on average, and on each weekday, Monday first."""

    per_day: int
    by_weekday: tuple[int, ...]


class Expiring(NamedTuple):
    """A part of a balance, and the last day on which it can be spent."""

    last_day: date
    amount: int


@dataclass(frozen=True, slots=True)
class UnusualDay:
    """A day on which much more was spent than is usual on this weekday, and how many deviations more."""

    day: date
    cost: int
    usual: int
    deviations: Fraction


def burn_rate(costs: Mapping[date, int], today: date) -> Burn | None:
    """The rate of the last four whole weeks; of fewer where usage began later, and of the days where it began less than
    a week ago. None where there is no whole day yet.

    A week costs the median of the weeks; its weekdays share it as their own medians do, or as what they cost where
    those are all nothing.
    """
    begun = min((day for day, cost in costs.items() if cost), default=today)
    observed = min((today - begun).days, RATE_WEEKS * _WEEK)
    if not observed:
        return None
    weeks = observed // _WEEK
    if not weeks:
        spent = sorted(costs.get(today - timedelta(days=number), 0) for number in range(1, observed + 1))
        per_day = _median(spent) or Fraction(sum(spent), observed)
        return Burn(round(per_day), (round(per_day),) * _WEEK)
    days = [today - timedelta(days=number) for number in range(1, weeks * _WEEK + 1)]
    totals = [sum(costs.get(day, 0) for day in days[at : at + _WEEK]) for at in range(0, len(days), _WEEK)]
    of_week = _median(totals) or Fraction(sum(totals), weeks)
    by_weekday = [[costs.get(day, 0) for day in days if day.weekday() == weekday] for weekday in range(_WEEK)]
    shares = [_median(spent) for spent in by_weekday]
    if sum(shares) <= 0:
        shares = [Fraction(max(0, sum(spent))) for spent in by_weekday]
    whole = sum(shares)
    if whole <= 0 or of_week <= 0:
        return Burn(0, (0,) * _WEEK)
    return Burn(round(of_week / _WEEK), tuple(round(of_week * share / whole) for share in shares))


def ends_on(
    available: int, burn: Burn, *, today: date, spent_today: int = 0, expiring: Sequence[Expiring] = ()
) -> date | None:
    """The day on which nothing is left of an amount, if each day costs what its weekday usually does; None where that
    is not within a year. What expires first is spent first, and what is left of it then is lost. Of today that is
    still to come which was not spent yet."""
    left = sorted(expiring)
    lasting = available - sum(part.amount for part in left)
    for number in range(HORIZON_DAYS):
        day = today + timedelta(days=number)
        due = burn.by_weekday[day.weekday()]
        if not number:
            due = max(0, due - spent_today)
        kept = []
        for part in left:
            spent = min(part.amount, due)
            due -= spent
            if part.last_day > day and part.amount > spent:
                kept.append(Expiring(part.last_day, part.amount - spent))
        left = kept
        lasting -= due
        if lasting + sum(part.amount for part in left) <= 0:
            return day
    return None


def unusual_days(costs: Mapping[date, int], today: date) -> list[UnusualDay]:
    """Those of the last days that cost unusually much for their weekday, newest first. Where usage has been there for
    less than four of these weekdays, nothing is usual and nothing unusual."""
    begun = min((day for day, cost in costs.items() if cost), default=today)
    found = []
    for number in range(RECENT_DAYS):
        day = today - timedelta(days=number)
        before = [day - timedelta(weeks=week) for week in range(1, USUAL_WEEKS + 1)]
        history = [costs.get(each, 0) for each in before if each >= begun]
        if len(history) < USUAL_MIN:
            continue
        usual = _median(history)
        deviation = max(
            _NORMAL * _median([abs(cost - usual) for cost in history]),
            _SHARE_MIN * usual,
            _SHARE_MIN * _active_day(costs, day),
            Fraction(_AMOUNT_MIN),
        )
        deviations = (costs.get(day, 0) - usual) / deviation
        if deviations >= DEVIATIONS:
            found.append(UnusualDay(day, costs[day], round(usual), deviations))
    return found


def _active_day(costs: Mapping[date, int], before: date) -> Fraction:
    """The median of the days before that cost anything, so that usage on a weekday on which there was none is judged by
    what a day of usage costs."""
    since = before - timedelta(weeks=USUAL_WEEKS)
    active = [cost for day, cost in costs.items() if since <= day < before and cost > 0]
    return _median(active) if active else Fraction(0)


def _median(numbers: Sequence[int | Fraction]) -> Fraction:
    return Fraction(median([Fraction(number) for number in numbers]))
