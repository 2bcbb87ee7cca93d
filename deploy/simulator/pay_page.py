"""The page of the fake Stripe on which a demo tenant can be topped up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import httpx

from deploy.simulator.platform import Platform, PlatformError, person
from deploy.simulator.tenants import TopUp

__all__ = ["open_pay_page"]

_TIMEOUT_S = 10.0


async def open_pay_page(
    platform: Platform, client: httpx.AsyncClient, stack: Mapping[str, Any], top_up: TopUp, *, patience_s: float = 0.0
) -> str:
    """Give the address of a page that waits to be paid: the one there is, else that of a new checkout."""
    return await _waiting_page(client, stack["stripe"], top_up) or await _new_page(platform, stack, top_up, patience_s)


async def _waiting_page(client: httpx.AsyncClient, stripe: str, top_up: TopUp) -> str | None:
    try:
        answer = await client.get(f"{stripe}/_control/checkout/sessions", timeout=_TIMEOUT_S)
        answer.raise_for_status()
    except httpx.HTTPError as error:
        raise PlatformError("the fake Stripe", 0, "NO_ANSWER", type(error).__name__) from error
    sessions: list[dict[str, Any]] = answer.json()
    for session in reversed(sessions):
        ours = session["metadata"].get("mandateId") == top_up.tenant.id
        if ours and session["status"] == "open" and session["amount_total"] == top_up.amount * 100:
            return str(session["url"])
    return None


async def _new_page(platform: Platform, stack: Mapping[str, Any], top_up: TopUp, patience_s: float) -> str:
    made = await platform.call(
        "POST",
        f"/api/billing/checkout/create/{top_up.tenant.id}",
        person(top_up.tenant.admin.id),
        body={"amount": top_up.amount, "returnUrl": f"{stack['mail']}/"},
        idempotency_key=str(uuid4()),
        patience_s=patience_s,
    )
    return str(made["redirectUrl"])
