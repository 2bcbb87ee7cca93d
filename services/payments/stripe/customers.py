"""Customers at Stripe, their payment methods, and the pages on which they manage those."""

from services.payments.stripe.errors import StripeObjectUnknown
from services.payments.stripe.gateway import StripeGateway
from services.payments.stripe.json_values import id_of

__all__ = ["chargeable_method", "create_customer", "default_method", "open_portal"]


async def create_customer(stripe: StripeGateway, mandate_id: str, *, idempotency_key: str) -> str:
    """The id of a new customer for a mandate."""
    params = {"metadata": {"mandateId": mandate_id}}
    options = {"idempotency_key": idempotency_key}
    customer = await stripe.ask(lambda v1: v1.customers.create_async(params, options))
    return str(customer["id"])


async def default_method(stripe: StripeGateway, customer_id: str) -> str | None:
    """The method that the customer has chosen for what is charged without them; None also for a deleted customer."""
    try:
        customer = await stripe.ask(lambda v1: v1.customers.retrieve_async(customer_id))
    except StripeObjectUnknown:
        return None
    settings = customer.get("invoice_settings")
    return id_of(settings.get("default_payment_method")) if isinstance(settings, dict) else None


async def chargeable_method(stripe: StripeGateway, customer_id: str, stored: str | None) -> str | None:
    """The method to charge: the customer's choice, else the one that was stored if it is still theirs, else their
    newest."""
    chosen = await default_method(stripe, customer_id)
    if chosen is not None:
        return chosen
    try:
        methods = await stripe.ask_list(lambda v1: v1.customers.payment_methods.list_async(customer_id, {"limit": 100}))
    except StripeObjectUnknown:
        return None
    theirs = [str(each["id"]) for each in methods]
    return stored if stored in theirs else next(iter(theirs), None)


async def open_portal(stripe: StripeGateway, customer_id: str, *, return_url: str, language: str) -> str:
    """The address of a page on which the customer sees invoices and changes methods and subscriptions."""
    params = {"customer": customer_id, "return_url": return_url, "locale": "de" if language == "de" else "en"}
    session = await stripe.ask(lambda v1: v1.billing_portal.sessions.create_async(params))
    return str(session["url"])
