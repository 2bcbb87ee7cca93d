"""What happens to one subscription: start, renewal, expiry, and what is never done to it."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest

from services.subscriptions.lifecycle.domain import Change, advance, begin, end
from services.subscriptions.lifecycle.publications import subscription_changed
from services.subscriptions.lifecycle.states import IllegalTransition
from services.subscriptions.plans.domain import Plan

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
INTERNAL = Plan(
    key="INTERNAL",
    label_de="Intern",
    label_en="Internal",
    price_per_user=Decimal(0),
    price_per_feature_instance=Decimal(0),
    storage_price_per_gb_month=Decimal(0),
    billing_period="month",
    max_users=None,
    max_feature_instances=None,
    max_data_volume_mb=None,
    budget_ai=Decimal(100),
    budget_per="mandate",
    rollover=False,
    trial_days=0,
    requires_stripe=False,
    markup_percent=None,
    operator_only=True,
)
TRIAL = replace(INTERNAL, key="TRIAL_7D", trial_days=7, operator_only=False)


def begun(plan: Plan) -> Change:
    return begin(plan, subscription_id=UUID(int=1), mandate_id="m", user_id="u", now=NOW)


def test_what_is_told_of_a_plan_has_its_price_of_storage() -> None:
    plan = replace(INTERNAL, storage_price_per_gb_month=Decimal("0.40"), max_data_volume_mb=7)
    told = json.loads(subscription_changed(begun(plan), cause="tests").data)["plan"]
    assert told["storage_price_per_gb_month"] == {"amount": "0.40", "currency": "CHF"}
    assert told["max_data_volume_mb"] == 7


def test_a_trial_runs_its_days_with_its_budget_and_then_expires_without_another() -> None:
    start = begun(TRIAL)
    assert (start.after.state, start.budget_due, start.after.recurring) == ("TRIALING", True, False)
    assert start.after.trial_ends_at == start.after.due_at == NOW + timedelta(days=7)
    over = advance(start.after, TRIAL)
    assert (over.after.state, over.name, over.budget_due) == ("EXPIRED", "trial_ended", False)
    assert over.occurred_at == NOW + timedelta(days=7)
    assert over.after.due_at is None
    assert not over.after.operative_at(over.occurred_at)


def test_a_trial_that_is_ended_early_ends_its_period_then() -> None:
    at = NOW + timedelta(days=2)
    over = end(begun(TRIAL).after, at=at)
    assert over.after.period is not None
    assert (over.after.period.start, over.after.period.end, over.occurred_at) == (NOW, at, at)


def test_an_end_lies_within_the_period_whatever_the_clock_of_the_machine_says() -> None:
    trial = begun(TRIAL).after
    assert end(trial, at=NOW - timedelta(seconds=1)).occurred_at == NOW
    assert end(trial, at=NOW + timedelta(days=30)).occurred_at == NOW + timedelta(days=7)


def test_each_renewal_is_one_version_and_one_period_later_and_gives_a_budget() -> None:
    change = begun(INTERNAL)
    ends = []
    for version in range(2, 6):
        before = change.after
        assert before.period is not None
        change = advance(before, INTERNAL)
        assert change.after.period is not None
        assert (change.after.version, change.name, change.budget_due) == (version, "renewed", True)
        assert change.after.period.start == before.period.end == change.occurred_at
        ends.append(change.after.period.end.strftime("%m-%d"))
    assert ends == ["03-31", "04-30", "05-31", "06-30"]


def test_a_renewal_takes_the_terms_it_is_given_for_the_new_period_alone() -> None:
    start = begun(INTERNAL)
    dearer = replace(INTERNAL, budget_ai=Decimal(7), billing_period="year")
    renewed = advance(start.after, dearer).after
    assert start.after.plan.budget_ai == 100
    assert renewed.plan.budget_ai == 7
    assert renewed.period is not None
    assert renewed.period.end == datetime(2027, 2, 28, 12, tzinfo=UTC)


def test_what_is_paid_through_stripe_is_never_moved_by_our_clock_and_never_starts_without_it() -> None:
    paid = replace(INTERNAL, requires_stripe=True)
    with pytest.raises(ValueError, match="needs a checkout"):
        begun(paid)
    running = replace(begun(INTERNAL).after, plan=paid)
    assert running.due_at is None
    with pytest.raises(ValueError, match="nothing is ever due"):
        advance(running, paid)


def test_what_is_expired_stays_so() -> None:
    expired = end(begun(TRIAL).after, at=NOW).after
    with pytest.raises(IllegalTransition):
        end(expired, at=NOW)
