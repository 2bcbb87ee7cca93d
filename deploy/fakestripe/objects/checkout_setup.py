"""Checkout in mode `setup`: a payment method is saved, and nothing paid."""

from __future__ import annotations

from deploy.fakestripe.objects.customers import new_customer
from deploy.fakestripe.objects.payment_methods import TestCard, new_card
from deploy.fakestripe.objects.setup_intents import new_setup_intent, set_up
from deploy.fakestripe.operation import Call, merged_metadata
from deploy.fakestripe.store import Json
from deploy.fakestripe.wire import invalid, missing

# What of it the intent is made with.
DATA = ("description", "metadata")


def check(params: Json) -> None:
    """Refuse what belongs to other modes or is not supported."""
    for name in ("line_items", "payment_intent_data", "subscription_data"):
        if name in params:
            raise invalid(f"You can not pass `{name}` in `setup` mode.", name)
    if "currency" not in params:
        raise missing("currency")
    data = params.get("setup_intent_data", {})
    merged_metadata({}, data.get("metadata"))


def terms(params: Json) -> Json:
    """Keep what the setup intent is made with."""
    data = params.get("setup_intent_data", {})
    return {name: data[name] for name in DATA if name in data}


def opened(call: Call, session: Json) -> None:
    """Make the setup intent, which such a session has from its beginning."""
    given = {name: value for name, value in call.store.table("checkout_terms")[session["id"]].items() if name != "id"}
    intent = new_setup_intent(call, {**given, "customer": session["customer"], "currency": session["currency"]})
    intent["payment_method_types"] = session["payment_method_types"]
    session["setup_intent"] = intent["id"]


def wants_card(session: Json) -> bool:
    """Say that there is always a card to give."""
    return True


def charge(call: Call, session: Json, card: TestCard, *, authenticated: bool) -> bool:
    """Save a card; not `authenticated`, its holder may have to confirm before."""
    intent = intent_of(call, session)
    email = (session["customer_details"] or {}).get("email")
    if session["customer"] is None and session["customer_creation"] == "always":
        session["customer"] = new_customer(call, {"email": email})["id"]
        intent["customer"] = session["customer"]
    set_up(call, intent, new_card(call, card, email), authenticated=authenticated, return_url=session["success_url"])
    return bool(intent["status"] == "succeeded")


def complete(call: Call, session: Json) -> None:
    """Nothing more belongs to it."""


def start_later(call: Call, session: Json) -> None:
    """Never comes, because nothing is paid."""


def finish_later(call: Call, session: Json, *, paid: bool) -> None:
    """Never comes either."""


def intent_of(call: Call, session: Json) -> Json:
    """Return the intent that waits for the payer."""
    return call.store.table("setup_intent")[session["setup_intent"]]
