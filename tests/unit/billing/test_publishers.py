"""When usage has been away for longer than is usual at this time of the week."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import hypothesis.strategies as st
import pytest
from hypothesis import given

from services.billing.publishers.domain import FORGOTTEN, Moment, is_silent, moments_before, usual_gap

HOUR = timedelta(hours=1)
ZURICH = "Europe/Zurich"
# A Wednesday, at three in the afternoon in Zurich.
WEDNESDAY = datetime(2026, 6, 17, 13, tzinfo=UTC)


def noticed(usage: list[datetime], now: datetime, zone: str = ZURICH) -> bool:
    """Whether somebody with such usage is silent."""
    usage = sorted(each for each in usage if each <= now)
    last = usage[-1]
    looked_at = moments_before(last, now, zone, minimum=HOUR)
    moments = [Moment(at, max((each for each in usage if each <= at), default=None)) for at in looked_at]
    usual = usual_gap(moments)
    return usual is not None and is_silent(last, now, usual, minimum=HOUR)


def office(until: datetime, *, weeks: int = 6) -> list[datetime]:
    """Usage every ten minutes from eight to six by the clock of Zurich, Monday to Friday, until a time."""
    usage, at = [], until - timedelta(weeks=weeks)
    while at <= until:
        local = at.astimezone(ZoneInfo(ZURICH))
        if local.weekday() < 5 and 8 <= local.hour < 18:
            usage.append(at)
        at += timedelta(minutes=10)
    return usage


def test_at_a_time_at_which_usage_is_usual_an_hour_without_is_noticed() -> None:
    usage = office(WEDNESDAY)
    assert not noticed(usage, WEDNESDAY + HOUR)
    assert noticed(usage, WEDNESDAY + HOUR + timedelta(minutes=21))


@pytest.mark.parametrize(
    ("day", "hour", "silent"),
    [(17, 20, False), (18, 3, False), (18, 7, False), (18, 8, False), (18, 10, True), (18, 18, True)],
)
def test_a_night_is_no_silence_and_the_next_morning_is(day: int, hour: int, silent: bool) -> None:
    # The last usage is the last of Wednesday.
    usage = office(datetime(2026, 6, 17, 16, tzinfo=UTC))
    assert noticed(usage, datetime(2026, 6, day, hour, tzinfo=ZoneInfo(ZURICH)).astimezone(UTC)) == silent


@pytest.mark.parametrize(("day", "hour", "silent"), [(20, 12, False), (21, 15, False), (22, 7, False), (22, 10, True)])
def test_a_weekend_is_no_silence_and_monday_is(day: int, hour: int, silent: bool) -> None:
    usage = office(datetime(2026, 6, 19, 16, tzinfo=UTC))
    assert noticed(usage, datetime(2026, 6, day, hour, tzinfo=ZoneInfo(ZURICH)).astimezone(UTC)) == silent


def test_a_nightly_job_that_does_not_come_is_noticed_once_it_is_missed() -> None:
    usage = [WEDNESDAY.replace(hour=1) - timedelta(days=days) for days in range(1, 29)]
    # It usually comes at one; an hour later it is missed.
    assert not noticed(usage, WEDNESDAY.replace(hour=0))
    assert not noticed(usage, WEDNESDAY.replace(hour=1, minute=59))
    assert noticed(usage, WEDNESDAY.replace(hour=2, minute=1))


def test_nobody_is_expected_who_has_used_little_or_long_ago() -> None:
    few = [WEDNESDAY - timedelta(days=days) for days in range(3)]
    assert not any(noticed(few, WEDNESDAY + timedelta(hours=hours)) for hours in range(0, 1_000, 5))
    usage = office(WEDNESDAY)
    assert noticed(usage, WEDNESDAY + FORGOTTEN)
    assert not noticed(usage, WEDNESDAY + FORGOTTEN + timedelta(microseconds=1))


def test_over_a_change_of_the_clock_the_same_time_of_day_is_meant() -> None:
    # In the week after the clocks went back.
    now = datetime(2026, 10, 27, 14, tzinfo=UTC)
    moments = moments_before(now, now, ZURICH, minimum=timedelta())
    assert {each.astimezone(ZoneInfo(ZURICH)).hour for each in moments} == {15}
    assert len({each.hour for each in moments}) == 2


@given(st.lists(st.integers(0, 60 * 24 * 40), min_size=1, max_size=200, unique=True), st.integers(0, 60 * 24 * 10))
def test_a_gap_that_was_usual_at_that_time_is_never_a_silence(minutes: list[int], later: int) -> None:
    usage = sorted(WEDNESDAY - timedelta(minutes=each) for each in minutes)
    now = usage[-1] + timedelta(minutes=later)
    gaps = [after - before for before, after in pairwise(usage)]
    if noticed(usage, now):
        # It is longer than that at each moment that was looked at, and than an hour.
        looked_at = [each for each in moments_before(usage[-1], now, ZURICH, minimum=HOUR) if each >= usage[0]]
        for at in looked_at:
            assert now - usage[-1] > at - max(each for each in usage if each <= at)
        assert len(looked_at) >= 15
        assert now - usage[-1] > HOUR
    elif gaps and now - usage[-1] <= FORGOTTEN:
        moments = moments_before(usage[-1], now, ZURICH, minimum=HOUR)
        assert all(at <= usage[-1] for at in moments)
