"""What the caller context that services get says: read from the directory for each request, whole words only."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.integration.gateway.support import Headers, a_tenant, assert_problem, put, unique
from tests.support.gateway import Issuer


async def caller(client: httpx.AsyncClient, headers: Headers, path: str = "/api/billing/balance") -> dict[str, Any]:
    """The context as it arrives at the service."""
    answer = await client.get(path, headers=headers)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()["caller"]
    return told


async def test_memberships_become_the_scope_and_changes_count_at_once(
    client: httpx.AsyncClient, admin: Headers, issuer: Issuer
) -> None:
    first, user = await a_tenant(client, admin, "admin", "member")
    second, _ = await a_tenant(client, admin, "member")
    await put(client, admin, f"memberships/{second}/{user}", {"roles": ["member"]})
    me = issuer.person(user)
    assert (await caller(client, me))["mandates"] == {first: True, second: False}
    await put(client, admin, f"memberships/{second}/{user}", {"roles": ["admin"]})
    assert (await caller(client, me))["mandates"] == {first: True, second: True}


async def test_admin_is_the_whole_role_and_no_part_of_one(
    client: httpx.AsyncClient, admin: Headers, issuer: Issuer
) -> None:
    for role in ("Admin", "ADMIN", "administrator", "feature-admin", "admin ", "sysadmin"):
        mandate, user = await a_tenant(client, admin, role)
        instance = unique("i")
        await put(client, admin, f"feature-instances/{instance}", {"mandateId": mandate, "featureCode": "chat"})
        await put(client, admin, f"feature-access/{instance}/{user}", {"roles": [role]})
        seen = await caller(client, issuer.person(user))
        assert (seen["mandates"], seen["instances"]) == ({mandate: False}, [])


async def test_what_is_disabled_anywhere_on_the_way_gives_nothing(
    client: httpx.AsyncClient, admin: Headers, issuer: Issuer
) -> None:
    for disabled in ("membership", "mandate", "instance", "access"):
        mandate, user = await a_tenant(client, admin, "admin")
        instance = unique("i")
        await put(client, admin, f"feature-instances/{instance}", {"mandateId": mandate, "featureCode": "chat"})
        await put(client, admin, f"feature-access/{instance}/{user}", {"roles": ["admin"]})
        me = issuer.person(user)
        seen = await caller(client, me)
        assert (seen["mandates"], seen["instances"]) == ({mandate: True}, [instance])
        path = {
            "membership": f"memberships/{mandate}/{user}",
            "mandate": f"mandates/{mandate}",
            "instance": f"feature-instances/{instance}",
            "access": f"feature-access/{instance}/{user}",
        }[disabled]
        assert (await client.delete(f"/api/directory/{path}", headers=admin)).status_code == 200
        seen = await caller(client, me)
        assert seen["mandates"] == ({} if disabled in ("membership", "mandate") else {mandate: True})
        # Membership is not needed for a feature.
        assert seen["instances"] == ([instance] if disabled == "membership" else [])


async def test_a_disabled_user_is_told_so_whatever_their_token_says(
    client: httpx.AsyncClient, admin: Headers, issuer: Issuer
) -> None:
    _, user = await a_tenant(client, admin, "admin")
    tokens = (issuer.person(user), issuer.person(user, system_admin=True))
    # They are remembered as good ones; what the directory says is not.
    for headers in tokens:
        assert (await client.get("/api/billing/balance", headers=headers)).status_code == 200
    await client.delete(f"/api/directory/users/{user}", headers=admin)
    for headers in tokens:
        assert_problem(await client.get("/api/billing/balance", headers=headers), 403, "USER_DISABLED")


async def test_a_person_whom_the_directory_does_not_know_is_a_caller_without_mandates(
    client: httpx.AsyncClient, issuer: Issuer
) -> None:
    seen = await caller(client, issuer.person(unique("stranger")))
    assert (seen["mandates"], seen["instances"], seen["system_admin"]) == ({}, [], False)


@pytest.mark.parametrize("path", ["/api/billing/transactions", "/api/billing/providers"])
async def test_the_context_mandate_is_one_of_the_callers(
    client: httpx.AsyncClient, admin: Headers, issuer: Issuer, path: str
) -> None:
    mandate, user = await a_tenant(client, admin, "member")
    other, _ = await a_tenant(client, admin, "member")
    me = issuer.person(user)
    assert (await caller(client, {**me, "X-Mandate-Id": mandate}, path))["context_mandate"] == mandate
    assert (await caller(client, {**admin, "X-Mandate-Id": other}, path))["context_mandate"] == other
    for foreign in (other, unique("nowhere")):
        refused = await client.get(path, headers={**me, "X-Mandate-Id": foreign})
        assert_problem(refused, 403, "FORBIDDEN")
    for malformed in ("", "a b", "x" * 65, "ü", "a/b"):
        given = httpx.Headers([*me.items(), ("X-Mandate-Id", malformed)], encoding="latin-1")
        assert_problem(await client.get(path, headers=given), 400, "INVALID_CONTEXT")


async def test_where_the_path_names_its_mandates_the_context_mandate_is_ignored(
    client: httpx.AsyncClient, admin: Headers, issuer: Issuer
) -> None:
    mandate, user = await a_tenant(client, admin, "admin")
    other, _ = await a_tenant(client, admin, "member")
    me = issuer.person(user)
    for named in (mandate, other, unique("nowhere"), "a b"):
        for path in ("/api/billing/balance", f"/api/billing/balance/{mandate}", "/api/subscriptions/plans"):
            assert (await caller(client, {**me, "X-Mandate-Id": named}, path))["context_mandate"] is None
        read = await client.get(f"/api/directory/mandates/{mandate}", headers={**me, "X-Mandate-Id": named})
        assert read.status_code == 200


async def test_an_instances_administrator_sees_its_transactions_without_being_a_member(
    client: httpx.AsyncClient, admin: Headers, issuer: Issuer
) -> None:
    mandate, member = await a_tenant(client, admin, "member")
    user, instance = unique("u"), unique("i")
    await put(client, admin, f"users/{user}", {"username": "sam"})
    await put(client, admin, f"feature-instances/{instance}", {"mandateId": mandate, "featureCode": "chat"})
    await put(client, admin, f"feature-access/{instance}/{user}", {"roles": ["admin"]})
    await put(client, admin, f"feature-access/{instance}/{member}", {"roles": ["user"]})
    seen = await caller(client, issuer.person(user))
    assert (seen["mandates"], seen["instances"], seen["instance_mandates"]) == ({}, [instance], [mandate])
    assert (await caller(client, issuer.person(member)))["instance_mandates"] == []


async def test_the_language_of_the_caller_goes_along(client: httpx.AsyncClient, issuer: Issuer) -> None:
    me = issuer.person(unique("user"))
    assert (await caller(client, {**me, "Accept-Language": "de-CH,de;q=0.9"}))["language"] == "de"
    assert (await caller(client, me))["language"] == "en"
