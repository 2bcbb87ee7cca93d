"""What follows from the facts of Stripe: each status, predecessors and successors, graces, budgets."""

from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest

from rappen_contracts.stripe.v1 import StripeCheckout, StripeSubscriptionStatus
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
    STARTER,
    TRIAL,
    Mandate,
    at_stripe,
    begins,
    fails,
    is_deleted,
    is_taken_back,
    month,
    renews,
    waiting_for,
    with_predecessor,
)
from tests.support.stripe_facts import SubscriptionAtStripe


@pytest.mark.parametrize(
    ("status", "ends", "state", "recurring"),
    [
        ("incomplete", False, "PENDING", True),
        ("incomplete_expired", False, "EXPIRED", False),
        ("trialing", False, "TRIALING", True),
        ("trialing", True, "TRIALING", False),
        ("active", False, "ACTIVE", True),
        ("active", True, "CANCELED", False),
        ("past_due", False, "PAST_DUE", True),
        ("past_due", True, "PAST_DUE", False),
        ("unpaid", False, "PAST_DUE", True),
        ("paused", True, "PAST_DUE", False),
        ("canceled", True, "EXPIRED", False),
    ],
)
def test_each_status_of_stripe_is_a_state_of_ours(
    status: StripeSubscriptionStatus, ends: bool, state: str, recurring: bool
) -> None:
    mandate = Mandate()
    mandate.start()
    stripe = at_stripe(status=status, ends_at=month(0).end if ends else None, trial_ends_at=month(0).end)
    mandate.observe(stripe.fetch())
    assert mandate.states() == {FIRST: (state, recurring)}


def test_past_due_is_usable_for_its_grace_and_then_ends_also_at_stripe() -> None:
    mandate, stripe = Mandate(), at_stripe()
    mandate.start()
    mandate.observe(begins(stripe))
    mandate.now = month(1).start
    mandate.observe(fails(stripe))  # type: ignore[arg-type]
    record = mandate.records[FIRST]
    assert (record.state, record.grace_ends_at) == ("PAST_DUE", mandate.now + GRACE)
    mandate.now += GRACE - timedelta(seconds=1)
    mandate.settle()
    assert mandate.state() == "PAST_DUE"
    assert mandate.records[FIRST].operative_at(mandate.now)
    mandate.now += timedelta(seconds=1)
    mandate.settle()
    assert mandate.state() == "EXPIRED"
    assert mandate.asked() == {(FIRST, "cancel")}


def test_stripes_clock_may_be_ahead_of_ours() -> None:
    mandate, stripe = Mandate(), at_stripe()
    mandate.start()
    mandate.observe(begins(stripe))
    # The renewal fails by Stripe's clock, and ours still says that it is in the future.
    stripe.status, stripe.period = "past_due", month(1)
    mandate.observe(stripe.fetch())
    assert mandate.records[FIRST].grace_ends_at == month(1).start + GRACE
    stripe.status, stripe.ended_at = "canceled", month(1).start + DAY
    mandate.observe(stripe.fetch())
    assert mandate.records[FIRST].period == Period(month(1).start, month(1).start + DAY)
    assert all(change.occurred_at <= mandate.now for change in mandate.changes)


@pytest.mark.parametrize("status", ["unpaid", "paused"])
def test_unpaid_and_paused_are_not_usable_and_wait_for_stripe(status: StripeSubscriptionStatus) -> None:
    mandate, stripe = Mandate(), at_stripe()
    mandate.start()
    mandate.observe(begins(stripe))
    stripe.status = status
    mandate.observe(stripe.fetch())
    assert not mandate.records[FIRST].operative_at(mandate.now)
    mandate.now += 300 * DAY
    mandate.settle()
    assert mandate.state() == "PAST_DUE"
    # An old invoice that is paid says nothing while Stripe still says unpaid.
    mandate.observe(stripe.fetch(invoice=stripe.invoice("subscription_cycle")))
    assert mandate.state() == "PAST_DUE"
    stripe.status = "active"
    mandate.observe(stripe.fetch())
    assert mandate.state() == "ACTIVE"


def test_only_invoices_of_a_periods_beginning_give_a_budget_and_each_period_one() -> None:
    mandate, stripe = Mandate(), at_stripe()
    mandate.start()
    mandate.observe(begins(stripe), begins(stripe), stripe.fetch(invoice=stripe.invoice("subscription_update")))
    mandate.observe(stripe.fetch(invoice=stripe.invoice("manual")))
    assert mandate.budgets() == [month(0).start]
    for _ in range(3):
        mandate.observe(renews(stripe) or stripe.fetch(), stripe.fetch(invoice=stripe.invoice()))
    assert mandate.budgets() == [month(number).start for number in range(4)]
    assert mandate.records[FIRST].period == month(3)


def test_an_invoice_that_names_no_period_pays_for_that_of_the_items() -> None:
    mandate, stripe = Mandate(), at_stripe()
    mandate.start()
    empty = Period(NOW, NOW)
    mandate.observe(stripe.fetch(invoice=stripe.invoice("subscription_create", period=empty), completed=True))
    stripe.period = month(1)
    unnamed = stripe.invoice().model_copy(update={"period_start": None, "period_end": None})
    mandate.observe(stripe.fetch(invoice=unnamed))
    assert mandate.budgets() == [month(0).start, month(1).start]


def test_an_invoice_of_before_that_is_told_late_gives_its_own_periods_budget() -> None:
    mandate, stripe = Mandate(), at_stripe()
    mandate.start()
    mandate.observe(begins(stripe))
    stripe.period, stripe.status = month(2), "past_due"
    mandate.observe(stripe.fetch(invoice=stripe.invoice(period=month(1))))
    assert mandate.budgets() == [month(0).start, month(1).start]
    assert mandate.records[FIRST].period == month(2)


def test_a_trial_of_a_paid_plan_has_its_budget_at_its_start_and_its_empty_invoice_gives_none() -> None:
    trial = Period(NOW, NOW + 14 * DAY)
    stripe = at_stripe(status="trialing", period=trial, trial_ends_at=trial.end)
    mandate = Mandate()
    mandate.start()
    mandate.observe(stripe.fetch(completed=True), stripe.fetch(invoice=stripe.invoice("subscription_create")))
    assert (mandate.state(), mandate.budgets()) == ("TRIALING", [NOW])
    assert mandate.records[FIRST].trial_ends_at == trial.end
    stripe.status, stripe.period = "active", month(0, trial.end)
    mandate.now = trial.end
    mandate.observe(stripe.fetch(invoice=stripe.invoice()))
    assert (mandate.state(), mandate.budgets()) == ("ACTIVE", [NOW, trial.end])


def test_a_trial_that_is_canceled_is_over_at_once() -> None:
    stripe = at_stripe(status="trialing", period=Period(NOW, NOW + 14 * DAY), trial_ends_at=NOW + 14 * DAY)
    mandate = Mandate()
    mandate.start()
    mandate.observe(stripe.fetch(completed=True))
    stripe.status, stripe.ended_at = "canceled", NOW + DAY
    mandate.now += 2 * DAY
    mandate.observe(stripe.fetch())
    record = mandate.records[FIRST]
    assert (record.state, record.period) == ("EXPIRED", Period(NOW, NOW + DAY))


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


def test_a_checkout_that_is_closed_or_given_up_expires_and_one_that_is_paid_after_that_is_cancelled() -> None:
    closed = Mandate()
    closed.start()
    session = StripeCheckout(session_id="cs_1", state="closed")
    closed.observe(at_stripe().fetch().model_copy(update={"subscription": None, "checkout": session}))
    assert closed.state() == "EXPIRED"

    given_up = Mandate()
    given_up.start()
    given_up.now += 8 * DAY
    given_up.settle()
    assert (given_up.state(), given_up.asked()) == ("EXPIRED", {(FIRST, "cancel")})
    given_up.calls.clear()
    given_up.observe(begins(at_stripe()))
    assert given_up.asked() == {(FIRST, "cancel")}


def test_items_in_different_periods_move_the_state_and_guess_no_period() -> None:
    mandate, stripe = Mandate(), at_stripe()
    mandate.start()
    mandate.observe(begins(stripe))
    observed = stripe.fetch()
    assert observed.subscription is not None
    first, second = observed.subscription.items
    moved = second.model_copy(update={"period_start": month(1).start, "period_end": month(1).end})
    parted = observed.subscription.model_copy(update={"items": [first, moved], "status": "past_due"})
    mandate.observe(observed.model_copy(update={"subscription": parted}))
    record = mandate.records[FIRST]
    assert (record.state, record.period) == ("PAST_DUE", month(0))


def test_an_item_that_was_added_within_the_period_is_in_it() -> None:
    mandate, stripe = Mandate(), at_stripe()
    mandate.start()
    mandate.observe(begins(stripe))
    for number in (0, 1):
        stripe.period = month(number)
        observed = stripe.fetch(invoice=stripe.invoice() if number else None)
        assert observed.subscription is not None
        members, instances = observed.subscription.items
        later = instances.model_copy(update={"period_start": stripe.period.start + DAY})
        added = observed.subscription.model_copy(update={"items": [members, later]})
        mandate.now = stripe.period.start + DAY
        mandate.observe(observed.model_copy(update={"subscription": added}))
        assert mandate.unplaced == set()
        assert mandate.records[FIRST].period == month(number)
    assert mandate.budgets() == [month(0).start, month(1).start]


def test_a_plan_switched_at_stripe_brings_its_terms_and_an_unknown_one_none() -> None:
    mandate, stripe = Mandate(), at_stripe()
    mandate.start()
    mandate.observe(begins(stripe))
    stripe.plan_key = "STARTER"
    mandate.observe(stripe.fetch())
    assert mandate.records[FIRST].plan == STARTER
    stripe.plan_key = "GOLD"
    mandate.observe(stripe.fetch())
    assert mandate.records[FIRST].plan == STARTER


def test_what_is_told_of_a_record_that_is_not_there_is_kept_until_it_is() -> None:
    late = Mandate()
    record = Mandate()
    record.start()
    late.observe(begins(at_stripe()))
    assert late.records == {}
    late.records.update(record.records)
    late.settle()
    assert (late.state(), late.budgets()) == ("ACTIVE", [month(0).start])


def test_two_equal_observations_are_one_change() -> None:
    mandate, stripe = Mandate(), at_stripe()
    mandate.start()
    mandate.observe(begins(stripe))
    stripe.ends_at = stripe.period.end
    mandate.observe(stripe.fetch(), stripe.fetch())
    assert [change.name for change in mandate.changes] == ["activated", "set_to_end"]


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


def test_what_ends_on_a_later_day_than_its_period_is_not_ended_because_its_renewal_is_told_late() -> None:
    mandate, stripe = Mandate(), at_stripe()
    mandate.start()
    mandate.observe(begins(stripe))
    stripe.ends_at = month(2).end
    mandate.observe(stripe.fetch())
    assert mandate.state() == "CANCELED"
    mandate.now = month(0).end + 3 * timedelta(hours=1)
    mandate.settle()
    assert (mandate.state(), mandate.asked()) == ("CANCELED", set())
    stripe.period = month(1)
    mandate.observe(stripe.fetch(invoice=stripe.invoice()))
    assert mandate.records[FIRST].operative_at(mandate.now)
    assert mandate.budgets() == [month(0).start, month(1).start]
    mandate.now = month(2).end + 3 * timedelta(hours=1)
    mandate.settle()
    assert (mandate.state(), mandate.asked()) == ("EXPIRED", {(FIRST, "cancel")})
