"""Customers at Stripe, their payment methods, and the pages on which they manage those."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from services.payments.stripe.errors import StripeObjectUnknown
from services.payments.stripe.gateway import StripeGateway
from services.payments.stripe.json_values import id_of, time_of
from services.payments.stripe.objects import OpenedSession

__all__ = [
    "PaymentMethod",
    "Setup",
    "chargeable_method",
    "create_customer",
    "default_method",
    "is_deleted",
    "method_of_setup",
    "open_portal",
    "open_setup",
    "read_method",
]


@dataclass(frozen=True, slots=True)
class Setup:
    """A method to be saved for payments without the payer."""

    checkout_id: UUID
    mandate_id: str
    customer_id: str
    language: str
    success_url: str
    cancel_url: str


async def create_customer(stripe: StripeGateway, mandate_id: str, *, idempotency_key: str) -> str:
    """The id of a new customer for a mandate."""
    params = {"metadata": {"mandateId": mandate_id}}
    options = {"idempotency_key": idempotency_key}
    customer = await stripe.ask(lambda v1: v1.customers.create_async(params, options))
    return str(customer["id"])


async def default_method(stripe: StripeGateway, customer_id: str) -> str | None:
    """The method that the customer has chosen for what is charged without them; None also for a deleted customer."""
    try:
        customer = await stripe.read("customers", customer_id)
    except StripeObjectUnknown:
        return None
    settings = customer.get("invoice_settings")
    return id_of(settings.get("default_payment_method")) if isinstance(settings, dict) else None


async def is_deleted(stripe: StripeGateway, customer_id: str) -> bool:
    """Whether Stripe charges nothing to the customer any more."""
    try:
        customer = await stripe.read("customers", customer_id)
    except StripeObjectUnknown:
        return True
    return customer.get("deleted") is True


async def chargeable_method(stripe: StripeGateway, customer_id: str, stored: str | None) -> str | None:
    """The method to charge: the customer's choice, else the one that was stored if it is still theirs, else their
    newest."""
    chosen = await default_method(stripe, customer_id)
    if chosen is not None:
        return chosen
    try:
        methods = await stripe.read_list(f"customers/{customer_id}/payment_methods", limit=100)
    except StripeObjectUnknown:
        return None
    theirs = [str(each["id"]) for each in methods]
    return stored if stored in theirs else next(iter(theirs), None)


async def open_setup(stripe: StripeGateway, setup: Setup, *, idempotency_key: str) -> OpenedSession:
    """Makes the session in which a customer's method is saved; the same key and setup give the same session."""
    metadata = {"mandateId": setup.mandate_id, "checkoutId": str(setup.checkout_id)}
    params = {
        "mode": "setup",
        "currency": "chf",
        "customer": setup.customer_id,
        "client_reference_id": str(setup.checkout_id),
        "metadata": metadata,
        "setup_intent_data": {"metadata": metadata},
        "locale": "de" if setup.language == "de" else "en",
        "success_url": setup.success_url,
        "cancel_url": setup.cancel_url,
    }
    options = {"idempotency_key": idempotency_key}
    session = await stripe.ask(lambda v1: v1.checkout.sessions.create_async(params, options))
    return OpenedSession(id=session["id"], url=session["url"])


async def open_portal(stripe: StripeGateway, customer_id: str, *, return_url: str, language: str) -> str:
    """The address of a page on which the customer sees invoices and changes methods and subscriptions."""
    params = {"customer": customer_id, "return_url": return_url, "locale": "de" if language == "de" else "en"}
    session = await stripe.ask(lambda v1: v1.billing_portal.sessions.create_async(params))
    return str(session["url"])


@dataclass(frozen=True, slots=True)
class PaymentMethod:
    """A method, whose it is, and when Stripe made it; no customer once it was taken away from them, and no time where
    Stripe does not have it any more."""

    id: str
    customer_id: str | None
    created_at: datetime | None


async def method_of_setup(stripe: StripeGateway, setup_intent_id: str) -> str | None:
    """The method that a setup has saved; None while it has not. Raises StripeObjectUnknown."""
    found = await stripe.read("setup_intents", setup_intent_id)
    return id_of(found.get("payment_method")) if found.get("status") == "succeeded" else None


async def read_method(stripe: StripeGateway, method_id: str) -> PaymentMethod:
    """A method as it is now."""
    try:
        found = await stripe.read("payment_methods", method_id)
    except StripeObjectUnknown:
        return PaymentMethod(method_id, None, None)
    return PaymentMethod(method_id, id_of(found.get("customer")), time_of(found.get("created")))
