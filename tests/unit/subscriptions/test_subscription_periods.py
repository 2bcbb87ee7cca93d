"""Periods: months and years that keep their day, with no gap and no overlap."""

from calendar import monthrange
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.subscriptions.lifecycle.periods import period_of_days, period_of_plan
from services.subscriptions.plans.domain import BillingPeriod

EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
TIMES = st.timedeltas(timedelta(0), timedelta(days=300 * 365)).map(lambda since: EPOCH + since)


@pytest.mark.parametrize(
    ("anchor", "length", "ends"),
    [
        ("2026-01-31T10:00:00", "month", ["2026-02-28", "2026-03-31", "2026-04-30", "2026-05-31"]),
        ("2027-12-30T10:00:00", "month", ["2028-01-30", "2028-02-29", "2028-03-30"]),
        ("2026-12-15T23:59:59", "month", ["2027-01-15", "2027-02-15"]),
        ("2024-02-29T10:00:00", "year", ["2025-02-28", "2026-02-28", "2027-02-28", "2028-02-29"]),
    ],
)
def test_a_period_ends_on_its_day_or_on_the_last_of_a_shorter_month(
    anchor: str, length: BillingPeriod, ends: list[str]
) -> None:
    begun = datetime.fromisoformat(anchor).replace(tzinfo=UTC)
    start = begun
    for end in ends:
        period = period_of_plan(start, length, anchor=begun)
        assert period.start == start
        assert period.end.date().isoformat() == end
        assert period.end.time() == begun.time()
        start = period.end


@given(anchor=TIMES, length=st.sampled_from(["month", "year"]), count=st.integers(1, 30))
def test_periods_follow_each_other_and_never_drift(anchor: datetime, length: BillingPeriod, count: int) -> None:
    start = anchor
    for number in range(1, count + 1):
        period = period_of_plan(start, length, anchor=anchor)
        assert period.start == start < period.end
        months = anchor.year * 12 + anchor.month - 1 + number * (1 if length == "month" else 12)
        assert (period.end.year * 12 + period.end.month - 1) == months
        assert period.end.day == min(anchor.day, monthrange(period.end.year, period.end.month)[1])
        assert period.end.time() == anchor.time()
        start = period.end


def test_the_day_is_that_of_utc_whatever_the_offset_of_the_start() -> None:
    # 1 February in Zurich is still 31 January in UTC.
    zurich = datetime(2026, 2, 1, 0, 30, tzinfo=timezone(timedelta(hours=1)))
    period = period_of_plan(zurich, "month", anchor=zurich)
    assert period.end == datetime(2026, 2, 28, 23, 30, tzinfo=UTC)


@given(start=TIMES, days=st.integers(1, 3650))
def test_a_trial_is_so_many_times_24_hours(start: datetime, days: int) -> None:
    assert period_of_days(start, days).end - start == timedelta(days=days)
