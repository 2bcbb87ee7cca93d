"""Lists of transactions, their export and a mandate's members, through the real gateway at the real billing service."""

from __future__ import annotations

import csv
import json
from zoneinfo import ZoneInfo

import httpx

from services.billing.mandates.apply_directory import ApplyDirectory
from services.chassis.clock import system_clock
from services.chassis.database import Database
from tests.integration.gateway.support import Headers, a_tenant, assert_problem, put, unique
from tests.support.charging import charge
from tests.support.directory import directory_events
from tests.support.events import usage_record
from tests.support.gateway import Issuer

USERS = "/api/billing/view/users/transactions"
ROWS = 3000


async def test_an_export_comes_through_whole_and_a_refusal_as_one(
    http: httpx.AsyncClient, client: httpx.AsyncClient, admin: Headers, issuer: Issuer, database: Database
) -> None:
    mandate, user = await a_tenant(client, admin, "admin")
    await ApplyDirectory(database, clock=system_clock)(directory_events(mandate, {user: ["admin"]}), [])
    at = system_clock()
    for begin in range(0, ROWS, 1000):
        amounts = range(begin + 1, begin + 1001)
        await charge(
            database,
            *(usage_record(mandate, user, amount=f"{amount}", at=at, description="a" * 200) for amount in amounts),
        )
    me = issuer.person(user)
    pieces, text = 0, ""
    async with http.stream("GET", f"{USERS}/export", params={"mandateId": mandate}, headers=me) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/csv; charset=utf-8; header=present"
        assert answer.headers["content-disposition"] == 'attachment; filename="transactions.csv"'
        assert answer.headers["x-request-id"]
        async for piece in answer.aiter_text():
            pieces, text = pieces + 1, text + piece
    lines = list(csv.DictReader(text.splitlines()))
    assert sorted(float(line["amount"]) for line in lines) == [amount * 1.5 for amount in range(1, ROWS + 1)]
    assert pieces > 1
    # What billing refuses before the first line is a refusal here.
    malformed = await http.get(f"{USERS}/export", params={"pagination": "{"}, headers=me)
    assert_problem(malformed, 400, "INVALID_PAGINATION")
    foreign = await http.get(f"{USERS}/export", params={"mandateId": unique("m")}, headers=me)
    assert_problem(foreign, 403, "FORBIDDEN")
    page = await http.get(f"/api/billing/admin/transactions/{mandate}", headers=me)
    assert (len(page.json()["items"]), page.json()["pagination"]) == (200, None)
    # The day of the mandate's zone, which is another than that of UTC for the last hour or two of the latter.
    day = at.astimezone(ZoneInfo("Europe/Zurich")).date().isoformat()
    asked = json.dumps({"pageSize": 1000, "page": 3, "filters": {"createdAt": day}})
    page = await http.get(USERS, params={"pagination": asked}, headers=me)
    assert page.status_code == 200
    assert (len(page.json()["items"]), page.json()["pagination"]["totalItems"]) == (1000, ROWS)
    assert_problem(await http.get(USERS, params={"pagination": "x" * 60_000}, headers=me), 400, "INVALID_PAGINATION")


async def test_the_members_of_a_mandate_are_named_to_its_administrators(
    client: httpx.AsyncClient, admin: Headers, issuer: Issuer
) -> None:
    mandate, boss = await a_tenant(client, admin, "admin")
    zoe, bea, gone, invited = (unique(name) for name in ("zoe", "bea", "gone", "invited"))
    await put(client, admin, f"users/{zoe}", {"firstName": "Zoë", "lastName": "Zumstein", "email": "zoe@acme.example"})
    await put(client, admin, f"users/{bea}", {"username": "bea"})
    for user in (gone, invited):
        await put(client, admin, f"users/{user}", {"username": "a"})
    for user in (zoe, bea, gone):
        await put(client, admin, f"memberships/{mandate}/{user}", {"roles": ["member"]})
    assert (await client.delete(f"/api/directory/memberships/{mandate}/{gone}", headers=admin)).status_code == 200
    # Whom an administrator of the mandate adds has not agreed yet.
    await put(client, issuer.person(boss), f"memberships/{mandate}/{invited}", {"roles": ["member"]})
    path = f"/api/billing/admin/users/{mandate}"
    for headers in (admin, issuer.person(boss)):
        answer = await client.get(path, headers=headers)
        assert answer.status_code == 200, answer.text
        shown = {each["id"]: each for each in answer.json()}
        assert set(shown) == {boss, zoe, bea}
        assert shown[zoe] == {
            "id": zoe,
            "username": "",
            "email": "zoe@acme.example",
            "firstName": "Zoë",
            "lastName": "Zumstein",
            "displayName": "Zoë Zumstein",
        }
        assert (shown[bea]["username"], shown[bea]["email"], shown[bea]["displayName"]) == ("bea", "", "bea")
        names = [each["displayName"] for each in answer.json()]
        assert names == sorted(names)
    assert_problem(await client.get(path, headers=issuer.person(zoe)), 403, "FORBIDDEN")
    assert_problem(await client.get(path, headers=issuer.person(unique("x"))), 403, "FORBIDDEN")
    nowhere = f"/api/billing/admin/users/{unique('m')}"
    assert_problem(await client.get(nowhere, headers=admin), 404, "MANDATE_UNKNOWN")
    assert_problem(await client.get(nowhere, headers=issuer.person(boss)), 403, "FORBIDDEN")
