"""The order, repeats and delays in which facts of Stripe are told change nothing of the outcome: every short life of a
subscription, and a switch."""

from collections import Counter
from itertools import permutations

import pytest

from rappen_contracts.stripe.v1 import StripeObserved
from services.subscriptions.stripe.domain import LIVE
from tests.support.lives import Outcomes, ending_in_order, is_over, lives
from tests.support.settling import (
    DAY,
    FIRST,
    SECOND,
    Mandate,
    at_stripe,
    month,
    waiting_for,
    with_predecessor,
)

STATUSES = {"incomplete", "incomplete_expired", "trialing", "active", "past_due", "unpaid", "paused", "canceled"}
# How many lives there are of so many events, their creation with them.
LIVES = {1: 3, 2: 16, 3: 68, 4: 294}


@pytest.mark.parametrize("length", LIVES)
def test_the_order_repeats_and_delays_of_what_is_told_change_nothing(length: int) -> None:
    told_of: set[str] = set()
    states: Counter[str] = Counter()
    for told in lives(length):
        expected = ending_in_order(told)
        for ending in Outcomes(told).endings():
            assert ending.shown() == expected.shown(), told
            # What begins and what ends is mailed whenever it is heard of, and nothing that would not be in order.
            assert ending.mails <= expected.mails, told
            assert all(is_over(mail, ending.record) for mail in expected.mails - ending.mails), told
        told_of |= {observed.subscription.status for observed in told if observed.subscription is not None}
        states[expected.record.state] += 1
    assert states.total() == LIVES[length]
    if length > 2:
        assert told_of == STATUSES
        assert set(states) == {"PENDING", "TRIALING", "ACTIVE", "PAST_DUE", "CANCELED", "EXPIRED"}


def test_a_life_told_in_order_causes_its_mails_and_budgets_once() -> None:
    """What the orders are compared with, looked at by itself."""
    mails: Counter[str] = Counter()
    for told in lives(4):
        ending = ending_in_order(told)
        kinds = Counter(kind for kind, _ in ending.mails)
        live = [each for each in told if each.subscription is not None and each.subscription.status in LIVE]
        assert kinds["activated"] == (1 if live else 0), told
        assert kinds["expired"] == (1 if live and ending.record.state == "EXPIRED" else 0), told
        assert len(ending.budgets) == len(set(ending.budgets))
        assert ending.asked == frozenset()
        mails += kinds
    assert min(mails[kind] for kind in ("activated", "expired", "cancelled", "trial ending")) > 10


def test_what_is_first_heard_of_when_it_is_over_is_told_to_have_begun_and_ended() -> None:
    stripe = at_stripe()
    begins = stripe.begins()
    stripe.status, stripe.ended_at, stripe.at = "canceled", month(0).start + DAY, month(0).start + DAY
    deleted = stripe.fetch()
    mandate = Mandate()
    mandate.start()
    mandate.now = stripe.at
    mandate.observe(deleted, begins)
    assert [(change.name, change.occurred_at) for change in mandate.changes] == [
        ("activated", stripe.ended_at),
        ("ended", stripe.ended_at),
        ("period_paid", stripe.ended_at),
    ]


def test_a_switch_comes_out_the_same_in_whatever_order_it_is_told() -> None:
    def told() -> list[StripeObserved]:
        old, new = at_stripe(plan_key="STARTER"), waiting_for(month(0))
        observations = [new.fetch(completed=True, invoice=new.invoice("subscription_create"))]
        old.fetches = 1
        old.ends_at = old.period.end
        observations.append(old.fetch())
        old.status, old.ended_at, old.at = "canceled", month(0).end, month(0).end
        observations.append(old.fetch())
        new.status, new.period, new.at = "active", month(1), month(1).start
        observations.append(new.fetch(invoice=new.invoice()))
        return observations

    outcomes = set()
    for order in permutations(told()):
        mandate, _ = with_predecessor()
        mandate.now = month(0).end - DAY
        mandate.start(SECOND, after=FIRST)
        mandate.now = month(1).start
        mandate.observe(*order)
        mandate.observe(*order[::-1])
        outcomes.add((str(mandate.states()), str(mandate.budgets()), str(mandate.budgets(SECOND))))
    assert len(outcomes) == 1
    (only,) = outcomes
    assert "EXPIRED" in only[0]
    assert "ACTIVE" in only[0]
