"""What of a budget goes back with parts of its payment, and what of that each grant bears."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.billing.credits.budget_shares import apportion, came_back, given_parts, taken_parts, to_take
from services.billing.credits.refunded_budgets import BudgetGrant, BudgetRefund

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
WEIGHTS = st.lists(st.integers(0, 10**12), min_size=1, max_size=8)


def part(amount: str, paid: str = "67") -> BudgetRefund:
    return BudgetRefund("re_1", "in_1", Decimal(amount), Decimal(paid), "", AT, b"")


def grants(remaining: list[int], taken: list[int]) -> list[BudgetGrant]:
    pairs = zip(remaining, taken, strict=True)
    return [BudgetGrant(no, no, "USER", left, gone) for no, (left, gone) in enumerate(pairs)]


@pytest.mark.parametrize(
    ("parts", "taken"), [([], 0), (["33.5"], 10), (["22.33", "44.67"], 20), (["67", "67"], 20), (["67.0000001"], 20)]
)
def test_parts_of_a_payment_take_the_part_that_they_are_together(parts: list[str], taken: int) -> None:
    assert to_take(20, [part(each) for each in parts]) == taken


@pytest.mark.parametrize(
    ("refund_id", "told", "expected"),
    [
        ("du_1", ["du_1"], True),
        ("du_1", ["du_1/3"], True),
        ("du_1/2", ["du_1/10"], True),
        ("du_1/10", ["du_1/2"], False),
        ("du_1/2", ["du_1"], False),
        ("du_1", ["du_10", "du_2/2"], False),
        ("du_1", [], False),
    ],
)
def test_what_comes_back_is_all_that_was_taken_by_then(refund_id: str, told: list[str], expected: bool) -> None:
    assert came_back(refund_id, told) is expected


@given(WEIGHTS, st.data())
def test_more_makes_no_part_smaller_and_none_larger_than_its_weight(weights: list[int], data: st.DataObject) -> None:
    total = sum(weights)
    less = data.draw(st.integers(0, total))
    more = data.draw(st.integers(less, total))
    before, after = apportion(less, weights), apportion(more, weights)
    assert (sum(before), sum(after)) == (less, more)
    assert all(0 <= one <= other <= weight for one, other, weight in zip(before, after, weights, strict=True))


@given(WEIGHTS, st.lists(st.integers(0, 10**12), min_size=1, max_size=6))
def test_without_spending_the_way_does_not_matter(weights: list[int], levels: list[int]) -> None:
    """From one level to the next, up and down, is what the last level takes at once."""
    total = sum(weights)
    taken = [0] * len(weights)
    for level in levels:
        wanted = min(level, total)
        now = grants([weight - gone for weight, gone in zip(weights, taken, strict=True)], taken)
        if wanted >= sum(taken):
            for grant, amount in taken_parts(now, wanted - sum(taken)):
                taken[grant.no] += amount
        else:
            for grant, amount in given_parts(now, sum(taken) - wanted):
                taken[grant.no] -= amount
        assert taken == apportion(wanted, weights)


@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 10**9)), min_size=1, max_size=8), st.data())
def test_no_grant_gives_more_than_it_has_nor_gets_more_than_it_gave(
    pairs: list[tuple[int, int]], data: st.DataObject
) -> None:
    now = grants([left for left, _ in pairs], [gone for _, gone in pairs])
    wanted = data.draw(st.integers(0, 2 * 10**9))
    taken = taken_parts(now, wanted)
    assert sum(amount for _, amount in taken) == min(wanted, sum(grant.remaining for grant in now))
    assert all(0 < amount <= grant.remaining for grant, amount in taken)
    back = data.draw(st.integers(0, sum(grant.taken for grant in now)))
    given_again = given_parts(now, back)
    assert sum(amount for _, amount in given_again) == back
    assert all(0 < amount <= grant.taken for grant, amount in given_again)
