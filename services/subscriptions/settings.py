"""The settings of the subscriptions service (`SUBSCRIPTIONS_*`)."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.chassis.settings import ServiceSettings

__all__ = ["SubscriptionsSettings"]


class SubscriptionsSettings(ServiceSettings):
    """Beside what all services share: the plans, where they are served, how often the clock is looked at."""

    model_config = SettingsConfigDict(
        env_prefix="SUBSCRIPTIONS_", env_nested_delimiter="__", frozen=True, extra="forbid"
    )

    plans_file: Path = Path(__file__).parent / "plans" / "plans.json"
    path_prefix: str = Field(default="/api/subscriptions", pattern=r"^(/[A-Za-z0-9._~-]+)+$")
    # How late the end of a trial or period can be noticed.
    clock_interval_s: float = Field(default=1.0, gt=0, le=3600)
    database_pool_size: int = Field(default=8, ge=2, le=100)
