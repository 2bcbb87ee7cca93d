"""Setup intents: a payment method is saved for later, without a payment."""

from __future__ import annotations

import copy

from deploy.fakestripe.listing import PAGE, table_page
from deploy.fakestripe.objects.intents import CANCELABLE, eligible_types
from deploy.fakestripe.objects.mandates import keep_for_later
from deploy.fakestripe.objects.payment_methods import (
    attach,
    card_of,
    decline_members,
    decline_message,
    message_of,
    obtain,
)
from deploy.fakestripe.operation import (
    Call,
    Operation,
    merged_metadata,
    retrieval,
    unset_if_empty,
    update,
)
from deploy.fakestripe.store import Json
from deploy.fakestripe.wire import StripeError, invalid

_TAKES = (
    "allowed_payment_method_types",
    "automatic_payment_methods",
    "confirm",
    "customer",
    "description",
    "metadata",
    "payment_method",
    "return_url",
    "usage",
)
_FILTERS = ("customer", "payment_method")


def new_setup_intent(call: Call, given: Json) -> Json:
    """Store a setup intent that still needs a payment method, and emit its event."""
    key = call.store.new_id("seti_")
    intent: Json = {
        "id": key,
        "object": "setup_intent",
        "application": None,
        "automatic_payment_methods": {
            "allow_redirects": "always",
            **given.get("automatic_payment_methods", {"enabled": True}),
        },
        "cancellation_reason": None,
        "client_secret": f"{key}_secret_{call.store.new_id('')}",
        "created": call.now,
        "customer": given.get("customer"),
        "description": unset_if_empty(given.get("description")),
        "flow_directions": None,
        "last_setup_error": None,
        "latest_attempt": None,
        "livemode": False,
        "mandate": None,
        "metadata": merged_metadata({}, given.get("metadata")),
        "next_action": None,
        "on_behalf_of": None,
        "payment_method": None,
        "payment_method_configuration_details": None,
        "payment_method_options": {},
        "payment_method_types": eligible_types(given.get("currency", "chf"), given.get("allowed_payment_method_types")),
        "single_use_mandate": None,
        "status": "requires_payment_method",
        "usage": given.get("usage", "off_session"),
    }
    if "allowed_payment_method_types" in given:
        intent["allowed_payment_method_types"] = given["allowed_payment_method_types"]
    call.store.add("setup_intent", intent)
    call.emit("setup_intent.created", intent)
    return intent


def set_up(
    call: Call, intent: Json, method: Json, *, authenticated: bool = False, return_url: str | None = None
) -> Json | None:
    """Save the payment method; return None when that is done or waits for the holder, else the intent's error."""
    card = card_of(call, method)
    intent |= {"payment_method": method["id"], "next_action": None, "last_setup_error": None}
    if not card.attachable:
        error = {"code": card.code, "message": decline_message(card), **decline_members(card)}
        return fail_setup(call, intent, method, error)
    if not authenticated and card.authentication is not None:
        url = f"{call.settings.public_url}/authenticate/{intent['id']}"
        action = {"redirect_to_url": {"return_url": return_url, "url": url}, "type": "redirect_to_url"}
        intent |= {"status": "requires_action", "next_action": action}
        call.emit("setup_intent.requires_action", intent)
        return None
    intent["status"] = "succeeded"
    if intent["usage"] == "off_session":
        mandate = keep_for_later(call, method)
        intent["mandate"] = None if mandate is None else mandate["id"]
    if intent["customer"] and method["customer"] is None:
        attach(call, method, intent["customer"])
    call.emit("setup_intent.succeeded", intent)
    return None


def fail_setup(call: Call, intent: Json, method: Json, failure: Json) -> Json:
    """Make the intent want another payment method; return its error."""
    error = {**failure, "payment_method": copy.deepcopy(method), "type": "card_error"}
    intent |= {"status": "requires_payment_method", "payment_method": None, "last_setup_error": error}
    intent["next_action"] = None
    call.emit("setup_intent.setup_failed", intent)
    return error


def refuse_authentication(call: Call, intent: Json, method: Json) -> Json:
    """Let the holder refuse to confirm."""
    code = "setup_intent_authentication_failure"
    return fail_setup(call, intent, method, {"code": code, "message": message_of(code)})


def _create(call: Call) -> Json:
    params = call.params
    if "customer" in params:
        call.refer("customer", "customer", params["customer"], "customer")
    if params.get("confirm") and "payment_method" not in params:
        raise invalid("You cannot confirm this SetupIntent because it's missing a payment method.", "payment_method")
    method = _usable(call, params["payment_method"], params.get("customer")) if "payment_method" in params else None
    intent = new_setup_intent(call, params)
    if method is not None:
        intent |= {"payment_method": method["id"], "status": "requires_confirmation"}
    if method is not None and params.get("confirm"):
        _confirm_with(call, intent, method)
    return intent


def _confirm(call: Call) -> Json:
    intent = call.find("setup_intent", "setupintent", call.path["intent"])
    if intent["status"] not in CANCELABLE:
        raise _unexpected(intent, "confirm")
    key = call.params.get("payment_method") or intent["payment_method"]
    if key is None:
        raise _unexpected(intent, "confirm")
    _confirm_with(call, intent, _usable(call, key, intent["customer"]))
    return intent


def _confirm_with(call: Call, intent: Json, method: Json) -> None:
    error = set_up(call, intent, method, return_url=call.params.get("return_url"))
    if error is not None:
        members = {name: value for name, value in error.items() if name not in {"type", "code", "message"}}
        extra = copy.deepcopy({**members, "setup_intent": intent})
        raise StripeError(402, error["message"], kind="card_error", code=error["code"], extra=extra)


def _usable(call: Call, key: str, customer: str | None) -> Json:
    method = obtain(call, key)
    if method["customer"] not in (None, customer):
        raise invalid("The provided PaymentMethod belongs to another customer.", "payment_method")
    return method


def _unexpected(intent: Json, verb: str) -> StripeError:
    message = f"You cannot {verb} this SetupIntent because it has a status of {intent['status']}."
    return StripeError(400, message, code="setup_intent_unexpected_state", extra={"setup_intent": intent})


def _cancel(call: Call) -> Json:
    intent = call.find("setup_intent", "setupintent", call.path["intent"])
    if intent["status"] not in CANCELABLE:
        raise _unexpected(intent, "cancel")
    cancel_setup(call, intent, call.params.get("cancellation_reason"))
    return intent


def cancel_setup(call: Call, intent: Json, reason: str | None) -> None:
    """Cancel an intent that has saved nothing, and emit its event."""
    intent |= {"status": "canceled", "cancellation_reason": reason, "next_action": None}
    call.emit("setup_intent.canceled", intent)


def _update(call: Call) -> Json:
    intent = call.find("setup_intent", "setupintent", call.path["intent"])
    return update(call, intent, ("description",), None)


def _list(call: Call) -> Json:
    return table_page(call, "setup_intent", equal=_FILTERS)


_ONE = "/v1/setup_intents/{intent}"
OPERATIONS = (
    Operation("POST", "/v1/setup_intents", "SetupIntentCreateParams", _create, _TAKES),
    Operation("GET", "/v1/setup_intents", "SetupIntentListParams", _list, (*PAGE, "created", *_FILTERS)),
    retrieval(_ONE, "SetupIntentRetrieveParams", "setup_intent", "setupintent"),
    Operation("POST", _ONE, "SetupIntentUpdateParams", _update, ("description", "metadata")),
    Operation("POST", f"{_ONE}/confirm", "SetupIntentConfirmParams", _confirm, ("payment_method", "return_url")),
    Operation("POST", f"{_ONE}/cancel", "SetupIntentCancelParams", _cancel, ("cancellation_reason",)),
)
