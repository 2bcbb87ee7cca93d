"""Payment intents: create, confirm (also off session), cancel."""

from __future__ import annotations

from deploy.fakestripe.listing import table_page
from deploy.fakestripe.objects.intents import CANCELABLE, cancel_intent, new_intent
from deploy.fakestripe.objects.invoices import after_attempt, invoice_of
from deploy.fakestripe.objects.payment_attempts import attempt, payment_error
from deploy.fakestripe.objects.payment_methods import obtain
from deploy.fakestripe.operation import (
    Call,
    Operation,
    check_amount,
    check_currency,
    flag,
    one_of,
    refuse,
    retrieval,
    unset_if_empty,
    update,
)
from deploy.fakestripe.store import Json
from deploy.fakestripe.wire import StripeError, invalid

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
_CONFIRM_ONLY = ("off_session", "error_on_requires_action", "mandate_data", "return_url")


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
    after_attempt(call, intent)
    if error is not None:
        raise payment_error(intent, error)


def _cancel(call: Call) -> Json:
    intent = call.find("payment_intent", "payment_intent", call.path["intent"])
    _refuse_checkouts(call, intent, "cancel")
    reasons = ("duplicate", "fraudulent", "requested_by_customer", "abandoned")
    one_of(call.params, "cancellation_reason", reasons)
    if invoice_of(call, intent) is not None:
        raise invalid("You cannot cancel the PaymentIntent of an invoice. Void the invoice instead.")
    if intent["status"] not in CANCELABLE:
        raise _unexpected(intent, "cancel", CANCELABLE)
    cancel_intent(call, intent, call.params.get("cancellation_reason"))
    return intent


def _update(call: Call) -> Json:
    refuse(call.params, (*_UNSUPPORTED, "amount", "currency", "customer", "payment_method"))
    intent = call.find("payment_intent", "payment_intent", call.path["intent"])
    one_of(call.params, "setup_future_usage", ("off_session", "on_session"))
    return update(call, intent, ("description", "receipt_email", "setup_future_usage", "shipping"), None)


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
    if any(session.get("payment_intent") == intent["id"] for session in sessions):
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
    Operation("POST", _ONE, "PaymentIntentUpdateParams", _update),
    Operation("POST", f"{_ONE}/confirm", "PaymentIntentConfirmParams", _confirm),
    Operation("POST", f"{_ONE}/cancel", "PaymentIntentCancelParams", _cancel),
)
