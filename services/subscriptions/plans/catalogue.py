"""The plan catalogue: read from its file once, when the process starts."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from services.subscriptions.catalogue_files import read_file, require_each_once
from services.subscriptions.plans.domain import Plan
from services.subscriptions.plans.errors import UnknownPlan
from services.subscriptions.plans.json_form import PlanForm

__all__ = ["Catalogue", "read_catalogue"]


class Catalogue:
    """The plans on offer, in the order of the file."""

    def __init__(self, plans: Iterable[Plan]) -> None:
        self._plans = {plan.key: plan for plan in plans}

    @property
    def plans(self) -> list[Plan]:
        """All of them."""
        return list(self._plans.values())

    def plan(self, key: str) -> Plan:
        """The plan of that key; a key that is not in the catalogue is an error, never a plan without limits."""
        found = self._plans.get(key)
        if found is None:
            raise UnknownPlan(key)
        return found

    def has_trial(self, key: str) -> bool:
        """Whether there is a plan of that key, and it is a trial."""
        found = self._plans.get(key)
        return found is not None and found.is_trial

    def next_terms(self, plan: Plan) -> Plan:
        """The terms of the next period of a plan that our own clock renews.

        They are the catalogue's, unless the plan was taken out of it or now needs a payment or a trial: nobody agreed
        to that, so the mandate keeps the terms it has.
        """
        current = self._plans.get(plan.key)
        if current is None or current.requires_stripe or current.is_trial:
            return plan
        return current

    def renewed_terms(self, plan: Plan, switched_to: str | None) -> Plan | None:
        """The terms of the next period of a plan that Stripe renews, or of the plan it was switched to there; None
        where that is not in the catalogue, or is none that Stripe charges.

        What is charged is Stripe's to say, so the prices stay as they were agreed until the plan is switched.
        """
        current = self._plans.get(switched_to or plan.key)
        if current is None or not current.requires_stripe:
            return None
        if switched_to is not None:
            return current
        return replace(
            current,
            price_per_user=plan.price_per_user,
            price_per_feature_instance=plan.price_per_feature_instance,
            billing_period=plan.billing_period,
        )


class _File(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    plans: list[PlanForm] = Field(min_length=1, max_length=1000)


def read_catalogue(path: Path) -> Catalogue:
    """Reads and checks the file."""
    forms = read_file(path, _File).plans
    require_each_once(path, [form.plan_key for form in forms], what="plan with the key")
    return Catalogue(form.plan() for form in forms)
