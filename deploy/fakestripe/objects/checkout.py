"""What happens to a checkout session after it was made: paid, declined, paid later, expired.

A mode (payment, subscription, setup) says what paying means; the session's own states are here.
"""

from __future__ import annotations

from typing import Literal, Protocol

from deploy.fakestripe.objects import checkout_payment, checkout_setup, checkout_subscription
from deploy.fakestripe.objects.given import is_given, own
from deploy.fakestripe.objects.intents import CANCELABLE, cancel_intent
from deploy.fakestripe.objects.payment_methods import DECLINED_CARD, GOOD_CARD, TestCard
from deploy.fakestripe.objects.setup_intents import cancel_setup
from deploy.fakestripe.operation import Call
from deploy.fakestripe.store import Json
from deploy.fakestripe.wire import missing

Outcome = Literal["paid", "declined", "unpaid", "async_paid", "async_failed"]

DEFAULT_EMAIL = "customer@example.com"


class Conflict(Exception):  # noqa: N818 - it names the answer 409, as the others name theirs
    """The session is not in a state where this can happen."""


class Mode(Protocol):
    """What a mode of Checkout does; each is a module with these functions."""

    def check(self, params: Json) -> None:
        """Refuse parameters that belong to another mode."""

    def terms(self, params: Json) -> Json:
        """Return what paying needs to know later and the session does not show."""

    def opened(self, call: Call, session: Json) -> None:
        """Add what belongs to a session from its beginning."""

    def wants_card(self, session: Json) -> bool:
        """Tell whether the customer has to give a card."""

    def charge(self, call: Call, session: Json, card: TestCard, *, authenticated: bool) -> bool:
        """Pay at once; return whether it was paid: a card can be refused, or its holder has to confirm first."""

    def complete(self, call: Call, session: Json) -> None:
        """Make what the customer gets by it."""

    def intent_of(self, call: Call, session: Json) -> Json | None:
        """Return the intent (of a payment or a setup) of the customer's attempts."""

    def start_later(self, call: Call, session: Json) -> None:
        """Begin a payment that is decided later."""

    def finish_later(self, call: Call, session: Json, *, paid: bool) -> None:
        """Decide the payment begun before."""


MODES: dict[str, Mode] = {
    "payment": checkout_payment,
    "setup": checkout_setup,
    "subscription": checkout_subscription,
}


def mode_of(params: Json) -> Mode:
    """Return the mode a request asks for."""
    if "mode" not in params:
        raise missing("mode")
    return MODES[params["mode"]]


def settle(
    call: Call, session: Json, outcome: Outcome, card: TestCard | None = None, *, authenticated: bool = True
) -> bool:
    """Let the customer or the bank act; return whether the session is complete now. Raises Conflict.

    `card` is the one typed in on the hosted page; by default one that brings the outcome is used. Not `authenticated`,
    its holder may be asked to confirm first, for which the session's payment intent then waits.
    """
    if is_given(call.store, session):
        raise Conflict(f"session {session['id']} was put as it is, and nothing can happen to it")
    if session["status"] == "open" and session["expires_at"] <= call.now:
        expire(call, session)
    if session["customer"] is not None and call.store.table("customer")[session["customer"]].get("deleted"):
        raise Conflict(f"the customer of session {session['id']} was deleted")
    mode = MODES[session["mode"]]
    if outcome in ("async_paid", "async_failed"):
        _settle_later(call, session, mode, paid=outcome == "async_paid")
        return True
    if session["status"] != "open":
        raise Conflict(f"session {session['id']} is {session['status']} and cannot be paid")
    if outcome == "unpaid":
        _begin_later(call, session, mode)
        return True
    if mode.wants_card(session):
        chosen = _checked(session, card or (GOOD_CARD if outcome == "paid" else DECLINED_CARD))
        if not mode.charge(call, session, chosen, authenticated=authenticated):
            return False
    elif outcome == "declined":
        raise Conflict(f"session {session['id']} costs nothing, so nothing can be declined")
    mode.complete(call, session)
    _complete(call, session, _paid_status(session))
    return True


def _checked(session: Json, card: TestCard) -> TestCard:
    if card.kind not in session["payment_method_types"]:
        raise Conflict(f"session {session['id']} cannot be paid by {card.kind}")
    return card


def session_of(call: Call, intent: Json) -> Json | None:
    """Return the session that an intent belongs to."""
    for session in own(call.store, "checkout_session"):
        found = MODES[session["mode"]].intent_of(call, session)
        if found is not None and found["id"] == intent["id"]:
            return session
    return None


def intent_of(call: Call, session: Json) -> Json | None:
    """Return the intent of the customer's attempts to pay a session, if there was one."""
    return MODES[session["mode"]].intent_of(call, session)


def wants_card(session: Json) -> bool:
    """Tell whether the customer has to give a card to complete a session."""
    return MODES[session["mode"]].wants_card(session)


def complete_authenticated(call: Call, session: Json, intent: Json) -> None:
    """Complete a session whose payment the holder of the card has confirmed, if it was paid then."""
    if session["status"] == "open" and intent["status"] == "succeeded":
        MODES[session["mode"]].complete(call, session)
        _complete(call, session, _paid_status(session))


def _paid_status(session: Json) -> str:
    return "paid" if session["amount_total"] else "no_payment_required"


def expire(call: Call, session: Json) -> None:
    """Close an open session without payment, and emit its event."""
    session |= {"status": "expired", "url": None}
    intent = intent_of(call, session)
    if intent is not None and intent["status"] in CANCELABLE:
        if intent["object"] == "setup_intent":
            cancel_setup(call, intent, "abandoned")
        else:
            cancel_intent(call, intent, "automatic")
    call.emit("checkout.session.expired", session)


def customer_details(email: str | None) -> Json | None:
    """Build what a session shows of its customer; nothing before the address for mail is known."""
    if email is None:
        return None
    address = {"city": None, "country": None, "line1": None, "line2": None, "postal_code": None, "state": None}
    return {
        "address": address,
        "business_name": None,
        "email": email,
        "individual_name": None,
        "name": None,
        "phone": None,
        "tax_exempt": "none",
        "tax_ids": [],
    }


def _begin_later(call: Call, session: Json, mode: Mode) -> None:
    if not session["amount_total"]:
        raise Conflict(f"session {session['id']} costs nothing, so nothing can be paid later")
    mode.start_later(call, session)
    _complete(call, session, "unpaid")
    call.store.add("pending_checkout", {"id": session["id"]})


def _settle_later(call: Call, session: Json, mode: Mode, *, paid: bool) -> None:
    if session["status"] == "open":
        _begin_later(call, session, mode)
    if call.store.table("pending_checkout").pop(session["id"], None) is None:
        raise Conflict(f"session {session['id']} does not wait for a payment")
    mode.finish_later(call, session, paid=paid)
    if paid:
        session["payment_status"] = "paid"
        call.emit("checkout.session.async_payment_succeeded", session)
    else:
        call.emit("checkout.session.async_payment_failed", session)


def _complete(call: Call, session: Json, payment_status: str) -> None:
    email = (session["customer_details"] or {}).get("email") or DEFAULT_EMAIL
    details = customer_details(email)
    session |= {"status": "complete", "payment_status": payment_status, "url": None, "customer_details": details}
    call.emit("checkout.session.completed", session)
