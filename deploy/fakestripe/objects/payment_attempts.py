"""What happens when a payment method is charged for a payment intent: paid, declined, held up or pending."""

from __future__ import annotations

import copy
from dataclasses import replace

from deploy.fakestripe.objects.charges import new_charge, settle_charge
from deploy.fakestripe.objects.mandates import keep_for_later
from deploy.fakestripe.objects.payment_methods import (
    attach,
    card_of,
    decline_members,
    decline_message,
    message_of,
)
from deploy.fakestripe.operation import Call
from deploy.fakestripe.store import Json
from deploy.fakestripe.wire import StripeError

DISPUTED_AFTER_S = 24 * 3600


def attempt(
    call: Call,
    intent: Json,
    method: Json,
    *,
    off_session: bool = False,
    fail_on_action: bool = False,
    authenticated: bool = False,
    waits: bool = False,
    return_url: str | None = None,
) -> Json | None:
    """Charge the card; return None when it was paid or waits for the holder, else the intent's payment error.

    With `waits` the payment also waits for a holder who is not there, as that of an invoice does.
    """
    card = card_of(call, method)
    intent |= {"payment_method": method["id"], "next_action": None, "last_payment_error": None}
    error = refusal(call, method, off_session=off_session)
    if error is not None:
        return fail(call, intent, method, error)
    if not authenticated and needs_authentication(call, method, off_session=off_session):
        if (off_session and not waits) or fail_on_action:
            return fail(call, intent, method, authentication_error())
        url = f"{call.settings.public_url}/authenticate/{intent['id']}"
        redirect = {"return_url": return_url, "url": url}
        intent |= {"status": "requires_action", "next_action": {"redirect_to_url": redirect, "type": "redirect_to_url"}}
        call.emit("payment_intent.requires_action", intent)
        return None
    if intent["setup_future_usage"] == "off_session":
        keep_for_later(call, method)
    charge = new_charge(call, intent, method, "succeeded")
    if card.dispute is not None:
        planned = {"id": charge["id"], "due": call.now + DISPUTED_AFTER_S, "reason": card.dispute}
        call.store.add("planned_dispute", planned)
    succeed(call, intent, method)
    return None


def refusal(call: Call, method: Json, *, off_session: bool) -> Json | None:
    """Return the error with which the card would be declined, before anything is changed."""
    card = card_of(call, method)
    if card.code is not None:
        return {"code": card.code, "message": decline_message(card), **decline_members(card)}
    if off_session and card.alone is not None:
        declined = replace(card, code="card_declined", decline_code=card.alone)
        return {"code": declined.code, "message": decline_message(declined), **decline_members(declined)}
    return None


def needs_authentication(call: Call, method: Json, *, off_session: bool) -> bool:
    """Tell whether the holder would have to confirm the payment."""
    card = card_of(call, method)
    if card.authentication == "unless_saved":
        return not (off_session and call.store.table("test_card")[method["id"]].get("saved"))
    return card.authentication == "always"


def authentication_error() -> Json:
    """Build the error of a payment that its holder would have to confirm."""
    code = "authentication_required"
    return {"code": code, "decline_code": code, "message": message_of(code)}


def start_bank_debit(call: Call, intent: Json, method: Json) -> None:
    """Begin a payment whose outcome the bank will report later."""
    intent |= {"payment_method": method["id"], "status": "processing", "last_payment_error": None}
    new_charge(call, intent, method, "pending")
    call.emit("payment_intent.processing", intent)


def finish_bank_debit(call: Call, intent: Json, *, paid: bool) -> None:
    """Let the bank report whether the money came."""
    method = call.store.table("payment_method")[intent["payment_method"]]
    charge = call.store.table("charge")[intent["latest_charge"]]
    if paid:
        settle_charge(charge, "succeeded")
        call.emit("charge.succeeded", charge)
        succeed(call, intent, method)
        return
    failure = {"code": "debit_not_authorized", "message": "The bank did not carry out the debit."}
    settle_charge(charge, "failed", failure)
    call.emit("charge.failed", charge)
    _note_failure(call, intent, method, charge, failure)


def succeed(call: Call, intent: Json, method: Json) -> None:
    """Mark the intent paid, save the payment method if that was asked for, and emit its event."""
    intent |= {"status": "succeeded", "amount_received": intent["amount"], "next_action": None}
    if intent["setup_future_usage"] and intent["customer"] and method["customer"] is None:
        attach(call, method, intent["customer"])
    call.emit("payment_intent.succeeded", intent)


def fail(call: Call, intent: Json, method: Json, failure: Json) -> Json:
    """Leave a failed charge behind and make the intent want another payment method; return its error."""
    charge = new_charge(call, intent, method, "failed", failure)
    return _note_failure(call, intent, method, charge, failure)


def payment_error(intent: Json, error: Json) -> StripeError:
    """Build the 402 answer, which carries the intent as it is now."""
    members = {name: value for name, value in error.items() if name not in {"type", "code", "message"}}
    extra = copy.deepcopy({**members, "payment_intent": intent})
    return StripeError(402, error["message"], kind="card_error", code=error["code"], extra=extra)


def _note_failure(call: Call, intent: Json, method: Json, charge: Json, failure: Json) -> Json:
    error = {**failure, "charge": charge["id"], "payment_method": copy.deepcopy(method), "type": "card_error"}
    intent |= {"status": "requires_payment_method", "payment_method": None, "last_payment_error": error}
    call.emit("payment_intent.payment_failed", intent)
    return error
