"""Request and response models of the routes of a mandate's subscription."""

from pydantic import BaseModel, ConfigDict, Field

from rappen_contracts.subscription.v1 import SubscriptionState
from services.chassis.bodies import AnswerBody, Time

__all__ = ["StartSubscription", "Started", "SubscriptionAnswer"]


class Quantities(AnswerBody):
    """What a subscription is billed for."""

    members: int | None
    feature_instances: int | None


class ScheduledSubscription(AnswerBody):
    """A subscription that waits, or with its own names all null none."""

    id: str | None
    mandate_id: str | None
    plan_key: str | None
    status: SubscriptionState | None
    recurring: bool | None
    current_period_start: Time | None
    current_period_end: Time | None
    effective_from: Time | None
    trial_ends_at: Time | None
    quantities: Quantities | None


class SubscriptionAnswer(ScheduledSubscription):
    """The subscription of a mandate, all null without one, and the one that waits for its end."""

    scheduled: ScheduledSubscription | None


class StartSubscription(BaseModel):
    """The plan to start, and where a checkout returns to; a plan that needs none returns nowhere."""

    model_config = ConfigDict(strict=True, extra="ignore")

    plan_key: str = Field(alias="planKey", min_length=1, max_length=64)
    return_url: str | None = Field(alias="returnUrl", default=None, max_length=2048)


class Started(AnswerBody):
    """Where the payer goes next, null when nothing is to be paid."""

    redirect_url: str | None
    subscription: SubscriptionAnswer
