"""Payment intents: create, confirm (also off session), cancel."""

from __future__ import annotations

from deploy.fakestripe.listing import table_page
from deploy.fakestripe.objects.payment_attempts import attempt, payment_error
from deploy.fakestripe.objects.payment_methods import obtain
from deploy.fakestripe.operation import (
    Call,
    Operation,
    check_amount,
    check_currency,
    flag,
    merged_metadata,
    one_of,
    refuse,
    retrieval,
    unset_if_empty,
)
from deploy.fakestripe.store import Json
from deploy.fakestripe.wire import StripeError, invalid

CANCELABLE = ("requires_payment_method", "requires_confirmation", "requires_action")
_CONFIRMABLE = CANCELABLE
_UNSUPPORTED = (
    "amount_details",
    "amount_to_confirm",
    "application_fee_amount",
    "confirmation_token",
    "customer_account",
    "hooks",
    "mandate",
    "on_behalf_of",
    "payment_details",
    "payment_method_data",
    "transfer_data",
    "transfer_group",
)
_LOCAL_TYPES = {"chf": ("twint",), "eur": ("sepa_debit",)}
_CONFIRM_ONLY = ("off_session", "error_on_requires_action", "mandate_data", "return_url")


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
        "payment_method_types": eligible_types(currency, given.get("allowed_payment_method_types")),
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
    call.store.add("payment_intent", intent)
    call.emit("payment_intent.created", intent)
    return intent


def eligible_types(currency: str, allowed: list[str] | None) -> list[str]:
    """Return the kinds of payment methods that fit the currency; the allowed ones only filter them, as at Stripe."""
    fitting = ["card", "link", *_LOCAL_TYPES.get(currency, ())]
    types = fitting if allowed is None else [kind for kind in allowed if kind in fitting]
    if not types:
        raise invalid("No valid payment method types for this payment.", "allowed_payment_method_types")
    return types


def cancel_intent(call: Call, intent: Json, reason: str | None) -> None:
    """Cancel an intent that has not been paid, and emit its event."""
    intent |= {"status": "canceled", "canceled_at": call.now, "cancellation_reason": reason, "next_action": None}
    call.emit("payment_intent.canceled", intent)


def _create(call: Call) -> Json:
    params = call.params
    refuse(params, _UNSUPPORTED)
    currency = check_currency(params["currency"])
    check_amount(params["amount"], "amount")
    one_of(params, "setup_future_usage", ("off_session", "on_session"))
    one_of(params, "capture_method", ("automatic", "automatic_async"))
    one_of(params, "confirmation_method", ("automatic",))
    if not params.get("confirm"):
        for name in _CONFIRM_ONLY:
            if name in params:
                raise invalid(f"`{name}` can only be used when `confirm` is true.", name)
    elif "payment_method" not in params:
        message = "You cannot confirm this PaymentIntent because it's missing a payment method."
        raise invalid(message, code="payment_intent_unexpected_state")
    if "customer" in params:
        call.refer("customer", "customer", params["customer"], "customer")
    method = _usable(call, params["payment_method"], params.get("customer")) if "payment_method" in params else None
    intent = new_intent(call, params["amount"], currency, params)
    if method is not None:
        intent |= {"payment_method": method["id"], "status": "requires_confirmation"}
    if method is not None and params.get("confirm"):
        _confirm_with(call, intent, method)
    return intent


def _confirm(call: Call) -> Json:
    refuse(call.params, _UNSUPPORTED)
    intent = call.find("payment_intent", "payment_intent", call.path["intent"])
    _refuse_checkouts(call, intent, "confirm")
    one_of(call.params, "setup_future_usage", ("off_session", "on_session"))
    if intent["status"] not in _CONFIRMABLE:
        raise _unexpected(intent, "confirm", _CONFIRMABLE)
    key = call.params.get("payment_method") or intent["payment_method"]
    if key is None:
        raise _unexpected(intent, "confirm", ("requires_confirmation",))
    method = _usable(call, key, intent["customer"])
    for name in ("receipt_email", "setup_future_usage", "shipping"):
        if name in call.params:
            intent[name] = unset_if_empty(call.params[name])
    _confirm_with(call, intent, method)
    return intent


def _confirm_with(call: Call, intent: Json, method: Json) -> None:
    error = attempt(
        call,
        intent,
        method,
        off_session=flag(call.params, "off_session"),
        fail_on_action=bool(call.params.get("error_on_requires_action")),
        return_url=call.params.get("return_url"),
    )
    if error is not None:
        raise payment_error(intent, error)


def _cancel(call: Call) -> Json:
    intent = call.find("payment_intent", "payment_intent", call.path["intent"])
    _refuse_checkouts(call, intent, "cancel")
    reasons = ("duplicate", "fraudulent", "requested_by_customer", "abandoned")
    one_of(call.params, "cancellation_reason", reasons)
    if intent["status"] not in CANCELABLE:
        raise _unexpected(intent, "cancel", CANCELABLE)
    cancel_intent(call, intent, call.params.get("cancellation_reason"))
    return intent


def _usable(call: Call, key: str, customer: str | None) -> Json:
    """Return the payment method, which has to be free or the customer's own."""
    method = obtain(call, key)
    if method["customer"] != customer and method["customer"] is not None:
        message = (
            "The provided PaymentMethod belongs to another customer, or to one while the payment names none."
            " Please pass its customer."
        )
        raise invalid(message, "payment_method")
    return method


def _refuse_checkouts(call: Call, intent: Json, verb: str) -> None:
    sessions = call.store.table("checkout_session").values()
    if any(session["payment_intent"] == intent["id"] for session in sessions):
        raise invalid(f"You cannot {verb} the PaymentIntent of a Checkout Session.")


def _unexpected(intent: Json, verb: str, allowed: tuple[str, ...]) -> StripeError:
    message = (
        f"You cannot {verb} this PaymentIntent because it has a status of {intent['status']}. Only a PaymentIntent"
        f" with one of the following statuses may be used: {', '.join(allowed)}."
    )
    extra = {"payment_intent": intent}
    return StripeError(400, message, code="payment_intent_unexpected_state", extra=extra)


def _list(call: Call) -> Json:
    return table_page(call, "payment_intent", equal=("customer",), unsupported=("customer_account",))


_ONE = "/v1/payment_intents/{intent}"
OPERATIONS = (
    Operation("POST", "/v1/payment_intents", "PaymentIntentCreateParams", _create),
    Operation("GET", "/v1/payment_intents", "PaymentIntentListParams", _list),
    retrieval(_ONE, "PaymentIntentRetrieveParams", "payment_intent", "payment_intent"),
    Operation("POST", f"{_ONE}/confirm", "PaymentIntentConfirmParams", _confirm),
    Operation("POST", f"{_ONE}/cancel", "PaymentIntentCancelParams", _cancel),
)
