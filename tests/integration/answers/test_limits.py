"""Limits on the whole public surface: set by a mandate's administrator, used up by usage from Kafka, told to a
program."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import httpx

from tests.integration.answers.conftest import Surface
from tests.support.events import new_mandate, uuid7
from tests.support.waiting import eventually

LIMIT = {"kind": "model", "key": "gpt-5", "period": "month", "limit": {"amount": "2.000000", "currency": "CHF"}}


async def mandate_of(surface: Surface) -> str:
    """A mandate with an administrator, a member, and credit."""
    mandate, root = new_mandate(), surface.issuer.person("root", system_admin=True)
    for path, body in (
        (f"mandates/{mandate}", {"label": "Limited"}),
        (f"memberships/{mandate}/chief", {"roles": ["admin"]}),
        (f"memberships/{mandate}/mia", {"roles": ["member"]}),
    ):
        assert (await surface.http.put(f"/api/directory/{path}", json=body, headers=root)).status_code == 200
    path = f"/api/billing/admin/credit/{mandate}"
    assert (await surface.http.post(path, json={"amount": 100}, headers=root)).status_code == 200
    return mandate


async def test_usage_uses_up_a_limit_that_an_administrator_has_set(surface: Surface) -> None:
    mandate = await mandate_of(surface)
    http, path = surface.http, f"/api/billing/admin/limits/{mandate}"
    chief, program = surface.issuer.person("chief"), surface.issuer.service_account("usage:write usage:check")

    async def check(amount: str) -> dict[str, Any]:
        cost = {"amount": amount, "currency": "CHF"}
        body = {"mandateId": mandate, "userId": "mia", "estimatedCost": cost, "model": "gpt-5"}
        answer = await http.post("/api/billing/check", json=body, headers=program)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    assert (await http.get(path, headers=chief)).json() == []
    answer = await http.put(path, json=[LIMIT], headers=chief)
    assert (answer.status_code, answer.json()) == (200, [LIMIT])
    assert (await http.get(path, headers=chief)).json() == [LIMIT]
    assert (await check("2"))["allowed"] is True
    assert (await check("2.000001"))["reason"] == "SUB_LIMIT_EXCEEDED"
    cost = {"amount": "1", "currency": "CHF"}
    data = {"mandate_id": mandate, "user_id": "mia", "provider": "openai", "model": "gpt-5", "cost": cost}
    assert (await _publish(surface, data)).status_code == 202

    async def charged() -> bool:
        return (await check("0.500001"))["reason"] == "SUB_LIMIT_EXCEEDED"

    await eventually(charged, what="usage that counts towards the limit")
    assert (await check("0.5"))["allowed"] is True


async def _publish(surface: Surface, data: dict[str, Any]) -> httpx.Response:
    event = {"specversion": "1.0", "id": str(uuid7()), "source": "/tests", "type": "ch.rappen.usage.recorded.v1"}
    headers = {**surface.issuer.service_account("usage:write"), "Content-Type": "application/cloudevents+json"}
    event["time"] = datetime.now(UTC).isoformat()
    return await surface.http.post("/api/usage", json={**event, "data": data}, headers=headers)


async def test_who_is_no_administrator_of_the_mandate_learns_nothing_of_its_limits(surface: Surface) -> None:
    mandate = await mandate_of(surface)
    path, issuer = f"/api/billing/admin/limits/{mandate}", surface.issuer
    for caller in (issuer.person("mia"), issuer.person("stranger"), issuer.service_account("usage:check")):
        assert (await surface.http.get(path, headers=caller)).status_code == 403
        assert (await surface.http.put(path, json=[LIMIT], headers=caller)).status_code == 403
    assert (await surface.http.get(path)).status_code == 401
    # A mandate that does not exist is told only to who may see all of them.
    gone = f"/api/billing/admin/limits/{new_mandate()}"
    assert (await surface.http.get(gone, headers=issuer.person("chief"))).status_code == 403
    root = issuer.person("root", system_admin=True)
    assert (await surface.http.put(gone, json=[], headers=root)).status_code == 404
    refused = await surface.http.put(path, json=[LIMIT | {"period": "year"}], headers=issuer.person("chief"))
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "0.period")
