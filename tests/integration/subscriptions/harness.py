"""The subscriptions service on real servers, with a clock that tests move, and a reader in billing's place."""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Literal
from uuid import uuid4

import asyncpg
import httpx
from aiokafka import AIOKafkaProducer, ConsumerRecord
from pydantic import SecretStr

from rappen_contracts import Event, decode
from rappen_contracts.codec import encode
from rappen_contracts.directory.v1 import DirectoryChanged, DirectoryEntry, Membership
from rappen_contracts.registry import (
    DIRECTORY_CHANGED_V1,
    QUANTITY_SETTLED_V1,
    STRIPE_OBSERVED_V1,
    STRIPE_SETTLED_V1,
    EventVersion,
)
from rappen_contracts.stripe.v1 import (
    QuantityRequested,
    QuantitySettled,
    StripeObserved,
    StripeRequested,
    StripeSettled,
)
from rappen_contracts.subscription.v1 import SubscriptionChanged
from rappen_contracts.types import Contract
from services.chassis.caller import Caller, CallerVerifier
from services.chassis.consumer_progress import ConsumerProgress
from services.chassis.database import Database, driver_connection
from services.chassis.faults import FaultPoints
from services.chassis.health import Health
from services.chassis.relay import Relay
from services.chassis.settings import HttpSettings, KafkaSettings
from services.subscriptions import subscribers
from services.subscriptions.app import application, lifecycle_context
from services.subscriptions.lifecycle.advance_due import AdvanceDue
from services.subscriptions.lifecycle.remind_trials import RemindTrials
from services.subscriptions.lifecycle.settle_due import SettleDue
from services.subscriptions.lifecycle.settle_mandate import LifecycleRules
from services.subscriptions.plans.catalogue import Catalogue, read_catalogue
from services.subscriptions.quantities.keep_in_step import KeepInStep
from services.subscriptions.settings import SubscriptionsSettings
from tests.support import callers
from tests.support.databases import opened
from tests.support.parts import at_work
from tests.support.stack import ServerPair
from tests.support.topics import read_in_group
from tests.support.waiting import eventually

RETURN_URL = "https://app.test/plans"
BEGINNING = datetime(2026, 1, 31, 12, tzinfo=UTC)
# A process that joins or leaves a consumer group makes the others wait for a heartbeat or two.
WAIT_S = 60.0


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


async def publish(producer: AIOKafkaProducer, event: EventVersion, data: Contract, *, key: str) -> None:
    """Publishes one event in another service's place."""
    record = encode(data, type=event.type, id=uuid4(), source="/test", time=BEGINNING, key=key)
    await producer.send_and_wait(event.name, key=record.key, value=record.value, headers=record.headers)


class TopicReader:
    """What a reader has of a topic, by mandate."""

    def __init__(self, records: Sequence[ConsumerRecord]) -> None:
        self._records = records

    def of(self, mandate_id: str) -> list[Any]:
        """The data of a mandate's events so far, in their order."""
        return [
            decode(record.headers, record.value, now=datetime(2100, 1, 1, tzinfo=UTC)).data
            for record in self._records
            if record.key == mandate_id.encode()
        ]

    async def next(self, mandate_id: str, count: int) -> Any:
        """The event of that number, from 1, once it is there."""
        await eventually(lambda: len(self.of(mandate_id)) >= count, what=f"event {count}", timeout_s=WAIT_S)
        return self.of(mandate_id)[count - 1]


@dataclass
class PaymentsPlace:
    """Payments' place: what it is asked, and what it answers and has seen."""

    requests: TopicReader
    quantities: TopicReader
    producer: AIOKafkaProducer

    async def settle(
        self, requested: StripeRequested, outcome: Literal["done", "refused", "expired"] = "done", **more: Any
    ) -> None:
        if requested.action == "checkout" and outcome == "done":
            more = {"redirect_url": f"https://pay.test/{requested.request_id}", "checkout_session_id": "cs_1", **more}
        settled = StripeSettled(
            mandate_id=requested.mandate_id,
            subscription_id=requested.subscription_id,
            request_id=requested.request_id,
            outcome=outcome,
            settled_at=BEGINNING,
            cause="test",
            **more,
        )
        await publish(self.producer, STRIPE_SETTLED_V1, settled, key=requested.mandate_id)

    async def settle_quantities(
        self,
        requested: QuantityRequested,
        outcome: Literal["settled", "declined", "unavailable", "superseded"] = "settled",
    ) -> None:
        settled = QuantitySettled(
            mandate_id=requested.mandate_id,
            subscription_id=requested.subscription_id,
            request_id=requested.request_id,
            version=requested.version,
            outcome=outcome,
            quantities=requested.quantities if outcome == "settled" else None,
            settled_at=BEGINNING,
            cause="test",
        )
        await publish(self.producer, QUANTITY_SETTLED_V1, settled, key=requested.mandate_id)

    async def observe(self, observed: StripeObserved) -> None:
        await publish(self.producer, STRIPE_OBSERVED_V1, observed, key=observed.mandate_id)


@dataclass
class Service:
    """What the tests use of it."""

    servers: ServerPair
    database: Database
    catalogue: Catalogue
    clock: MovingClock
    http: httpx.AsyncClient
    billing: BillingsPlace
    payments: PaymentsPlace
    told: TopicReader
    producer: AIOKafkaProducer
    advance_due: AdvanceDue = field(init=False)
    settle_due: SettleDue = field(init=False)
    keep_in_step: KeepInStep = field(init=False)
    remind_trials: RemindTrials = field(init=False)

    def __post_init__(self) -> None:
        rules = LifecycleRules(self.catalogue, grace=timedelta(days=7))
        self.advance_due = AdvanceDue(self.database, self.catalogue, clock=self.clock)
        self.settle_due = SettleDue(self.database, rules, clock=self.clock, faults=FaultPoints(None))
        self.keep_in_step = KeepInStep(self.database, clock=self.clock, faults=FaultPoints(None))
        self.remind_trials = RemindTrials(self.database, (3, 1), clock=self.clock)

    async def get(self, path: str, caller: Caller, **more: Any) -> httpx.Response:
        return await self.http.get(f"/api/subscriptions/{path}", headers=self.headers(caller), **more)

    async def start(
        self,
        mandate_id: str,
        plan_key: str,
        caller: Caller,
        *,
        headers: dict[str, str] | None = None,
        return_url: str = RETURN_URL,
    ) -> httpx.Response:
        body = {"planKey": plan_key, "returnUrl": return_url}
        return await self.post(mandate_id, caller, json=body, headers=headers)

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
        while await self.advance_due() + await self.settle_due() + await self.remind_trials():
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
        changed_entry = DirectoryChanged(mandate_id=mandate_id, version=version, entry=entry, cause="test")
        await publish(self.producer, DIRECTORY_CHANGED_V1, changed_entry, key=mandate_id)


@asynccontextmanager
async def running_service(servers: ServerPair) -> AsyncIterator[Service]:
    """The service's api, relay and directory consumer in this process; its periodic job is called by the tests."""
    settings = SubscriptionsSettings(
        environment="development",
        database_url=SecretStr(servers.dsn("subscriptions")),
        kafka=KafkaSettings(bootstrap_servers=servers.kafka.bootstrap_servers),
        http=HttpSettings(port=1),
        internal_secret=SecretStr(servers.secret),
        return_origins=("https://app.test",),
        checkout_wait_s=3.0,
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
        consumers = subscribers.build(
            settings, database=database, catalogue=catalogue, clock=clock, faults=faults, health=Health()
        )
        await stack.enter_async_context(at_work(relay, *consumers))
        producer = AIOKafkaProducer(bootstrap_servers=bootstrap_servers, acks="all")
        await stack.enter_async_context(producer)
        app = application()
        app.state.caller = CallerVerifier(audience="subscriptions", secret=servers.secret)
        app.state.catalogue = catalogue
        app.state.lifecycle = lifecycle_context(settings, database, catalogue, consumer_progress, clock)
        http = httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://s")
        await stack.enter_async_context(http)
        readers = [
            TopicReader(await stack.enter_async_context(read_in_group(bootstrap_servers, topic, group)))
            for topic, group in (
                ("stripe.requested", "payments"),
                ("quantity.requested", "payments"),
                ("trial.ending", "gateway"),
            )
        ]
        payments = PaymentsPlace(readers[0], readers[1], producer)
        yield Service(servers, database, catalogue, clock, http, billing, payments, readers[2], producer)


def new_admin_of(*mandates: str) -> Caller:
    """A new person who administers these mandates: a trial is had once, by person too."""
    return callers.admin_of(*mandates, user_id=f"u-{uuid4()}")


def new_member_of(*mandates: str) -> Caller:
    """A new person who is a plain member."""
    return callers.member_of(*mandates, user_id=f"u-{uuid4()}")
