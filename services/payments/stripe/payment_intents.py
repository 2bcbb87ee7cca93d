"""Payments without the payer: a stored method is charged, and found again after a crash."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from services.payments.stripe.gateway import StripeGateway, payment_intent, to_minor
from services.payments.stripe.objects import PaymentIntent

__all__ = ["Charge", "charge_method", "find_charge", "list_intents", "read_intent", "session_of_intent"]


@dataclass(frozen=True, slots=True)
class Charge:
    """What is to be charged; `amount` is in units of the currency, `currency` in capitals."""

    recharge_id: UUID
    mandate_id: str
    user_id: str | None
    amount: Decimal
    currency: str
    customer_id: str
    method_id: str
    description: str


async def charge_method(stripe: StripeGateway, charge: Charge, *, idempotency_key: str) -> PaymentIntent:
    """Charges a stored method; raises StripeDeclined, also where the payer would have to confirm it in person."""
    metadata = {"mandateId": charge.mandate_id, "rechargeId": str(charge.recharge_id)}
    if charge.user_id is not None:
        metadata["userId"] = charge.user_id
    params = {
        "amount": to_minor(charge.amount, charge.currency),
        "currency": charge.currency.lower(),
        "customer": charge.customer_id,
        "payment_method": charge.method_id,
        "off_session": True,
        "confirm": True,
        # Else an intent nobody looks at would be left waiting.
        "error_on_requires_action": True,
        "description": charge.description,
        "metadata": metadata,
        "expand": ["latest_charge"],
    }
    options = {"idempotency_key": idempotency_key}
    return payment_intent(await stripe.ask(lambda v1: v1.payment_intents.create_async(params, options)))


async def find_charge(
    stripe: StripeGateway, customer_id: str, recharge_id: UUID, *, since: datetime
) -> PaymentIntent | None:
    """The payment of a recharge, where Stripe has one: the one that succeeded, else the newest."""
    params = {"customer": customer_id, "created": {"gte": int(since.timestamp()) - 3600}, "limit": 100}
    found = await stripe.read_list("payment_intents", **params, expand=["data.latest_charge"])
    intents = [payment_intent(each) for each in found]
    theirs = [each for each in intents if each.metadata.get("rechargeId") == str(recharge_id)]
    return next((each for each in theirs if each.status == "succeeded"), next(iter(theirs), None))


async def read_intent(stripe: StripeGateway, intent_id: str) -> PaymentIntent:
    """The payment as Stripe has it now; raises StripeObjectUnknown."""
    return payment_intent(await stripe.read("payment_intents", intent_id, expand=["latest_charge"]))


async def list_intents(stripe: StripeGateway, *, created: Mapping[str, int]) -> list[PaymentIntent]:
    """Every payment that was begun in a time (`gte`, `lt`, in seconds since 1970)."""
    found = await stripe.read_list("payment_intents", created=created, limit=100, expand=["data.latest_charge"])
    return [payment_intent(each) for each in found]


async def session_of_intent(stripe: StripeGateway, intent_id: str) -> str | None:
    """The id of the Checkout session that a payment was made in."""
    sessions = await stripe.read_list("checkout/sessions", payment_intent=intent_id, limit=1)
    return str(sessions[0]["id"]) if sessions else None
