"""The one rounding of a charge, against a naive model of fractions."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Context, Decimal, Inexact, Rounded, localcontext
from fractions import Fraction
from itertools import cycle, islice

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.billing.money import (
    EXACT,
    MICRO,
    Markup,
    converted,
    exact,
    from_micro,
    in_chf,
    post,
    remainder_text,
    to_micro,
    with_markup,
)

HALF_A_MICRO = MICRO / 2

# Exact prices as they come out of pricing: list prices of 24 decimals times rate, factor and markup.
exact_prices = st.builds(
    lambda digits, places: Decimal(digits).scaleb(-places),
    st.integers(min_value=-(10**40), max_value=10**40),
    st.integers(min_value=0, max_value=60),
)
remainders = st.builds(
    lambda part: EXACT.multiply(HALF_A_MICRO, Decimal(part).scaleb(-30)),
    st.integers(min_value=-(10**30), max_value=10**30),
)


def posted(price: Decimal, remainder: Decimal) -> tuple[int, Decimal]:
    """What is posted of a price, and the remainder that is left, in CHF."""
    amount, left = post(exact(price), exact(remainder))
    return amount, in_chf(left)


def naive_post(price: Decimal, remainder: Decimal) -> tuple[int, Fraction]:
    """The same rounding in fractions: Python rounds a fraction half-even."""
    total = (Fraction(price) + Fraction(remainder)) * 10**6
    amount = round(total)
    return amount, (total - amount) / 10**6


def summed(numbers: Iterable[Decimal]) -> Decimal:
    total = Decimal(0)
    for number in numbers:
        total = EXACT.add(total, number)
    return total


@given(exact_prices, remainders)
@example(Decimal("0.0000005"), Decimal(0))
@example(Decimal("0.0000015"), Decimal(0))
@example(Decimal("-0.0000005"), Decimal(0))
@example(Decimal("0.0000004"), Decimal("0.0000001"))
@example(Decimal(0), Decimal("0.0000005"))
def test_posting_equals_the_rule_in_fractions(price: Decimal, remainder: Decimal) -> None:
    amount, left = posted(price, remainder)
    assert (amount, Fraction(left)) == naive_post(price, remainder)
    # In decimals alone, as for what has too many places to be a whole number.
    assert post(price, remainder)[0] == amount


@given(exact_prices | remainders)
@example(Decimal("1E-24"))
@example(Decimal("-1.5E-24"))
def test_an_exact_amount_is_a_whole_number_or_a_decimal_and_always_the_same(amount: Decimal) -> None:
    scaled = exact(amount)
    assert in_chf(scaled) == amount
    assert isinstance(scaled, int) == ((Fraction(amount) * 10**24).denominator == 1)
    assert Decimal(remainder_text(scaled)) == amount
    assert "E" not in remainder_text(scaled)


@given(exact_prices, remainders)
def test_nothing_is_lost_and_at_most_half_a_micro_is_carried(price: Decimal, remainder: Decimal) -> None:
    amount, left = posted(price, remainder)
    assert abs(left) <= HALF_A_MICRO
    assert EXACT.add(from_micro(amount), left) == EXACT.add(price, remainder)


@given(st.lists(exact_prices, max_size=60))
def test_all_posted_amounts_and_the_last_remainder_are_the_exact_total(prices: list[Decimal]) -> None:
    remainder, total = Decimal(0), 0
    for price in prices:
        amount, remainder = posted(price, remainder)
        total += amount
        assert abs(remainder) <= HALF_A_MICRO
    assert EXACT.add(from_micro(total), remainder) == summed(prices)


def test_a_million_micro_debits_sum_to_the_rated_total_to_the_last_digit() -> None:
    rated = [
        with_markup(converted(Decimal(cost), Decimal("0.891273")), Markup.of(Decimal(50)))
        for cost in (
            "0.00000004",
            "0.00000000013",
            "0.0000003375",
            "0.000000150000000000000004",
            "0.0000005",
            "0",
            "0.0113",
        )
    ]
    remainder, charged = Decimal(0), 0
    for price in islice(cycle(rated), 1_000_000):
        amount, remainder = posted(price, remainder)
        charged += amount
    whole, rest = divmod(1_000_000, len(rated))
    total = EXACT.add(EXACT.multiply(summed(rated), Decimal(whole)), summed(rated[:rest]))
    assert EXACT.add(from_micro(charged), remainder) == total
    assert abs(remainder) <= HALF_A_MICRO


@pytest.mark.parametrize(
    ("price", "amount", "remainder"),
    [
        ("0.0000005", 0, "0.0000005"),
        ("0.0000015", 2, "-0.0000005"),
        ("0.0000025", 2, "0.0000005"),
        ("-0.0000005", 0, "-0.0000005"),
        ("-0.0000015", -2, "0.0000005"),
        ("0.00000050000000000000000000000001", 1, "-0.00000049999999999999999999999999"),
        ("12.34", 12_340_000, "0"),
        ("0", 0, "0"),
    ],
)
def test_halves_go_to_the_even_micro(price: str, amount: int, remainder: str) -> None:
    assert posted(Decimal(price), Decimal(0)) == (amount, Decimal(remainder))


@given(st.integers(min_value=-(10**20), max_value=10**20))
def test_micros_and_francs_are_the_same_amount(micros: int) -> None:
    francs = from_micro(micros)
    assert to_micro(francs) == micros
    assert francs.as_tuple().exponent == -6
    assert Fraction(francs) == Fraction(micros, 10**6)


@pytest.mark.parametrize(
    ("micros", "text"), [(0, "0.000000"), (1, "0.000001"), (-5, "-0.000005"), (12_340_000, "12.340000")]
)
def test_francs_are_written_with_six_decimals(micros: int, text: str) -> None:
    assert str(from_micro(micros)) == text


@pytest.mark.parametrize("amount", ["0.0000001", "1.0000005", "NaN", "Infinity"])
def test_what_is_no_whole_number_of_micros_is_an_error(amount: str) -> None:
    with pytest.raises(ValueError, match=r"decimals|not an amount"):
        to_micro(Decimal(amount))


@given(
    exact_prices, st.decimals(min_value=0, max_value=1000, places=6), st.decimals(min_value=0, max_value=100, places=9)
)
def test_markup_and_rate_are_exact(cost: Decimal, percent: Decimal, rate: Decimal) -> None:
    priced = with_markup(converted(cost, rate), Markup.of(percent))
    assert Fraction(priced) == Fraction(cost) * Fraction(rate) * (1 + Fraction(percent) / 100)


def test_the_callers_own_decimal_context_changes_nothing() -> None:
    with localcontext(Context(prec=3, rounding="ROUND_UP")):
        assert posted(Decimal("123.4567895"), Decimal("0.0000001")) == (123_456_790, Decimal("-0.0000004"))
        assert with_markup(Decimal("1.23456789"), Markup.of(Decimal(50))) == Decimal("1.851851835")


def test_what_would_need_rounding_is_an_error() -> None:
    with pytest.raises((Inexact, Rounded)):
        EXACT.add(Decimal("1E+300"), Decimal("1E-300"))
