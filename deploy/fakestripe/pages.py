"""The hosted pages a person sees in the browser: paying a checkout, and confirming a card payment."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from deploy.fakestripe.api import Api
from deploy.fakestripe.card_form import CVC, CardRefusedError, expiry_at, read_card
from deploy.fakestripe.objects.checkout import (
    Conflict,
    Outcome,
    complete_authenticated,
    intent_of,
    session_of,
    settle,
    wants_card,
)
from deploy.fakestripe.objects.given import is_given
from deploy.fakestripe.objects.invoices import after_attempt
from deploy.fakestripe.objects.payment_attempts import attempt, fail
from deploy.fakestripe.objects.payment_methods import TWINT, TestCard, message_of
from deploy.fakestripe.objects.setup_intents import refuse_authentication, set_up
from deploy.fakestripe.objects.subscription_orders import trial_end_of
from deploy.fakestripe.operation import Call
from deploy.fakestripe.rendering import HEADERS, Renderer, leave, read_form
from deploy.fakestripe.store import Json

_ACTIONS: dict[str, Outcome] = {
    "pay": "paid",
    "twint": "paid",
    "decline": "declined",
    "later": "unpaid",
    "bank_paid": "async_paid",
    "bank_failed": "async_failed",
}


class Pages:
    """Renders the pages and carries out what is pressed on them."""

    def __init__(self, api: Api, renderer: Renderer) -> None:
        self._api = api
        self._renderer = renderer

    def router(self) -> APIRouter:
        """Return the routes of the pages."""
        router = APIRouter()
        router.add_api_route("/", self.show_start, methods=["GET"])
        router.add_api_route("/pay/{session_id}", self.show_checkout, methods=["GET"])
        router.add_api_route("/pay/{session_id}", self.act_on_checkout, methods=["POST"])
        router.add_api_route("/authenticate/{intent_id}", self.show_authentication, methods=["GET"])
        router.add_api_route("/authenticate/{intent_id}", self.act_on_authentication, methods=["POST"])
        return router

    async def show_start(self) -> Response:
        """Say what this is to who opens the bare address, which `rappen up` prints."""
        return self._renderer.message(
            "Each checkout has a page of its own: the redirectUrl that starting a top-up answers."
        )

    async def show_checkout(self, session_id: str) -> Response:
        """Show what is bought and how it can be paid; the number of a checkout leads there as its id does."""
        if session_id.isascii() and session_id.isdigit():
            return self._numbered(session_id)
        session = self._find(session_id)
        if session is None:
            return self._renderer.message("There is no such checkout.", 404)
        return self._checkout(session)

    def _find(self, session_id: str) -> Json | None:
        """Return the checkout; one that was put as it is has no page."""
        session = self._api.store.table("checkout_session").get(session_id)
        return None if session is None or is_given(self._api.store, session) else session

    def _numbered(self, number: str) -> Response:
        """Lead from the short address, with the place in the list of all checkouts, to the whole one."""
        ids = dict(enumerate(map(str, self._api.store.table("checkout_session")), start=1))
        # More digits than there can be checkouts are not read at all.
        session_id = ids.get(int(number)) if len(number) <= 9 else None
        if session_id is None:
            return self._renderer.message("There is no such checkout.", 404)
        return RedirectResponse(f"/pay/{session_id}", 303, headers=HEADERS)

    async def act_on_checkout(self, session_id: str, request: Request) -> Response:
        """Pay, decline, pay later or cancel, and lead back to the shop."""
        form = await read_form(request)
        session = self._find(session_id)
        if session is None:
            return self._renderer.message("There is no such checkout.", 404)
        action = form.get("action", "pay")
        if action == "cancel" and session["status"] == "complete":
            # Pressed on a page that the browser has kept: the shop would say that nothing was paid.
            return self._checkout(session, None, 409)
        if action == "cancel":
            return leave(session["cancel_url"], session_id) or self._renderer.message("You can close this page.")
        if action not in _ACTIONS:
            return self._checkout(session, "Please press one of the buttons.", 400)
        card = TWINT if action == "twint" else None
        if action == "pay" and wants_card(session):
            try:
                card = read_card(form, self._api.store.now())
            except CardRefusedError as error:
                return self._checkout(session, str(error), 400)
        return await self._settle(session, action, card)

    async def _settle(self, session: Json, action: str, card: TestCard | None) -> Response:
        call = self._api.begin()
        try:
            complete = settle(call, session, _ACTIONS[action], card, authenticated=False)
        except Conflict:
            return self._checkout(session, None, 409)
        finally:
            await self._finish(call)
        intent = intent_of(call, session)
        if not complete and intent is not None:
            if intent["status"] == "requires_action":
                return leave(intent["next_action"]["redirect_to_url"]["url"], "") or self._checkout(session)
            return self._checkout(session, _problem(intent), 402)
        if action in {"bank_paid", "bank_failed"}:
            return self._checkout(session)
        return leave(session["success_url"], session["id"]) or self._checkout(session)

    async def show_authentication(self, intent_id: str) -> Response:
        """Ask the card holder to confirm a payment or that the card is saved, as the bank would."""
        intent = self._intent(intent_id)
        if intent is None:
            return self._renderer.message("There is no such payment.", 404)
        if intent["status"] != "requires_action":
            return self._renderer.message("There is nothing to confirm (any more) for this payment.")
        method = self._api.store.table("payment_method")[intent["payment_method"]]
        return self._renderer.page("authenticate.html", 200, intent=intent, kind=method["type"])

    async def act_on_authentication(self, intent_id: str, request: Request) -> Response:
        """Carry out the card holder's answer."""
        form = await read_form(request)
        intent = self._intent(intent_id)
        if intent is None or intent["status"] != "requires_action":
            return self._renderer.message("There is nothing to confirm (any more) for this payment.", 409)
        return_url = intent["next_action"]["redirect_to_url"]["return_url"]
        call = self._api.begin()
        session = session_of(call, intent)
        confirmed = form.get("action") == "confirm"
        _answer(call, intent, confirmed=confirmed)
        if session is not None:
            complete_authenticated(call, session, intent)
        await self._finish(call)
        if session is not None and session["status"] == "open":
            return self._checkout(session, _problem(intent), 402)
        if session is not None:
            return leave(session["success_url"], session["id"]) or self._checkout(session)
        text = "Thank you, the payment is confirmed." if confirmed else "The payment was not confirmed."
        return leave(return_url, "") or self._renderer.message(text)

    def _intent(self, intent_id: str) -> Json | None:
        store = self._api.store
        intent = store.table("payment_intent").get(intent_id) or store.table("setup_intent").get(intent_id)
        return None if intent is None or is_given(store, intent) else intent

    async def _finish(self, call: Call) -> None:
        self._api.finish(call)
        await self._api.store.saved()

    def _checkout(self, session: Json, problem: str | None = None, status: int = 200) -> Response:
        lines = self._api.store.table("line_items")[session["id"]]["data"]
        waiting = session["id"] in self._api.store.table("pending_checkout")
        return self._renderer.page(
            "pay.html",
            status,
            session=session,
            lines=lines,
            problem=problem,
            waiting=waiting,
            wants_card=wants_card(session),
            trial_until=self._trial_until(session),
            expiry=expiry_at(self._api.store.now()),
            cvc=CVC,
        )

    def _trial_until(self, session: Json) -> int | None:
        """Return until when a subscription costs nothing."""
        data = self._api.store.table("checkout_terms")[session["id"]].get("data", {})
        return trial_end_of(self._api.begin(), data) if session["status"] == "open" else None


def _answer(call: Call, intent: Json, *, confirmed: bool) -> None:
    """Carry out what the holder of the card answers to the bank."""
    method = call.store.table("payment_method")[intent["payment_method"]]
    if intent["object"] == "setup_intent":
        if confirmed:
            set_up(call, intent, method, authenticated=True)
        else:
            refuse_authentication(call, intent, method)
        return
    if confirmed:
        attempt(call, intent, method, authenticated=True)
    else:
        card = method["type"] == "card"
        code = "payment_intent_authentication_failure" if card else "payment_method_provider_decline"
        intent["next_action"] = None
        fail(call, intent, method, {"code": code, "message": message_of(code)})
    after_attempt(call, intent)


def _problem(intent: Json) -> str:
    """Return why an intent was refused, for the person who tried."""
    name = "last_setup_error" if intent["object"] == "setup_intent" else "last_payment_error"
    return str((intent[name] or {}).get("message") or "Your card was declined.")
