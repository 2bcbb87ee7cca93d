"""The catalogue's file: what it may say, what it may not, and that nothing is ever guessed."""

import json
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from services.subscriptions.catalogue_files import CatalogueInvalid
from services.subscriptions.plans.catalogue import Catalogue, read_catalogue
from services.subscriptions.plans.errors import UnknownPlan
from services.subscriptions.plans.json_form import PlanForm
from services.subscriptions.settings import SubscriptionsSettings

SHIPPED: Path = SubscriptionsSettings.model_fields["plans_file"].default

Plans = dict[str, dict[str, Any]]


@pytest.fixture
def edited(tmp_path: Path) -> Callable[[Callable[[Plans], object]], Path]:
    """A copy of the shipped file with a change to its plans, by key."""

    def edit(change: Callable[[Plans], object]) -> Path:
        plans: Plans = {plan["planKey"]: plan for plan in json.loads(SHIPPED.read_text())["plans"]}
        change(plans)
        path = tmp_path / "plans.json"
        path.write_text(json.dumps({"plans": list(plans.values())}))
        return path

    return edit


def test_the_shipped_catalogue_has_the_five_plans() -> None:
    catalogue = read_catalogue(SHIPPED)
    assert [plan.key for plan in catalogue.plans] == ["TRIAL_7D", "STARTER", "TEAM", "ENTERPRISE", "INTERNAL"]
    assert catalogue.plan("TRIAL_7D").is_trial
    assert catalogue.plan("TRIAL_7D").trial_days == 7
    assert [plan.key for plan in catalogue.plans if not plan.requires_stripe] == ["TRIAL_7D", "INTERNAL"]
    assert [plan.key for plan in catalogue.plans if plan.operator_only] == ["INTERNAL"]


@pytest.mark.parametrize("key", ["", "starter", "FREE", "STARTER "])
def test_a_key_that_is_not_in_the_catalogue_is_an_error(key: str) -> None:
    with pytest.raises(UnknownPlan):
        read_catalogue(SHIPPED).plan(key)


def test_a_plan_survives_being_kept_as_json() -> None:
    for plan in read_catalogue(SHIPPED).plans:
        kept = PlanForm.text_of(plan)
        assert PlanForm.plan_of(kept) == plan
        assert isinstance(json.loads(kept)["budgetAiCHF"], str)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda plans: plans["TEAM"].update(budgetAiCHF=50), "plans.2.budgetAiCHF: a decimal travels as a JSON string"),
        (lambda plans: plans["TEAM"].update(budgetAiCHF="-1"), "plans.2.budgetAiCHF: must not be negative"),
        (lambda plans: plans["TEAM"].update(budgetAiCHF="0.0000001"), "at most six decimals"),
        (lambda plans: plans["TEAM"].update(billingPeriod="week"), "plans.2.billingPeriod"),
        (lambda plans: plans["TEAM"].update(maxUsers="50"), "plans.2.maxUsers"),
        (lambda plans: plans["TEAM"].update(maxUser=50), "plans.2.maxUser"),
        (lambda plans: plans["TEAM"].pop("maxUsers"), "plans.2.maxUsers: is required"),
        (lambda plans: plans["TEAM"].update(rollover="true"), "plans.2.rollover"),
        (lambda plans: plans["TEAM"].update(trialDays=None), "plans.2.trialDays"),
        (lambda plans: plans["TEAM"].update(planKey="STARTER"), "more than one plan with the key STARTER"),
        (lambda plans: plans["TEAM"].update(planKey="a plan"), "plans.2.planKey"),
        (lambda plans: plans["TEAM"].update(label={"de": "Team"}), "plans.2.label.en"),
        (lambda plans: plans["TEAM"].update(requiresStripe=False), "requires Stripe"),
        (lambda plans: plans.clear(), "plans: has fewer entries than 1"),
    ],
)
def test_a_fault_of_the_file_is_refused_by_name(
    edited: Callable[[Callable[[Plans], object]], Path], change: Callable[[Plans], object], said: str
) -> None:
    with pytest.raises(CatalogueInvalid) as refusal:
        read_catalogue(edited(change))
    assert said in str(refusal.value)


def test_a_file_that_is_missing_or_no_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CatalogueInvalid, match="No such file"):
        read_catalogue(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(CatalogueInvalid, match="is not valid JSON"):
        read_catalogue(tmp_path / "bad.json")


def test_a_free_plan_is_the_operators_to_give_unless_the_file_says_otherwise(
    edited: Callable[[Callable[[Plans], object]], Path],
) -> None:
    unsaid = read_catalogue(edited(lambda plans: plans["INTERNAL"].pop("operatorOnly")))
    assert unsaid.plan("INTERNAL").operator_only
    public = read_catalogue(edited(lambda plans: plans["INTERNAL"].update(operatorOnly=False)))
    assert not public.plan("INTERNAL").operator_only


def test_a_plan_renews_on_the_catalogues_terms_but_never_slips_into_terms_nobody_agreed_to() -> None:
    kept = read_catalogue(SHIPPED).plan("INTERNAL")
    changed = replace(kept, budget_ai=Decimal(1))
    assert Catalogue([changed]).next_terms(kept) == changed
    assert Catalogue([]).next_terms(kept) == kept
    assert Catalogue([replace(kept, requires_stripe=True)]).next_terms(kept) == kept
    assert Catalogue([replace(kept, trial_days=7)]).next_terms(kept) == kept
