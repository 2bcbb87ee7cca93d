"""Days in every zone, equal shares, and ids of transactions: small pure rules that money depends on."""

from datetime import UTC, date, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.billing.ledger.calendars import period_day
from services.billing.ledger.domain import transaction_id, transaction_place
from services.billing.mandates.domain import share_equally

ZONES = ("Europe/Zurich", "America/Sao_Paulo", "Asia/Kolkata", "Pacific/Apia", "Africa/Cairo", "Asia/Beirut", "UTC")
TIMES = st.datetimes(
    min_value=datetime(1990, 1, 1),  # noqa: DTZ001 - the strategy adds the zone.
    max_value=datetime(2050, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)


@given(at=TIMES, zone=st.sampled_from(ZONES))
def test_the_day_of_a_time_is_the_one_on_the_wall(at: datetime, zone: str) -> None:
    assert period_day(at, zone) == at.astimezone(ZoneInfo(zone)).date()


@pytest.mark.parametrize(
    ("at", "day"),
    [
        ("2026-03-28T22:59:59.999999+00:00", "2026-03-28"),
        ("2026-03-28T23:00:00+00:00", "2026-03-29"),
        ("2026-03-29T21:59:59.999999+00:00", "2026-03-29"),
        ("2026-03-29T22:00:00+00:00", "2026-03-30"),
        ("2026-10-25T22:59:59.999999+00:00", "2026-10-25"),
        ("2026-10-25T23:00:00+00:00", "2026-10-26"),
    ],
)
def test_days_of_23_and_25_hours_have_exact_borders(at: str, day: str) -> None:
    assert period_day(datetime.fromisoformat(at), "Europe/Zurich").isoformat() == day


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("year", [1, 9999])
def test_the_first_and_the_last_day_there_are_have_a_date_in_every_zone(zone: str, year: int) -> None:
    begin = datetime(year, 1, 1, tzinfo=UTC) if year == 1 else datetime(year, 12, 30, tzinfo=UTC)
    for minutes in range(0, 2 * 24 * 60, 15):
        at = begin + timedelta(minutes=minutes)
        try:
            day = at.astimezone(ZoneInfo(zone)).date()
        except OverflowError:
            day = at.date()
        assert period_day(at, zone) == day
    assert period_day(datetime.min.replace(tzinfo=UTC), zone) == date.min
    assert period_day(datetime.max.replace(tzinfo=UTC), zone) == date.max
    assert period_day(datetime(2026, 5, 1, 12, tzinfo=UTC), zone) >= date(2026, 5, 1)


@given(total=st.integers(-(10**15), 10**15), count=st.integers(1, 200))
def test_shares_add_up_and_differ_by_at_most_one(total: int, count: int) -> None:
    shares = share_equally(total, count)
    assert sum(shares) == total
    assert max(shares) - min(shares) <= 1
    assert sorted(shares, key=abs, reverse=True) == shares


def test_nobody_to_share_with_is_an_error() -> None:
    with pytest.raises(ValueError, match="nobody"):
        share_equally(1, 0)


@given(account=st.integers(1, 2**60 - 1), seq=st.integers(1, 2**62 - 1))
def test_a_transactions_id_says_where_it_stands(account: int, seq: int) -> None:
    made = transaction_id(account, seq)
    assert (made.version, made.variant) == (8, UUID(int=0x8000000000000000_8000000000000000).variant)
    assert transaction_place(made) == (account, seq)


def test_a_foreign_id_stands_nowhere() -> None:
    assert transaction_place(UUID("01890a5d-ac96-774b-bcce-b302099a8057")) is None
