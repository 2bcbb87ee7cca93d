"""Payment intents as objects: made, cancelled, and the kinds of payment methods they take."""

from __future__ import annotations

from deploy.fakestripe.operation import Call, merged_metadata, unset_if_empty
from deploy.fakestripe.store import Json
from deploy.fakestripe.wire import invalid

# How money is taken; reserved first and taken later it is not.
CAPTURES = ("automatic", "automatic_async")
CANCELABLE = ("requires_payment_method", "requires_confirmation", "requires_action")
# In the smallest unit; TWINT takes no more at once.
MAX_TWINT = 500_000
_LOCAL_TYPES = {"chf": ("twint",), "eur": ("sepa_debit",)}


def new_intent(call: Call, amount: int, currency: str, given: Json) -> Json:
    """Store a payment intent that still needs a payment method, and emit its event.

    `given` may hold customer, description, metadata, receipt_email, setup_future_usage and the suffix of the
    statement descriptor.
    """
    key = call.store.new_id("pi_")
    automatic = given.get("automatic_payment_methods", {"enabled": True})
    intent: Json = {
        "id": key,
        "object": "payment_intent",
        "amount": amount,
        "amount_capturable": 0,
        "amount_details": {"tip": {}},
        "amount_received": 0,
        "application": None,
        "application_fee_amount": None,
        "automatic_payment_methods": {"allow_redirects": "always", **automatic},
        "canceled_at": None,
        "cancellation_reason": None,
        "capture_method": given.get("capture_method", "automatic_async"),
        "client_secret": f"{key}_secret_{call.store.new_id('')}",
        "confirmation_method": "automatic",
        "created": call.now,
        "currency": currency,
        "customer": given.get("customer"),
        "description": unset_if_empty(given.get("description")),
        "last_payment_error": None,
        "latest_charge": None,
        "livemode": False,
        "metadata": merged_metadata({}, given.get("metadata")),
        "next_action": None,
        "on_behalf_of": None,
        "payment_method": None,
        "payment_method_configuration_details": None,
        "payment_method_options": {},
        "payment_method_types": eligible_types(currency, given.get("allowed_payment_method_types"), amount),
        "processing": None,
        "receipt_email": unset_if_empty(given.get("receipt_email")),
        "review": None,
        "setup_future_usage": unset_if_empty(given.get("setup_future_usage")),
        "shipping": unset_if_empty(given.get("shipping")),
        "source": None,
        "statement_descriptor": unset_if_empty(given.get("statement_descriptor")),
        "statement_descriptor_suffix": unset_if_empty(given.get("statement_descriptor_suffix")),
        "status": "requires_payment_method",
        "transfer_data": None,
        "transfer_group": None,
    }
    if "allowed_payment_method_types" in given:
        intent["allowed_payment_method_types"] = given["allowed_payment_method_types"]
    call.store.add("payment_intent", intent)
    call.emit("payment_intent.created", intent)
    return intent


def eligible_types(currency: str, allowed: list[str] | None, amount: int | None = None) -> list[str]:
    """Return the kinds of payment methods that fit the currency, and the amount where something is paid.

    The allowed ones only filter them, as at Stripe.
    """
    local = _LOCAL_TYPES.get(currency, ())
    fitting = ["card", "link", *(kind for kind in local if kind != "twint" or (amount or 0) <= MAX_TWINT)]
    types = fitting if allowed is None else [kind for kind in allowed if kind in fitting]
    if not types:
        raise invalid("No valid payment method types for this payment.", "allowed_payment_method_types")
    return types


def cancel_intent(call: Call, intent: Json, reason: str | None) -> None:
    """Cancel an intent that has not been paid, and emit its event."""
    intent |= {"status": "canceled", "canceled_at": call.now, "cancellation_reason": reason, "next_action": None}
    call.emit("payment_intent.canceled", intent)
