"""What an administrator of a mandate can learn of people: of its members what it needs, of others nothing."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.integration.gateway.support import Headers, a_tenant, assert_problem, events_of, import_lines, put, unique
from tests.integration.gateway.test_scope import caller
from tests.support.databases import connected
from tests.support.gateway import Issuer
from tests.support.locks import held
from tests.support.stack import ServerPair

PERSON = {"username": "grace", "email": "grace@other.example", "firstName": "Grace", "lastName": "Hopper"}


class Two:
    """A mandate with its administrator, and a person of another one."""

    def __init__(self, client: httpx.AsyncClient, admin: Headers, issuer: Issuer) -> None:
        self.client, self.root, self.issuer = client, admin, issuer

    async def make(self) -> Two:
        self.mandate, self.admin_id = await a_tenant(self.client, self.root, "admin")
        self.other, _ = await a_tenant(self.client, self.root, "member")
        # Such an id stands behind the administrator's in every list.
        self.person, self.instance = unique("visitor"), unique("i")
        await put(self.client, self.root, f"users/{self.person}", {**PERSON, "language": "fr"})
        await put(self.client, self.root, f"memberships/{self.other}/{self.person}", {"roles": ["member"]})
        body = {"mandateId": self.mandate, "featureCode": "chat"}
        await put(self.client, self.root, f"feature-instances/{self.instance}", body)
        self.me, self.them = self.issuer.person(self.admin_id), self.issuer.person(self.person)
        return self

    def paths(self, user: str) -> tuple[str, str]:
        return f"memberships/{self.mandate}/{user}", f"feature-access/{self.instance}/{user}"

    async def add(self, user: str, **more: Any) -> list[dict[str, Any]]:
        """The administrator adds somebody to the mandate and to its feature."""
        roles = (["member"], ["user"])
        return [
            await put(self.client, self.me, path, {"roles": role, **more})
            for path, role in zip(self.paths(user), roles, strict=True)
        ]

    async def accept(self, headers: Headers, mandate: str | None = None) -> httpx.Response:
        path = f"/api/directory/invitations/{mandate or self.mandate}/accept"
        return await self.client.post(path, headers=headers)

    async def seen(self, user: str, headers: Headers | None = None) -> list[Any]:
        """Everything that the directory says of somebody, with their id taken out."""
        me = headers or self.me
        answers = [await self.client.get(f"/api/directory/users/{user}", headers=me)]
        for path in ("users", "memberships", "feature-access", "mandates", "feature-instances", "provider-permissions"):
            for query in (
                {},
                {"userId": user},
                {"userId": user, "mandateId": self.mandate},
                {"limit": "1"},
                {"pagination": json.dumps({"sort": [], "search": user})},
            ):
                answers.append(await self.client.get(f"/api/directory/{path}", params=query, headers=me))
        for pagination in (
            {"search": "grace"},
            {"search": "other.example"},
            {"search": "Hopper"},
            {"search": "fr"},
            {"filters": {"email": "grace@other.example"}},
            {"filters": {"email": {"operator": "contains", "value": "other"}}},
            {"filters": {"displayName": {"operator": "startsWith", "value": "Grace"}}},
            {"filters": {"lastName": {"operator": "isEmpty", "value": False}}},
            {"sort": [{"field": "email"}], "pageSize": 1},
        ):
            query = {"pagination": json.dumps(pagination)}
            answers.append(await self.client.get("/api/directory/users", params=query, headers=me))
        lookup = {"ids": [user, self.admin_id]}
        answers.append(await self.client.post("/api/directory/users/lookup", json=lookup, headers=me))
        answers += [await self.client.get(f"/api/directory/{path}", headers=me) for path in self.paths(user)]
        return [(answer.status_code, _without(answer, user)) for answer in answers]


def _without(answer: httpx.Response, user: str) -> Any:
    told = json.loads(answer.text.replace(user, "somebody"))
    if isinstance(told, dict):
        told.pop("requestId", None)
        # The echo of what was asked.
        told.get("pagination", {}).pop("filters", None)
        if "nextCursor" in told:
            told["nextCursor"] = told["nextCursor"] is not None
    return told


@pytest.fixture
async def two(client: httpx.AsyncClient, admin: Headers, issuer: Issuer) -> Two:
    return await Two(client, admin, issuer).make()


async def test_adding_somebody_tells_nothing_about_whether_they_exist(two: Two) -> None:
    nobody = unique("visitor")
    assert len(nobody) == len(two.person)
    for more in ({}, {}, {"enabled": False}, {"pending": False}):
        told = await two.add(two.person, **more)
        assert await two.add(nobody, **more) == json.loads(json.dumps(told).replace(two.person, nobody))
        assert [entry["pending"] for entry in told] == [True, True]
    for person in (two.person, nobody):
        # Only one of the two is there while it is looked at, so that nothing else differs.
        for each in (two.person, nobody):
            enabled = {"enabled": each == person}
            await two.add(each, **enabled)
    await two.client.delete(f"/api/directory/memberships/{two.mandate}/{nobody}", headers=two.me)
    refused = [
        await two.client.put(f"/api/directory/{path}", json={"roles": "admin"}, headers=two.me)
        for user in (two.person, nobody)
        for path in two.paths(user)
    ]
    assert {answer.status_code for answer in refused} == {422}


async def test_an_invited_stranger_stays_unseen_in_every_list_and_search(two: Two) -> None:
    unseen = await two.seen(two.person)
    await two.add(two.person)
    seen = await two.seen(two.person)
    text = json.dumps(seen)
    for word in ("grace", "Grace", "Hopper", "other.example", '"fr"'):
        assert word not in text
    # What is new is what the administrator wrote.
    assert seen[0] == unseen[0] == (404, unseen[0][1])
    row = {"mandateId": two.mandate, "userId": "somebody", "roles": ["member"], "enabled": True, "pending": True}
    assert (200, row) in seen


async def test_somebody_who_exists_looks_like_somebody_who_does_not(two: Two) -> None:
    nobody = unique("visitor")
    await two.add(two.person)
    existing = await two.seen(two.person)
    for path in two.paths(two.person):
        await two.client.delete(f"/api/directory/{path}", headers=two.me)
    elsewhere = await Two(two.client, two.root, two.issuer).make()
    await elsewhere.add(nobody)
    missing = await elsewhere.seen(nobody)
    names = ((elsewhere.mandate, two.mandate), (elsewhere.admin_id, two.admin_id), (elsewhere.instance, two.instance))
    text = json.dumps(missing)
    for theirs, ours in names:
        text = text.replace(theirs, ours)
    assert json.loads(text) == json.loads(json.dumps(existing))


async def test_an_invitation_gives_nothing_and_is_not_told_until_it_is_accepted(two: Two, servers: ServerPair) -> None:
    await two.add(two.person, roles=["admin"])
    context = await caller(two.client, two.them)
    assert (context["mandates"], context["instances"]) == ({two.other: False}, [])
    assert_problem(await two.client.get(f"/api/directory/mandates/{two.mandate}", headers=two.them), 403)
    invited = (await two.client.get("/api/directory/invitations", headers=two.them)).json()
    feature = {"instanceId": two.instance, "featureCode": "chat", "label": None, "roles": ["admin"]}
    expected = {"mandateId": two.mandate, "mandateName": "Acme AG", "roles": ["admin"], "features": [feature]}
    assert invited == {"items": [expected], "nextCursor": None}

    answer = await two.accept(two.them)
    assert (answer.status_code, answer.json()) == (200, expected)
    assert (await two.client.get("/api/directory/invitations", headers=two.them)).json()["items"] == []
    context = await caller(two.client, two.them)
    assert context["mandates"] == {two.other: False, two.mandate: True}
    assert context["instances"] == [two.instance]
    changes = (await events_of(servers, two.mandate, 5))[-2:]
    assert [(change.entry.kind, getattr(change.entry, "user_id", None)) for change in changes] == [
        ("membership", two.person),
        ("feature_access", two.person),
    ]
    assert_problem(await two.accept(two.them), 403, "FORBIDDEN")


async def test_a_member_is_seen_while_they_are_one_and_never_after(two: Two) -> None:
    await two.add(two.person)
    assert (await two.accept(two.them)).status_code == 200
    entry = (await two.client.get(f"/api/directory/users/{two.person}", headers=two.me)).json()
    assert entry == {
        "id": two.person,
        "displayName": "Grace Hopper",
        # No business of the mandate.
        "language": None,
        "enabled": True,
        **PERSON,
    }
    filters = json.dumps({"filters": {"language": "fr"}})
    refused = await two.client.get("/api/directory/users", params={"pagination": filters}, headers=two.me)
    assert_problem(refused, 400, "INVALID_PAGINATION")
    found = json.dumps({"search": "hopper"})
    listed = await two.client.get("/api/directory/users", params={"pagination": found}, headers=two.me)
    assert [item["email"] for item in listed.json()["items"]] == ["grace@other.example"]

    await two.client.delete(f"/api/directory/memberships/{two.mandate}/{two.person}", headers=two.me)
    seen = await two.seen(two.person)
    for word in ("grace", "Grace", "Hopper", "other.example", '"fr"'):
        assert word not in json.dumps(seen)
    # Taking them in again is asking them again.
    for entry in (await two.add(two.person))[:1]:
        assert entry["pending"] is True
    assert "grace" not in json.dumps(await two.seen(two.person))
    assert (await caller(two.client, two.them))["mandates"] == {two.other: False}


async def test_access_to_a_feature_shows_no_more_of_a_person_than_their_id(two: Two) -> None:
    _, access = two.paths(two.person)
    await put(two.client, two.root, access, {"roles": ["user"]})
    seen = await two.seen(two.person)
    assert "grace" not in json.dumps(seen)
    # It is real: changing its roles does not take it away.
    assert "pending" not in await put(two.client, two.me, access, {"roles": ["admin"]})
    assert (await caller(two.client, two.them))["instances"] == [two.instance]


async def test_whom_the_administrator_knows_already_is_added_at_once(
    two: Two, client: httpx.AsyncClient, admin: Headers
) -> None:
    second, _ = await a_tenant(client, admin, "member")
    await put(client, admin, f"memberships/{second}/{two.admin_id}", {"roles": ["admin"]})
    await two.add(two.person)
    body = {"roles": ["member"]}
    assert (await put(client, two.me, f"memberships/{second}/{two.person}", body))["pending"] is True
    await two.accept(two.them)
    # A member of one of the administrator's mandates is known in the other.
    known = await put(client, two.me, f"memberships/{second}/{two.person}", body)
    assert known == {"mandateId": second, "userId": two.person, "roles": ["member"], "enabled": True}
    changed = await put(client, two.me, f"memberships/{two.mandate}/{two.person}", {"roles": ["admin", "member"]})
    assert "pending" not in changed
    assert (await caller(client, two.them))["mandates"] == {two.other: False, two.mandate: True, second: False}


async def test_the_operator_confirms_and_nobody_else_can(two: Two, servers: ServerPair) -> None:
    membership, _ = two.paths(two.person)
    await two.add(two.person)
    assert "pending" not in await put(two.client, two.root, membership, {"roles": ["member"], "pending": True})
    assert (await caller(two.client, two.them))["mandates"] == {two.other: False, two.mandate: False}
    nobody = unique("visitor")
    await two.add(nobody)
    path = f"/api/directory/memberships/{two.mandate}/{nobody}"
    refused = await two.client.put(path, json={"roles": ["member"]}, headers=two.root)
    assert_problem(refused, 404, "UNKNOWN_REFERENCE")
    line = {"kind": "membership", "mandateId": two.mandate, "userId": two.person, "roles": ["member"], "pending": True}
    document = assert_problem(await import_lines(two.client, two.root, json.dumps(line)), 422, "INVALID_IMPORT")
    assert "invitation" in document["errors"][0]["message"]


async def test_only_an_open_invitation_can_be_accepted(two: Two, client: httpx.AsyncClient, admin: Headers) -> None:
    for mandate in (two.mandate, unique("nowhere")):
        assert_problem(await two.accept(two.them, mandate), 403, "FORBIDDEN")
    await two.add(two.person)
    for path in two.paths(two.person):
        assert (await client.delete(f"/api/directory/{path}", headers=two.me)).json()["pending"] is True
    assert_problem(await two.accept(two.them), 403, "FORBIDDEN")
    await two.add(two.person)
    await client.delete(f"/api/directory/mandates/{two.mandate}", headers=admin)
    assert (await client.get("/api/directory/invitations", headers=two.them)).json()["items"] == []
    assert_problem(await two.accept(two.them), 403, "FORBIDDEN")
    stranger = unique("user")
    await put(client, admin, f"mandates/{two.mandate}", {"label": "Acme AG"})
    await two.add(stranger)
    # A token alone is no entry of the directory.
    assert_problem(await two.accept(two.issuer.person(stranger)), 404, "UNKNOWN_REFERENCE")
    assert_problem(await two.accept(two.issuer.service_account("usage:write")), 403)


async def test_invitations_are_walked_by_cursor(two: Two, client: httpx.AsyncClient, admin: Headers) -> None:
    mandates = [two.mandate]
    for _ in range(2):
        mandate, _ = await a_tenant(client, admin, "member")
        await put(client, admin, f"memberships/{mandate}/{two.admin_id}", {"roles": ["admin"]})
        mandates.append(mandate)
    for mandate in mandates:
        await put(client, two.me, f"memberships/{mandate}/{two.person}", {"roles": ["member"]})
    seen: list[str] = []
    query: dict[str, Any] = {"limit": 2}
    while True:
        page = (await client.get("/api/directory/invitations", params=query, headers=two.them)).json()
        seen += [item["mandateId"] for item in page["items"]]
        if page["nextCursor"] is None:
            break
        query["cursor"] = page["nextCursor"]
    assert seen == sorted(mandates)


async def test_a_membership_of_the_operator_is_no_invitation_again_by_one_that_was_begun_before(
    two: Two, client: httpx.AsyncClient, admin: Headers, servers: ServerPair
) -> None:
    path, _ = two.paths(two.person)
    async with held(servers.admin_dsn, "LOCK TABLE gateway.outbox IN EXCLUSIVE MODE") as lock:
        operator = client.put(f"/api/directory/{path}", json={"roles": ["admin"]}, headers=admin)
        inviting = client.put(f"/api/directory/{path}", json={"roles": ["member"]}, headers=two.me)
        await lock.begin(operator, inviting)
        assert [answer.status_code for answer in await lock.release()] == [200, 200]
    assert lock.waited >= 2
    row_of = "FROM gateway.memberships WHERE mandate_id = $1 AND user_id = $2"
    assert await _enabled_and_pending(servers, row_of, two.mandate, two.person) == (True, False)


async def test_an_invitation_that_is_withdrawn_at_that_moment_is_not_accepted(
    two: Two, client: httpx.AsyncClient, servers: ServerPair
) -> None:
    await two.add(two.person)
    row_of = "FROM gateway.memberships WHERE mandate_id = $1 AND user_id = $2"
    async with held(servers.admin_dsn, f"SELECT 1 {row_of} FOR UPDATE", two.mandate, two.person) as lock:
        path = f"/api/directory/memberships/{two.mandate}/{two.person}"
        await lock.begin(client.delete(path, headers=two.me), two.accept(two.them))
        withdrawn, accepted = await lock.release()
    assert lock.waited == 2
    assert withdrawn.status_code in (200, 204)
    assert_problem(accepted, 403, "FORBIDDEN")
    assert await _enabled_and_pending(servers, row_of, two.mandate, two.person) == (False, True)


async def test_an_invitation_to_a_feature_alone_that_is_withdrawn_at_that_moment_is_not_accepted(
    two: Two, client: httpx.AsyncClient, servers: ServerPair
) -> None:
    _, path = two.paths(two.person)
    await put(client, two.me, path, {"roles": ["user"]})
    row_of = "FROM gateway.feature_access WHERE instance_id = $1 AND user_id = $2"
    async with held(servers.admin_dsn, f"SELECT 1 {row_of} FOR UPDATE", two.instance, two.person) as lock:
        await lock.begin(client.delete(f"/api/directory/{path}", headers=two.me), two.accept(two.them))
        withdrawn, accepted = await lock.release()
    assert lock.waited == 2
    assert withdrawn.status_code in (200, 204)
    assert_problem(accepted, 403, "FORBIDDEN")
    assert await _enabled_and_pending(servers, row_of, two.instance, two.person) == (False, True)


async def _enabled_and_pending(servers: ServerPair, row_of: str, *values: object) -> tuple[bool, bool]:
    async with connected(servers.admin_dsn) as looking:
        return tuple(await looking.fetchrow(f"SELECT enabled, pending {row_of}", *values))
