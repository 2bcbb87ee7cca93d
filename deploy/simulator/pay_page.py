"""The page of the fake Stripe on which a demo tenant can be topped up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple
from uuid import uuid4

import httpx

from deploy.simulator.platform import Platform, PlatformError, person
from deploy.simulator.tenants import TopUp

__all__ = ["PayPage", "open_pay_page"]

_TIMEOUT_S = 10.0


class PayPage(NamedTuple):
    """The address of a page, and a short one that leads to it and fits into a narrow window."""

    url: str
    short: str


async def open_pay_page(
    platform: Platform, client: httpx.AsyncClient, stack: Mapping[str, Any], top_up: TopUp, *, patience_s: float = 0.0
) -> PayPage:
    """Give a page that waits to be paid: the one there is, else that of a new checkout."""
    found = await _waiting_page(client, stack["stripe"], top_up)
    if found is None:
        await _new_page(platform, stack, top_up, patience_s)
        found = await _waiting_page(client, stack["stripe"], top_up)
    if found is None:
        raise PlatformError("the fake Stripe", 0, "NO_CHECKOUT", "a new checkout is not there")
    return found


async def _waiting_page(client: httpx.AsyncClient, stripe: str, top_up: TopUp) -> PayPage | None:
    try:
        answer = await client.get(f"{stripe}/_control/checkout/sessions", timeout=_TIMEOUT_S)
        answer.raise_for_status()
    except httpx.HTTPError as error:
        raise PlatformError("the fake Stripe", 0, "NO_ANSWER", type(error).__name__) from error
    sessions: list[dict[str, Any]] = answer.json()
    for number, session in reversed(list(enumerate(sessions, start=1))):
        ours = session["metadata"].get("mandateId") == top_up.tenant.id
        if ours and session["status"] == "open" and session["amount_total"] == top_up.amount * 100:
            url = str(session["url"])
            return PayPage(url, url.replace(session["id"], str(number)))
    return None


async def _new_page(platform: Platform, stack: Mapping[str, Any], top_up: TopUp, patience_s: float) -> None:
    await platform.call(
        "POST",
        f"/api/billing/checkout/create/{top_up.tenant.id}",
        person(top_up.tenant.admin.id),
        body={"amount": top_up.amount, "returnUrl": f"{stack['mail']}/"},
        idempotency_key=str(uuid4()),
        patience_s=patience_s,
    )
