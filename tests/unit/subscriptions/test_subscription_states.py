"""The state table, against the rule's own words, over all pairs; and when a subscription may be used."""

from datetime import UTC, datetime, timedelta
from itertools import product
from typing import get_args

import pytest

from rappen_contracts.subscription.v1 import SubscriptionState
from services.subscriptions.lifecycle.states import LEGAL, OCCUPYING, IllegalTransition, is_operative, transition_name

STATES: tuple[SubscriptionState, ...] = get_args(SubscriptionState)
MOVING = ("SCHEDULED", "TRIALING", "ACTIVE", "PAST_DUE", "CANCELED")
NOW = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)

# "Self" changes of ACTIVE, PAST_DUE and CANCELED are renewals, further failed payments, and an end that moves.
EXPECTED = {("PENDING", to) for to in STATES if to != "PENDING"} | set(
    product(MOVING, ("ACTIVE", "PAST_DUE", "CANCELED", "EXPIRED"))
)


@pytest.mark.parametrize("pair", list(product(STATES, STATES)), ids=lambda pair: f"{pair[0]}-{pair[1]}")
def test_a_change_is_named_if_the_rule_allows_it_and_refused_otherwise(
    pair: tuple[SubscriptionState, SubscriptionState],
) -> None:
    if pair in EXPECTED:
        assert transition_name(*pair)
    else:
        with pytest.raises(IllegalTransition):
            transition_name(*pair)


def test_the_table_has_every_legal_change_and_no_other() -> None:
    assert set(LEGAL) == EXPECTED
    assert len(LEGAL) == 6 + 5 * 4


@pytest.mark.parametrize("state", STATES)
def test_a_record_begins_at_a_checkout_or_at_once_and_in_no_other_state(state: SubscriptionState) -> None:
    if state in ("PENDING", "TRIALING", "ACTIVE"):
        assert transition_name(None, state)
    else:
        with pytest.raises(IllegalTransition):
            transition_name(None, state)


@pytest.mark.parametrize(
    ("state", "period_end", "grace_ends_at", "operative"),
    [
        ("PENDING", None, None, False),
        ("SCHEDULED", NOW + HOUR, None, False),
        ("TRIALING", NOW + HOUR, None, True),
        ("ACTIVE", NOW + HOUR, None, True),
        ("CANCELED", NOW + HOUR, None, True),
        ("CANCELED", NOW, None, False),
        ("CANCELED", None, None, False),
        ("PAST_DUE", NOW + HOUR, NOW + HOUR, True),
        ("PAST_DUE", NOW + HOUR, NOW, False),
        ("PAST_DUE", NOW + HOUR, None, False),
        ("EXPIRED", NOW + HOUR, NOW + HOUR, False),
    ],
)
def test_operative_is_what_the_rule_says(
    state: SubscriptionState, period_end: datetime | None, grace_ends_at: datetime | None, operative: bool
) -> None:
    assert is_operative(state, period_end=period_end, grace_ends_at=grace_ends_at, now=NOW) is operative


def test_whatever_can_be_operative_takes_the_mandates_place() -> None:
    later = NOW + HOUR
    usable = {state for state in STATES if is_operative(state, period_end=later, grace_ends_at=later, now=NOW)}
    assert usable == set(OCCUPYING)
