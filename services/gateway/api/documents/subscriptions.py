"""Bodies of the subscriptions service's public operations, as the OpenAPI document shows them."""

from typing import Annotated, Literal

from pydantic import Field

from services.gateway.api.documents.common import Amount, Document, MoneyObject, Time

__all__ = ["Plans", "StartSubscription", "Started", "SubscriptionAnswer"]

State = Literal["PENDING", "SCHEDULED", "TRIALING", "ACTIVE", "PAST_DUE", "CANCELED", "EXPIRED"]


class PlanLabel(Document):
    """What a plan is called."""

    de: str
    en: str


class Plan(Document):
    """A plan on offer; null is no limit, and of the markup the platform's."""

    plan_key: str
    label: PlanLabel
    price_per_user: MoneyObject
    price_per_feature_instance: MoneyObject
    storage_price_per_gb_month: MoneyObject
    billing_period: Literal["month", "year"]
    max_users: int | None
    max_feature_instances: int | None
    max_data_volume_mb: int | None = Field(alias="maxDataVolumeMB")
    budget_ai: MoneyObject
    budget_per: Literal["mandate", "member"]
    rollover: bool
    trial_days: int
    requires_stripe: bool
    markup_percent: Amount | None
    operator_only: bool


Plans = list[Plan]


class Quantities(Document):
    """What a subscription is billed for."""

    members: int | None
    feature_instances: int | None


class ScheduledSubscription(Document):
    """A subscription that waits, or with its own names all null none."""

    id: str | None
    mandate_id: str | None
    plan_key: str | None
    status: State | None
    recurring: bool | None
    current_period_start: Time | None
    current_period_end: Time | None
    effective_from: Time | None
    trial_ends_at: Time | None
    quantities: Quantities | None


class SubscriptionAnswer(ScheduledSubscription):
    """The subscription of a mandate, all null without one, and the one that waits for its end."""

    scheduled: ScheduledSubscription | None


class StartSubscription(Document):
    """The plan to start, and where the payer comes back to."""

    plan_key: Annotated[str, Field(min_length=1, max_length=64)]
    return_url: str | None = None


class Started(Document):
    """Where the payer goes next, null when nothing is to be paid."""

    redirect_url: str | None
    subscription: SubscriptionAnswer
