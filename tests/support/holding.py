"""Asking for holds at the billing api, and the usage that settles them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx

from services.chassis.caller import Caller
from tests.support.callers import checker, system_admin
from tests.support.events import structured_record, usage_record
from tests.support.ledger import Books

if TYPE_CHECKING:
    from tests.integration.billing.conftest import BillingApi

__all__ = ["Holding", "chf", "publisher", "usage_event"]


def chf(amount: str) -> dict[str, str]:
    return {"amount": amount, "currency": "CHF"}


def publisher() -> Caller:
    """An AI service that may hold and capture."""
    return checker({"usage:check": True, "usage:write": True})


def usage_event(mandate: str, user: str = "user-1", **changed: Any) -> dict[str, Any]:
    """A usage event in structured mode."""
    record = structured_record(usage_record(mandate, user, **changed), None)
    event: dict[str, Any] = json.loads(record.value or b"")
    return event


@dataclass(frozen=True)
class Holding:
    """Holds of one mandate."""

    api: BillingApi
    books: Books
    mandate: str

    async def credit(self, amount: float, user: str | None = None) -> None:
        path, body = f"/api/billing/admin/credit/{self.mandate}", {"amount": amount, "userId": user}
        assert (await self.api.call(system_admin(), "POST", path, json=body)).status_code == 200

    async def switch(self, model: str) -> httpx.Response:
        path = f"/api/billing/admin/model/{self.mandate}"
        return await self.api.call(system_admin(), "POST", path, json={"billingModel": model})

    async def ask(self, amount: str | None = "1", user: str = "user-1", **body: Any) -> httpx.Response:
        """The answer to a hold of an amount in CHF."""
        headers = {"Idempotency-Key": body.pop("key")} if "key" in body else {}
        given = {"mandateId": self.mandate, "userId": user, **body}
        if amount is not None:
            given["estimatedCost"] = chf(amount)
        return await self.api.call(publisher(), "POST", "/api/billing/holds", json=given, headers=headers)

    async def hold(self, amount: str = "1", user: str = "user-1", **body: Any) -> str:
        """The id of a hold that is given."""
        answer = await self.ask(amount, user, **body)
        assert answer.status_code == 201, answer.text
        hold: str = answer.json()["holdId"]
        return hold

    async def capture(self, hold: str, **body: Any) -> httpx.Response:
        return await self.api.call(publisher(), "POST", f"/api/billing/holds/{hold}/capture", json=body)

    async def void(self, hold: str) -> httpx.Response:
        return await self.api.call(publisher(), "POST", f"/api/billing/holds/{hold}/void")

    async def check(self, amount: str = "0", user: str = "user-1") -> dict[str, Any]:
        body = {"mandateId": self.mandate, "userId": user, "estimatedCost": chf(amount)}
        found: dict[str, Any] = (await self.api.call(publisher(), "POST", "/api/billing/check", json=body)).json()
        return found

    async def held(self) -> dict[str | None, int]:
        """What is held (micro-CHF) by account: of the pool (None) and of members; without those where nothing is."""
        rows = await self.books.fetch(
            "SELECT a.user_id, a.held FROM accounts a JOIN mandates m ON m.no = a.mandate_no"
            " WHERE m.id = $1 AND a.held <> 0",
            self.mandate,
        )
        return {row["user_id"]: row["held"] for row in rows}

    async def state(self, hold: str) -> tuple[str, UUID | None]:
        """The state of a hold and the event that settled it."""
        (row,) = await self.books.fetch("SELECT state, settled_by FROM holds WHERE id = $1", UUID(hold))
        return row["state"], row["settled_by"]
