"""How long a balance lasts, and which days are unusual: known cases, and what holds for all."""

from __future__ import annotations

from datetime import date, timedelta

import hypothesis.strategies as st
import pytest
from hypothesis import given

from services.billing.statistics.runway import Burn, Expiring, burn_rate, ends_on, unusual_days
from services.billing.statistics.runway_texts import outlook_text, unusual_text

# A Friday.
TODAY = date(2026, 11, 20)
CHF = 1_000_000


def back(days: int) -> date:
    return TODAY - timedelta(days=days)


def every_day(cost: int, days: int = 63) -> dict[date, int]:
    """The same cost on each of the days before today."""
    return {back(number): cost for number in range(1, days + 1)}


def weekdays(cost: int, days: int = 63) -> dict[date, int]:
    """The same cost on the days of the working week alone."""
    return {day: cost for day in every_day(cost, days) if day.weekday() < 5}


def steady(cost: int) -> Burn:
    return Burn(cost, (cost,) * 7)


def test_a_steady_rate_is_that_rate_and_today_does_not_change_it() -> None:
    assert burn_rate(every_day(3 * CHF) | {TODAY: 400 * CHF}, TODAY) == steady(3 * CHF)


def test_a_single_day_changes_nothing_however_expensive() -> None:
    for number in range(1, 29):
        costs = every_day(3 * CHF) | {back(number): 4_000 * CHF}
        assert burn_rate(costs, TODAY) == steady(3 * CHF), number


def test_weekends_are_part_of_the_rate_and_of_when_it_ends() -> None:
    burn = burn_rate(weekdays(7 * CHF), TODAY)
    assert burn == Burn(5 * CHF, (7 * CHF,) * 5 + (0, 0))
    # Friday and Monday cost seven each; nothing happens in between.
    assert ends_on(7 * CHF, burn, today=TODAY) == TODAY
    assert ends_on(7 * CHF + 1, burn, today=TODAY) == TODAY + timedelta(days=3)
    # What today has cost already is not spent once more.
    assert ends_on(7 * CHF, burn, today=TODAY, spent_today=5 * CHF) == TODAY + timedelta(days=3)


def test_usage_of_less_than_a_week_is_judged_by_its_days_and_none_by_nothing() -> None:
    assert burn_rate({}, TODAY) is None
    assert burn_rate({TODAY: CHF}, TODAY) is None
    assert burn_rate({back(1): 2 * CHF}, TODAY) == steady(2 * CHF)
    assert burn_rate({back(3): 2 * CHF, back(2): 90 * CHF, back(1): 4 * CHF}, TODAY) == steady(4 * CHF)
    # Used on one day of six, as seldom as that.
    assert burn_rate({back(6): 6 * CHF}, TODAY) == steady(CHF)


def test_usage_that_has_ended_weeks_ago_is_no_rate() -> None:
    assert burn_rate({back(40): CHF}, TODAY) == steady(0)


def test_one_day_in_four_weeks_is_a_rate_on_its_weekday() -> None:
    assert burn_rate({back(63): 1, back(7): 28 * CHF}, TODAY) == Burn(CHF, (0, 0, 0, 0, 7 * CHF, 0, 0))


def test_what_expires_is_spent_first_and_lost_then() -> None:
    burn = steady(CHF)
    grant = (Expiring(TODAY + timedelta(days=1), 8 * CHF),)
    # Two of the eight are spent, the rest of them is lost, and two paid ones follow.
    assert ends_on(10 * CHF, burn, today=TODAY, expiring=grant) == TODAY + timedelta(days=3)
    assert ends_on(10 * CHF, burn, today=TODAY) == TODAY + timedelta(days=9)
    assert ends_on(8 * CHF, burn, today=TODAY, expiring=grant) == TODAY + timedelta(days=1)


def test_a_day_is_unusual_by_the_same_weekday() -> None:
    costs = weekdays(10 * CHF)
    # A Sunday on which as much was spent as on a working day is unusual, such a Thursday is not.
    sunday, thursday = back(5), back(1)
    assert (sunday.weekday(), thursday.weekday()) == (6, 3)
    (found,) = unusual_days(costs | {sunday: 10 * CHF}, TODAY)
    assert (found.day, found.cost, found.usual) == (sunday, 10 * CHF, 0)
    (found,) = unusual_days(costs | {thursday: 40 * CHF}, TODAY)
    assert (found.day, found.usual, found.deviations) == (thursday, 10 * CHF, 12)
    assert [each.day for each in unusual_days(costs | {TODAY: 99 * CHF, thursday: 99 * CHF}, TODAY)] == [
        TODAY,
        thursday,
    ]


def test_nothing_is_unusual_where_nothing_is_usual_yet_or_it_is_about_rappen() -> None:
    assert unusual_days(every_day(CHF, 20) | {back(1): 900 * CHF}, TODAY) == []
    assert unusual_days(every_day(CHF // 100) | {back(1): CHF}, TODAY) == []
    assert unusual_days({}, TODAY) == []


costs_of_days = st.dictionaries(st.integers(0, 62).map(back), st.integers(0, 10**9), max_size=63)
burns = st.lists(st.integers(0, 10**8), min_size=7, max_size=7).map(lambda days: Burn(sum(days) // 7, tuple(days)))
parts = st.lists(
    st.builds(Expiring, st.integers(0, 400).map(lambda n: TODAY + timedelta(days=n)), st.integers(1, 10**9))
)


def walked(available: int, burn: Burn, spent_today: int, expiring: list[Expiring]) -> date | None:
    """Day by day, micro-franc by micro-franc in thought: what there is, in the order in which it is spent."""
    money = [*sorted(expiring), Expiring(date.max, available - sum(part.amount for part in expiring))]
    for number in range(366):
        day = TODAY + timedelta(days=number)
        due = max(0, burn.by_weekday[day.weekday()] - (spent_today if day == TODAY else 0))
        after = []
        for part in money:
            paid = min(part.amount, due) if part.last_day < date.max else due
            due -= paid
            after.append(Expiring(part.last_day, part.amount - paid))
        money = [part for part in after if part.last_day > day]
        if sum(part.amount for part in money) <= 0:
            return day
    return None


@given(st.integers(1, 10**10), burns, st.integers(0, 10**8), parts)
def test_the_end_is_that_of_walking_day_by_day(
    paid: int, burn: Burn, spent_today: int, expiring: list[Expiring]
) -> None:
    available = paid + sum(part.amount for part in expiring)
    end = ends_on(available, burn, today=TODAY, spent_today=spent_today, expiring=expiring)
    assert end == walked(available, burn, spent_today, expiring)
    # More money never ends earlier, and a day that is dearer never later.
    more = ends_on(available + CHF, burn, today=TODAY, spent_today=spent_today, expiring=expiring)
    assert end is not None or more is None
    assert end is None or more is None or more >= end
    dearer = Burn(burn.per_day, tuple(cost + 1 for cost in burn.by_weekday))
    sooner = ends_on(available, dearer, today=TODAY, spent_today=spent_today, expiring=expiring)
    assert end is None or (sooner is not None and sooner <= end)


@given(costs_of_days)
def test_a_rate_is_never_negative_and_is_as_much_as_weeks_cost(costs: dict[date, int]) -> None:
    burn = burn_rate(costs, TODAY)
    if burn is None:
        assert not any(cost for day, cost in costs.items() if day < TODAY)
        return
    assert burn.per_day >= 0
    assert all(cost >= 0 for cost in burn.by_weekday)
    assert abs(sum(burn.by_weekday) - 7 * burn.per_day) <= 14
    assert burn.per_day <= max(costs.values())


@given(costs_of_days, st.integers(2, 1_000))
def test_what_is_unusual_is_dearer_than_usual_and_stays_so_when_everything_is_dearer(
    costs: dict[date, int], times: int
) -> None:
    found = unusual_days(costs, TODAY)
    for each in found:
        assert back(6) <= each.day <= TODAY
        assert each.cost == costs[each.day] > each.usual
        assert each.deviations >= 3.5
    dearer = {each.day for each in unusual_days({day: cost * times for day, cost in costs.items()}, TODAY)}
    assert {each.day for each in found} <= dearer


@given(st.integers(1, 10**9))
def test_what_is_always_the_same_is_never_unusual(cost: int) -> None:
    assert unusual_days(every_day(cost) | {TODAY: cost}, TODAY) == []


@pytest.mark.parametrize(
    ("days", "english", "german"),
    [
        (0, "today", "heute"),
        (1, "tomorrow", "morgen"),
        (6, "on Thursday", "am Donnerstag"),
        (7, "on Friday, 27 November 2026", "am Freitag, 27. November 2026"),
        (105, "on Friday, 5 March 2027", "am Freitag, 5. März 2027"),
    ],
)
def test_the_end_is_said_as_people_say_it(days: int, english: str, german: str) -> None:
    def said(language: str) -> str:
        return outlook_text(
            steady(CHF),
            available=CHF,
            ends=TODAY + timedelta(days=days),
            today=TODAY,
            on_credit=False,
            language=language,
        )

    assert said("en") == f"At this rate the balance ends {english}."
    assert said("de") == f"Bei diesem Verbrauch endet das Guthaben {german}."


@pytest.mark.parametrize(
    ("burn", "available", "on_credit", "english", "german"),
    [
        (
            None,
            5,
            False,
            "There is too little usage yet to tell a rate.",
            "Für eine Aussage ist noch zu wenig verbraucht worden.",
        ),
        (
            steady(0),
            5,
            False,
            "Nothing has been spent in the last four weeks.",
            "In den letzten vier Wochen wurde nichts verbraucht.",
        ),
        (
            steady(3_204_999),
            None,
            False,
            "Spent in a day: CHF 3.20.",
            "Verbrauch am Tag: CHF 3.20.",
        ),
        (
            steady(9),
            None,
            False,
            "Spent in a day: less than CHF 0.01.",
            "Verbrauch am Tag: weniger als CHF 0.01.",
        ),
        (steady(CHF), 0, False, "The balance is used up.", "Das Guthaben ist aufgebraucht."),
        (steady(CHF), -1, True, "The credit limit is reached.", "Die Kreditlimite ist erreicht."),
        (
            steady(CHF),
            10**12,
            False,
            "At this rate the balance lasts for more than a year.",
            "Bei diesem Verbrauch reicht das Guthaben länger als ein Jahr.",
        ),
        (
            steady(CHF),
            10**12,
            True,
            "At this rate the credit limit lasts for more than a year.",
            "Bei diesem Verbrauch reicht die Kreditlimite länger als ein Jahr.",
        ),
    ],
)
def test_where_there_is_no_end_it_is_said_why(
    burn: Burn | None, available: int | None, on_credit: bool, english: str, german: str
) -> None:
    for language, text in (("en", english), ("de", german), ("fr", english)):
        said = outlook_text(burn, available=available, ends=None, today=TODAY, on_credit=on_credit, language=language)
        assert said == text


def test_the_reason_of_an_unusual_day_is_in_words() -> None:
    (found,) = unusual_days(every_day(10 * CHF) | {back(1): 40 * CHF + 4_999}, TODAY)
    assert unusual_text(found, "en") == (
        "CHF 40.00 were spent on Thursday, 19 November 2026; on a Thursday CHF 10.00 is usual."
    )
    assert unusual_text(found, "de") == (
        "Am Donnerstag, 19. November 2026 wurden CHF 40.00 verbraucht; an einem Donnerstag sind CHF 10.00 üblich."
    )
