"""Where the microseconds of a process go: samples of its stack, its CPU time, and what its database session does.

Needs `py-spy` in the environment and the right to trace processes.
"""

import asyncio
import shutil
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

from tests.bench.cpu import CpuMeter
from tests.bench.measure import Progress
from tests.bench.population import Expected
from tests.bench.scenarios import Scale, Scenarios
from tests.bench.session import Session

__all__ = ["PROFILES"]

SAMPLES_PER_S = 250
STATEMENT_POLL_S = 0.004
SHOWN = 30

# The innermost of these functions on a stack says what a sample of a worker belongs to.
_STAGES = {
    "parse_json": "reading, published form: JSON",
    "model_validate": "reading, published form: validation",
    "decode": "reading, published form: the rest",
    "_read": "reading, fast form",
    "_decode": "reading: the rest",
    "getmany": "fetch from Kafka",
    "_proc_fetch_request": "fetch from Kafka",
    "assign_charge_keys": "usage objects and narrow keys",
    "distinct": "usage objects and narrow keys",
    "compare": "usage objects and narrow keys",
    "rate_usage": "pricing, published form",
    "split_by_price": "pricing",
    "derivation": "posting: derivation",
    "prepare_postings": "posting: the rest",
    "insert_rows": "COPY transactions",
    "read_accounts": "read accounts",
    "read_terms": "terms",
    "changed_terms": "terms",
    "update_accounts": "update accounts",
    "add_to_rollups": "rollups",
    "balances_changed": "outbox",
    "append_outbox": "outbox",
    "recorded_digests": "repeats among unposted",
    "quarantine": "quarantine",
    "Relay.run": "relay",
    "Charges.charge": "charge: the rest",
    "ChargeUsage.__call__": "charge: the rest",
    "consume_one": "FastStream around the handler",
}
_ELSEWHERE = "event loop, sockets, protocol"


@dataclass(slots=True)
class _Samples:
    """Samples by stage and by function: the innermost one, and every one on the stack."""

    stages: Counter[str] = field(default_factory=Counter)
    innermost: Counter[str] = field(default_factory=Counter)
    within: Counter[str] = field(default_factory=Counter)

    def read(self, file: Path) -> None:
        """Adds the samples of a file: `outer (file:line);...;inner (file:line) count` on each line."""
        for line in file.read_text().splitlines():
            stack, _, count = line.rpartition(" ")
            frames = [(name, place) for name, _, place in (frame.partition(" (") for frame in stack.split(";"))]
            if any(name.endswith("WorkerThread.run") for name, _ in frames):
                continue  # A thread that waits for work.
            self.stages[_stage(frames)] += int(count)
            named = [f"{name} ({place.partition(':')[0].rstrip(')')})" for name, place in frames]
            self.innermost[named[-1]] += int(count)
            for name in set(named):
                self.within[name] += int(count)


async def _profile_worker(session: Session, _: Scenarios, scale: Scale) -> str:
    """One worker on a backlog, from its first commit on."""
    load = await session.load(scale.backlog_events, encode_first=False)
    load.tell()
    await load.result()
    samples, statements = _Samples(), Counter[str]()
    async with session.connection() as connection, session.connection() as watching:
        progress = await Progress.begin(connection)
        async with session.workers(1, wait=False) as (worker,):
            first, servers = await progress.first(), session.servers
            meter = CpuMeter({"worker": [worker.pid], "postgres": [servers.postgres.pid], "kafka": [servers.kafka.pid]})
            watch = asyncio.create_task(_watch_statements(watching, statements))
            async with _sampled(worker.pid, session.folder, samples):
                rate = await progress.until(Expected.of(scale.backlog_events).charged, first)
                use = meter.read()
            watch.cancel()
    cpu_us = use.microseconds(rate.events)
    return "\n".join(
        [
            f"{rate.events} events of a backlog, one worker: {rate.per_second:,.0f}/s while sampled",
            f"others used {use.others_percent:.0f} % of the machine",
            *_cpu_lines(cpu_us),
            *_share_lines("by stage", samples.stages, cpu_us["worker"]),
            *_share_lines("by innermost function", samples.innermost, cpu_us["worker"]),
            *_share_lines("time of the worker's session (idle: the worker computes)", statements, None),
        ]
    )


async def _profile_api(session: Session, scenarios: Scenarios, _: Scale) -> str:
    """The api under the load of checks."""
    samples = _Samples()
    async with _sampled(session.api.pid, session.folder, samples):
        checked = await scenarios.checks(charging=False)
    cpu_us = checked.cpu.microseconds(checked.latency.count)
    return "\n".join(
        [
            f"{checked.latency.count} checks, p99 {checked.latency.p99_ms:.1f} ms while sampled",
            f"others used {checked.cpu.others_percent:.0f} % of the machine",
            *_cpu_lines(cpu_us),
            *_share_lines("by function, with what it calls", samples.within, cpu_us["api"], samples.stages.total()),
            *_share_lines("by innermost function", samples.innermost, cpu_us["api"]),
        ]
    )


async def _profile_holds(session: Session, scenarios: Scenarios, _: Scale) -> str:
    """The api under the load of holds and captures."""
    samples = _Samples()
    async with _sampled(session.api.pid, session.folder, samples):
        made = await scenarios.holds()
    cpu_us = made.cpu.microseconds(made.captured.count)
    return "\n".join(
        [
            f"{made.captured.count} holds, p99 {made.held.p99_ms:.1f} ms, of captures {made.captured.p99_ms:.1f} ms",
            f"others used {made.cpu.others_percent:.0f} % of the machine",
            *_cpu_lines(cpu_us),
            *_share_lines("by function, with what it calls", samples.within, cpu_us["api"], samples.stages.total()),
            *_share_lines("by innermost function", samples.innermost, cpu_us["api"]),
        ]
    )


PROFILES: Mapping[str, Callable[[Session, Scenarios, Scale], Awaitable[str]]] = {
    "worker": _profile_worker,
    "api": _profile_api,
    "holds": _profile_holds,
}


@asynccontextmanager
async def _sampled(pid: int, folder: Path, samples: _Samples) -> AsyncIterator[None]:
    """Samples a process for the length of the block."""
    py_spy = shutil.which("py-spy", path=str(Path(sys.executable).parent))
    if py_spy is None:
        raise RuntimeError("a profile needs py-spy in the environment")
    output = folder / "samples.txt"
    options = ["--format", "raw", "--rate", str(SAMPLES_PER_S), "--nonblocking", "--output", str(output)]
    spy = await asyncio.create_subprocess_exec(
        py_spy, "record", *options, "--pid", str(pid), stdout=asyncio.subprocess.DEVNULL
    )
    try:
        yield
    finally:
        if spy.returncode is None:
            spy.send_signal(signal.SIGINT)
        await spy.wait()
    samples.read(output)


async def _watch_statements(connection: asyncpg.Connection, seen: Counter[str]) -> None:
    """Looks at what the sessions of billing do, those of the relay left out."""
    while True:
        rows = await connection.fetch(
            "SELECT left(query, 60) AS query, state, wait_event FROM pg_stat_activity"
            " WHERE usename = 'billing_app' AND state <> 'idle' AND query !~ 'outbox ORDER BY|DELETE FROM outbox'"
        )
        for row in rows:
            if row["state"] == "active":
                waits = f" [{row['wait_event']}]" if row["wait_event"] else ""
                seen[f"{row['query']}{waits}"] += 1
            else:
                seen[f"idle after {row['query']}"] += 1
        if not rows:
            seen["no transaction open"] += 1
        await asyncio.sleep(STATEMENT_POLL_S)


def _stage(frames: list[tuple[str, str]]) -> str:
    for name, _ in reversed(frames):
        stage = _STAGES.get(name) or _STAGES.get(name.rpartition(".")[2])
        if stage is not None:
            return stage
    return _ELSEWHERE


def _cpu_lines(cpu_us: Mapping[str, float]) -> list[str]:
    return ["", "CPU microseconds each", *(f"{value:17.1f}  {name}" for name, value in cpu_us.items())]


def _share_lines(title: str, counts: Counter[str], cpu_us: float | None, total: int | None = None) -> list[str]:
    """Percent of all samples and the part of so many microseconds, the largest first."""
    lines = ["", title]
    for name, count in counts.most_common(SHOWN):
        part = count / (total or counts.total())
        microseconds = "" if cpu_us is None else f"{part * cpu_us:8.1f}"
        lines.append(f"{100 * part:7.1f} %{microseconds:>8}  {name}")
    return lines
