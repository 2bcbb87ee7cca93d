"""The hosted page of an invoice, on which a person pays it."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from deploy.fakestripe.api import Api
from deploy.fakestripe.card_form import CVC, CardRefusedError, expiry_at, read_card
from deploy.fakestripe.objects.given import is_given
from deploy.fakestripe.objects.invoices import collect, intent_of
from deploy.fakestripe.objects.payment_methods import new_card
from deploy.fakestripe.rendering import Renderer, leave, read_form
from deploy.fakestripe.store import Json


class InvoicePage:
    """Shows an invoice, and carries out what is pressed on its page."""

    def __init__(self, api: Api, renderer: Renderer) -> None:
        self._api = api
        self._renderer = renderer

    def router(self) -> APIRouter:
        """Return the routes of the page."""
        router = APIRouter()
        router.add_api_route("/invoice/{invoice_id}", self.show, methods=["GET"])
        router.add_api_route("/invoice/{invoice_id}", self.pay, methods=["POST"])
        return router

    async def show(self, invoice_id: str) -> Response:
        """Show what is owed for what."""
        invoice = self._find(invoice_id)
        if invoice is None:
            return self._renderer.message("There is no such invoice.", 404)
        return self._page(invoice)

    async def pay(self, invoice_id: str, request: Request) -> Response:
        """Pay with the card that was typed in, or go on to the bank that asks its holder first."""
        form = await read_form(request)
        invoice = self._find(invoice_id)
        if invoice is None:
            return self._renderer.message("There is no such invoice.", 404)
        if invoice["status"] != "open":
            return self._page(invoice, None, 409)
        try:
            card = read_card(form, self._api.store.now())
        except CardRefusedError as error:
            return self._page(invoice, str(error), 400)
        call = self._api.begin()
        method = new_card(call, card, invoice["customer_email"])
        error_of_payment = collect(call, invoice, method, off_session=False)
        self._api.finish(call)
        await self._api.store.saved()
        intent = intent_of(call, invoice)
        if intent is not None and intent["status"] == "requires_action":
            return leave(intent["next_action"]["redirect_to_url"]["url"]) or self._page(invoice)
        if error_of_payment is not None:
            return self._page(invoice, str(error_of_payment["message"]), 402)
        return self._page(invoice)

    def _find(self, invoice_id: str) -> Json | None:
        invoice = self._api.store.table("invoice").get(invoice_id)
        given = invoice is not None and is_given(self._api.store, invoice)
        return None if invoice is None or given or invoice["status"] == "draft" else invoice

    def _page(self, invoice: Json, problem: str | None = None, status: int = 200) -> Response:
        lines = self._api.store.table("invoice_lines")[invoice["id"]]["data"]
        expiry = expiry_at(self._api.store.now())
        return self._renderer.page(
            "invoice.html", status, invoice=invoice, lines=lines, problem=problem, expiry=expiry, cvc=CVC
        )
