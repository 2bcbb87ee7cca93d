"""Request and response models of the webhook."""

from pydantic import BaseModel, ConfigDict

from services.chassis.bodies import AnswerBody

__all__ = ["Received", "StripeEvent"]


class StripeEvent(BaseModel):
    """An event as Stripe sends it; its form is Stripe's."""

    model_config = ConfigDict(extra="allow")

    id: str
    type: str


class Received(AnswerBody):
    """Stripe's event is stored."""

    received: bool
