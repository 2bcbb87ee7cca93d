"""The settings of the subscriptions service (`SUBSCRIPTIONS_*`)."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from rappen_contracts.subscription.v1 import SubscriptionState
from services.chassis.settings import ServiceSettings

__all__ = ["SubscriptionsSettings"]


class SubscriptionsSettings(ServiceSettings):
    """Beside what all services share: plans and features, where plans are served, how often the clock is looked at, and
    how long the store waits for other services."""

    model_config = SettingsConfigDict(
        env_prefix="SUBSCRIPTIONS_", env_nested_delimiter="__", frozen=True, extra="forbid"
    )

    plans_file: Path = Path(__file__).parent / "plans" / "plans.json"
    features_file: Path = Path(__file__).parent / "store" / "features.json"
    path_prefix: str = Field(default="/api/subscriptions", pattern=r"^(/[A-Za-z0-9._~-]+)+$")
    # How late the end of a trial or period can be noticed.
    clock_interval_s: float = Field(default=1.0, gt=0, le=3600)
    # The trial of a personal mandate.
    personal_plan: str = "TRIAL_7D"
    # States that the frontend of the store knows by another word.
    store_state_names: dict[SubscriptionState, str] = Field(default={"CANCELED": "ACTIVE"})
    # An activation that is not done by then is rolled back; shorter than the time of an answer.
    activation_wait_s: float = Field(default=6.5, gt=0, le=8)
    # Until the directory has what the store has decided.
    directory_wait_s: float = Field(default=5.0, ge=0, le=8)
    recovery_interval_s: float = Field(default=1.0, gt=0, le=3600)
    database_pool_size: int = Field(default=8, ge=2, le=100)
