"""GET /api/subscriptions/plans."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends

from services.chassis.bodies import money_json
from services.chassis.caller import require_person
from services.chassis.exact_json import ExactJsonResponse, ExactJsonRoute
from services.chassis.operations import Access, operation
from services.chassis.state import of_state
from services.subscriptions.plans.bodies import Plan as PlanAnswer
from services.subscriptions.plans.catalogue import Catalogue
from services.subscriptions.plans.domain import Plan

__all__ = ["api"]

api = APIRouter(route_class=ExactJsonRoute)


@api.get(
    "/plans",
    dependencies=[Depends(require_person)],
    **operation(
        "subscriptions-list-plans",
        "The plans on offer.",
        access=Access.PERSON,
        answer=list[PlanAnswer],
    ),
)
async def get_plans(catalogue: Annotated[Catalogue, of_state("catalogue")]) -> ExactJsonResponse:
    return ExactJsonResponse([_form(plan) for plan in catalogue.plans])


def _form(plan: Plan) -> dict[str, Any]:
    return {
        "planKey": plan.key,
        "label": {"de": plan.label_de, "en": plan.label_en},
        "pricePerUser": money_json(plan.price_per_user),
        "pricePerFeatureInstance": money_json(plan.price_per_feature_instance),
        "storagePricePerGbMonth": money_json(plan.storage_price_per_gb_month),
        "billingPeriod": plan.billing_period,
        "maxUsers": plan.max_users,
        "maxFeatureInstances": plan.max_feature_instances,
        "maxDataVolumeMB": plan.max_data_volume_mb,
        "budgetAi": money_json(plan.budget_ai),
        "budgetPer": plan.budget_per,
        "rollover": plan.rollover,
        "trialDays": plan.trial_days,
        "requiresStripe": plan.requires_stripe,
        "markupPercent": plan.markup_percent,
        "operatorOnly": plan.operator_only,
    }
