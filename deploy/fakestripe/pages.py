"""The hosted pages a person sees in the browser: paying a checkout, and confirming a card payment."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qsl

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from deploy.fakestripe.api import Api
from deploy.fakestripe.card_form import CVC, EXPIRY, CardRefusedError, read_card
from deploy.fakestripe.objects.checkout import Conflict, Outcome, complete_authenticated, session_of, settle
from deploy.fakestripe.objects.payment_attempts import attempt, fail
from deploy.fakestripe.objects.payment_methods import TestCard, message_of
from deploy.fakestripe.operation import Call
from deploy.fakestripe.store import Json

MAX_FORM_BYTES = 10_000
PLACEHOLDER = "{CHECKOUT_SESSION_ID}"
_ZERO_DECIMAL = frozenset(
    ("bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "ugx", "vnd", "vuv", "xaf", "xof", "xpf")
)
# The pages load nothing from anywhere: what they need is in them.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
}
_ACTIONS: dict[str, Outcome] = {
    "pay": "paid",
    "decline": "declined",
    "later": "unpaid",
    "bank_paid": "async_paid",
    "bank_failed": "async_failed",
}


def money(amount: int, currency: str) -> str:
    """Write an amount in the smallest unit for people: CHF 1'250.00."""
    if currency in _ZERO_DECIMAL:
        return f"{currency.upper()} {amount:,}".replace(",", "'")
    return f"{currency.upper()} {amount // 100:,}".replace(",", "'") + f".{amount % 100:02d}"


def redirect_target(url: str, session_id: str) -> str:
    """Fill the session id into a success or cancel URL."""
    return url.replace(PLACEHOLDER, session_id)


class Pages:
    """Renders the pages and carries out what is pressed on them."""

    def __init__(self, api: Api) -> None:
        self._api = api
        loader = FileSystemLoader(Path(__file__).parent / "templates")
        self._templates = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
        self._templates.filters["money"] = money

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
        return self._message("Each checkout has a page of its own: the redirectUrl that starting a top-up answers.")

    async def show_checkout(self, session_id: str) -> Response:
        """Show what is bought and how it can be paid; the number of a checkout leads there as its id does."""
        if session_id.isascii() and session_id.isdigit():
            return self._numbered(session_id)
        session = self._api.store.table("checkout_session").get(session_id)
        if session is None:
            return self._message("There is no such checkout.", 404)
        return self._checkout(session)

    def _numbered(self, number: str) -> Response:
        """Lead from the short address, with the place in the list of all checkouts, to the whole one."""
        ids = dict(enumerate(map(str, self._api.store.table("checkout_session")), start=1))
        # More digits than there can be checkouts are not read at all.
        session_id = ids.get(int(number)) if len(number) <= 9 else None
        if session_id is None:
            return self._message("There is no such checkout.", 404)
        return RedirectResponse(f"/pay/{session_id}", 303, headers=_HEADERS)

    async def act_on_checkout(self, session_id: str, request: Request) -> Response:
        """Pay, decline, pay later or cancel, and lead back to the shop."""
        session = self._api.store.table("checkout_session").get(session_id)
        if session is None:
            return self._message("There is no such checkout.", 404)
        form = await _form(request)
        action = form.get("action", "pay")
        if action == "cancel":
            return _leave(session["cancel_url"], session_id) or self._message("You can close this page.")
        if action not in _ACTIONS:
            return self._checkout(session, "Please press one of the buttons.", 400)
        card = None
        if action == "pay" and session["amount_total"]:
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
        if not complete:
            intent = self._api.store.table("payment_intent")[session["payment_intent"]]
            if intent["status"] == "requires_action":
                return _leave(intent["next_action"]["redirect_to_url"]["url"], "") or self._checkout(session)
            return self._checkout(session, str(intent["last_payment_error"]["message"]), 402)
        if action in {"bank_paid", "bank_failed"}:
            return self._checkout(session)
        return _leave(session["success_url"], session["id"]) or self._checkout(session)

    async def show_authentication(self, intent_id: str) -> Response:
        """Ask the card holder to confirm a payment, as the bank would."""
        intent = self._api.store.table("payment_intent").get(intent_id)
        if intent is None:
            return self._message("There is no such payment.", 404)
        if intent["status"] != "requires_action":
            return self._message("There is nothing to confirm (any more) for this payment.")
        return self._page("authenticate.html", 200, intent=intent)

    async def act_on_authentication(self, intent_id: str, request: Request) -> Response:
        """Carry out the card holder's answer."""
        intent = self._api.store.table("payment_intent").get(intent_id)
        if intent is None or intent["status"] != "requires_action":
            return self._message("There is nothing to confirm (any more) for this payment.", 409)
        form = await _form(request)
        return_url = intent["next_action"]["redirect_to_url"]["return_url"]
        session = session_of(self._api.store, intent)
        method = self._api.store.table("payment_method")[intent["payment_method"]]
        call = self._api.begin()
        if form.get("action") == "confirm":
            attempt(call, intent, method, authenticated=True)
            if session is not None:
                complete_authenticated(call, session, intent)
            text = "Thank you, the payment is confirmed."
        else:
            code = "payment_intent_authentication_failure"
            intent["next_action"] = None
            fail(call, intent, method, {"code": code, "message": message_of(code)})
            text = "The payment was not confirmed."
        await self._finish(call)
        if session is not None and session["status"] == "open":
            return self._checkout(session, str(intent["last_payment_error"]["message"]), 402)
        if session is not None:
            return _leave(session["success_url"], session["id"]) or self._checkout(session)
        return _leave(return_url, "") or self._message(text)

    async def _finish(self, call: Call) -> None:
        self._api.finish(call)
        await self._api.store.saved()

    def _checkout(self, session: Json, problem: str | None = None, status: int = 200) -> Response:
        lines = self._api.store.table("line_items")[session["id"]]["data"]
        waiting = session["id"] in self._api.store.table("pending_checkout")
        return self._page(
            "pay.html", status, session=session, lines=lines, problem=problem, waiting=waiting, expiry=EXPIRY, cvc=CVC
        )

    def _message(self, text: str, status: int = 200) -> Response:
        return self._page("message.html", status, text=text)

    def _page(self, template: str, status: int, **values: object) -> Response:
        html = self._templates.get_template(template).render(**values)
        return HTMLResponse(html, status, headers=_HEADERS)


def _leave(url: str | None, session_id: str) -> Response | None:
    if url is None:
        return None
    return RedirectResponse(redirect_target(url, session_id), 303, headers=_HEADERS)


async def _form(request: Request) -> dict[str, str]:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM_BYTES:
            return {}
    # A field that was emptied is not one that is not there.
    return dict(parse_qsl(body.decode(errors="replace"), keep_blank_values=True))
