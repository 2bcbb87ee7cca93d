"""A new time zone counts from the next month on, and every time keeps the day that it had."""

from datetime import UTC, date, datetime, timedelta
from random import Random
from zoneinfo import ZoneInfo, available_timezones

import pytest

from rappen_contracts.types import since_epoch
from services.billing.ledger.calendars import HOST_ZONES, MINUTE, Calendar, day_of_minute, period_day

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
# December begins in Zurich.
DECEMBER = datetime(2026, 11, 30, 23, tzinfo=UTC)
ZURICH = Calendar("Europe/Zurich")


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo", "Pacific/Kiritimati", "Pacific/Pago_Pago"])
def test_a_new_zone_counts_from_the_next_month_on(zone: str) -> None:
    changed = ZURICH.changed(zone, NOW)
    assert changed.zone == zone
    at = datetime(2026, 11, 1, tzinfo=UTC)
    while at < DECEMBER:
        assert changed.day(at) == ZURICH.day(at)
        at += timedelta(minutes=37)
    at = DECEMBER
    while at < datetime(2027, 1, 3, tzinfo=UTC):
        assert changed.day(at) == max(date(2026, 12, 1), period_day(at, zone))
        at += timedelta(minutes=37)


def test_all_times_of_a_minute_are_on_the_day_of_the_minute() -> None:
    random, tick = Random(7), timedelta(microseconds=1)
    for zone in sorted(available_timezones() - HOST_ZONES):
        calendar = random.choice([Calendar(zone), ZURICH.changed(zone, NOW), Calendar(zone).changed("Asia/Tokyo", NOW)])
        for _ in range(20):
            year, month, day = random.randrange(2000, 2100), random.randrange(1, 13), random.randrange(1, 28)
            midnight = datetime(year, month, day, tzinfo=ZoneInfo(zone)).astimezone(UTC)
            anywhere = datetime(2000, 1, 2, tzinfo=UTC) + timedelta(seconds=random.randrange(2**32))
            for at in (midnight - tick, midnight, midnight + tick, anywhere, DECEMBER - tick, DECEMBER):
                assert day_of_minute(calendar, since_epoch(at) // MINUTE) == calendar.day(at), (calendar, at)


def test_the_borders_are_exact() -> None:
    changed = ZURICH.changed("America/New_York", NOW)
    assert changed.day(DECEMBER - timedelta(microseconds=1)) == date(2026, 11, 30)
    assert changed.day(DECEMBER) == date(2026, 12, 1)
    assert changed.day(datetime(2026, 12, 2, 4, 59, tzinfo=UTC)) == date(2026, 12, 1)
    assert changed.day(datetime(2026, 12, 2, 5, tzinfo=UTC)) == date(2026, 12, 2)


def test_a_zone_that_never_came_into_force_is_forgotten() -> None:
    changed = ZURICH.changed("Asia/Tokyo", NOW).changed("America/New_York", NOW + timedelta(days=1))
    assert changed == ZURICH.changed("America/New_York", NOW)
    assert changed.changed("Europe/Zurich", NOW + timedelta(days=2)) == ZURICH


def test_every_month_keeps_its_zone_after_many_changes() -> None:
    changed = ZURICH.changed("Asia/Tokyo", NOW).changed("UTC", datetime(2027, 2, 10, tzinfo=UTC))
    assert [zone for _, zone in changed.past] == ["Europe/Zurich", "Asia/Tokyo"]
    late_evening = {datetime(2026, 11, 10, 22, 30, tzinfo=UTC): 10, datetime(2027, 1, 10, 22, 30, tzinfo=UTC): 11}
    late_evening[datetime(2027, 3, 10, 22, 30, tzinfo=UTC)] = 10
    for at, day in late_evening.items():
        assert changed.day(at).day == day


def test_december_is_followed_by_january() -> None:
    changed = ZURICH.changed("UTC", datetime(2026, 12, 31, 23, 30, tzinfo=UTC))
    # In Zurich it is January already, so the next month is February.
    assert changed.past == ((datetime(2027, 1, 31, 23, tzinfo=UTC), "Europe/Zurich"),)


def test_a_zone_that_is_changed_again_while_its_first_day_is_not_there_yet_keeps_its_month() -> None:
    behind = ZURICH.changed("Pacific/Pago_Pago", NOW)
    # In Pago Pago it is November still.
    again = behind.changed("UTC", DECEMBER + timedelta(hours=5))
    assert again.past == ((DECEMBER, "Europe/Zurich"), (datetime(2027, 1, 1, 11, tzinfo=UTC), "Pacific/Pago_Pago"))


@pytest.mark.parametrize(
    "calendar",
    [
        ZURICH,
        ZURICH.changed("America/New_York", NOW),
        ZURICH.changed("Pacific/Kiritimati", NOW).changed("Pacific/Pago_Pago", NOW + timedelta(days=40)),
        # Clocks that change at midnight, and a day that was left out.
        Calendar("America/Santiago", ((datetime(2026, 9, 1, 4, tzinfo=UTC), "Africa/Cairo"),)),
        Calendar("Pacific/Apia", ((datetime(2011, 12, 30, 9, tzinfo=UTC), "America/Asuncion"),)),
    ],
)
def test_a_day_begins_where_its_first_time_falls(calendar: Calendar) -> None:
    times = [datetime(2011, 12, 20, tzinfo=UTC), datetime(2026, 8, 25, tzinfo=UTC), NOW - timedelta(days=40)]
    for at in (start + number * timedelta(minutes=37) for start in times for number in range(6000)):
        day = calendar.day(at)
        assert calendar.begin(day) <= at < calendar.begin(day + timedelta(days=1))
        assert calendar.day(calendar.begin(day)) == day
        assert calendar.day(calendar.begin(day) - timedelta(microseconds=1)) < day


@pytest.mark.parametrize(
    ("zone", "midnight"),
    [
        # At one minute past midnight it was one minute past eleven again.
        ("America/St_Johns", datetime(2010, 11, 7, 2, 30, tzinfo=UTC)),
        # At two in the morning it was eleven in the evening again.
        ("Antarctica/Casey", datetime(2010, 3, 4, 13, tzinfo=UTC)),
    ],
)
def test_a_day_that_has_begun_goes_on_where_the_clock_is_put_back_over_midnight(zone: str, midnight: datetime) -> None:
    calendar, day = Calendar(zone), midnight.astimezone(ZoneInfo(zone)).date()
    assert calendar.begin(day) == midnight
    times = [midnight + number * timedelta(minutes=7) for number in range(-300, 300)]
    # In any order: a day that was asked for is remembered.
    for each in (times, times[::-1], Random(3).sample(times, len(times))):
        for at in each:
            assert calendar.begin(calendar.day(at)) <= at < calendar.begin(calendar.day(at) + timedelta(days=1)), at
            assert (calendar.day(at) < day) == (at < midnight), at
