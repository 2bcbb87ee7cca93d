"""Stripe's events: answered by the payments api while the inbox works, and processed by a worker from the store.

Everything is real but Stripe, whose fake is a process beside, on the same cores: objects are fetched from it again for
each event, over HTTP, and applied to our books. The rate of stored events is that of processing: it counts from the
first look that finds some processed, so the start of the worker is left out.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import asyncpg

from deploy.local.ports import free_port
from services.chassis.database import Database
from services.payments.inbox.domain import parse_event
from services.payments.inbox.repository import store_event
from tests.bench.child import Child
from tests.bench.cpu import CpuMeter, CpuUse
from tests.bench.deliveries import PATH, DeliveryOrder
from tests.bench.figures import latency_text, met
from tests.bench.measure import Latency
from tests.bench.session import Session
from tests.bench.stripe_acts import API_KEY, Acts, StripeActs, stripe_acts
from tests.support.databases import connected, opened
from tests.support.fakestripe import FakeStripe
from tests.support.processes import ServiceProcess

__all__ = ["DELIVERIES_PER_S", "Delivered", "Processed", "webhooks"]

WEBHOOK_P99_MS = 50.0
# Events a second.
PROCESSED_LEAST = 300
DELIVERIES_PER_S = 200.0
# Not measured yet: connections, plans and caches come into being.
WARM_UP_S = 2.0
SECRET = "whsec_of_the_bench"
POLL_S = 0.1
# Nothing processed for so long: the worker is stuck.
STALL_S = 60.0

_COUNTS = """
SELECT (SELECT count(*) FROM webhook_events WHERE processed_at IS NOT NULL) AS processed,
       (SELECT count(*) FROM webhook_events WHERE error IS NOT NULL) AS failing,
       (SELECT count(*) FROM payments) AS payments,
       (SELECT count(*) FROM refunds WHERE state = 'TAKEN') AS refunds,
       (SELECT count(*) FROM stripe_subscriptions WHERE status = 'active') AS subscriptions,
       (SELECT count(*) FROM checkouts WHERE state <> 'PAID') AS unpaid
"""


@dataclass(frozen=True, slots=True)
class Delivered:
    """Webhooks answered at a rate, while the inbox worked."""

    per_s: float
    latency: Latency
    statuses: Mapping[str, int]
    cpu: CpuUse
    events: int

    def rows(self) -> list[tuple[str, ...]]:
        """The row of the page."""
        refused = {status: count for status, count in self.statuses.items() if status != "200"}
        told = latency_text(self.latency) + (f"; not stored: {refused}" if refused else "")
        good = self.latency.p99_ms < WEBHOOK_P99_MS and not refused
        what = f"webhook at {self.per_s:,.0f}/s while the inbox works"
        return [("V7", what, f"p99 < {WEBHOOK_P99_MS:.0f} ms", told, met(good))]

    def uses(self) -> list[tuple[str, CpuUse, int]]:
        """An event's share."""
        return [("webhooks, answered and processed", self.cpu, self.events)]


@dataclass(frozen=True, slots=True)
class Processed:
    """Stored events processed, and the CPU of all that takes part."""

    events: int
    seconds: float
    cpu: CpuUse

    @property
    def per_second(self) -> float:
        """Events a second."""
        return self.events / self.seconds

    def rows(self) -> list[tuple[str, ...]]:
        """The row of the page."""
        good = self.per_second >= PROCESSED_LEAST
        what = f"{self.events:,} stored events of Stripe processed"
        return [("V7", what, f"≥ {PROCESSED_LEAST}/s", f"{self.per_second:,.0f}/s", met(good))]

    def uses(self) -> list[tuple[str, CpuUse, int]]:
        """An event's share."""
        return [("stored events of Stripe", self.cpu, self.events)]


async def webhooks(session: Session, *, seconds: float, stored: int) -> tuple[Delivered, Processed]:
    """Deliveries at `DELIVERIES_PER_S` for so long, and so many events from the store."""
    await asyncio.to_thread(session.servers.migrate, "payments")
    async with opened(session.servers.dsn("payments"), pool_size=8) as database:
        run = _Run(session, database)
        async with run.fake, stripe_acts(database, run.fake.url) as acts:
            delivered = await run.deliver(acts, int(DELIVERIES_PER_S * (WARM_UP_S + seconds)))
            return delivered, await run.process_stored(acts, stored)


class _Run:
    """The fake Stripe and the payments service of one run, and what of Stripe's acts they must have booked."""

    def __init__(self, session: Session, database: Database) -> None:
        self._session = session
        self._database = database
        self._port = free_port()
        url = f"http://127.0.0.1:{self._port}{PATH}"
        self.fake = FakeStripe(webhook_url=url, webhook_secret=SECRET, log=session.folder / "fakestripe.log")
        self._before: list[Acts] = []

    async def deliver(self, acts: StripeActs, count: int) -> Delivered:
        """Delivers new events to the api, while a worker processes them."""
        made = await acts.at_least(count)
        file = self._session.folder / "deliveries.jsonl"
        await asyncio.to_thread(file.write_bytes, b"\n".join(made.events))
        order = DeliveryOrder(self._port, SECRET, str(file), DELIVERIES_PER_S, int(DELIVERIES_PER_S * WARM_UP_S))
        async with self._process("api", port=self._port) as api, self._process("worker") as worker:
            delivering = await Child.start(order.command())
            meter = self._meter({"payments api": api, "payments worker": worker})
            delivering.tell()
            result = await delivering.result()
            use = meter.read({"deliveries": result["cpu_s"]})
            # What was not stored Stripe would send again.
            await self._store(made)
            await self._booked(made)
        latency = Latency(**result["latency"])
        return Delivered(result["sent_per_s"], latency, result["statuses"], use, len(made.events))

    async def process_stored(self, acts: StripeActs, count: int) -> Processed:
        """Has a worker process new events that were stored before it started."""
        made = await acts.at_least(count)
        await self._store(made)
        async with self._process("worker") as worker:
            meter = self._meter({"payments worker": worker})
            events, seconds = await self._booked(made)
            use = meter.read()
        return Processed(events, seconds, use)

    async def _store(self, made: Acts) -> None:
        """Stores those events that are not there yet."""
        now = datetime.now(UTC)
        async with self._database.transaction() as connection:
            for body in made.events:
                await store_event(connection, parse_event(body), body, now)

    async def _booked(self, made: Acts) -> tuple[int, float]:
        """Waits until all events are processed, and raises unless the books then have each act once; gives the events
        processed since the first look that found some, and in how many seconds."""
        self._before.append(made)
        total = sum(len(each.events) for each in self._before)
        async with connected(self._session.servers.dsn("payments", owner=True), schema="payments") as connection:
            first = None
            last = (time.perf_counter(), (await _counts(connection))["processed"])
            while last[1] < total:
                await asyncio.sleep(POLL_S)
                look = (time.perf_counter(), (await _counts(connection))["processed"])
                if look[1] > last[1]:
                    last, first = look, first or look
                elif look[0] - last[0] > STALL_S:
                    raise RuntimeError(f"{look[1]} of {total} events are processed; for {STALL_S} s nothing has moved")
            found = await _counts(connection)
        wanted = {
            "processed": total,
            "failing": 0,
            "payments": sum(each.payments for each in self._before),
            "refunds": sum(each.refunds for each in self._before),
            "subscriptions": sum(each.subscriptions for each in self._before),
            "unpaid": 0,
        }
        if found != wanted:
            raise RuntimeError(f"payments has {found}, expected {wanted}")
        first = first or last
        return last[1] - first[1], last[0] - first[0]

    @asynccontextmanager
    async def _process(self, role: str, *, port: int | None = None) -> AsyncIterator[ServiceProcess]:
        settings = {
            "PAYMENTS_STRIPE__API_KEY": API_KEY,
            "PAYMENTS_STRIPE__API_BASE": self.fake.url,
            "PAYMENTS_STRIPE__WEBHOOK_SECRETS": json.dumps([SECRET]),
        }
        log = self._session.folder / f"payments-{role}.log"
        async with ServiceProcess(self._session.servers, "payments", role, log, port=port, more=settings) as process:
            yield process

    def _meter(self, processes: Mapping[str, ServiceProcess]) -> CpuMeter:
        servers = self._session.servers
        pids: dict[str, Sequence[int]] = {name: [process.pid] for name, process in processes.items()}
        shared = {"fakestripe": [self.fake.pid], "postgres": [servers.postgres.pid], "kafka": [servers.kafka.pid]}
        return CpuMeter({name: list(each) for name, each in pids.items()} | shared)


async def _counts(connection: asyncpg.Connection) -> dict[str, Any]:
    return dict(await connection.fetchrow(_COUNTS))
