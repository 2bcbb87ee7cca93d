"""The settings of the subscriptions service (`SUBSCRIPTIONS_*`)."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from rappen_contracts.subscription.v1 import SubscriptionState
from services.chassis.return_url import Marks, Origin, Parameter
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
    # Where a payer may be sent back to from a checkout, and also pages on this machine, whatever their port.
    return_origins: tuple[Origin, ...] = ()
    loopback_origins: bool = False
    # The parameters added to a return URL.
    return_success_parameter: Parameter = "success"
    return_session_parameter: Parameter = "session_id"
    return_canceled_parameter: Parameter = "canceled"
    # How long a subscription stays usable after a payment of it has failed.
    grace_days: int = Field(default=7, ge=0, le=90)
    # How long the start of a paid plan waits for its checkout, which is the answer; below the limit of an answer.
    checkout_wait_s: float = Field(default=7.0, gt=0, le=8)
    # How many days before the end of a trial its mandate is reminded, once for each.
    trial_reminder_days: tuple[Annotated[int, Field(ge=1, le=365)], ...] = (3, 1)
    # The trial of a personal mandate.
    personal_plan: str = "TRIAL_7D"
    # States that the frontend of the store knows by another word.
    store_state_names: dict[SubscriptionState, str] = Field(default={"CANCELED": "ACTIVE"})
    # An activation that is not done by then is rolled back; shorter than the time of an answer.
    activation_wait_s: float = Field(default=6.5, gt=0, le=8)
    # Until the directory has what the store has decided.
    directory_wait_s: float = Field(default=5.0, ge=0, le=8)
    database_pool_size: int = Field(default=8, ge=2, le=100)

    @property
    def return_marks(self) -> Marks:
        """The names of the parameters added to a return URL."""
        return Marks(
            success=self.return_success_parameter,
            session_id=self.return_session_parameter,
            canceled=self.return_canceled_parameter,
        )

    @model_validator(mode="after")
    def _payers_come_back_to_us(self) -> Self:
        if self.environment == "production" and self.loopback_origins:
            raise ValueError("loopback_origins is for development")
        return self
