"""A mandate's administrator adds no more members than its plan allows."""

from __future__ import annotations

import asyncio

import httpx

from tests.integration.gateway.support import (
    MEMBER_LIMIT,
    Headers,
    Peer,
    a_tenant,
    assert_problem,
    put,
    unique,
)
from tests.support.gateway import Issuer


async def test_of_many_members_added_at_once_as_many_are_as_the_plan_allows_invited_ones_with_them(
    client: httpx.AsyncClient, admin: Headers, issuer: Issuer, peers: dict[str, Peer]
) -> None:
    mandate, user = await a_tenant(client, admin, "admin")
    peers["subscriptions"].member_limits[mandate] = 4
    me = issuer.person(user)
    people = [unique("user") for _ in range(8)]
    answers = await asyncio.gather(
        *(
            client.put(f"/api/directory/memberships/{mandate}/{person}", json={"roles": ["member"]}, headers=me)
            for person in people
        )
    )
    added = [person for person, answer in zip(people, answers, strict=True) if answer.status_code == 200]
    assert len(added) == 3
    for answer in answers:
        if answer.status_code != 200:
            detail = assert_problem(answer, 409, "MEMBER_LIMIT_REACHED")["detail"]
            assert detail.startswith("The plan allows no more than 4 members")
    # Who is one may be changed and removed, and leaves a place.
    first, *_ = added
    await put(client, me, f"memberships/{mandate}/{first}", {"roles": ["admin"]})
    (left_out, *_) = [person for person in people if person not in added]
    path = f"memberships/{mandate}/{left_out}"
    refused = await client.put(f"/api/directory/{path}", json={"roles": ["member"]}, headers=me)
    assert_problem(refused, 409, "MEMBER_LIMIT_REACHED")
    await put(client, me, path, {"roles": ["member"], "enabled": False})
    assert (await client.delete(f"/api/directory/memberships/{mandate}/{first}", headers=me)).status_code == 200
    await put(client, me, path, {"roles": ["member"]})
    # A system administrator is not bound to a plan, and neither is a mandate without a limit.
    person = unique("user")
    await put(client, admin, f"users/{person}", {"username": "jo"})
    await put(client, admin, f"memberships/{mandate}/{person}", {"roles": ["member"]})
    del peers["subscriptions"].member_limits[mandate]
    await put(client, me, f"memberships/{mandate}/{unique('user')}", {"roles": ["member"]})


async def test_a_limit_that_is_not_known_adds_nobody(
    client: httpx.AsyncClient, admin: Headers, issuer: Issuer, peers: dict[str, Peer]
) -> None:
    mandate, user = await a_tenant(client, admin, "admin")
    me, person = issuer.person(user), unique("user")
    asked = f"/{MEMBER_LIMIT}{mandate}"
    peers["subscriptions"].answers[asked] = (500, {"detail": "secret"})
    path = f"/api/directory/memberships/{mandate}/{person}"
    refused = await client.put(path, json={"roles": ["member"]}, headers=me)
    assert "secret" not in str(assert_problem(refused, 503))
    assert (await client.get(path, headers=admin)).status_code == 404
    del peers["subscriptions"].answers[asked]
    assert (await client.put(path, json={"roles": ["member"]}, headers=me)).status_code == 200
