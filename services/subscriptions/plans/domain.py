"""A plan: what a mandate pays, what it may use and what it is given in each period."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

__all__ = ["BillingPeriod", "Plan"]

BillingPeriod = Literal["month", "year"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One plan's terms. Amounts are CHF with six places; null is no limit, and no markup of the plan's own."""

    key: str
    label_de: str
    label_en: str
    price_per_user: Decimal
    price_per_feature_instance: Decimal
    storage_price_per_gb_month: Decimal
    billing_period: BillingPeriod
    max_users: int | None
    max_feature_instances: int | None
    max_data_volume_mb: int | None
    budget_ai: Decimal
    budget_per: Literal["mandate", "member"]
    rollover: bool
    trial_days: int
    requires_stripe: bool
    markup_percent: Decimal | None
    operator_only: bool

    @property
    def is_trial(self) -> bool:
        """Whether it runs once, for its trial days, and then expires unless another plan was started."""
        return self.trial_days > 0 and not self.requires_stripe
