"""Bodies of the subscriptions service's public operations, as the OpenAPI document shows them."""

from services.gateway.api.documents.common import Document, Loose, Time

__all__ = ["Plans", "StartSubscription", "Started", "SubscriptionAnswer"]

Plans = Loose | list[Loose]


class Quantities(Document):
    """What a subscription is billed for."""

    members: int | None
    feature_instances: int | None


class SubscriptionAnswer(Document):
    """The subscription of a mandate; all null without one."""

    id: str | None
    mandate_id: str | None
    plan_key: str | None
    status: str | None
    recurring: bool | None
    current_period_start: Time | None
    current_period_end: Time | None
    effective_from: Time | None
    trial_ends_at: Time | None
    quantities: Quantities | None
    scheduled: Loose | None = None


class StartSubscription(Document):
    """The plan to start, and where the payer comes back to."""

    plan_key: str
    return_url: str | None = None


class Started(Document):
    """Where the payer goes next, null when nothing is to be paid."""

    redirect_url: str | None
    subscription: SubscriptionAnswer
