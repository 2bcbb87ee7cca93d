"""How the webhooks of something that the control surface brings about go wrong on purpose."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from deploy.fakestripe.webhooks import Disturbance


class Webhooks(BaseModel):
    """How the webhooks of a payment go wrong: extra copies, seconds of delay, another order, or none at all."""

    model_config = ConfigDict(extra="forbid")

    duplicate: int = Field(default=0, ge=0, le=100)
    delay_s: float = Field(default=0.0, ge=0, le=30 * 24 * 3600, allow_inf_nan=False)
    shuffle: bool = False
    drop: bool = False

    def disturbance(self) -> Disturbance:
        """Return it as the outbox takes it."""
        return Disturbance(**self.model_dump())
