"""The page of the customer portal: ending a subscription, going on with it, another card, invoices."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from deploy.fakestripe.api import Api
from deploy.fakestripe.card_form import CVC, CardRefusedError, expiry_at, read_card
from deploy.fakestripe.objects.given import is_given, own
from deploy.fakestripe.objects.portal import LIFETIME_S, change_card, end_or_go_on, subscriptions_of
from deploy.fakestripe.operation import Call
from deploy.fakestripe.rendering import Renderer, leave, read_form
from deploy.fakestripe.store import Json
from deploy.fakestripe.wire import StripeError

SHOWN_INVOICES = 12


class PortalPage:
    """Shows a customer what there is, and carries out what is pressed."""

    def __init__(self, api: Api, renderer: Renderer) -> None:
        self._api = api
        self._renderer = renderer

    def router(self) -> APIRouter:
        """Return the routes of the page."""
        router = APIRouter()
        router.add_api_route("/portal/{session_id}", self.show, methods=["GET"])
        router.add_api_route("/portal/{session_id}", self.act, methods=["POST"])
        return router

    async def show(self, session_id: str) -> Response:
        """Show subscriptions, card and invoices."""
        session = self._find(session_id)
        if session is None:
            return self._renderer.message("This portal session has expired, or there is none.", 404)
        return self._page(session)

    async def act(self, session_id: str, request: Request) -> Response:
        """End a subscription, go on with it, or change the card."""
        form = await read_form(request)
        session = self._find(session_id)
        if session is None:
            return self._renderer.message("This portal session has expired, or there is none.", 404)
        call = self._api.begin()
        try:
            problem = self._carry_out(call, session, form)
        except (CardRefusedError, StripeError) as error:
            problem = str(error)
        self._api.finish(call)
        await self._api.store.saved()
        if problem is not None:
            return self._page(session, problem, 400)
        after = (session["flow"] or {}).get("after_completion") or {}
        redirect = after.get("redirect") if after.get("type") == "redirect" else None
        return leave(redirect["return_url"] if redirect else None) or self._page(session)

    def _carry_out(self, call: Call, session: Json, form: dict[str, str]) -> str | None:
        """Do what was pressed; return what there is to tell when that is nothing."""
        action = form.get("action")
        if action == "card":
            card = read_card(form, self._api.store.now())
            change_card(call, call.store.table("customer")[session["customer"]], card)
            return None
        running = {row["id"]: row for row in subscriptions_of(call, session["customer"])}
        subscription = running.get(form.get("subscription", ""))
        if action not in ("cancel", "renew") or subscription is None:
            return "Please press one of the buttons."
        end_or_go_on(call, subscription, ends=action == "cancel")
        return None

    def _find(self, session_id: str) -> Json | None:
        session = self._api.store.table("portal_session").get(session_id)
        if session is None or session["created"] + LIFETIME_S < self._api.store.now():
            return None
        customer = self._api.store.table("customer")[session["customer"]]
        return None if customer.get("deleted") or is_given(self._api.store, customer) else session

    def _page(self, session: Json, problem: str | None = None, status: int = 200) -> Response:
        store = self._api.store
        customer = store.table("customer")[session["customer"]]
        methods = store.table("payment_method")
        subscriptions = subscriptions_of(self._api.begin(), session["customer"])
        default = customer["invoice_settings"]["default_payment_method"]
        chosen = next((row["default_payment_method"] for row in subscriptions if row["default_payment_method"]), None)
        invoices = [
            row
            for row in reversed(own(store, "invoice"))
            if row["customer"] == customer["id"] and row["status"] != "draft"
        ]
        return self._renderer.page(
            "portal.html",
            status,
            session=session,
            customer=customer,
            subscriptions=subscriptions,
            products=store.table("product"),
            method=methods[chosen or default] if chosen or default else None,
            invoices=invoices[:SHOWN_INVOICES],
            problem=problem,
            expiry=expiry_at(store.now()),
            cvc=CVC,
        )
