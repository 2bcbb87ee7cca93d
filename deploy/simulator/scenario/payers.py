"""The fake Stripe as payers, their banks and the seller use it: hosted pages, test cards, refunds."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import httpx

from deploy.simulator.platform import PlatformError

__all__ = ["GOOD_CARD", "OTHER_CARD", "Payers"]

GOOD_CARD, OTHER_CARD = "4242 4242 4242 4242", "5555 5555 5555 4444"
# Stands behind a saved card whose bank does not pay any more.
_DECLINED = "pm_card_chargeCustomerFail"

# The fake takes any key of a test mode.
_KEY = {"authorization": "Bearer sk_test_demo"}
_TIMEOUT_S = 15.0
_LIST = 100


class Payers:
    """Everybody who deals with Stripe and is not the platform."""

    def __init__(self, client: httpx.AsyncClient, stripe: str) -> None:
        self._client = client
        self._stripe = stripe

    async def pay(self, page: str, card: str = GOOD_CARD) -> None:
        """Fill in the card form of a page, and pay; `PlatformError` when that is refused."""
        await self._send("POST", page, form={"action": "pay", "number": card})

    async def price_of(self, page: str) -> Decimal:
        """What a page of a checkout asks for, in CHF."""
        return Decimal(str((await self._session(page))["amount_total"])).scaleb(-2)

    async def decline_from_now_on(self, mandate_id: str) -> None:
        """Let the bank of the card that a tenant's newest charge was made to refuse all others."""
        customer = (await self._customer(mandate_id))["id"]
        method = (await self._list("charges", customer=customer))[0]["payment_method"]
        await self._send("POST", f"{self._stripe}/_control/payment_methods/{method}", body={"card": _DECLINED})

    async def declined(self, mandate_id: str) -> int:
        """How many of a tenant's charges have been declined."""
        customer = (await self._customer(mandate_id))["id"]
        charges = await self._list("charges", customer=customer)
        return sum(charge["status"] == "failed" for charge in charges)

    async def invoice_page(self, mandate_id: str, invoice_id: str) -> str | None:
        """The page on which an invoice of the platform can be paid; None while there is none."""
        customer = (await self._customer(mandate_id))["id"]
        for invoice in await self._list("invoices", customer=customer):
            if invoice["metadata"].get("invoiceId") == invoice_id and invoice["status"] == "open":
                return str(invoice["hosted_invoice_url"])
        return None

    async def refund(self, page: str, amount: Decimal) -> None:
        """Give back a part, in CHF, of what was paid on the page of a checkout: what a seller does at Stripe."""
        form = {"payment_intent": str((await self._session(page))["payment_intent"]), "amount": str(int(amount * 100))}
        await self._send("POST", f"{self._stripe}/v1/refunds", form=form)

    async def _session(self, page: str) -> dict[str, Any]:
        sessions = (await self._send("GET", f"{self._stripe}/_control/checkout/sessions")).json()
        for session in sessions:
            # One that is paid has no address any more.
            if page.endswith(f"/{session['id']}"):
                return dict(session)
        raise PlatformError("the fake Stripe", 0, "NO_CHECKOUT", f"there is no checkout at {page}")

    async def _customer(self, mandate_id: str) -> dict[str, Any]:
        for customer in await self._list("customers"):
            if customer["metadata"].get("mandateId") == mandate_id:
                return customer
        raise PlatformError("the fake Stripe", 0, "NO_CUSTOMER", f"it has no customer for {mandate_id}")

    async def _list(self, what: str, **filters: str) -> list[dict[str, Any]]:
        """The newest of a kind of object."""
        query = {"limit": str(_LIST), **filters}
        found: list[dict[str, Any]] = (await self._send("GET", f"{self._stripe}/v1/{what}", query=query)).json()["data"]
        return found

    async def _send(
        self,
        method: str,
        url: str,
        *,
        query: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        body: object = None,
    ) -> httpx.Response:
        try:
            answer = await self._client.request(
                method, url, params=query, data=form, json=body, headers=_KEY, timeout=_TIMEOUT_S
            )
        except httpx.HTTPError as error:
            raise PlatformError("the fake Stripe", 0, "NO_ANSWER", f"no answer ({type(error).__name__})") from error
        if answer.is_error:
            path = httpx.URL(url).path
            raise PlatformError("the fake Stripe", answer.status_code, "", f"{method} {path}: {answer.status_code}")
        return answer
