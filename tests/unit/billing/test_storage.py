"""What storage costs: the months of a period and the price of a peak, to the last digit."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.billing.money import EXACT, exact, in_chf, plain, post, remainder_text
from services.billing.storage.derivation import StorageTerms, explain_storage, storage_derivation
from services.billing.storage.domain import bytes_above, gigabytes, months_of, share_price, storage_price
from services.subscriptions.lifecycle.periods import period_of_days, period_of_plan

times = st.integers(0, 30 * 366 * 24 * 3600).map(lambda seconds: datetime(2020, 1, 1, tzinfo=UTC) + _s(seconds))
prices = st.integers(0, 10**12).map(lambda micros: Decimal(micros).scaleb(-6))


def _s(seconds: int) -> timedelta:
    return timedelta(seconds=seconds)


@given(times, st.sampled_from([("month", 1), ("year", 12)]), st.integers(0, 30))
def test_each_period_of_a_plan_has_its_whole_months(
    anchor: datetime, length: tuple[Literal["month", "year"], int], number: int
) -> None:
    start = anchor
    for _ in range(number):
        start = period_of_plan(start, length[0], anchor=anchor).end
    period = period_of_plan(start, length[0], anchor=anchor)
    assert months_of(period.start, period.end) == length[1]


@given(times, st.integers(0, 800 * 24 * 3600))
def test_a_longer_period_never_has_fewer_months(start: datetime, seconds: int) -> None:
    end = start + _s(seconds)
    months = months_of(start, end)
    assert abs(months * Decimal("30.4375") - Decimal(seconds) / 86_400) < 4
    # A few borders of months that are counted as whole are a little before others of the same day.
    assert months <= months_of(start, end + timedelta(days=4))
    assert months == months.quantize(Decimal("0.000001"))


@pytest.mark.parametrize(
    ("start", "end", "months"),
    [
        ("2026-01-31T10:00", "2026-02-28T10:00", "1"),
        ("2026-02-28T10:00", "2026-03-31T10:00", "1"),
        ("2026-04-30T00:00", "2026-05-30T00:00", "1"),
        ("2024-02-29T00:00", "2025-02-28T00:00", "12"),
        ("2026-11-01T00:00", "2026-11-16T00:00", "0.5"),
        ("2026-11-01T00:00", "2026-12-16T12:00", "1.5"),
        ("2026-11-20T00:00", "2026-12-19T23:59", "0.999976"),
        ("2026-11-20T00:00", "2026-11-20T00:00", "0"),
        ("2026-11-20T00:00", "2026-11-19T00:00", "0"),
    ],
)
def test_months(start: str, end: str, months: str) -> None:
    assert months_of(*(datetime.fromisoformat(each).replace(tzinfo=UTC) for each in (start, end))) == Decimal(months)


def test_a_trial_has_the_part_of_a_month_that_it_lasts() -> None:
    period = period_of_days(datetime(2026, 11, 25, tzinfo=UTC), 7)
    assert months_of(*period) == Decimal("0.233333")


def test_only_what_is_above_the_plan_is_charged() -> None:
    assert [bytes_above(peak, 5) for peak in (0, 5_000_000, 5_000_001)] == [0, 0, 1]
    assert bytes_above(10**18, None) == 0
    assert bytes_above(7, 0) == 7


@given(st.integers(0, 2**60), prices, st.integers(0, 12 * 10**6))
def test_the_price_is_exact(count: int, unit_price: Decimal, parts: int) -> None:
    price = storage_price(count, unit_price, Decimal(parts).scaleb(-6))
    assert exact(price) == count * int(unit_price.scaleb(6)) * parts * 1000
    assert gigabytes(count).scaleb(9, EXACT) == count


@given(st.integers(0, 10**30), st.integers(1, 40))
def test_shares_add_up_and_differ_by_less_than_two_micro_francs(scaled: int, count: int) -> None:
    price = Decimal(scaled).scaleb(-24, EXACT)
    parts = share_price(price, count)
    assert len(parts) == count
    assert sum(map(exact, parts)) == scaled
    assert max(parts) - min(parts) < Decimal("0.000002")


MAY, JUNE = datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 6, 1, tzinfo=UTC)
remainders = st.integers(-5 * 10**17, 5 * 10**17)


@given(st.integers(0, 2**50), st.none() | st.integers(0, 2**30), prices, st.integers(1, 9), remainders)
def test_each_row_of_a_charge_is_explained_as_it_was_charged(
    peak: int, included_mb: int | None, unit_price: Decimal, shared_by: int, remainder: int
) -> None:
    price = storage_price(bytes_above(peak, included_mb), unit_price, Decimal(1))
    terms = StorageTerms(MAY, JUNE, "1", peak, included_mb, plain(unit_price), plain(price), shared_by)
    for part in share_price(price, shared_by):
        amount, left = post(exact(part), remainder)
        found = explain_storage(
            storage_derivation(terms, remainder_text(remainder), remainder_text(left)).decode(), amount
        )
        assert (found.fault, found.exact, found.terms) == (None, part, terms)
        assert (found.carry_before, found.carry_after) == (in_chf(remainder), in_chf(left))


# 1 GB above the 5 that are included, for half a franc.
KEPT = (
    '{"carry_before":"0","carry_after":"0","storage":{"period_start":"2026-05-01T00:00:00+00:00",'
    '"period_end":"2026-06-01T00:00:00+00:00","months":"1","peak_bytes":6000000000,"included_mb":5000,'
    '"price_per_gb_month":"0.5","exact":"0.500000000"}}'
)


def test_a_row_of_releases_before_does_not_say_how_many_paid() -> None:
    found = explain_storage(KEPT, 500_000)
    assert found.terms is not None
    assert (found.fault, found.exact, found.charged_bytes, found.terms.shared_by) == (None, Decimal("0.5"), 10**9, None)


@pytest.mark.parametrize(
    ("kept", "amount", "fault"),
    [
        ("", 1, "cannot be priced again: Input data was truncated"),
        ("{}", 1, "cannot be priced again: Object missing required field `carry_before`"),
        (KEPT.replace('"0.5"', '"x"'), 500_000, "cannot be priced again: "),
        (KEPT.replace('"0.5"', '"0.6"'), 500_000, "was priced at 0.500000000, its price is 0.6"),
        (KEPT.replace("}}", ',"shared_by":0}}'), 500_000, "cannot be priced again: Expected `int` >= 1"),
        (KEPT.replace("}}", ',"shared_by":2}}'), 500_000, "which is no part of 0.5"),
        (KEPT.replace('"carry_after":"0"', '"carry_after":"0.9"'), 500_000, "which is not rounded to its amount"),
    ],
)
def test_a_row_that_was_changed_says_so(kept: str, amount: int, fault: str) -> None:
    assert fault in (explain_storage(kept, amount).fault or "")
