"""Checkout in mode `subscription`: the subscription and its invoice are made once the customer has paid.

Until then an attempt leaves only a payment intent behind (or, where nothing is due, a setup intent), which the session
does not show.
"""

from __future__ import annotations

from deploy.fakestripe.objects.customers import new_customer
from deploy.fakestripe.objects.intents import new_intent
from deploy.fakestripe.objects.invoice_lines import new_invoice_item
from deploy.fakestripe.objects.invoices import finalize, mark_paid, note_attempt_failed
from deploy.fakestripe.objects.payment_attempts import attempt, finish_bank_debit, start_bank_debit
from deploy.fakestripe.objects.payment_methods import TestCard, new_bank_debit, new_card
from deploy.fakestripe.objects.products import amount_of
from deploy.fakestripe.objects.setup_intents import new_setup_intent, set_up
from deploy.fakestripe.objects.subscription_orders import trial_end_of
from deploy.fakestripe.objects.subscription_states import change
from deploy.fakestripe.objects.subscriptions import Ordered, first_invoice, new_subscription
from deploy.fakestripe.operation import Call, merged_metadata
from deploy.fakestripe.store import Json
from deploy.fakestripe.wire import invalid

# What of it the subscription is made with.
DATA = (
    "billing_mode",
    "description",
    "metadata",
    "proration_behavior",
    "trial_end",
    "trial_period_days",
    "trial_settings",
)


def check(params: Json) -> None:
    """Refuse what belongs to other modes or is not supported."""
    for name in ("customer_creation", "payment_intent_data", "setup_intent_data", "submit_type"):
        if name in params:
            raise invalid(f"You can not pass `{name}` in `subscription` mode.", name)
    data = params.get("subscription_data", {})
    if "trial_end" in data and "trial_period_days" in data:
        message = "You may only specify one of these parameters: trial_end, trial_period_days."
        raise invalid(message, "subscription_data[trial_end]")
    merged_metadata({}, data.get("metadata"))


def terms(params: Json) -> Json:
    """Keep what the subscription will be made with, and the intent of the attempts."""
    data = params.get("subscription_data", {})
    return {"data": {name: data[name] for name in DATA if name in data}, "intent": None, "later": False}


def opened(call: Call, session: Json) -> None:
    """Take what is not due yet off the sum of a session with a trial."""
    lines = call.store.table("line_items")[session["id"]]["data"]
    data = call.store.table("checkout_terms")[session["id"]]["data"]
    if "trial_end" in data and data["trial_end"] < call.now + 48 * 3600:
        message = "The `trial_end` date has to be at least 2 days in the future."
        raise invalid(message, "subscription_data[trial_end]")
    if "trial_end" in data or "trial_period_days" in data:
        for line in lines:
            if line["price"]["recurring"] is not None:
                line |= {"amount_subtotal": 0, "amount_total": 0}
    if session["payment_method_collection"] is None:
        session["payment_method_collection"] = "always"
    total = sum(line["amount_total"] for line in lines)
    session |= {"amount_subtotal": total, "amount_total": total}


def wants_card(session: Json) -> bool:
    """Tell whether the customer has to give a card: always, unless nothing is due and the session says otherwise."""
    return bool(session["amount_total"]) or session["payment_method_collection"] != "if_required"


def charge(call: Call, session: Json, card: TestCard, *, authenticated: bool) -> bool:
    """Pay the first invoice's amount, or save the card where nothing is due yet."""
    intent = _intent(call, session)
    method = new_card(call, card, _email(session))
    if intent["object"] == "setup_intent":
        set_up(call, intent, method, authenticated=authenticated, return_url=session["success_url"])
    else:
        attempt(call, intent, method, authenticated=authenticated, return_url=session["success_url"])
    return bool(intent["status"] == "succeeded")


def complete(call: Call, session: Json) -> None:
    """Make the subscription, and its first invoice as paid by the attempt that succeeded."""
    row = call.store.table("checkout_terms")[session["id"]]
    data = row["data"]
    intent = intent_of(call, session)
    _ensure_customer(call, session)
    lines = call.store.table("line_items")[session["id"]]["data"]
    ordered = [
        Ordered(line["price"], line["quantity"], line["metadata"])
        for line in lines
        if line["price"]["recurring"] is not None
    ]
    method = intent and intent["payment_method"]
    given = {**data, "trial_end": trial_end_of(call, data), "default_payment_method": method}
    subscription = new_subscription(call, session["customer"], ordered, given)
    if subscription["status"] == "incomplete":
        subscription["status"] = "active"
    session["subscription"] = subscription["id"]
    call.emit("customer.subscription.created", subscription)
    for line in lines:
        if line["price"]["recurring"] is None:
            new_invoice_item(
                call,
                customer=session["customer"],
                amount=amount_of(line["price"], line["quantity"]),
                currency=line["currency"],
                description=line["description"],
                price=line["price"],
                quantity=line["quantity"],
                subscription=subscription["id"],
            )
    invoice = first_invoice(call, subscription, given)
    session["invoice"] = invoice["id"]
    if intent is None or intent["object"] == "setup_intent":
        finalize(call, invoice)
        return
    finalize(call, invoice, intent)
    invoice |= {"attempted": True, "attempt_count": 1}
    if not row["later"]:
        mark_paid(call, invoice, intent["amount_received"])


def start_later(call: Call, session: Json) -> None:
    """Begin a bank debit; the subscription runs while the bank has not decided."""
    intent = _intent(call, session)
    start_bank_debit(call, intent, new_bank_debit(call, _email(session)))
    call.store.table("checkout_terms")[session["id"]]["later"] = True
    complete(call, session)


def finish_later(call: Call, session: Json, *, paid: bool) -> None:
    """Let the bank report whether the money came."""
    intent = intent_of(call, session)
    invoice = call.store.table("invoice")[session["invoice"]]
    subscription = call.store.table("subscription")[session["subscription"]]
    if intent is None:
        raise RuntimeError(f"the session {session['id']} waits for no bank debit")
    finish_bank_debit(call, intent, paid=paid)
    if paid:
        mark_paid(call, invoice, intent["amount_received"])
    else:
        note_attempt_failed(call, invoice)
        if subscription["status"] == "active":
            change(call, subscription, status="past_due")


def intent_of(call: Call, session: Json) -> Json | None:
    """Return the intent of the attempts, if there was one."""
    key = call.store.table("checkout_terms")[session["id"]]["intent"]
    if key is None:
        return None
    return call.store.table("setup_intent").get(key) or call.store.table("payment_intent")[key]


def _intent(call: Call, session: Json) -> Json:
    """Return the intent of the attempts; the first makes it, and the customer."""
    intent = intent_of(call, session)
    if intent is not None:
        return intent
    _ensure_customer(call, session)
    if session["amount_total"]:
        given = {
            "customer": session["customer"],
            "description": "Subscription creation",
            "setup_future_usage": "off_session",
        }
        intent = new_intent(call, session["amount_total"], session["currency"], given)
    else:
        intent = new_setup_intent(call, {"customer": session["customer"], "currency": session["currency"]})
    intent["payment_method_types"] = session["payment_method_types"]
    call.store.table("checkout_terms")[session["id"]]["intent"] = intent["id"]
    return intent


def _ensure_customer(call: Call, session: Json) -> None:
    if session["customer"] is None:
        session["customer"] = new_customer(call, {"email": _email(session)})["id"]


def _email(session: Json) -> str | None:
    email: str | None = (session["customer_details"] or {}).get("email")
    return email
