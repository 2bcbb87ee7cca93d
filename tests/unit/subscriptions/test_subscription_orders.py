"""The order, repeats and delays in which facts of Stripe are told change nothing of the outcome: every short life of a
subscription, and a switch."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice, permutations, product

import pytest

from rappen_contracts.stripe.v1 import StripeObserved
from tests.support.settling import (
    DAY,
    FIRST,
    SECOND,
    Mandate,
    adds_a_member,
    at_stripe,
    begins,
    fails,
    gives_up,
    is_cancelled,
    is_deleted,
    is_taken_back,
    month,
    pauses,
    pays,
    renews,
    waiting_for,
    with_predecessor,
)

EVENTS = (renews, fails, pays, gives_up, pauses, is_cancelled, is_taken_back, adds_a_member, is_deleted)


def lives(length: int) -> Iterator[list[StripeObserved]]:
    """Every life of so many events after its beginning that Stripe could tell."""
    for events in product(EVENTS, repeat=length):
        stripe = at_stripe()
        told = [begins(stripe)]
        for event in events:
            if stripe.status == "canceled" or (observed := event(stripe)) is None:
                break
            told.append(observed)
        else:
            yield told


def outcome(told: Iterable[StripeObserved], *, now: datetime) -> tuple[object, ...]:
    mandate = Mandate()
    mandate.start()
    mandate.now = now
    mandate.observe(*told)
    record = mandate.records[FIRST]
    return mandate.states(), mandate.budgets(), record.period, record.plan.key, record.operative_at(now)


def in_order(told: Sequence[StripeObserved]) -> tuple[object, ...]:
    """Each told when it happened."""
    mandate = Mandate()
    mandate.start()
    for observed in told:
        mandate.now = observed.observed_at
        mandate.observe(observed)
    record = mandate.records[FIRST]
    return mandate.states(), mandate.budgets(), record.period, record.plan.key, record.operative_at(mandate.now)


@pytest.mark.parametrize("length", [1, 2, 3])
def test_the_order_repeats_and_delays_of_what_is_told_change_nothing(length: int) -> None:
    count = 0
    for told in lives(length):
        expected = in_order(told)
        for order in permutations(told):
            assert outcome(order, now=told[-1].observed_at) == expected
            count += 1
        doubled = [each for each in told for _ in range(2)]
        assert outcome(doubled + told[::-1], now=told[-1].observed_at) == expected
    assert count > 10


def test_lives_of_four_events_told_in_many_orders_and_twice_come_out_the_same() -> None:
    seen: Counter[str] = Counter()
    for told in lives(4):
        expected = in_order(told)
        now = told[-1].observed_at
        # Every seventh of the 120 orders, so that each event is told in each place.
        for order in islice(permutations(told), 0, None, 7):
            assert outcome([*order, *order[::-1]], now=now) == expected
        seen[str(expected[0][FIRST][0])] += 1  # type: ignore[index]
    assert set(seen) == {"ACTIVE", "PAST_DUE", "CANCELED", "EXPIRED"}
    assert sum(seen.values()) > 250


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
