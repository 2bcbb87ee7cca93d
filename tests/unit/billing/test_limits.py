"""Limits inside a mandate: what they refuse, in which order, and what a question is about."""

from dataclasses import replace
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.billing.checks.domain import Eligibility, Funds, decide
from services.billing.checks.limits import Limit, LimitUse, Spending, month_of

AMOUNTS = st.integers(0, 10**15)
FINE = Eligibility(member=True, account_enabled=True, provider_allowed=True, subscription_operative=True)
FUNDS = Funds(model="PREPAY_MANDATE", balance=100, held=0, credit_limit=None, block_on_zero_balance=True)


def use(amount: int, used: int) -> LimitUse:
    return LimitUse(Limit("member", "user-1", "day", amount), used)


@pytest.mark.parametrize(
    ("amount", "used", "required", "refused"),
    [
        (10, 0, 10, False),
        (10, 0, 11, True),
        (10, 4, 6, False),
        (10, 4, 7, True),
        (10, 9, 0, False),
        # Nothing is left, so not even nothing is given.
        (10, 10, 0, True),
        (10, 12, 0, True),
        (0, 0, 0, True),
        # What was taken back can leave less than nothing used.
        (10, -5, 15, False),
        (0, -1, 1, False),
    ],
)
def test_what_is_left_of_a_limit_is_what_may_be_spent(amount: int, used: int, required: int, refused: bool) -> None:
    assert use(amount, used).exceeded_by(required) is refused


@given(amount=AMOUNTS, used=AMOUNTS, asked=st.lists(AMOUNTS, max_size=20))
def test_what_is_given_one_after_the_other_never_exceeds_the_limit(amount: int, used: int, asked: list[int]) -> None:
    limit = use(amount, used)
    for required in asked:
        before = limit.used
        if not limit.exceeded_by(required):
            limit.used += required
            assert limit.used <= amount
        else:
            assert before >= amount or before + required > amount
    assert limit.used <= max(amount, used)


def test_the_limit_comes_after_the_subscription_and_before_money() -> None:
    limits, poor = [use(10, 10)], replace(FUNDS, balance=0)
    assert decide(FINE, poor, 1).reason == "INSUFFICIENT_BALANCE"
    decision = decide(FINE, poor, 1, limits=limits)
    assert (decision.reason, decision.limit, decision.shortfall) == ("SUB_LIMIT_EXCEEDED", limits[0].limit, 1)
    for field, reason in (
        ("subscription_operative", "NO_ACTIVE_SUBSCRIPTION"),
        ("provider_allowed", "PROVIDER_NOT_ALLOWED"),
        ("account_enabled", "ACCOUNT_DISABLED"),
        ("member", "NOT_A_MEMBER"),
    ):
        found = decide(replace(FINE, **{field: False}), poor, 1, limits=limits)
        assert (found.reason, found.limit) == (reason, None)


@pytest.mark.parametrize("model", ["PREPAY_MANDATE", "PREPAY_USER", "CREDIT_POSTPAY", "UNLIMITED"])
def test_a_limit_holds_in_every_billing_model_and_where_the_balance_does_not_block(model: str) -> None:
    funds = Funds(model=model, balance=100, held=0, credit_limit=None, block_on_zero_balance=False)  # type: ignore[arg-type]
    assert decide(FINE, funds, 5, limits=[use(10, 5)]).reason is None
    assert decide(FINE, funds, 6, limits=[use(10, 5)]).reason == "SUB_LIMIT_EXCEEDED"


@pytest.mark.parametrize("model", ["PREPAY_MANDATE", "PREPAY_USER", "CREDIT_POSTPAY", "UNLIMITED"])
def test_what_is_free_is_refused_neither_by_a_limit_nor_for_money(model: str) -> None:
    funds = Funds(model=model, balance=-9, held=0, credit_limit=5, block_on_zero_balance=True)  # type: ignore[arg-type]
    assert decide(FINE, funds, 0, limits=[use(10, 20)], free=True).reason is None
    assert decide(FINE, funds, 0, limits=[use(10, 20)]).reason == "SUB_LIMIT_EXCEEDED"
    assert decide(replace(FINE, member=False), funds, 0, free=True).reason == "NOT_A_MEMBER"


def test_the_first_limit_that_refuses_is_named() -> None:
    limits = [use(10, 0), use(3, 0), use(2, 0)]
    assert decide(FINE, FUNDS, 5, limits=limits).limit == limits[1].limit


def test_what_was_not_said_is_not_limited() -> None:
    spending = Spending(7, "user-1", None, None, None, date(2026, 2, 28))
    assert [*spending.subjects()] == [(7, "member", "user-1")]
    named = replace(spending, feature_instance_id="f", provider="p", model="p")
    assert [*named.subjects()] == [
        (7, "member", "user-1"),
        (7, "feature", "f"),
        (7, "provider", "p"),
        (7, "model", "p"),
    ]


@given(st.dates(min_value=date(1999, 12, 31), max_value=date(2200, 1, 2)))
def test_a_month_is_all_days_with_its_number(day: date) -> None:
    first, last = month_of(day)
    assert first <= day <= last
    assert (first.day, (last + timedelta(days=1)).day) == (1, 1)
    assert (first.year, first.month) == (last.year, last.month) == (day.year, day.month)
