"""Which usage a mandate refuses as late, and on which day the rest counts, compared with what the words say."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.billing.charging.late_events import LATE_EVENT, count_in_open_period, late_usage, refused_late
from services.billing.charging.usage_events import Usage
from services.billing.ledger.calendars import Calendar
from services.billing.ledger.domain import Posting
from services.billing.ledger.keys import ChargeKeys
from services.billing.mandates.domain import LateEvents, Terms
from services.billing.money import Markup
from tests.support.charging import received
from tests.support.events import usage_record

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
TICK = timedelta(microseconds=1)
ZURICH = Calendar("Europe/Zurich")
CALENDARS = [
    ZURICH,
    Calendar("America/St_Johns"),
    Calendar("Pacific/Auckland"),
    ZURICH.changed("Pacific/Kiritimati", datetime(2026, 9, 10, tzinfo=UTC)),
    ZURICH.changed("Pacific/Pago_Pago", datetime(2026, 10, 10, tzinfo=UTC)),
]
times = st.integers(0, 118 * 24 * 3600).map(lambda seconds: NOW - timedelta(seconds=seconds))


def _terms(policy: LateEvents, days: int = 0, calendar: Calendar = ZURICH) -> dict[int, Terms]:
    markup = Markup.of(Decimal(0))
    return {1: Terms(1, "PREPAY_MANDATE", markup, calendar, 0, False, False, policy, days)}


def _usage(at: datetime) -> Usage:
    (usage,) = received([usage_record("m", at=at)], now=NOW)
    assert isinstance(usage, Usage)
    usage.keys = ChargeKeys(1, 2, 3, 4, 5)
    return usage


def _refused(at: datetime, now: datetime, days: int, calendar: Calendar = ZURICH) -> bool:
    return late_usage([_usage(at)], _terms("refuse", days, calendar), now) != []


def _day(
    at: datetime, now: datetime, *, policy: LateEvents = "next", calendar: Calendar = ZURICH, came: datetime | None
) -> date:
    """The day on which usage counts that came at a time and is booked now."""
    posting = Posting.own(
        mandate_no=1,
        event_id=uuid4(),
        member_account_no=2,
        posted_account_no=3,
        transaction_type="DEBIT",
        amount=1,
        contra_account="REVENUE",
        reference_type="WORKFLOW",
        occurred_at=at,
        description=None,
    )
    arrived = {} if came is None else {posting.identity: came}
    count_in_open_period([posting], _terms(policy, calendar=calendar), arrived, now)
    return posting.period_day or calendar.day(at)


@given(times, times, times, st.sampled_from(CALENDARS))
def test_what_came_after_its_month_was_over_counts_today(
    at: datetime, came: datetime, now: datetime, calendar: Calendar
) -> None:
    at, came, now = sorted([at, came, now])
    own, over = calendar.day(at), calendar.day(came)
    late = (own.year, own.month) < (over.year, over.month)
    assert _day(at, now, calendar=calendar, came=came) == (calendar.day(now) if late else own)
    assert _day(at, came, calendar=calendar, came=None) == (over if late else own)
    for policy in ("own", "refuse"):
        assert _day(at, now, policy=policy, calendar=calendar, came=came) == own


def test_the_border_of_the_month_is_exact() -> None:
    border = datetime(2026, 10, 31, 23, tzinfo=UTC)
    assert _day(border - TICK, NOW, came=None) == date(2026, 11, 27)
    assert _day(border, NOW, came=None) == date(2026, 11, 1)
    assert _day(border - TICK, border - TICK, came=None) == date(2026, 10, 31)
    assert _day(border - TICK, border, came=None) == date(2026, 11, 1)


@given(times, times, st.integers(0, 100), st.sampled_from(CALENDARS))
def test_what_is_older_than_so_many_days_and_not_of_today_is_refused(
    at: datetime, now: datetime, days: int, calendar: Calendar
) -> None:
    older = now - at > timedelta(days=days)
    assert _refused(at, now, days, calendar) == (older and calendar.day(at) < calendar.day(now))
    for policy in ("own", "next"):
        assert late_usage([_usage(at)], _terms(policy, days, calendar), now) == []


def test_the_border_of_the_age_is_exact() -> None:
    assert not _refused(NOW - timedelta(days=3), NOW, 3)
    assert _refused(NOW - timedelta(days=3) - TICK, NOW, 3)
    midnight = datetime(2026, 11, 26, 23, tzinfo=UTC)
    assert not _refused(midnight, NOW, 0)
    assert _refused(midnight - TICK, NOW, 0)


@pytest.mark.parametrize("days", [10_000, 2**31 - 1])
def test_the_largest_number_of_days_refuses_nothing(days: int) -> None:
    assert not _refused(datetime(2000, 1, 1, tzinfo=UTC), NOW, days)


def test_a_refusal_says_how_old_usage_may_be() -> None:
    refused = refused_late(_usage(NOW), _terms("refuse", 3))
    assert (refused.code, refused.detail) == (LATE_EVENT, "the mandate takes no usage that is more than 3 days old")
    assert refused.publishers_fault
