"""What follows from the facts of Stripe: each status, graces, budgets, items, what is told late or twice."""

from datetime import timedelta

import pytest

from rappen_contracts.stripe.v1 import StripeCheckout, StripeSubscriptionStatus
from services.subscriptions.lifecycle.periods import Period
from tests.support.settling import (
    DAY,
    FIRST,
    GRACE,
    NOW,
    STARTER,
    Mandate,
    at_stripe,
    begins,
    fails,
    month,
    renews,
)


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
