"""What follows a plan, and what becomes of the one before: waiting, promotion, from when it is charged."""

from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest

from services.subscriptions.lifecycle.domain import begin
from services.subscriptions.lifecycle.periods import Period
from services.subscriptions.lifecycle.settlement import starts_after
from tests.support.settling import (
    DAY,
    FIRST,
    GRACE,
    INTERNAL,
    NOW,
    SECOND,
    TRIAL,
    Mandate,
    at_stripe,
    begins,
    fails,
    is_deleted,
    is_taken_back,
    month,
    waiting_for,
    with_predecessor,
)
from tests.support.stripe_facts import SubscriptionAtStripe


def test_a_switch_waits_for_the_predecessors_period_end_and_nothing_is_credited_before() -> None:
    mandate, old = with_predecessor()
    mandate.now += DAY
    mandate.start(SECOND, after=FIRST)
    new = waiting_for(old.period)
    mandate.observe(new.fetch(completed=True, invoice=new.invoice("subscription_create")))
    assert mandate.states() == {FIRST: ("ACTIVE", True), SECOND: ("SCHEDULED", True)}
    assert mandate.asked() == {(FIRST, "end_at_period_end")}
    old.ends_at = old.period.end
    mandate.observe(old.fetch())
    assert mandate.state() == "CANCELED"
    # Stripe's word comes too early: it stays beside its predecessor.
    new.status = "active"
    mandate.observe(new.fetch())
    assert (mandate.state(SECOND), mandate.budgets(SECOND)) == ("SCHEDULED", [])

    mandate.now = old.period.end
    new.period = month(1)
    mandate.observe(new.fetch(invoice=new.invoice()))
    assert mandate.states() == {FIRST: ("EXPIRED", False), SECOND: ("ACTIVE", True)}
    assert mandate.budgets(SECOND) == [month(1).start]
    assert mandate.records[SECOND].effective_from == old.period.end


def test_a_scheduled_plan_begins_by_the_clock_and_when_its_predecessor_ends_before() -> None:
    for ends_before in (False, True):
        mandate, old = with_predecessor()
        mandate.start(SECOND, after=FIRST)
        new = waiting_for(old.period)
        mandate.observe(new.fetch(completed=True))
        if ends_before:
            mandate.now += 3 * DAY
            mandate.observe(is_deleted(old))  # type: ignore[arg-type]
        else:
            mandate.now = old.period.end
            mandate.settle()
            assert (FIRST, "cancel") in mandate.asked()
        assert mandate.states() == {FIRST: ("EXPIRED", False), SECOND: ("ACTIVE", True)}
        assert mandate.budgets(SECOND) == []


def promoted_early() -> tuple[Mandate, SubscriptionAtStripe]:
    """A mandate whose predecessor was deleted 18 days before the planned start of what follows."""
    mandate, old = with_predecessor()
    mandate.start(SECOND, after=FIRST)
    new = waiting_for(old.period)
    mandate.observe(new.fetch(completed=True, invoice=new.invoice("subscription_create")))
    mandate.now = old.at = new.at = NOW + 10 * DAY
    mandate.observe(is_deleted(old))  # type: ignore[arg-type]
    assert mandate.states() == {FIRST: ("EXPIRED", False), SECOND: ("ACTIVE", True)}
    return mandate, new


def test_what_is_promoted_before_its_planned_start_is_charged_from_then_on() -> None:
    mandate, new = promoted_early()
    assert (SECOND, "begin") in mandate.asked()
    assert mandate.records[SECOND].effective_from == mandate.now
    assert mandate.budgets(SECOND) == []
    # Stripe ends the trial, and its invoice is one for a change.
    mandate.now += timedelta(minutes=1)
    new.status, new.at, new.trial_ends_at, new.period = "active", mandate.now, mandate.now, month(0, mandate.now)
    paid = new.fetch(invoice=new.invoice("subscription_update"))
    mandate.calls.clear()
    mandate.observe(paid, paid)
    proration = new.invoice("subscription_update", period=Period(mandate.now + DAY, new.period.end))
    mandate.observe(new.fetch(invoice=proration))
    assert mandate.budgets(SECOND) == [new.period.start]
    assert mandate.records[SECOND].period == new.period
    assert mandate.asked() == set()


def test_what_is_promoted_early_and_is_not_paid_is_past_due() -> None:
    mandate, new = promoted_early()
    new.status, new.trial_ends_at, new.period = "past_due", mandate.now, month(0, mandate.now)
    mandate.observe(new.fetch(invoice=new.invoice("subscription_update", status="open")))
    assert (mandate.state(SECOND), mandate.budgets(SECOND)) == ("PAST_DUE", [])
    assert mandate.records[SECOND].grace_ends_at == mandate.now + GRACE


def test_what_waits_and_is_set_to_end_is_not_used_when_its_predecessor_ends_early() -> None:
    mandate, old = with_predecessor()
    mandate.start(SECOND, after=FIRST)
    new = waiting_for(old.period, ends_at=old.period.end)
    mandate.observe(new.fetch(completed=True))
    mandate.now = old.at = NOW + 10 * DAY
    mandate.observe(is_deleted(old))  # type: ignore[arg-type]
    assert mandate.states() == {FIRST: ("EXPIRED", False), SECOND: ("EXPIRED", False)}
    assert mandate.asked() == {(FIRST, "end_at_period_end"), (SECOND, "cancel")}


def test_what_begins_when_it_was_planned_to_is_left_to_stripe_unless_its_shortest_trial_lasts_longer() -> None:
    for longer in (timedelta(0), 30 * timedelta(hours=1)):
        mandate, old = with_predecessor()
        mandate.start(SECOND, after=FIRST)
        new = waiting_for(old.period)
        new.trial_ends_at = old.period.end + longer
        mandate.observe(new.fetch(completed=True))
        mandate.now = old.period.end
        mandate.settle()
        assert mandate.states() == {FIRST: ("EXPIRED", False), SECOND: ("ACTIVE", True)}
        assert ((SECOND, "begin") in mandate.asked()) is bool(longer)


def test_what_waits_may_be_set_to_end_and_taken_back_and_waits_on() -> None:
    mandate, old = with_predecessor()
    mandate.start(SECOND, after=FIRST)
    new = waiting_for(old.period)
    mandate.observe(new.fetch(completed=True))
    for ends_at in (old.period.end, None):
        new.ends_at = ends_at
        mandate.observe(new.fetch())
        assert mandate.states()[SECOND] == ("SCHEDULED", ends_at is None)


def test_of_two_checkouts_that_are_both_paid_the_later_waits_for_the_earlier() -> None:
    mandate = Mandate()
    mandate.start()
    mandate.start(SECOND)
    mandate.observe(begins(at_stripe()))
    # Nothing ran when it was opened, so Stripe charges it at once.
    later = at_stripe(SECOND)
    mandate.observe(begins(later))
    assert mandate.states() == {FIRST: ("ACTIVE", True), SECOND: ("SCHEDULED", True)}
    assert mandate.asked() == {(FIRST, "end_at_period_end")}
    mandate.now = month(0).end
    later.period = month(1)
    mandate.observe(later.fetch(invoice=later.invoice()))
    assert mandate.states() == {FIRST: ("EXPIRED", False), SECOND: ("ACTIVE", True)}
    assert mandate.budgets(SECOND) == [month(1).start]


@pytest.mark.parametrize("runs", [False, True])
def test_a_checkout_that_is_paid_while_it_is_cancelled_takes_nobodys_place(runs: bool) -> None:
    mandate = Mandate()
    mandate.start()
    mandate.withdrawn = {FIRST}
    mandate.start(SECOND)
    if runs:
        mandate.observe(begins(at_stripe(SECOND)))
    old = at_stripe()
    mandate.observe(begins(old))
    assert mandate.states() == {FIRST: ("PENDING", True), SECOND: ("ACTIVE" if runs else "PENDING", True)}
    assert mandate.calls == []
    # It could not be cancelled, so it counts.
    mandate.withdrawn = set()
    mandate.settle()
    assert mandate.states()[FIRST][0] == ("SCHEDULED" if runs else "ACTIVE")


def test_a_trial_of_ours_ends_at_once_for_a_paid_plan() -> None:
    mandate = Mandate()
    mandate.records[FIRST] = begin(TRIAL, subscription_id=FIRST, mandate_id="m", user_id="u", now=NOW).after
    mandate.now += DAY
    mandate.start(SECOND, after=FIRST)
    assert mandate.records[SECOND].starts_at is None
    stripe = at_stripe(SECOND)
    mandate.observe(begins(stripe))
    assert mandate.states() == {FIRST: ("EXPIRED", False), SECOND: ("ACTIVE", True)}
    assert mandate.calls == []


def test_what_is_not_paid_any_more_ends_at_once_for_another_plan() -> None:
    mandate, old = with_predecessor()
    old.status = "unpaid"
    mandate.observe(old.fetch())
    mandate.start(SECOND, after=FIRST)
    mandate.observe(begins(at_stripe(SECOND)))
    assert mandate.states() == {FIRST: ("EXPIRED", False), SECOND: ("ACTIVE", True)}
    assert mandate.asked() == {(FIRST, "cancel")}


def test_a_plan_without_stripe_is_cancelled_for_its_successor() -> None:
    mandate = Mandate()
    mandate.records[FIRST] = begin(INTERNAL, subscription_id=FIRST, mandate_id="m", user_id="u", now=NOW).after
    mandate.start(SECOND, after=FIRST)
    new = waiting_for(month(0))
    mandate.observe(new.fetch(completed=True))
    assert mandate.states() == {FIRST: ("CANCELED", False), SECOND: ("SCHEDULED", True)}
    assert mandate.calls == []


def test_a_newer_switch_withdraws_the_one_that_waits() -> None:
    mandate, old = with_predecessor()
    third = UUID(int=3)
    mandate.start(SECOND, after=FIRST)
    mandate.observe(waiting_for(old.period).fetch(completed=True))
    mandate.start(third, after=FIRST)
    mandate.observe(replace(waiting_for(old.period), record=third).fetch(completed=True))
    assert (mandate.state(SECOND), mandate.state(third)) == ("EXPIRED", "SCHEDULED")
    assert (SECOND, "cancel") in mandate.asked()


def test_what_is_not_paid_gives_no_plan_after_it_free_time() -> None:
    mandate, stripe = with_predecessor()
    mandate.now = month(1).start
    mandate.observe(fails(stripe))  # type: ignore[arg-type]
    running = mandate.records[FIRST]
    assert running.state == "PAST_DUE"
    assert running.operative_at(mandate.now)
    # Its period is a month that nobody has paid for.
    assert running.period == month(1)
    assert starts_after(running, now=mandate.now) is None
    mandate.start(SECOND, after=FIRST)
    successor = at_stripe(SECOND, period=month(0, mandate.now), at=mandate.now)
    mandate.observe(begins(successor))
    assert (mandate.state(FIRST), mandate.state(SECOND)) == ("EXPIRED", "ACTIVE")
    assert mandate.asked() == {(FIRST, "cancel")}
    assert mandate.budgets(SECOND) == [month(0, mandate.now).start]


def test_a_predecessor_that_is_taken_back_in_the_portal_is_set_to_end_again() -> None:
    mandate, stripe = with_predecessor()
    mandate.now += DAY
    mandate.start(SECOND, after=FIRST)
    mandate.observe(waiting_for(month(0)).fetch(completed=True))
    stripe.ends_at = month(0).end
    mandate.observe(stripe.fetch())
    mandate.calls.clear()
    mandate.settle()
    assert mandate.asked() == set()
    mandate.observe(is_taken_back(stripe))  # type: ignore[arg-type]
    assert (mandate.state(FIRST), mandate.state(SECOND)) == ("ACTIVE", "SCHEDULED")
    assert mandate.asked() == {(FIRST, "end_at_period_end")}
