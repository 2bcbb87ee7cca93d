"""Bodies of the payments service's public operations, as the OpenAPI document shows them."""

from pydantic import ConfigDict

from rappen_contracts.types import Identifier
from services.gateway.api.documents.common import Amount, Document, MoneyObject

__all__ = ["Checkout", "CheckoutOptions", "Confirmation", "Confirmed", "Received", "Redirect", "StripeEvent"]


class CheckoutOptions(Document):
    """The amounts that can be paid in."""

    amounts: list[MoneyObject]


class Checkout(Document):
    """A top-up to be paid; `userId` is required where members have budgets of their own."""

    user_id: Identifier | None = None
    amount: Amount
    return_url: str


class Redirect(Document):
    """Where the payer goes next."""

    redirect_url: str


class Confirmation(Document):
    """The checkout session that the payer came back from."""

    session_id: str


class Confirmed(Document):
    """What was credited, now or before."""

    credited: bool
    already_credited: bool
    session_id: str
    mandate_id: str
    amount_chf: Amount


class StripeEvent(Document):
    """An event as Stripe sends it; its form is Stripe's."""

    model_config = ConfigDict(extra="allow")

    id: str
    type: str


class Received(Document):
    """Stripe's event is stored."""

    received: bool
