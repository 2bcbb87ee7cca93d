"""Late usage: which of it a mandate refuses, and on which day the rest counts.

By default usage counts on the day of its own time, however late it comes, and nothing is looked at here. A mandate may
have it counted in the period that is open when it is booked, or refused from an age on. A period is a calendar month of
the mandate. Whatever the policy, a transaction keeps the time of its event.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

from rappen_contracts.types import since_epoch
from services.billing.charging.usage_events import Identity, Usage, refused_usage
from services.billing.ledger.calendars import Calendar
from services.billing.ledger.domain import Posting
from services.billing.mandates.domain import Terms
from services.chassis.quarantine import Refused

__all__ = ["LATE_EVENT", "count_in_open_period", "late_usage", "refused_late"]

# The code under which usage is refused that is older than its mandate takes.
LATE_EVENT = "LATE_EVENT"

_MICROSECOND = timedelta(microseconds=1)
_DAY = timedelta(days=1) // _MICROSECOND


class _OpenPeriod(NamedTuple):
    """The period that is open now: its first moment (microseconds since 2000), and the day it is."""

    calendar: Calendar
    begins: int
    today: date


def late_usage(usages: Sequence[Usage], terms: Mapping[int, Terms], now: datetime) -> list[Usage]:
    """The usage that is refused as too old, unless it was recorded already: that is a repeat, however old."""
    taken_from = {no: _taken_from(term, now) for no, term in terms.items() if term.late_events == "refuse"}
    if not taken_from:
        return []
    return [usage for usage in usages if usage.time < taken_from.get(usage.keys.mandate_no, usage.time)]


def _taken_from(terms: Terms, now: datetime) -> int:
    """The time (microseconds since 2000) before which usage is refused: so many times 24 hours ago. What happened today
    is taken in any case, so that no days at all is today, and not nothing."""
    midnight = since_epoch(terms.calendar.begin(terms.calendar.day(now)))
    return min(midnight, since_epoch(now) - terms.late_event_days * _DAY)


def refused_late(usage: Usage, terms: Mapping[int, Terms]) -> Refused:
    """The record of usage that is too old, for the dead letters."""
    days = terms[usage.keys.mandate_no].late_event_days
    return refused_usage(usage, LATE_EVENT, f"the mandate takes no usage that is more than {days} days old")


def count_in_open_period(
    postings: Iterable[Posting], terms: Mapping[int, Terms], arrived: Mapping[Identity, datetime], now: datetime
) -> None:
    """Has late usage count today, in mandates that want it so: usage whose period was over when it arrived.

    `arrived` says when, of usage that waited for a price; other usage arrives now.
    """
    open_periods = {no: _open_period(term.calendar, now) for no, term in terms.items() if term.late_events == "next"}
    if not open_periods:
        return
    for posting in postings:
        period = open_periods.get(posting.mandate_no)
        if period is None or posting.occurred_at >= period.begins:
            continue
        arrived_at = arrived.get(posting.identity)
        if arrived_at is None or posting.occurred_at < _open_period(period.calendar, arrived_at).begins:
            posting.period_day = period.today


def _open_period(calendar: Calendar, now: datetime) -> _OpenPeriod:
    today = calendar.day(now)
    return _OpenPeriod(calendar, _month_begins(calendar, today.replace(day=1)), today)


@lru_cache(maxsize=20_000)
def _month_begins(calendar: Calendar, first: date) -> int:
    return since_epoch(calendar.begin(first))
