"""Response models of the routes of plans."""

from typing import Literal

from pydantic import Field

from rappen_contracts.types import Money
from services.chassis.bodies import Amount, AnswerBody
from services.subscriptions.plans.domain import BillingPeriod

__all__ = ["Plan"]


class PlanLabel(AnswerBody):
    """What a plan is called."""

    de: str
    en: str


class Plan(AnswerBody):
    """A plan on offer; null is no limit, and of the markup the platform's."""

    plan_key: str
    label: PlanLabel
    price_per_user: Money
    price_per_feature_instance: Money
    storage_price_per_gb_month: Money
    billing_period: BillingPeriod
    max_users: int | None
    max_feature_instances: int | None
    max_data_volume_mb: int | None = Field(alias="maxDataVolumeMB")
    budget_ai: Money
    budget_per: Literal["mandate", "member"]
    rollover: bool
    trial_days: int
    requires_stripe: bool
    markup_percent: Amount | None
    operator_only: bool
