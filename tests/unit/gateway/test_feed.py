"""The live feed without its topics: ids of events, who sees what, what a record tells."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rappen_contracts.billing.v1 import BalanceChanged
from rappen_contracts.subscription.v1 import Plan, SubscriptionChanged
from rappen_contracts.types import Money, NonNegativeBalance, NonNegativeMoney
from services.chassis.caller import Caller
from services.gateway.feed.domain import PLACES, Positions, Update, mandate_of_key, updates_of


def balance(account: str = "7", user: str | None = None, *, rows: int | None = 3) -> BalanceChanged:
    return BalanceChanged(
        mandate_id="m",
        account_id=account,
        account_type="MANDATE" if user is None else "USER",
        user_id=user,
        balance=Money(amount=Decimal("12.5"), currency="CHF"),
        held=NonNegativeBalance(amount=Decimal(0), currency="CHF"),
        version=9,
        rows=rows,
    )


@given(st.lists(st.integers(0, 10**18 - 1), min_size=len(PLACES), max_size=len(PLACES)))
def test_positions_are_read_from_the_id_that_they_make(offsets: list[int]) -> None:
    positions = Positions(dict(zip(PLACES, offsets, strict=True)))
    assert Positions.of_id(positions.id) == positions


@pytest.mark.parametrize("count", [0, 1, len(PLACES) - 1, len(PLACES) + 1])
def test_an_id_has_a_position_for_each_partition(count: int) -> None:
    assert Positions.of_id(".".join(["0"] * count)) is None


@pytest.mark.parametrize("position", ["", "a", "-1", "+1", " 1", "1.", "٣", "9" * 19, "1\n"])
def test_another_text_is_no_id(position: str) -> None:
    assert Positions.of_id(".".join(["0"] * (len(PLACES) - 1) + [position])) is None


def test_what_was_read_is_behind_no_more() -> None:
    start = Positions(dict.fromkeys(PLACES, 0))
    ends = start.after(PLACES[2], 4)
    assert start.behind(ends) == [PLACES[2]]
    assert start.after(PLACES[2], 3).behind(ends) == [PLACES[2]]
    assert start.after(PLACES[2], 4).behind(ends) == []


@pytest.mark.parametrize(
    ("caller", "pool", "own", "others"),
    [
        (Caller(user_id="root", system_admin=True), True, True, True),
        (Caller(user_id="chief", mandates={"m": True}), True, True, True),
        (Caller(user_id="mia", mandates={"m": False}), True, True, False),
        (Caller(user_id="mia", mandates={"other": True}), False, False, False),
        # Whoever administers an instance alone sees no balances.
        (Caller(user_id="mia", instances=frozenset("i"), instance_mandates=frozenset("m")), False, False, False),
    ],
)
def test_everybody_sees_what_is_in_their_scope(caller: Caller, pool: bool, own: bool, others: bool) -> None:
    seen = [Update("balance", "m", user, b"{}").visible_to(caller) for user in (None, "mia", "sam")]
    assert seen == [pool, own or caller.user_id == "chief", others]


def test_a_balance_tells_of_transactions_where_some_came() -> None:
    first = updates_of(balance(), known_transactions={})
    assert [update.name for update in first] == ["balance", "transaction"]
    assert json.loads(first[0].data) == {
        "mandateId": "m",
        "accountId": "7",
        "accountType": "MANDATE",
        "userId": None,
        "balance": {"amount": "12.500000", "currency": "CHF"},
        "heldAmount": {"amount": "0.000000", "currency": "CHF"},
        "version": 9,
    }
    assert json.loads(first[1].data) == {
        "mandateId": "m",
        "accountId": "7",
        "accountType": "MANDATE",
        "userId": None,
        "transactionCount": 3,
    }
    assert [update.name for update in updates_of(balance(), known_transactions={"7": 3})] == ["balance"]
    assert [update.name for update in updates_of(balance(rows=None), known_transactions={})] == ["balance"]


def test_a_subscription_is_told_to_its_mandate() -> None:
    changed = SubscriptionChanged(
        mandate_id="m",
        subscription_id=UUID(int=5),
        version=2,
        to_state="ACTIVE",
        operative=True,
        plan=Plan(key="TEAM", budget=NonNegativeMoney(amount=Decimal(1), currency="CHF")),
        period_start=datetime(2026, 5, 1, tzinfo=UTC),
        cause="evt",
    )
    (update,) = updates_of(changed, known_transactions={})
    assert (update.name, update.mandate_id, update.user_id) == ("subscription", "m", None)
    assert json.loads(update.data) == {
        "mandateId": "m",
        "subscriptionId": str(UUID(int=5)),
        "status": "ACTIVE",
        "planKey": "TEAM",
        "operative": True,
        "currentPeriodStart": "2026-05-01T00:00:00Z",
        "currentPeriodEnd": None,
        "version": 2,
    }


def test_a_key_names_its_mandate() -> None:
    assert [mandate_of_key(key) for key in (b"m/7", b"m", b"", None, b"\xff/1")] == ["m", "m", "", "", "\ufffd"]
