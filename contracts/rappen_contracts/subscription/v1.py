"""Every transition and renewal of a mandate's subscription, and trials that are about to end."""

from typing import Literal

from rappen_contracts.types import (
    Contract,
    Count,
    EventId,
    Identifier,
    Name,
    NonNegativeDecimal,
    NonNegativeMoney,
    Text,
    Timestamp,
)

__all__ = ["Plan", "SubscriptionChanged", "SubscriptionState", "TrialEnding"]

SubscriptionState = Literal["PENDING", "TRIALING", "SCHEDULED", "ACTIVE", "PAST_DUE", "CANCELED", "EXPIRED"]


class Plan(Contract):
    """The terms of the plan in force; null means no limit, no markup of its own, and that storage is not charged."""

    key: Name
    budget: NonNegativeMoney
    budget_per: Literal["mandate", "member"] = "mandate"
    rollover: bool = False
    max_users: Count | None = None
    max_feature_instances: Count | None = None
    max_data_volume_mb: Count | None = None
    markup_percent: NonNegativeDecimal | None = None
    storage_price_per_gb_month: NonNegativeMoney | None = None


class SubscriptionChanged(Contract):
    """A subscription's new state with the plan and period it has now.

    `operative` says whether it may be used now. `budget_due` says that a period has begun and is paid for, where it is
    to be paid: the plan's budget of it is to be credited, and the storage of the one before to be charged. The identity
    of either is the subscription and the period's start, so saying it twice does it once. `version` counts the changes
    of one subscription, so that a reader can drop what is older than what it has.
    """

    mandate_id: Identifier
    subscription_id: EventId
    version: Count
    from_state: SubscriptionState | None = None
    to_state: SubscriptionState
    operative: bool
    budget_due: bool = False
    plan: Plan
    period_start: Timestamp | None = None
    period_end: Timestamp | None = None
    cause: Text


class TrialEnding(Contract):
    """A trial ends soon: published once for each reminder that the configuration names, `days_left` before its end."""

    mandate_id: Identifier
    subscription_id: EventId
    plan_key: Name
    trial_ends_at: Timestamp
    days_left: Count
    cause: Text
