"""What other services ask of the directory: applied whole and once, published, refused whole where it names what is not
there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from aiokafka import AIOKafkaProducer

from rappen_contracts import encode
from rappen_contracts.directory.v1 import DirectoryRequested, FeatureAccess, FeatureInstance, Mandate, Membership, User
from rappen_contracts.registry import DIRECTORY_REQUESTED_V1
from services.chassis.clock import system_clock
from tests.integration.gateway.support import Headers, a_tenant, assert_problem, events_of, put, unique
from tests.support.databases import connected
from tests.support.gateway import Issuer
from tests.support.stack import ServerPair
from tests.support.waiting import eventually

WAIT_S = 60.0


class Store:
    """Publishes requests, as the store does."""

    def __init__(self, producer: AIOKafkaProducer, servers: ServerPair) -> None:
        self._producer = producer
        self._servers = servers

    async def ask(self, mandate: str, user: str, entries: Sequence[Any], *, request_id: UUID | None = None) -> UUID:
        request = DirectoryRequested(
            mandate_id=mandate, request_id=request_id or uuid4(), entries=list(entries), requested_by=user, cause="test"
        )
        record = encode(
            request,
            type=DIRECTORY_REQUESTED_V1.type,
            id=uuid4(),
            source="/tests",
            time=system_clock(),
            key=mandate,
        )
        await self._producer.send_and_wait(
            "directory.requested", key=record.key, value=record.value, headers=record.headers
        )
        return request.request_id

    async def refused(self, mandate: str) -> list[str]:
        """The codes of what was refused of a mandate, in their order."""
        async with connected(self._servers.dsn("gateway")) as connection:
            rows = await connection.fetch(
                "SELECT error_code FROM quarantine WHERE key = $1 ORDER BY id", mandate.encode()
            )
        return [row["error_code"] for row in rows]

    async def applied(self, request_id: UUID) -> None:
        async def found() -> bool:
            async with connected(self._servers.dsn("gateway")) as connection:
                return bool(
                    await connection.fetchval("SELECT 1 FROM directory_requests WHERE request_id = $1", request_id)
                )

        await eventually(found, what="the request applied", timeout_s=WAIT_S)


@pytest.fixture(scope="module")
async def store(servers: ServerPair, gateway: object) -> AsyncIterator[Store]:
    async with AIOKafkaProducer(bootstrap_servers=servers.kafka.bootstrap_servers, acks="all") as producer:
        yield Store(producer, servers)


async def test_instance_and_access_come_to_be_together_once_and_are_published_with_the_request_as_their_cause(
    client: httpx.AsyncClient, admin: Headers, issuer: Issuer, servers: ServerPair, store: Store
) -> None:
    mandate, user = await a_tenant(client, admin, "admin")
    instance = unique("i")
    entries = [
        # In whatever order: an entry may refer to another of its request.
        FeatureAccess(instance_id=instance, mandate_id=mandate, user_id=user, roles=["admin"]),
        FeatureInstance(id=instance, mandate_id=mandate, feature_code="chat", label="Chat"),
    ]
    request_id = await store.ask(mandate, user, entries)
    await store.applied(request_id)

    shown = (await client.get(f"/api/directory/feature-instances/{instance}", headers=admin)).json()
    assert shown == {
        "id": instance,
        "mandateId": mandate,
        "featureCode": "chat",
        "label": "Chat",
        "enabled": True,
    }
    access = (await client.get(f"/api/directory/feature-access/{instance}/{user}", headers=admin)).json()
    assert access == {"instanceId": instance, "userId": user, "roles": ["admin"], "enabled": True}

    # Disabled by hand meanwhile; the same request again is no request.
    assert (await client.delete(f"/api/directory/feature-access/{instance}/{user}", headers=admin)).status_code < 300
    await store.ask(mandate, user, entries, request_id=request_id)
    ended = [entries[0].model_copy(update={"enabled": False}), entries[1].model_copy(update={"enabled": False})]
    await store.applied(last := await store.ask(mandate, user, ended))

    _, _, made, given, taken, closed = await events_of(servers, mandate, 6)
    assert [(change.entry.kind, change.entry.enabled) for change in (made, given, taken, closed)] == [  # type: ignore[union-attr]
        ("feature_instance", True),
        ("feature_access", True),
        ("feature_access", False),
        ("feature_instance", False),
    ]
    assert (made.cause, given.cause, closed.cause) == (str(request_id), str(request_id), str(last))
    assert taken.cause not in (str(request_id), str(last))
    assert made.version < given.version < taken.version < closed.version
    assert await store.refused(mandate) == []


async def test_a_mandate_is_made_for_somebody_who_is_not_entered_yet(
    client: httpx.AsyncClient, admin: Headers, issuer: Issuer, servers: ServerPair, store: Store
) -> None:
    mandate, user = unique("m"), unique("u")
    entries = [
        Mandate(id=mandate, name="Home", label="Home"),
        Membership(mandate_id=mandate, user_id=user, roles=["admin", "admin"]),
    ]
    await store.applied(await store.ask(mandate, user, entries))
    shown = await client.get(f"/api/directory/memberships/{mandate}/{user}", headers=issuer.person(user))
    assert shown.json() == {"mandateId": mandate, "userId": user, "roles": ["admin"], "enabled": True}
    (person,) = await events_of(servers, user, 1)
    assert person.entry == User(id=user, username=None, display_name=user)


async def test_what_refers_to_nothing_is_refused_whole_and_holds_up_nobody(
    client: httpx.AsyncClient, admin: Headers, store: Store
) -> None:
    mandate, user = await a_tenant(client, admin, "admin")
    other, _ = await a_tenant(client, admin, "admin")
    stranger, elsewhere, instance = unique("u"), unique("i"), unique("i")
    await put(client, admin, f"feature-instances/{elsewhere}", {"mandateId": other, "featureCode": "chat"})
    made = FeatureInstance(id=instance, mandate_id=mandate, feature_code="chat")
    nowhere = unique("m")

    def access(instance_id: str, user_id: str = user, mandate_id: str = mandate) -> FeatureAccess:
        return FeatureAccess(instance_id=instance_id, mandate_id=mandate_id, user_id=user_id, roles=["admin"])

    refusals: list[tuple[list[Any], str]] = [
        ([made, access(instance, stranger)], "UNKNOWN_REFERENCE"),
        ([access(unique("i"))], "UNKNOWN_REFERENCE"),
        ([made, access(elsewhere)], "INSTANCE_OF_ANOTHER_MANDATE"),
        ([made, access(elsewhere, mandate_id=other)], "MANDATE_MISMATCH"),
        ([made.model_copy(update={"label": "x" * 201})], "INVALID_ENTRY"),
    ]
    for entries, _ in refusals:
        await store.ask(mandate, user, entries)
    await store.ask(nowhere, user, [Membership(mandate_id=nowhere, user_id=user, roles=["admin"])])
    last = await store.ask(mandate, user, [access(instance), made.model_copy(update={"label": "last"})])
    await store.applied(last)

    assert await store.refused(mandate) == [code for _, code in refusals]
    await eventually(lambda: store.refused(nowhere), what="the mandate refused", timeout_s=WAIT_S)
    assert await store.refused(nowhere) == ["UNKNOWN_REFERENCE"]
    shown = await client.get(f"/api/directory/feature-instances/{instance}", headers=admin)
    # Nothing of a refused request is there; the one after them is.
    assert shown.json()["label"] == "last"
    assert_problem(await client.get(f"/api/directory/feature-access/{instance}/{stranger}", headers=admin), 404)
