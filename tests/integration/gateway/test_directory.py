"""The directory: entries made, read, disabled; who may; every change published once, in order, before the answer."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import asyncpg
import httpx
import pytest

from tests.integration.gateway.support import Headers, a_tenant, assert_problem, events_of, import_lines, put, unique
from tests.support.databases import connected
from tests.support.gateway import Issuer
from tests.support.stack import ServerPair


async def test_each_kind_is_put_and_read_back_as_it_was_put(client: httpx.AsyncClient, admin: Headers) -> None:
    mandate, user, instance = unique("m"), unique("u"), unique("i")
    entries: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
        (f"mandates/{mandate}", {"name": "n", "label": "L", "enabled": True, "isSystem": True}, {"id": mandate}),
        (
            f"users/{user}",
            {
                "username": "ada",
                "email": "ada@example.test",
                "firstName": "Ada",
                "lastName": "Lovelace",
                "language": "de",
                "enabled": True,
            },
            {"id": user, "displayName": "Ada Lovelace"},
        ),
        (
            f"memberships/{mandate}/{user}",
            {"roles": ["admin", "member"], "enabled": True},
            {"mandateId": mandate, "userId": user},
        ),
        (
            f"feature-instances/{instance}",
            {"mandateId": mandate, "featureCode": "chat", "label": "Chat", "enabled": True},
            {"id": instance},
        ),
        (
            f"feature-access/{instance}/{user}",
            {"roles": ["user"], "enabled": True},
            {"instanceId": instance, "userId": user},
        ),
        (
            f"provider-permissions/{mandate}/member",
            {"providers": ["anthropic", "openai"]},
            {"mandateId": mandate, "role": "member"},
        ),
    ]
    for path, body, key in entries:
        assert await put(client, admin, path, body) == {**body, **key}
        read = await client.get(f"/api/directory/{path}", headers=admin)
        assert (read.status_code, read.json()) == (200, {**body, **key})
        # The whole answer may be sent back.
        assert await put(client, admin, path, read.json()) == {**body, **key}


async def test_display_name_falls_back_to_the_user_name_and_then_to_the_id(
    client: httpx.AsyncClient, admin: Headers
) -> None:
    user = unique("u")
    for body, expected in (
        ({"firstName": "Ada", "username": "ada"}, "Ada"),
        ({"firstName": "", "lastName": " ", "username": "ada"}, "ada"),
        ({"username": ""}, user),
        ({}, user),
    ):
        assert (await put(client, admin, f"users/{user}", body))["displayName"] == expected


async def test_a_put_that_changes_nothing_publishes_nothing(
    client: httpx.AsyncClient, admin: Headers, servers: ServerPair
) -> None:
    mandate = unique("m")
    for label in ("one", "one", "two", "two"):
        await put(client, admin, f"mandates/{mandate}", {"name": "n", "label": label})
    await client.delete(f"/api/directory/mandates/{mandate}", headers=admin)
    again = await client.delete(f"/api/directory/mandates/{mandate}", headers=admin)
    assert again.json()["enabled"] is False
    await put(client, admin, f"mandates/{mandate}", {"name": "n", "label": "last"})
    changes = await events_of(servers, mandate, 4)
    told = [(change.entry.label, change.entry.enabled) for change in changes if change.entry.kind == "mandate"]
    assert told == [("one", True), ("two", True), ("two", False), ("last", True)]
    versions = [change.version for change in changes]
    assert versions == sorted(set(versions))


async def test_events_carry_the_entry_its_mandate_and_the_request(
    client: httpx.AsyncClient, admin: Headers, servers: ServerPair
) -> None:
    mandate, user = await a_tenant(client, admin, "admin", "member")
    await put(client, {**admin, "X-Request-Id": "request-7"}, f"users/{user}", {"firstName": "Jo", "email": "jo@x.ch"})
    of_mandate = await events_of(servers, mandate, 2)
    assert [change.entry.kind for change in of_mandate] == ["mandate", "membership"]
    assert {change.mandate_id for change in of_mandate} == {mandate}
    of_user = await events_of(servers, user, 2)
    assert of_user[-1].mandate_id is None
    assert of_user[-1].cause == "request-7"
    assert of_user[-1].entry.model_dump() == {
        "kind": "user",
        "id": user,
        "username": None,
        "display_name": "Jo",
        "enabled": True,
    }


async def test_provider_permissions_go_back_to_the_default_and_keep_their_version_growing(
    client: httpx.AsyncClient, admin: Headers, servers: ServerPair
) -> None:
    mandate = unique("m")
    path = f"/api/directory/provider-permissions/{mandate}/member"
    await put(client, admin, f"mandates/{mandate}", {})
    await put(client, admin, f"provider-permissions/{mandate}/member", {"providers": ["openai"]})
    answer = await client.delete(path, headers=admin)
    assert answer.json() == {"mandateId": mandate, "role": "member", "providers": None}
    assert_problem(await client.delete(path, headers=admin), 404)
    assert_problem(await client.get(path, headers=admin), 404)
    listed = await client.get(f"/api/directory/provider-permissions?mandateId={mandate}", headers=admin)
    assert listed.json() == {"items": [], "nextCursor": None}
    await put(client, admin, f"provider-permissions/{mandate}/member", {"providers": []})
    changes = (await events_of(servers, mandate, 4))[1:]
    told = [change.entry.providers for change in changes if change.entry.kind == "provider_permissions"]
    assert told == [["openai"], None, []]
    assert [change.version for change in changes] == sorted(change.version for change in changes)


async def test_what_an_entry_refers_to_must_exist(client: httpx.AsyncClient, admin: Headers) -> None:
    mandate, user = await a_tenant(client, admin, "member")
    nobody = unique("nobody")
    for path, body, status, code in (
        (f"memberships/{nobody}/{user}", {"roles": []}, 404, "UNKNOWN_REFERENCE"),
        (f"memberships/{mandate}/{nobody}", {"roles": []}, 404, "UNKNOWN_REFERENCE"),
        (f"feature-instances/{unique('i')}", {"mandateId": nobody, "featureCode": "c"}, 404, "UNKNOWN_REFERENCE"),
        (f"feature-access/{nobody}/{user}", {"roles": []}, 404, "UNKNOWN_REFERENCE"),
        (f"provider-permissions/{nobody}/member", {"providers": []}, 404, "UNKNOWN_REFERENCE"),
    ):
        assert_problem(await client.put(f"/api/directory/{path}", json=body, headers=admin), status, code)
    for path in (f"mandates/{nobody}", f"users/{nobody}", f"memberships/{mandate}/{nobody}"):
        assert_problem(await client.delete(f"/api/directory/{path}", headers=admin), 404, "NOT_FOUND")
        assert_problem(await client.get(f"/api/directory/{path}", headers=admin), 404, "NOT_FOUND")


async def test_a_feature_instance_never_changes_its_mandate(client: httpx.AsyncClient, admin: Headers) -> None:
    first, _ = await a_tenant(client, admin, "member")
    second, _ = await a_tenant(client, admin, "member")
    path = f"/api/directory/feature-instances/{unique('i')}"
    body = {"featureCode": "chat"}
    assert (await client.put(path, json={**body, "mandateId": first}, headers=admin)).status_code == 200
    refused = await client.put(path, json={**body, "mandateId": second}, headers=admin)
    assert_problem(refused, 409, "INSTANCE_OF_ANOTHER_MANDATE")


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("mandates/m", {"name": 7}, "name"),
        ("mandates/m", {"enabled": "true"}, "enabled"),
        ("mandates/m", {"isSystem": None}, "isSystem"),
        ("mandates/m", {"label": "x" * 201}, "label"),
        ("mandates/m", {"label": "a\x00b"}, "label"),
        ("users/u", {"email": "no address"}, "email"),
        ("users/u", {"email": "a@b\nBcc: c@d"}, "email"),
        ("users/u", {"language": "../de"}, "language"),
        ("memberships/m/u", {}, "roles"),
        ("memberships/m/u", {"roles": "admin"}, "roles"),
        ("memberships/m/u", {"roles": [""]}, "roles.0"),
        ("memberships/m/u", {"roles": ["r"] * 51}, "roles"),
        ("feature-instances/i", {"mandateId": "a b", "featureCode": "c"}, "mandateId"),
        ("feature-instances/i", {"mandateId": "m"}, "featureCode"),
        ("provider-permissions/m/r", {"providers": None}, "providers"),
        ("mandates/a%20b", {}, "id"),
        ("mandates/" + "x" * 65, {}, "id"),
        ("mandates/m%00", {}, "id"),
        ("mandates/m%0A", {}, "id"),
        ("mandates/%F0%28", {}, "id"),
    ],
)
async def test_a_field_that_is_not_as_it_should_be_is_named(
    client: httpx.AsyncClient, admin: Headers, path: str, body: dict[str, Any], field: str
) -> None:
    document = assert_problem(await client.put(f"/api/directory/{path}", json=body, headers=admin), 422, "VALIDATION")
    assert [fault["field"] for fault in document["errors"]] == [field]


@pytest.mark.parametrize("number", ["1e999999999", "1e-999999999", "1e99999999999999999999", "9" * 5000])
async def test_a_number_beyond_all_use_is_no_fault_of_ours(
    client: httpx.AsyncClient, admin: Headers, number: str
) -> None:
    body = f'{{"name": "n", "label": "L", "more": {number}}}'.encode()
    headers = {**admin, "Content-Type": "application/json; profile=x; charset=utf-8"}
    refused = await client.put(f"/api/directory/mandates/{unique('m')}", content=body, headers=headers)
    assert_problem(refused, 422, "NUMBER_OUT_OF_RANGE")
    line = f'{{"kind": "mandate", "id": "{unique("m")}", "name": "n", "label": "L", "enabled": {number}}}'.encode()
    headers["Content-Type"] = "application/x-ndjson"
    assert_problem(await client.post("/api/directory/import", content=line, headers=headers), 422)
    for query in (f'{{"page": {number}}}', f'{{"filters": {{"name": {number}}}}}'):
        listed = await client.get("/api/directory/mandates", params={"pagination": query}, headers=admin)
        assert_problem(listed, 400)
    assert_problem(await client.get("/api/directory/mandates", params={"limit": number}, headers=admin), 422)


async def test_a_body_that_names_another_entry_than_the_path_is_refused(
    client: httpx.AsyncClient, admin: Headers
) -> None:
    refused = await client.put(f"/api/directory/mandates/{unique('m')}", json={"id": "other"}, headers=admin)
    assert_problem(refused, 422, "AMBIGUOUS_ENTRY")


async def test_a_mandate_admin_reads_their_mandate_and_changes_only_its_members_and_accesses(
    client: httpx.AsyncClient, admin: Headers, issuer: Issuer
) -> None:
    mandate, user = await a_tenant(client, admin, "admin")
    other, stranger = await a_tenant(client, admin, "member")
    instance, foreign = unique("i"), unique("i")
    await put(client, admin, f"feature-instances/{instance}", {"mandateId": mandate, "featureCode": "chat"})
    await put(client, admin, f"feature-instances/{foreign}", {"mandateId": other, "featureCode": "chat"})
    me = issuer.person(user)
    await put(client, me, f"memberships/{mandate}/{stranger}", {"roles": ["member"]})
    await put(client, me, f"feature-access/{instance}/{stranger}", {"roles": ["admin"]})
    for path in (f"memberships/{mandate}/{stranger}", f"feature-access/{instance}/{stranger}"):
        assert (await client.delete(f"/api/directory/{path}", headers=me)).json()["enabled"] is False
    forbidden: list[tuple[str, dict[str, Any]]] = [
        (f"memberships/{other}/{user}", {"roles": ["admin"]}),
        (f"memberships/{unique('nowhere')}/{user}", {"roles": ["admin"]}),
        (f"feature-access/{foreign}/{user}", {"roles": ["admin"]}),
        (f"feature-access/{unique('nowhere')}/{user}", {"roles": ["admin"]}),
        (f"mandates/{mandate}", {"label": "mine"}),
        (f"users/{user}", {"username": "root"}),
        (f"feature-instances/{instance}", {"mandateId": mandate, "featureCode": "x"}),
        (f"provider-permissions/{mandate}/member", {"providers": []}),
    ]
    for path, body in forbidden:
        # What is in the body does not matter to somebody who may not send it.
        assert_problem(await client.put(f"/api/directory/{path}", json=body, headers=me), 403)
        assert_problem(await client.put(f"/api/directory/{path}", content=b"{", headers=me), 403)
        assert_problem(await client.delete(f"/api/directory/{path}", headers=me), 403)
    assert_problem(await client.post("/api/directory/import", content=b"", headers=me), 403)


async def test_a_mandate_admin_sees_nothing_of_other_mandates(
    client: httpx.AsyncClient, admin: Headers, issuer: Issuer
) -> None:
    mandate, user = await a_tenant(client, admin, "admin", "member")
    other, stranger = await a_tenant(client, admin, "admin")
    await put(client, admin, f"memberships/{other}/{user}", {"roles": ["member"]})
    foreign = unique("i")
    await put(client, admin, f"feature-instances/{foreign}", {"mandateId": other, "featureCode": "chat"})
    me = issuer.person(user)
    seen = {
        "mandates": [mandate],
        "users": [user],
        "memberships": [mandate],
        "feature-instances": [],
        "feature-access": [],
        "provider-permissions": [],
    }
    for path, expected in seen.items():
        items = (await client.get(f"/api/directory/{path}", headers=me)).json()["items"]
        assert [item.get("mandateId", item.get("id")) for item in items] == expected
        assert_problem(await client.get(f"/api/directory/{path}?mandateId={other}", headers=me), 403)
        assert_problem(await client.get(f"/api/directory/{path}?mandateId={unique('no')}", headers=me), 403)
    for path, status in (
        (f"mandates/{other}", 403),
        (f"mandates/{unique('no')}", 403),
        (f"memberships/{other}/{user}", 403),
        (f"users/{stranger}", 404),
        (f"feature-instances/{foreign}", 404),
        (f"users/{user}", 200),
    ):
        answer = await client.get(f"/api/directory/{path}", headers=me)
        assert answer.status_code == status, path
    named = await client.post("/api/directory/users/lookup", json={"ids": [user, stranger]}, headers=me)
    assert named.json() == {"items": [{"id": user, "username": "jo", "displayName": "jo"}]}


async def test_a_plain_member_and_a_program_have_no_directory(
    client: httpx.AsyncClient, admin: Headers, issuer: Issuer
) -> None:
    mandate, user = await a_tenant(client, admin, "member", "administrator", "Admin", "mandate-admin")
    for headers in (issuer.person(user), issuer.person(unique("stranger")), issuer.service_account("usage:write")):
        assert_problem(await client.get("/api/directory/users", headers=headers), 403)
        assert_problem(await client.get(f"/api/directory/mandates/{mandate}", headers=headers), 403)
        lookup = await client.post("/api/directory/users/lookup", json={"ids": [user]}, headers=headers)
        assert_problem(lookup, 403)


async def test_lists_are_walked_by_cursor_without_losing_or_repeating(
    client: httpx.AsyncClient, admin: Headers
) -> None:
    mandate, first = await a_tenant(client, admin, "member")
    users = {first}
    for _ in range(4):
        user = unique("user")
        await put(client, admin, f"users/{user}", {})
        await put(client, admin, f"memberships/{mandate}/{user}", {"roles": []})
        users.add(user)
    for path, name in (("memberships", "userId"), ("users", "id")):
        seen: list[str] = []
        query: dict[str, Any] = {"mandateId": mandate, "limit": 2}
        while True:
            page = (await client.get(f"/api/directory/{path}", params=query, headers=admin)).json()
            seen += [item[name] for item in page["items"]]
            if page["nextCursor"] is None:
                break
            query["cursor"] = page["nextCursor"]
        assert seen == sorted(users)
    mine = await client.get("/api/directory/memberships", params={"userId": first}, headers=admin)
    assert [item["mandateId"] for item in mine.json()["items"]] == [mandate]
    where = await client.get("/api/directory/mandates", params={"userId": first}, headers=admin)
    assert [item["id"] for item in where.json()["items"]] == [mandate]


async def test_pagination_sorts_filters_and_searches(client: httpx.AsyncClient, admin: Headers) -> None:
    mandate = unique("m")
    await put(client, admin, f"mandates/{mandate}", {})
    people = [("Zoe", "Abt", "z"), ("Ada", "Bär", "100%"), ("Émile", None, "e_1"), (None, None, "quux")]
    for number, (first, last, username) in enumerate(people):
        user = f"{mandate}-{number}"
        await put(client, admin, f"users/{user}", {"firstName": first, "lastName": last, "username": username})
        await put(client, admin, f"memberships/{mandate}/{user}", {"roles": ["admin"] if number == 1 else ["member"]})

    async def found(
        pagination: dict[str, Any], path: str = "users", name: str = "displayName"
    ) -> tuple[list[Any], Any]:
        query = {"mandateId": mandate, "pagination": json.dumps(pagination)}
        answer = await client.get(f"/api/directory/{path}", params=query, headers=admin)
        assert answer.status_code == 200, answer.text
        return [item[name] for item in answer.json()["items"]], answer.json()["pagination"]

    by_name = {"sort": [{"field": "displayName", "direction": "desc"}]}
    names, page = await found({**by_name, "page": 1, "pageSize": 3})
    assert names == ["Émile", "quux", "Zoe Abt"]
    assert page == {
        "currentPage": 1,
        "pageSize": 3,
        "totalItems": 4,
        "totalPages": 2,
        "sort": [{"field": "displayName", "direction": "desc"}],
        "filters": {},
    }
    assert (await found({**by_name, "page": 2, "pageSize": 3}))[0] == ["Ada Bär"]
    assert (await found({"search": "ÉMIL"}))[0] == ["Émile"]
    # Wildcards of the database are ordinary characters of a search.
    assert (await found({"search": "100%"}))[0] == ["Ada Bär"]
    assert (await found({"search": "e_1"}))[0] == ["Émile"]
    filters: list[tuple[dict[str, Any], list[str]]] = [
        ({"username": "z"}, ["Zoe Abt"]),
        ({"username": ["z", "quux"]}, ["Zoe Abt", "quux"]),
        ({"username": []}, []),
        ({"username": {"operator": "startsWith", "value": "QU"}}, ["quux"]),
        ({"username": {"operator": "between", "value": ["e", "q"]}}, ["Émile"]),
        ({"id": {"operator": "between", "value": ["0", "zz"]}, "username": "z"}, ["Zoe Abt"]),
        ({"username": {"operator": "gte", "value": "quux"}}, ["Zoe Abt", "quux"]),
        ({"lastName": {"operator": "isEmpty"}}, ["Émile", "quux"]),
        ({"lastName": {"operator": "isEmpty", "value": False}}, ["Zoe Abt", "Ada Bär"]),
        ({"lastName": {"operator": "notEquals", "value": "Abt"}}, ["Ada Bär", "Émile", "quux"]),
        ({"lastName": None}, ["Émile", "quux"]),
        ({"enabled": True, "firstName": "Ada"}, ["Ada Bär"]),
        ({"enabled": False}, []),
    ]
    for given, expected in filters:
        assert (await found({"filters": given}))[0] == expected, given
    members, _ = await found({"filters": {"roles": "admin"}}, "memberships", "userId")
    assert members == [f"{mandate}-1"]


@pytest.mark.parametrize(
    "query",
    [
        {"pagination": "{"},
        {"pagination": "[]"},
        {"pagination": '{"page": 0}'},
        {"pagination": '{"page": 1e400}'},
        {"pagination": '{"page": 99999999999999999999}'},
        {"pagination": '{"pageSize": 1001}'},
        {"pagination": '{"sort": [{"field": "password"}]}'},
        {"pagination": '{"sort": [{"field": "id", "direction": "up"}]}'},
        {"pagination": '{"filters": {"password": "x"}}'},
        {"pagination": '{"filters": {"id": {"operator": "like", "value": "x"}}}'},
        {"pagination": '{"filters": {"id": {"operator": "between", "value": ["x"]}}}'},
        {"pagination": '{"filters": {"enabled": "yes"}}'},
        {"pagination": '{"filters": {"id": "a\\u0000b"}}'},
        {"pagination": '{"search": "\\ud800"}'},
        {"pagination": '{"search": 7}'},
        {"cursor": "%%%"},
        {"cursor": "WyJhIiwiYiJd"},
        {"cursor": "e30"},
        {"cursor": "x", "pagination": "{}"},
    ],
)
async def test_a_malformed_list_request_is_400_and_says_why(
    client: httpx.AsyncClient, admin: Headers, query: dict[str, str]
) -> None:
    document = assert_problem(await client.get("/api/directory/users", params=query, headers=admin), 400)
    assert document["code"] == "INVALID_PAGINATION"
    assert len(document["detail"]) > 30


async def test_an_import_takes_forward_references_and_tells_what_changed(
    client: httpx.AsyncClient, admin: Headers, servers: ServerPair
) -> None:
    mandate, user, instance = unique("m"), unique("u"), unique("i")
    lines: list[dict[str, Any]] = [
        {"kind": "feature_access", "instanceId": instance, "userId": user, "roles": ["admin"], "enabled": True},
        {"kind": "membership", "mandateId": mandate, "userId": user, "roles": ["admin"]},
        {"kind": "feature_instance", "id": instance, "mandateId": mandate, "featureCode": "chat"},
        {"kind": "provider_permissions", "mandateId": mandate, "role": "member", "providers": ["openai"]},
        {"kind": "user", "id": user, "username": "jo"},
        {"kind": "mandate", "id": mandate, "label": "Acme"},
    ]
    body = "\n".join(json.dumps(line) for line in lines) + "\n\n"
    for changed in (6, 0):
        answer = await import_lines(client, admin, body)
        assert answer.json() == {"lines": 6, "changed": changed}
    kinds = [change.entry.kind for change in await events_of(servers, mandate, 5)]
    assert kinds == ["mandate", "membership", "feature_instance", "feature_access", "provider_permissions"]


async def test_an_import_with_faults_changes_nothing_and_lists_every_one(
    client: httpx.AsyncClient, admin: Headers
) -> None:
    mandate, user = unique("m"), unique("u")
    other, _ = await a_tenant(client, admin, "member")
    instance = unique("i")
    await put(client, admin, f"feature-instances/{instance}", {"mandateId": other, "featureCode": "chat"})
    lines = [
        json.dumps({"kind": "mandate", "id": mandate}),
        "{",
        json.dumps({"kind": "tenant", "id": mandate}),
        json.dumps({"kind": "user", "id": user, "email": 7}),
        json.dumps({"kind": "membership", "mandateId": mandate, "userId": user, "roles": []}),
        json.dumps({"kind": "membership", "mandateId": mandate, "userId": "nobody-" + user, "roles": []}),
        '{"kind": "mandate", "id": "a", "id": "b"}',
        json.dumps({"kind": "mandate", "id": mandate, "label": "again"}),
        json.dumps({"kind": "feature_instance", "id": instance, "mandateId": mandate, "featureCode": "chat"}),
        "[]",
        json.dumps({"kind": "feature_access", "instanceId": "none", "userId": user, "roles": []}),
        '{"kind": "mandate", "id": "x", "label": "\\ud800"}',
        '{"kind": "mandate", "id": "x", "label": "\\u0000"}',
        "[" * 100_000,
        '{"kind": ' + "9" * 5000 + "}",
        '{"kind": {}, "id": []}',
    ]
    document = assert_problem(await import_lines(client, admin, "\n".join(lines)), 422, "INVALID_IMPORT")
    faults = {fault["field"]: fault["message"] for fault in document["errors"]}
    assert list(faults) == [f"line {number}" for number in (2, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16)]
    assert faults["line 8"] == "the same entry as line 1"
    assert faults["line 6"] == f"there is no user nobody-{user}"
    assert_problem(await client.get(f"/api/directory/mandates/{mandate}", headers=admin), 404)


async def test_a_large_import_is_a_few_statements_and_survives_another_at_the_same_time(
    client: httpx.AsyncClient, admin: Headers, servers: ServerPair
) -> None:
    mandate = unique("m")
    users = [f"{mandate}-u{number}" for number in range(5_000)]

    def lines(order: list[str], name: str) -> str:
        made = [{"kind": "mandate", "id": mandate, "name": name}]
        made += [{"kind": "user", "id": user, "username": name} for user in order]
        made += [
            {"kind": "membership", "mandateId": mandate, "userId": user, "roles": ["member"]}  # type: ignore[dict-item]
            for user in order
        ]
        return "\n".join(json.dumps(line) for line in made)

    answers = await asyncio.gather(
        import_lines(client, admin, lines(users, "one")), import_lines(client, admin, lines(users[::-1], "two"))
    )
    assert [answer.status_code for answer in answers] == [200, 200]
    assert sorted(answer.json()["changed"] for answer in answers) == [5_001, 10_001]
    async with connected(servers.dsn("gateway")) as database:
        counted = await database.fetchrow(
            "SELECT count(*) AS users, count(DISTINCT username) AS names FROM users WHERE id LIKE $1", f"{mandate}-%"
        )
        assert tuple(counted) == (5_000, 1)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await database.execute("DELETE FROM memberships WHERE mandate_id = $1", mandate)


async def test_lookup_gives_names_for_the_ids_that_exist(client: httpx.AsyncClient, admin: Headers) -> None:
    user = unique("u")
    await put(client, admin, f"users/{user}", {"firstName": "Ada", "username": "ada"})
    answer = await client.post("/api/directory/users/lookup", json={"ids": [user, "nobody", user]}, headers=admin)
    assert answer.json() == {"items": [{"id": user, "username": "ada", "displayName": "Ada"}]}
    empty = await client.post("/api/directory/users/lookup", json={"ids": []}, headers=admin)
    assert empty.json() == {"items": []}
    for ids in (["x"] * 1001, "x", [7], ["a b"], None):
        refused = await client.post("/api/directory/users/lookup", json={"ids": ids}, headers=admin)
        assert_problem(refused, 422, "VALIDATION")


async def test_a_mandate_may_be_called_like_a_step_in_a_path(client: httpx.AsyncClient, admin: Headers) -> None:
    answer = await client.request("PUT", "/api/directory/mandates/%2E%2E", json={"name": "dots"}, headers=admin)
    assert answer.json()["id"] == ".."


async def test_a_role_that_there_is_not_is_refused_where_it_is_given(
    client: httpx.AsyncClient, admin: Headers, issuer: Issuer
) -> None:
    mandate, user = await a_tenant(client, admin, "admin")
    instance = unique("i")
    await put(client, admin, f"feature-instances/{instance}", {"mandateId": mandate, "featureCode": "chat"})
    entries: list[tuple[str, dict[str, Any], str, str]] = [
        (f"memberships/{mandate}/{user}", {"roles": ["admin", "membre"]}, "roles.1", "member"),
        (f"feature-access/{instance}/{user}", {"roles": ["member"]}, "roles.0", "user"),
        (f"provider-permissions/{mandate}/membr", {"providers": []}, "role", "member"),
    ]
    for path, body, field, allowed in entries:
        refused = await client.put(f"/api/directory/{path}", json=body, headers=admin)
        document = assert_problem(refused, 422, "UNKNOWN_ROLE")
        assert document["errors"][0]["field"] == field
        assert f"admin, {allowed}" in document["detail"]
    refused = await client.put(
        f"/api/directory/memberships/{mandate}/{user}", json={"roles": ["boss"]}, headers=issuer.person(user)
    )
    assert_problem(refused, 422, "UNKNOWN_ROLE")
    line = {"kind": "membership", "mandateId": mandate, "userId": user, "roles": ["boss"]}
    document = assert_problem(await import_lines(client, admin, json.dumps(line)), 422, "INVALID_IMPORT")
    assert document["errors"][0]["message"].startswith("roles.0: roles here are admin, member")
    read = await client.get(f"/api/directory/memberships/{mandate}/{user}", headers=admin)
    assert read.json()["roles"] == ["admin"]
