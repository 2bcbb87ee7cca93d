"""Payment intents: create, confirm (also off session), cancel."""

from __future__ import annotations

from deploy.fakestripe.listing import PAGE, table_page
from deploy.fakestripe.objects.intents import CANCELABLE, CAPTURES, cancel_intent, eligible_types, new_intent
from deploy.fakestripe.objects.invoices import after_attempt, invoice_of
from deploy.fakestripe.objects.payment_attempts import attempt, payment_error
from deploy.fakestripe.objects.payment_methods import obtain
from deploy.fakestripe.operation import (
    Call,
    Operation,
    check_amount,
    check_currency,
    flag,
    retrieval,
    support_only,
    unset_if_empty,
    update,
)
from deploy.fakestripe.store import Json
from deploy.fakestripe.wire import StripeError, invalid

_CONFIRMABLE = CANCELABLE
_CONFIRM_ONLY = ("off_session", "error_on_requires_action", "return_url")
_WRITABLE = ("description", "receipt_email", "setup_future_usage", "shipping")
_CREATE_TAKES = (
    *_WRITABLE,
    *_CONFIRM_ONLY,
    "allowed_payment_method_types",
    "amount",
    "automatic_payment_methods",
    "capture_method",
    "confirm",
    "confirmation_method",
    "currency",
    "customer",
    "metadata",
    "payment_method",
    "statement_descriptor",
    "statement_descriptor_suffix",
)
_CONFIRM_TAKES = (*_CONFIRM_ONLY, "payment_method", "receipt_email", "setup_future_usage", "shipping")


def _create(call: Call) -> Json:
    params = call.params
    currency = check_currency(params["currency"])
    check_amount(params["amount"], "amount")
    support_only(params, "capture_method", CAPTURES)
    support_only(params, "confirmation_method", ("automatic",))
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
    if method is not None:
        _check_kind(method, eligible_types(currency, params.get("allowed_payment_method_types"), params["amount"]))
    intent = new_intent(call, params["amount"], currency, params)
    if method is not None:
        intent |= {"payment_method": method["id"], "status": "requires_confirmation"}
    if method is not None and params.get("confirm"):
        _confirm_with(call, intent, method)
    return intent


def _confirm(call: Call) -> Json:
    intent = call.find("payment_intent", "payment_intent", call.path["intent"])
    _refuse_checkouts(call, intent, "confirm")
    if intent["status"] not in _CONFIRMABLE:
        raise _unexpected(intent, "confirm", _CONFIRMABLE)
    key = call.params.get("payment_method") or intent["payment_method"]
    if key is None:
        raise _unexpected(intent, "confirm", ("requires_confirmation",))
    method = _usable(call, key, intent["customer"])
    _check_kind(method, intent["payment_method_types"])
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
    if invoice_of(call, intent) is not None:
        raise invalid("You cannot cancel the PaymentIntent of an invoice. Void the invoice instead.")
    if intent["status"] not in CANCELABLE:
        raise _unexpected(intent, "cancel", CANCELABLE)
    cancel_intent(call, intent, call.params.get("cancellation_reason"))
    return intent


def _update(call: Call) -> Json:
    intent = call.find("payment_intent", "payment_intent", call.path["intent"])
    return update(call, intent, _WRITABLE, None)


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


def _check_kind(method: Json, types: list[str]) -> None:
    """Refuse a payment method of a kind that does not fit the currency, the amount or what the payment allows.

    Bank debits go along everywhere, because they stand for whatever is paid later.
    """
    if method["type"] not in (*types, "sepa_debit"):
        message = f"The PaymentMethod provided ({method['type']}) is not allowed for this PaymentIntent."
        raise invalid(message, "payment_method")


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
    return table_page(call, "payment_intent", equal=("customer",))


_ONE = "/v1/payment_intents/{intent}"
OPERATIONS = (
    Operation("POST", "/v1/payment_intents", "PaymentIntentCreateParams", _create, _CREATE_TAKES),
    Operation("GET", "/v1/payment_intents", "PaymentIntentListParams", _list, (*PAGE, "created", "customer")),
    retrieval(_ONE, "PaymentIntentRetrieveParams", "payment_intent", "payment_intent"),
    Operation("POST", _ONE, "PaymentIntentUpdateParams", _update, (*_WRITABLE, "metadata")),
    Operation("POST", f"{_ONE}/confirm", "PaymentIntentConfirmParams", _confirm, _CONFIRM_TAKES),
    Operation("POST", f"{_ONE}/cancel", "PaymentIntentCancelParams", _cancel, ("cancellation_reason",)),
)
