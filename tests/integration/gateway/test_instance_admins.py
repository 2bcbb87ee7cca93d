"""An administrator of a feature instance, through the real gateway, at the real billing service."""

from __future__ import annotations

from datetime import UTC, datetime

import httpx

from services.billing.mandates.apply_directory import ApplyDirectory
from services.chassis.clock import system_clock
from services.chassis.database import Database
from tests.integration.gateway.support import Headers, a_tenant, assert_problem, put, unique
from tests.support.charging import charge
from tests.support.directory import directory_events
from tests.support.events import usage_record
from tests.support.gateway import Issuer


async def test_they_see_the_transactions_of_their_instance_and_nothing_else(
    http: httpx.AsyncClient, client: httpx.AsyncClient, admin: Headers, issuer: Issuer, database: Database
) -> None:
    mandate, member = await a_tenant(client, admin, "member")
    user, theirs, another = unique("u"), unique("i"), unique("i")
    await put(client, admin, f"users/{user}", {"username": "sam"})
    for instance in (theirs, another):
        await put(client, admin, f"feature-instances/{instance}", {"mandateId": mandate, "featureCode": "chat"})
    await put(client, admin, f"feature-access/{theirs}/{user}", {"roles": ["admin"]})
    await ApplyDirectory(database, clock=system_clock)(directory_events(mandate, {member: ["member"]}), [])
    await charge(
        database,
        usage_record(mandate, member, amount="1", feature_instance_id=theirs),
        usage_record(mandate, member, amount="2", feature_instance_id=another),
        usage_record(mandate, user, amount="3"),
    )

    async def seen(headers: Headers) -> list[tuple[float, str | None]]:
        answer = await http.get("/api/billing/transactions", headers=headers)
        assert answer.status_code == 200, answer.text
        rows = [row for row in answer.json() if row["aicoreProvider"] is not None]
        return sorted((row["amount"], row["featureInstanceId"]) for row in rows)

    # Without a membership what they themselves have used is not theirs to see, only the instance's is.
    me = issuer.person(user)
    assert await seen(me) == [(1.5, theirs)]
    assert_problem(await http.get(f"/api/billing/balance/{mandate}", headers=me), 403, "FORBIDDEN")
    assert (await http.get("/api/billing/balance", headers=me)).json() == []
    named = await http.get("/api/billing/transactions", headers={**me, "X-Mandate-Id": mandate})
    assert_problem(named, 403, "FORBIDDEN")
    # A member sees their own rows, in all instances, and nobody else's.
    assert [row[0] for row in await seen(issuer.person(member))] == [1.5, 3.0]
    # Statistics are of the same rows, whatever the way they are asked for.
    year = datetime.now(UTC).year

    async def cost(headers: Headers, query: str) -> float:
        answer = await http.get(f"/api/billing/{query}", headers=headers)
        assert answer.status_code == 200, answer.text
        total: float = answer.json()["totalCost"]
        return total

    assert await cost(me, "view/statistics") == 1.5
    assert await cost(me, f"view/statistics?scope=mandate&mandateId={mandate}") == 1.5
    assert await cost(me, "view/statistics?onlyMine=true") == 0
    assert await cost(me, f"statistics/year?year={year}") == 0
    assert await cost(issuer.person(member), "view/statistics") == 4.5
    own = {**issuer.person(member), "X-Mandate-Id": mandate}
    assert await cost(own, f"statistics/year?year={year}") == 4.5
    runway = (await http.get(f"/api/billing/view/runway?mandateId={mandate}", headers=me)).json()
    assert (runway["mandate"], runway["members"]) == (None, [])
    assert [feature["featureCode"] for feature in runway["features"]] == ["chat"]
    foreign = await http.get(f"/api/billing/statistics/year?year={year}", headers={**me, "X-Mandate-Id": mandate})
    assert_problem(foreign, 403, "FORBIDDEN")
    assert (await client.delete(f"/api/directory/feature-access/{theirs}/{user}", headers=admin)).status_code == 200
    assert await seen(me) == []
    assert await cost(me, "view/statistics") == 0
    refused = await http.get(f"/api/billing/view/runway?mandateId={mandate}", headers=me)
    assert_problem(refused, 403, "FORBIDDEN")
