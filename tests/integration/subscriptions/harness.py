"""The subscriptions service on real servers, with a clock that tests move, and a reader in billing's place."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from pydantic import SecretStr

from rappen_contracts import Event, decode
from rappen_contracts.codec import encode
from rappen_contracts.directory.v1 import DirectoryChanged, DirectoryEntry, Membership
from rappen_contracts.registry import DIRECTORY_CHANGED_V1
from rappen_contracts.subscription.v1 import SubscriptionChanged
from services.chassis.caller import CALLER_HEADER, Caller, CallerVerifier, sign_caller
from services.chassis.database import Database
from services.chassis.faults import FaultPoints
from services.chassis.health import Health
from services.chassis.process import Part
from services.chassis.readers import Readers
from services.chassis.relay import Relay
from services.chassis.settings import HttpSettings, KafkaSettings
from services.subscriptions import subscribers
from services.subscriptions.api import ApiContext
from services.subscriptions.app import application
from services.subscriptions.catalogue import Catalogue, read_catalogue
from services.subscriptions.settings import SubscriptionsSettings
from services.subscriptions.use_cases.advance_due import AdvanceDue
from tests.support.stack import ServerPair

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
    """Reads subscription.changed in billing's group and keeps what it decodes."""

    def __init__(self, bootstrap_servers: str) -> None:
        self._consumer = AIOKafkaConsumer(
            "subscription.changed",
            bootstrap_servers=bootstrap_servers,
            group_id="billing",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
        )
        self._events: list[Event] = []

    async def run(self) -> None:
        async with self._consumer:
            async for record in self._consumer:
                event = decode(record.headers, record.value, now=datetime(2100, 1, 1, tzinfo=UTC))
                assert isinstance(event.data, SubscriptionChanged)
                assert record.key == event.data.mandate_id.encode()
                self._events.append(event)
                await self._consumer.commit()

    async def events(self, mandate_id: str, count: int) -> list[Event]:
        """The events of a mandate in their order, once there are so many; more would show as a longer list."""
        async with asyncio.timeout(WAIT_S):
            while len(found := self._of(mandate_id)) < count:  # noqa: ASYNC110 - the list says nothing by itself.
                await asyncio.sleep(0.02)
        return found

    def _of(self, mandate_id: str) -> list[Event]:
        return [event for event in self._events if changed(event).mandate_id == mandate_id]


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
        signed = sign_caller(caller, audience="subscriptions", secret=self.servers.secret, now=datetime.now(UTC))
        return {CALLER_HEADER: signed, "Accept-Language": "en"}

    async def advance(self) -> None:
        """Does all that is due by the clock."""
        while await self.advance_due():
            pass

    async def fetch(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        async with self.database.bare() as connection:
            return list(await connection.fetch(statement, *arguments))

    async def publish_directory(self, mandate_id: str, entries: Iterable[tuple[int, DirectoryEntry]]) -> None:
        """Publishes entries with their versions, and returns when the service has read them."""
        for version, entry in entries:
            await self._send_entry(mandate_id, version, entry)
        await self.settled(mandate_id)

    async def settled(self, mandate_id: str) -> None:
        """Waits until all that was sent under the key was read: a record after it, in its partition, was."""
        user = f"marker-{uuid4()}"
        await self._send_entry(mandate_id, 1, Membership(mandate_id=mandate_id, user_id=user, roles=[], enabled=False))
        async with asyncio.timeout(WAIT_S):
            # Another process's commit is seen only by looking.
            while not await self.fetch("SELECT 1 FROM directory_members WHERE user_id = $1", user):  # noqa: ASYNC110
                await asyncio.sleep(0.02)

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
        database = Database(servers.dsn("subscriptions"), pool_size=8)
        readers = Readers(settings.kafka, database, client_id="test")
        for resource in (database, readers):
            await resource.start()
            stack.push_async_callback(resource.stop)
        billing = BillingsPlace(servers.kafka.bootstrap_servers)
        reading = asyncio.create_task(billing.run())
        stack.push_async_callback(_cancelled, reading)
        faults = FaultPoints(None)
        relay = Relay(
            database, settings.kafka, client_id="test", source="/rappen/subscriptions", clock=clock, faults=faults
        )
        consumers = subscribers.build(settings, database=database, clock=clock, faults=faults, health=Health())
        stack.push_async_callback(await _run([relay, *consumers]))
        producer = AIOKafkaProducer(bootstrap_servers=servers.kafka.bootstrap_servers, acks="all")
        await stack.enter_async_context(producer)
        http = httpx.AsyncClient(
            transport=_transport(database, catalogue, readers, clock, servers), base_url="http://s"
        )
        await stack.enter_async_context(http)
        yield Service(servers, database, catalogue, clock, http, billing, producer)


def _transport(
    database: Database, catalogue: Catalogue, readers: Readers, clock: MovingClock, servers: ServerPair
) -> httpx.ASGITransport:
    app = application()
    app.state.caller = CallerVerifier(audience="subscriptions", secret=servers.secret)
    app.state.context = ApiContext(database, catalogue, readers, clock)
    return httpx.ASGITransport(app=app)


async def _run(parts: list[Part]) -> Any:
    """Runs parts in the background; gives what ends them in good order, and raises what they raised."""
    stop = asyncio.Event()
    tasks = [asyncio.create_task(part.run(stop), name=part.name) for part in parts]

    async def end() -> None:
        stop.set()
        await asyncio.gather(*tasks)

    return end


async def _cancelled(task: asyncio.Task[None]) -> None:
    if task.done():
        task.result()
    task.cancel()
    await asyncio.wait([task])


def new_mandate() -> str:
    """A mandate that no other test knows."""
    return f"m-{uuid4()}"


def admin_of(*mandates: str, user_id: str | None = None) -> Caller:
    """A person who administers these mandates."""
    return Caller(user_id=user_id or f"u-{uuid4()}", mandates=dict.fromkeys(mandates, True))


def member_of(*mandates: str) -> Caller:
    """A plain member."""
    return Caller(user_id=f"u-{uuid4()}", mandates=dict.fromkeys(mandates, False))


def operator() -> Caller:
    """A system administrator who is a member of nothing."""
    return Caller(user_id="operator", system_admin=True)
