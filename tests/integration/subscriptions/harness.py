"""The subscriptions service on real servers, with a clock that tests move, and a reader in billing's place."""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
from aiokafka import AIOKafkaProducer, ConsumerRecord
from pydantic import SecretStr

from rappen_contracts import Event, decode
from rappen_contracts.codec import encode
from rappen_contracts.directory.v1 import DirectoryChanged, DirectoryEntry, Membership
from rappen_contracts.registry import DIRECTORY_CHANGED_V1
from rappen_contracts.subscription.v1 import SubscriptionChanged
from services.chassis.caller import Caller, CallerVerifier
from services.chassis.consumer_progress import ConsumerProgress
from services.chassis.database import Database, driver_connection
from services.chassis.faults import FaultPoints
from services.chassis.health import Health
from services.chassis.relay import Relay
from services.chassis.settings import HttpSettings, KafkaSettings
from services.subscriptions import subscribers
from services.subscriptions.app import application
from services.subscriptions.lifecycle.advance_due import AdvanceDue
from services.subscriptions.lifecycle.api import LifecycleContext
from services.subscriptions.plans.catalogue import Catalogue, read_catalogue
from services.subscriptions.settings import SubscriptionsSettings
from tests.support import callers
from tests.support.databases import opened
from tests.support.parts import at_work
from tests.support.stack import ServerPair
from tests.support.topics import read_in_group
from tests.support.waiting import eventually

BEGINNING = datetime(2026, 1, 31, 12, tzinfo=UTC)
# A process that joins or leaves a consumer group makes the others wait for a heartbeat or two.
WAIT_S = 40.0


class MovingClock:
    """The time, as the test says."""

    def __init__(self) -> None:
        self.now = BEGINNING

    def __call__(self) -> datetime:
        return self.now


class BillingsPlace:
    """What a reader in billing's group has of subscription.changed."""

    def __init__(self, records: Sequence[ConsumerRecord]) -> None:
        self._records = records

    async def events(self, mandate_id: str, count: int) -> list[Event]:
        """The events of a mandate in their order, once there are so many; more would show as a longer list."""
        await eventually(lambda: len(self._of(mandate_id)) >= count, what=f"{count} events", timeout_s=WAIT_S)
        return self._of(mandate_id)

    def _of(self, mandate_id: str) -> list[Event]:
        # By the key, and the mandate inside has to be the same; tests move the clock ahead of ours.
        events = [
            decode(record.headers, record.value, now=datetime(2100, 1, 1, tzinfo=UTC))
            for record in self._records
            if record.key == mandate_id.encode()
        ]
        assert all(changed(event).mandate_id == mandate_id for event in events)
        return events


def changed(event: Event) -> SubscriptionChanged:
    """The data of an event of the topic."""
    assert isinstance(event.data, SubscriptionChanged)
    return event.data


@dataclass
class Service:
    """What the tests use of it."""

    servers: ServerPair
    database: Database
    catalogue: Catalogue
    clock: MovingClock
    http: httpx.AsyncClient
    billing: BillingsPlace
    producer: AIOKafkaProducer
    advance_due: AdvanceDue = field(init=False)

    def __post_init__(self) -> None:
        self.advance_due = AdvanceDue(self.database, self.catalogue, clock=self.clock)

    async def get(self, path: str, caller: Caller, **more: Any) -> httpx.Response:
        return await self.http.get(f"/api/subscriptions/{path}", headers=self.headers(caller), **more)

    async def start(
        self, mandate_id: str, plan_key: str, caller: Caller, *, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        return await self.post(mandate_id, caller, json={"planKey": plan_key}, headers=headers)

    async def post(
        self, path: str, caller: Caller, *, headers: dict[str, str] | None = None, **more: Any
    ) -> httpx.Response:
        given = {**self.headers(caller), **(headers or {})}
        return await self.http.post(f"/api/subscriptions/{path}", headers=given, **more)

    def headers(self, caller: Caller) -> dict[str, str]:
        return {
            **callers.headers(caller, audience="subscriptions", secret=self.servers.secret),
            "Accept-Language": "en",
        }

    async def advance(self) -> None:
        """Does all that is due by the clock."""
        while await self.advance_due():
            pass

    async def fetch(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        async with self.database.reading() as connection:
            return list(await driver_connection(connection).fetch(statement, *arguments))

    async def publish_directory(self, mandate_id: str, entries: Iterable[tuple[int, DirectoryEntry]]) -> None:
        """Publishes entries with their versions, and returns when the service has read them."""
        for version, entry in entries:
            await self._send_entry(mandate_id, version, entry)
        await self.settled(mandate_id)

    async def settled(self, mandate_id: str) -> None:
        """Waits until all that was sent under the key was read: a record after it, in its partition, was."""
        user = f"marker-{uuid4()}"
        await self._send_entry(mandate_id, 1, Membership(mandate_id=mandate_id, user_id=user, roles=[], enabled=False))
        found = partial(self.fetch, "SELECT 1 FROM directory_members WHERE user_id = $1", user)
        await eventually(found, what="the entries read", timeout_s=WAIT_S)

    async def _send_entry(self, mandate_id: str, version: int, entry: DirectoryEntry) -> None:
        record = encode(
            DirectoryChanged(mandate_id=mandate_id, version=version, entry=entry, cause="test"),
            type=DIRECTORY_CHANGED_V1.type,
            id=uuid4(),
            source="/test",
            time=BEGINNING,
            key=mandate_id,
        )
        await self.producer.send_and_wait(
            "directory.changed", key=record.key, value=record.value, headers=record.headers
        )


@asynccontextmanager
async def running_service(servers: ServerPair) -> AsyncIterator[Service]:
    """The service's api, relay and directory consumer in this process; its periodic job is called by the tests."""
    settings = SubscriptionsSettings(
        environment="development",
        database_url=SecretStr(servers.dsn("subscriptions")),
        kafka=KafkaSettings(bootstrap_servers=servers.kafka.bootstrap_servers),
        http=HttpSettings(port=1),
        internal_secret=SecretStr(servers.secret),
    )
    clock = MovingClock()
    catalogue = read_catalogue(settings.plans_file)
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(opened(servers.dsn("subscriptions"), pool_size=8))
        consumer_progress = ConsumerProgress(settings.kafka, database, client_id="test")
        await consumer_progress.start()
        stack.push_async_callback(consumer_progress.stop)
        bootstrap_servers = servers.kafka.bootstrap_servers
        reading = read_in_group(bootstrap_servers, "subscription.changed", "billing")
        billing = BillingsPlace(await stack.enter_async_context(reading))
        faults = FaultPoints(None)
        relay = Relay(
            database, settings.kafka, client_id="test", source="/rappen/subscriptions", clock=clock, faults=faults
        )
        consumers = subscribers.build(settings, database=database, clock=clock, faults=faults, health=Health())
        await stack.enter_async_context(at_work(relay, *consumers))
        producer = AIOKafkaProducer(bootstrap_servers=bootstrap_servers, acks="all")
        await stack.enter_async_context(producer)
        http = httpx.AsyncClient(
            transport=_transport(database, catalogue, consumer_progress, clock, servers), base_url="http://s"
        )
        await stack.enter_async_context(http)
        yield Service(servers, database, catalogue, clock, http, billing, producer)


def _transport(
    database: Database,
    catalogue: Catalogue,
    consumer_progress: ConsumerProgress,
    clock: MovingClock,
    servers: ServerPair,
) -> httpx.ASGITransport:
    app = application()
    app.state.caller = CallerVerifier(audience="subscriptions", secret=servers.secret)
    app.state.catalogue = catalogue
    app.state.lifecycle = LifecycleContext(database, catalogue, consumer_progress, clock)
    return httpx.ASGITransport(app=app)


def new_admin_of(*mandates: str) -> Caller:
    """A new person who administers these mandates: a trial is had once, by person too."""
    return callers.admin_of(*mandates, user_id=f"u-{uuid4()}")


def new_member_of(*mandates: str) -> Caller:
    """A new person who is a plain member."""
    return callers.member_of(*mandates, user_id=f"u-{uuid4()}")
