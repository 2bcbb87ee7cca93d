"""The measured runs. Each leaves the books in order: every event has its effect once, the audit is empty, or it
raises."""

import asyncio
import os
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from services.chassis.caller import CALLER_HEADER, Caller
from tests.bench.checks import CheckOrder
from tests.bench.child import Child
from tests.bench.cpu import CpuMeter, CpuUse
from tests.bench.gateway import GatewayChecked, checks_through_gateway
from tests.bench.holds import HoldOrder
from tests.bench.measure import Latency, Ledger, Progress, Rate, memory_peak_mb
from tests.bench.naive import NaiveOutcome, naive_run
from tests.bench.population import Expected, Fault
from tests.bench.probe import ProbeOrder
from tests.bench.session import Session
from tests.support.processes import ServiceProcess

__all__ = ["FULL", "QUICK", "Charged", "Checked", "Held", "Probed", "Scale", "Scenarios"]

# How far the live producer may be ahead of the ledger: several batches of each worker, a second of work.
LIVE_WINDOW = 20_000
WORKERS = 2
HOT_WARM_UP_EVENTS = 5_000
PROBES_PER_S = 60.0
CHECKS_PER_S = 1_000.0
HOLDS_PER_S = 500.0
# How long latencies are not measured yet, after the workers were started.
WARM_UP_S = 3.0
# What is charged beside the checks, in events a second.
CHARGED_BESIDE_CHECKS = 2_000.0


@dataclass(frozen=True, slots=True)
class Scale:
    """How long the bench takes."""

    repeats: int
    warm_up_events: int
    live_events: int
    backlog_events: int
    memory_events: int
    naive_s: float
    latency_s: float
    checks_s: float
    # Of each kind of list and statistics.
    asked: int


FULL = Scale(3, 150_000, 200_000, 200_000, 1_000_000, 6.0, 40.0, 30.0, 200)
QUICK = Scale(1, 50_000, 50_000, 50_000, 100_000, 3.0, 10.0, 10.0, 100)


@dataclass(frozen=True, slots=True)
class Charged:
    """A run in which so many events were charged; what was parked or sent again beside them is not counted."""

    events: int
    rate: Rate
    cpu: CpuUse
    memory_peaks_mb: list[float]
    value_bytes: float


@dataclass(frozen=True, slots=True)
class Probed:
    """Latency from event to visible balance, at a rate."""

    events: int
    events_per_s: float
    latency: Latency
    cpu: CpuUse
    behind_s_max: float


@dataclass(frozen=True, slots=True)
class Checked:
    """Checks at a rate, beside so many events a second."""

    checks_per_s: float
    events_per_s: float
    latency: Latency
    outcomes: Mapping[str, int]
    cpu: CpuUse


@dataclass(frozen=True, slots=True)
class Held:
    """Holds at a rate, each captured."""

    holds_per_s: float
    held: Latency
    captured: Latency
    outcomes: Mapping[str, int]
    cpu: CpuUse


class Scenarios:
    """The runs upon one session."""

    def __init__(self, session: Session, scale: Scale) -> None:
        self._session = session
        self.scale = scale
        self._ledger = Ledger(session.connection, session.books)

    async def warm_up(self) -> None:
        """Lets members, dimensions and groups come into being and the broker compile itself: later is steady work."""
        async with self._session.workers(WORKERS):
            await self._live(self.scale.warm_up_events, [])
            await self._live(HOT_WARM_UP_EVENTS, [], hot=True)

    async def live(self) -> list[Charged]:
        """V1: the producer and two workers at once, for as long as it takes."""
        async with self._session.workers(WORKERS) as workers:
            return [await self._live(self.scale.live_events, workers) for _ in range(self.scale.repeats)]

    async def live_by_turns(self) -> tuple[list[Charged], list[Charged]]:
        """V9: live as ever, and with one event in twenty that only the decoding of the published package takes."""
        usual, published = [], []
        async with self._session.workers(WORKERS) as workers:
            for _ in range(self.scale.repeats):
                usual.append(await self._live(self.scale.live_events, workers))
                published.append(await self._live(self.scale.live_events, workers, twentieth="published"))
        return usual, published

    async def backlog(self, workers: int = WORKERS, events: int | None = None, **settings: Any) -> Charged:
        """V1, V3, V8: what was produced before the workers start."""
        events = events or self.scale.backlog_events
        expected = Expected.of(events, settings.get("twentieth"))
        before = await self._ledger.figures()
        load = await self._session.load(events, encode_first=False, **settings)
        load.tell()
        produced = await load.result()
        await asyncio.to_thread(os.sync)
        async with self._session.connection() as connection:
            progress = await Progress.begin(connection)
            # Not waiting until all are ready, because the first begins to charge before.
            async with self._session.workers(workers, wait=False) as running:
                first = await progress.first()
                meter = self._meter(running)
                rate = await progress.until(expected.charged, first)
                use = meter.read()
                peaks = [memory_peak_mb(worker.pid) for worker in running]
                await self._session.settled()
        await self._ledger.require(before, expected)
        return Charged(expected.charged, rate, use, peaks, produced["value_bytes"])

    async def faulty(self, fault: Fault) -> Charged:
        """V9: a backlog of which one event in twenty is at fault; the rate is that of the others."""
        async with AsyncExitStack() as stack:
            if fault == "refused":
                await stack.enter_async_context(self._session.refusing_ledger())
            return await self.backlog(twentieth=fault)

    async def memory(self) -> Charged:
        """V8: the large backlog."""
        return await self.backlog(events=self.scale.memory_events)

    async def naive(self, workers: int) -> list[NaiveOutcome]:
        """V2: the replaced system's path. What earlier runs left to be written must not slow its many commits."""
        dsn = self._session.servers.admin_dsn
        async with self._session.connection() as connection:
            outcomes = []
            for _ in range(self.scale.repeats):
                await asyncio.to_thread(os.sync)
                outcomes.append(await naive_run(connection, dsn, workers=workers, seconds=self.scale.naive_s))
            return outcomes

    async def latency(self, events_per_s: float) -> Probed:
        """V5: probes among usage at a steady rate."""
        seconds, servers = WARM_UP_S + self.scale.latency_s, self._session.servers
        events, probes, warm_up = (
            int(events_per_s * seconds),
            int(PROBES_PER_S * seconds),
            int(PROBES_PER_S * WARM_UP_S),
        )
        before = await self._ledger.figures()
        async with self._session.workers(WORKERS) as workers:
            load = await self._session.load(events, rate=events_per_s)
            order = ProbeOrder(
                servers.kafka.bootstrap_servers, servers.admin_dsn, probes - warm_up, PROBES_PER_S, warm_up
            )
            probing = await Child.start(order.command())
            meter = self._meter(workers)
            load.tell()
            probing.tell()
            latency = Latency(**await probing.result())
            loaded = await load.result()
            use = meter.read({"load": loaded["cpu_s"]})
            await self._session.settled()
        await self._ledger.require(before, Expected.of(events), Expected(probes, 0, 0, 0))
        return Probed(events + probes, events_per_s, latency, use, loaded["behind_s_max"])

    async def checks(self, *, charging: bool) -> Checked:
        """V4: checks at the billing api, alone or while usage is charged."""
        seconds, session = WARM_UP_S + self.scale.checks_s, self._session
        events = int(CHARGED_BESIDE_CHECKS * seconds) if charging else 0
        before = await self._ledger.figures()
        caller = Caller(user_id="publisher", service=True, scopes=frozenset({"usage:check"}))
        async with session.workers(WORKERS) as workers:
            load = await session.load(events, rate=CHARGED_BESIDE_CHECKS) if charging else None
            signed = session.caller_header(caller)[CALLER_HEADER]
            asked, warm_up = int(CHECKS_PER_S * self.scale.checks_s), int(CHECKS_PER_S * WARM_UP_S)
            order = CheckOrder(session.api.port, CALLER_HEADER, signed, asked, CHECKS_PER_S, warm_up)
            checking = await Child.start(order.command())
            meter = self._meter(workers)
            if load is not None:
                load.tell()
            checking.tell()
            checked = await checking.result()
            ended = {"checks": checked["cpu_s"]}
            if load is not None:
                ended["load"] = (await load.result())["cpu_s"]
            use = meter.read(ended)
            await self._session.settled()
        await self._ledger.require(before, Expected.of(events))
        return Checked(checked["sent_per_s"], events / seconds, Latency(**checked["latency"]), checked["outcomes"], use)

    async def holds(self, rate: float = HOLDS_PER_S) -> Held:
        """V4: holds at the billing api, each captured as soon as it is there."""
        session, seconds = self._session, self.scale.checks_s
        before = await self._ledger.figures()
        caller = Caller(user_id="publisher", service=True, scopes=frozenset({"usage:check", "usage:write"}))
        async with session.workers(WORKERS) as workers:
            signed = session.caller_header(caller)[CALLER_HEADER]
            count, warm_up = int(rate * seconds), int(rate * WARM_UP_S)
            order = HoldOrder(session.api.port, CALLER_HEADER, signed, count, rate, warm_up)
            holding = await Child.start(order.command())
            meter = self._meter(workers)
            holding.tell()
            made = await holding.result()
            use = meter.read({"holds": made["cpu_s"]})
        # A capture that was answered too late may have been made.
        charged = count + warm_up if made["all_captured"] else (await self._ledger.figures()).charged - before.charged
        await self._ledger.require(before, Expected(charged, 0, 0, 0))
        held, captured = Latency(**made["held"]), Latency(**made["captured"])
        return Held(made["made_per_s"], held, captured, made["outcomes"], use)

    async def gateway(self) -> tuple[GatewayChecked, GatewayChecked]:
        """V4: checks through one gateway, saturated and at a rate."""
        return await checks_through_gateway(self._session, self.scale.checks_s)

    async def _live(self, events: int, workers: list[ServiceProcess], **settings: Any) -> Charged:
        before, expected = await self._ledger.figures(), Expected.of(events, settings.get("twentieth"))
        load = await self._session.load(events, window=LIVE_WINDOW, **settings)
        await asyncio.to_thread(os.sync)
        async with self._session.connection() as connection:
            progress = await Progress.begin(connection)
            meter = self._meter(workers)
            load.tell()
            first = await progress.first()
            rate = await progress.until(expected.charged, first, lambda count: load.tell(str(expected.sent(count))))
            produced = await load.result()
            use = meter.read({"load": produced["cpu_s"]})
        await self._session.settled()
        await self._ledger.require(before, expected)
        peaks = [memory_peak_mb(worker.pid) for worker in workers]
        return Charged(expected.charged, rate, use, peaks, produced["value_bytes"])

    def _meter(self, workers: list[ServiceProcess]) -> CpuMeter:
        servers = self._session.servers
        return CpuMeter(
            {
                "workers": [worker.pid for worker in workers],
                "postgres": [servers.postgres.pid],
                "kafka": [servers.kafka.pid],
                "api": [self._session.api.pid],
            }
        )
