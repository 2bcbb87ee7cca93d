"""Checkout in mode `payment`: one payment intent, made when the customer first tries to pay."""

from __future__ import annotations

from deploy.fakestripe.objects.customers import new_customer
from deploy.fakestripe.objects.intents import CAPTURES, new_intent
from deploy.fakestripe.objects.payment_attempts import attempt, finish_bank_debit, start_bank_debit
from deploy.fakestripe.objects.payment_methods import TestCard, new_bank_debit, new_card
from deploy.fakestripe.operation import Call, merged_metadata, support_only
from deploy.fakestripe.store import Json
from deploy.fakestripe.wire import invalid

_FOREIGN = ("setup_intent_data", "subscription_data")
# What of it the intent is made with.
DATA = (
    "capture_method",
    "description",
    "metadata",
    "receipt_email",
    "setup_future_usage",
    "statement_descriptor",
    "statement_descriptor_suffix",
)


def check(params: Json) -> None:
    """Refuse what belongs to other modes or is not supported."""
    for name in _FOREIGN:
        if name in params:
            raise invalid(f"You can not pass `{name}` in `payment` mode.", name)
    data = params.get("payment_intent_data", {})
    support_only(data, "capture_method", CAPTURES, "payment_intent_data[capture_method]")
    merged_metadata({}, data.get("metadata"))


def terms(params: Json) -> Json:
    """Keep what the payment intent will be made with."""
    data = params.get("payment_intent_data", {})
    return {name: data[name] for name in DATA if name in data}


def opened(call: Call, session: Json) -> None:
    """Nothing more belongs to a session that was just made."""


def wants_card(session: Json) -> bool:
    """Tell whether the customer has to give a card: not for what costs nothing."""
    return bool(session["amount_total"])


def complete(call: Call, session: Json) -> None:
    """Nothing more belongs to one that was paid."""


def intent_of(call: Call, session: Json) -> Json | None:
    """Return the payment intent of the attempts, if there was one."""
    key = session["payment_intent"]
    return None if key is None else call.store.table("payment_intent")[key]


def charge(call: Call, session: Json, card: TestCard, *, authenticated: bool) -> bool:
    """Charge a card; not `authenticated`, its holder may have to confirm before it is paid."""
    intent = _intent(call, session)
    method = new_card(call, card, _email(session))
    attempt(call, intent, method, authenticated=authenticated)
    return bool(intent["status"] == "succeeded")


def start_later(call: Call, session: Json) -> None:
    """Begin a bank debit."""
    intent = _intent(call, session)
    start_bank_debit(call, intent, new_bank_debit(call, _email(session)))


def finish_later(call: Call, session: Json, *, paid: bool) -> None:
    """Let the bank report whether the money came."""
    finish_bank_debit(call, call.store.table("payment_intent")[session["payment_intent"]], paid=paid)


def _intent(call: Call, session: Json) -> Json:
    """Return the session's payment intent; the first attempt makes it, and a customer when one is needed."""
    intents = call.store.table("payment_intent")
    if session["payment_intent"] is not None:
        return intents[session["payment_intent"]]
    given = {name: value for name, value in call.store.table("checkout_terms")[session["id"]].items() if name != "id"}
    wants_customer = session["customer_creation"] == "always" or "setup_future_usage" in given
    if session["customer"] is None and wants_customer:
        session["customer"] = new_customer(call, {"email": _email(session)})["id"]
    members = {**given, "customer": session["customer"]}
    intent = new_intent(call, session["amount_total"], session["currency"], members)
    intent["payment_method_types"] = session["payment_method_types"]
    session["payment_intent"] = intent["id"]
    return intent


def _email(session: Json) -> str | None:
    email: str | None = (session["customer_details"] or {}).get("email")
    return email
