"""The store through the gateway: gateway and subscriptions as processes, and a reader in the place of payments."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
from aiokafka import AIOKafkaProducer, ConsumerRecord

from rappen_contracts import decode, encode
from rappen_contracts.registry import QUANTITY_SETTLED_V1, STRIPE_OBSERVED_V1, EventVersion
from rappen_contracts.store.v1 import FeatureActivated
from rappen_contracts.stripe.v1 import QuantityRequested, QuantitySettled
from rappen_contracts.subscription.v1 import SubscriptionState
from services.chassis.clock import system_clock
from services.chassis.database import Database
from services.subscriptions.lifecycle.domain import Change, Subscription
from services.subscriptions.lifecycle.periods import Period
from services.subscriptions.lifecycle.record_changes import record_changes
from services.subscriptions.plans.catalogue import read_catalogue
from services.subscriptions.settings import SubscriptionsSettings
from tests.support.databases import connected, opened
from tests.support.gateway import GatewayProcess, Issuer
from tests.support.processes import FaultFolder, ServiceProcess, all_ready
from tests.support.stack import ServerPair
from tests.support.stripe_facts import SubscriptionAtStripe
from tests.support.topics import read_in_group, read_topic
from tests.support.waiting import eventually

Headers = dict[str, str]
WAIT_S = 60.0
CATALOGUE = read_catalogue(SubscriptionsSettings.model_fields["plans_file"].default)


def unique(prefix: str) -> str:
    """An id that no other test uses."""
    return f"{prefix}-{uuid4().hex[:12]}"


class PaymentsPlace:
    """Answers requests for quantities as Stripe would have them answered: `outcomes` by mandate, `settled` unless one
    is named; None is no answer at all. What need not be paid at once is never declined."""

    def __init__(self, records: Sequence[ConsumerRecord], producer: AIOKafkaProducer) -> None:
        self._records = records
        self.producer = producer
        self.outcomes: dict[str, str | None] = {}

    def requests(self, mandate_id: str) -> list[QuantityRequested]:
        """What was asked for in a mandate, in its order."""
        return [request for request in map(_requested, self._records) if request.mandate_id == mandate_id]

    async def answer_all(self) -> None:
        """Answers until it is cancelled."""
        answered = 0
        while True:
            for record in self._records[answered:]:
                answered += 1
                await self._answer(_requested(record))
            await asyncio.sleep(0.02)

    async def _answer(self, request: QuantityRequested) -> None:
        outcome = self.outcomes.get(request.mandate_id, "settled")
        if not request.paid_at_once:
            outcome = "settled"
        if outcome is not None:
            await self.settle(request, outcome)

    async def settle(self, request: QuantityRequested, outcome: str) -> None:
        """One answer."""
        settled = QuantitySettled(
            mandate_id=request.mandate_id,
            subscription_id=request.subscription_id,
            request_id=request.request_id,
            version=request.version,
            outcome=outcome,  # type: ignore[arg-type]
            code="card_declined" if outcome == "declined" else None,
            quantities=request.quantities if outcome == "settled" else None,
            settled_at=system_clock(),
            cause="test",
        )
        await publish(self.producer, QUANTITY_SETTLED_V1, settled, key=request.mandate_id)


async def publish(producer: AIOKafkaProducer, version: EventVersion, data: Any, *, key: str) -> None:
    """One event on its topic."""
    record = encode(data, type=version.type, id=uuid4(), source="/tests", time=system_clock(), key=key)
    await producer.send_and_wait(version.name, key=record.key, value=record.value, headers=record.headers)


def _requested(record: ConsumerRecord) -> QuantityRequested:
    data = decode(record.headers, record.value, now=system_clock()).data
    assert isinstance(data, QuantityRequested)
    return data


@dataclass
class Shop:
    """What the tests use of it."""

    servers: ServerPair
    issuer: Issuer
    http: httpx.AsyncClient
    database: Database
    payments: PaymentsPlace
    gateway: GatewayProcess
    subscriptions: ServiceProcess
    faults: FaultFolder

    @property
    def root(self) -> Headers:
        return self.issuer.person("root", system_admin=True)

    def headers(self, user: str, *, language: str = "en", key: str | None = None) -> Headers:
        more = {} if key is None else {"Idempotency-Key": key}
        return {**self.issuer.person(user), "Accept-Language": language, **more}

    async def enter(self, *lines: Mapping[str, Any]) -> None:
        """Entries of the directory, as an operator imports them; back when the services have them."""
        body = "\n".join(json.dumps(line) for line in lines)
        given = {**self.root, "Content-Type": "application/x-ndjson"}
        answer = await self.http.post("/api/directory/import", content=body, headers=given)
        assert answer.status_code == 200, answer.text

    async def tenant(self, *, roles: Sequence[str] = ("admin",), **mandate: Any) -> tuple[str, str]:
        """A mandate and a member of it, who is called Jo."""
        mandate_id, user = unique("m"), unique("u")
        await self.enter(
            {"kind": "mandate", "id": mandate_id, "name": "acme", "label": "Acme AG", **mandate},
            {"kind": "user", "id": user, "username": "jo"},
            {"kind": "membership", "mandateId": mandate_id, "userId": user, "roles": list(roles)},
        )
        return mandate_id, user

    async def subscribe(
        self,
        mandate_id: str,
        plan_key: str,
        state: SubscriptionState = "ACTIVE",
        *,
        complete: bool = True,
        **more: Any,
    ) -> UUID:
        """A subscription of that plan in that state, since now, as the lifecycle writes it; a paid one that is complete
        begins as payments tells of it."""
        now = datetime.now(UTC).replace(microsecond=0)
        plan = CATALOGUE.plan(plan_key)
        if plan.requires_stripe and state == "ACTIVE" and complete:
            return await self._begin_at_stripe(mandate_id, plan_key, now)
        subscription = Subscription(
            **{
                "id": uuid4(),
                "mandate_id": mandate_id,
                "plan": plan,
                "state": state,
                "version": 1,
                "effective_from": now,
                "period": Period(now, now + timedelta(days=30)),
                "trial_ends_at": now + timedelta(days=7) if state == "TRIALING" else None,
                "grace_ends_at": None,
                "recurring": state == "ACTIVE",
                "created_by": "test",
                "created_at": datetime.now(UTC),
                **more,
            }
        )
        async with self.database.transaction() as connection:
            change = Change(None, subscription, "test", now)
            await record_changes(connection, [change], cause="test", actor=None, now=now)
        return subscription.id

    async def _begin_at_stripe(self, mandate_id: str, plan_key: str, now: datetime) -> UUID:
        record = await self.subscribe(mandate_id, plan_key, "PENDING", effective_from=None, period=None, recurring=True)
        at_stripe = SubscriptionAtStripe(
            record=record,
            mandate_id=mandate_id,
            plan_key=plan_key,
            period=Period(now, now + timedelta(days=30)),
            at=now,
        )
        await publish(self.payments.producer, STRIPE_OBSERVED_V1, at_stripe.begins(), key=mandate_id)

        async def begun() -> bool:
            return bool(await self.fetch("SELECT 1 FROM subscriptions WHERE id = $1 AND state = 'ACTIVE'", record))

        await eventually(begun, what="the paid plan begun", timeout_s=WAIT_S)
        return record

    async def execute(self, statement: str, *arguments: object) -> None:
        async with connected(self.servers.dsn("subscriptions")) as connection:
            await connection.execute(statement, *arguments)

    async def fetch(self, statement: str, *arguments: object, service: str = "subscriptions") -> list[asyncpg.Record]:
        async with connected(self.servers.dsn(service)) as connection:
            return list(await connection.fetch(statement, *arguments))

    async def get(self, path: str, user: str, **more: Any) -> httpx.Response:
        return await self.http.get(f"/api/store/{path}", headers=self.headers(user), **more)

    async def activate(
        self, user: str, mandate_id: str, feature: str = "chat", *, key: str | None = None, language: str = "en"
    ) -> httpx.Response:
        body = {"featureCode": feature, "mandateId": mandate_id}
        return await self.http.post(
            "/api/store/activate", json=body, headers=self.headers(user, key=key, language=language)
        )

    async def deactivate(self, user: str, mandate_id: str, instance_id: str, feature: str = "chat") -> httpx.Response:
        body = {"featureCode": feature, "mandateId": mandate_id, "instanceId": instance_id}
        return await self.http.post("/api/store/deactivate", json=body, headers=self.headers(user))

    async def instances(self, mandate_id: str) -> list[dict[str, Any]]:
        """The enabled instances that the directory itself has."""
        found = await self.http.get(
            "/api/directory/feature-instances", params={"mandateId": mandate_id, "limit": 100}, headers=self.root
        )
        return [entry for entry in found.json()["items"] if entry["enabled"]]

    async def accesses(self, mandate_id: str) -> list[dict[str, Any]]:
        """The enabled accesses that the directory itself has."""
        found = await self.http.get(
            "/api/directory/feature-access", params={"mandateId": mandate_id, "limit": 100}, headers=self.root
        )
        return [entry for entry in found.json()["items"] if entry["enabled"]]

    async def states(self, mandate_id: str) -> list[str]:
        """The states of a mandate's activations, the oldest first."""
        rows = await self.fetch(
            "SELECT state FROM activations WHERE mandate_id = $1 ORDER BY created_at, instance_id", mandate_id
        )
        return [row["state"] for row in rows]

    async def settled(self, mandate_id: str) -> None:
        """Waits until nothing is on its way in a mandate any more."""

        async def idle() -> bool:
            open_ = await self.fetch(
                "SELECT 1 FROM activations WHERE mandate_id = $1 AND state NOT IN ('ACTIVE', 'ROLLED_BACK')"
                " UNION ALL SELECT 1 FROM removals WHERE mandate_id = $1 AND done_at IS NULL",
                mandate_id,
            )
            return not open_

        await eventually(idle, what="nothing on its way", timeout_s=WAIT_S)

    async def activated(self, mandate_id: str, count: int) -> list[FeatureActivated]:
        """What was published as activated."""
        servers = self.servers.kafka.bootstrap_servers
        records = await read_topic(servers, "feature.activated", key=mandate_id, count=count)
        events = [decode(record.headers, record.value, now=system_clock()).data for record in records]
        return [event for event in events if isinstance(event, FeatureActivated)]


@asynccontextmanager
async def open_shop(servers: ServerPair, folder: Path) -> AsyncIterator[Shop]:
    """The whole of it."""
    issuer, faults = Issuer(folder), FaultFolder(folder / "faults")
    more = {
        "SUBSCRIPTIONS_FAULTS_FOLDER": str(faults.folder),
        "SUBSCRIPTIONS_CLOCK_INTERVAL_S": "0.2",
        "SUBSCRIPTIONS_KAFKA__SESSION_TIMEOUT_MS": "6000",
    }
    subscriptions = ServiceProcess(servers, "subscriptions", "all", folder / "subscriptions.log", more=more)
    peers = dict.fromkeys(("billing", "payments", "subscriptions"), subscriptions)
    gateway_more = {"GATEWAY_FAULTS_FOLDER": str(faults.folder), "GATEWAY_KAFKA__SESSION_TIMEOUT_MS": "6000"}
    gateway = GatewayProcess(servers, issuer, peers, folder, more=gateway_more)
    kafka = servers.kafka.bootstrap_servers
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(read_in_group(kafka, "directory.changed", "billing"))
        records = await stack.enter_async_context(read_in_group(kafka, "quantity.requested", "payments"))
        producer = await stack.enter_async_context(AIOKafkaProducer(bootstrap_servers=kafka, acks="all"))
        payments = PaymentsPlace(records, producer)
        answering = asyncio.create_task(payments.answer_all())
        stack.callback(answering.cancel)
        await stack.enter_async_context(all_ready(subscriptions, gateway))
        database = await stack.enter_async_context(opened(servers.dsn("subscriptions"), pool_size=2))
        http = httpx.AsyncClient(base_url=gateway.url, timeout=20, trust_env=False)
        await stack.enter_async_context(http)
        yield Shop(servers, issuer, http, database, payments, gateway, subscriptions, faults)
