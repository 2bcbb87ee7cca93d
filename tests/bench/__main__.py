"""`python -m tests.bench [--quick] [--only NAME...] [--profile worker|api]`: measures and prints.

Only a whole run at full scale writes the page docs/benchmarks.md. The exit code is 1 when a figure misses its target;
an exception ends the bench when a run leaves the books out of order. Lists, statistics and invoices are
measured upon a ledger of five million rows, which is filled and audited first.
"""

import argparse
import asyncio
import gc
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from tests.bench.activation import activations
from tests.bench.figures import MISSED
from tests.bench.large_stack import FULL_SIZE, QUICK_SIZE, LargeStack
from tests.bench.lists import export_large, list_large
from tests.bench.machine import describe_machine
from tests.bench.month_invoice import invoice_large
from tests.bench.profile import PROFILES
from tests.bench.report import Results, absolutes, render
from tests.bench.scenarios import FULL, QUICK, Scale, Scenarios
from tests.bench.session import Session
from tests.bench.year_statistics import show_large
from tests.support.stack import ROOT

PAGE = ROOT / "docs" / "benchmarks.md"
# Runs that charge nothing, runs upon a large ledger, and the run upon a whole stack.
WITHOUT_BOOKS = {"webhooks"}
LARGE_RUNS = ("lists", "statistics", "invoices")
ACTIVATION = "activation"
NAMES = ["naive", "live", "backlog", "faulty", "published", "settling", "latency", "checks", "holds", "gateway"]
NAMES += ["memory", "switches", "rerating", "webhooks", *LARGE_RUNS, ACTIVATION]


class _Runs(Protocol):
    """Runs by name, in the order in which they are done."""

    runs: dict[str, Callable[[], Awaitable[None]]]


class _Bench:
    """The runs of one session; a run that another needs is done once."""

    def __init__(self, scenarios: Scenarios, results: Results) -> None:
        self._scenarios = scenarios
        self.results = results
        self.runs: dict[str, Callable[[], Awaitable[None]]] = {
            "naive": self._naive,
            "live": self._live,
            "backlog": self._backlog,
            "faulty": self._faulty,
            "published": self._published,
            "settling": self._settling,
            "latency": self._latency,
            "checks": self._checks,
            "holds": self._holds,
            "gateway": self._gateway,
            "memory": self._memory,
            "switches": self._switches,
            "rerating": self._rerating,
            "webhooks": self._webhooks,
        }

    async def _live(self) -> None:
        if not self.results.live:
            self.results.live = await self._scenarios.live()

    async def _naive(self) -> None:
        self.results.naive = await self._scenarios.naive(1)
        self.results.naive_pair = await self._scenarios.naive(2)

    async def _backlog(self) -> None:
        # By turns, so that a ratio is of runs that were near each other in time.
        for _ in range(self._scenarios.scale.repeats):
            self.results.backlog.append(await self._scenarios.backlog())
            self.results.hot.append(await self._scenarios.backlog(hot=True))
            self.results.hot_shared.append(await self._scenarios.backlog(hot=True, without_key=True))
            self.results.backlog_single.append(await self._scenarios.backlog(workers=1))

    async def _faulty(self) -> None:
        for _ in range(self._scenarios.scale.repeats):
            self.results.beside_faulty.append(await self._scenarios.backlog())
            self.results.too_large.append(await self._scenarios.faulty("too_large"))
            self.results.refused.append(await self._scenarios.faulty("refused"))

    async def _published(self) -> None:
        self.results.beside_published, self.results.published = await self._scenarios.live_by_turns(
            twentieth="published"
        )

    async def _settling(self) -> None:
        self.results.beside_settling, self.results.settling = await self._scenarios.live_by_turns(settling=True)

    async def _latency(self) -> None:
        await self._live()
        rates = sorted(run.rate.per_second for run in self.results.live)
        self.results.probed = await self._scenarios.latency(rates[(len(rates) - 1) // 2] / 2)

    async def _checks(self) -> None:
        self.results.checks = await self._scenarios.checks(charging=False)
        self.results.checks_charging = await self._scenarios.checks(charging=True)

    async def _holds(self) -> None:
        self.results.holds = await self._scenarios.holds()

    async def _gateway(self) -> None:
        self.results.gateway_saturated, self.results.gateway_at_rate = await self._scenarios.gateway()

    async def _memory(self) -> None:
        self.results.memory = await self._scenarios.memory()

    async def _switches(self) -> None:
        self.results.parts.append(await self._scenarios.switches())

    async def _rerating(self) -> None:
        self.results.parts.append(await self._scenarios.rerating())

    async def _webhooks(self) -> None:
        self.results.parts += await self._scenarios.webhooks()


class _LargeBench:
    """The runs upon a large ledger, of which the last one writes to it."""

    def __init__(self, stack: LargeStack, results: Results, *, repeats: int) -> None:
        self._stack = stack
        self._repeats = repeats
        self.results = results
        self.runs: dict[str, Callable[[], Awaitable[None]]] = {
            "lists": self._lists,
            "statistics": self._statistics,
            "invoices": self._invoices,
        }

    async def _lists(self) -> None:
        self.results.lists = await list_large(self._stack, self._repeats)
        self.results.exports = await export_large(self._stack)

    async def _statistics(self) -> None:
        self.results.statistics = await show_large(self._stack, self._repeats)

    async def _invoices(self) -> None:
        self.results.invoice = await invoice_large(self._stack)


class _StackBench:
    """The run upon a stack of its own, which it starts."""

    def __init__(self, results: Results, *, seconds: float) -> None:
        self._seconds = seconds
        self.results = results
        self.runs: dict[str, Callable[[], Awaitable[None]]] = {ACTIVATION: self._activation}

    async def _activation(self) -> None:
        self.results.parts.append(await activations(self._seconds))


async def _run(scale: Scale, only: Sequence[str], *, profile: str | None, command: str) -> str:
    results, machine = Results(), dict[str, str]()
    wanted = set(only or NAMES)
    telling = _Telling(results, wanted)
    in_session = wanted - {*LARGE_RUNS, ACTIVATION}
    if profile is not None or in_session:
        books = profile is not None or bool(in_session - WITHOUT_BOOKS)
        async with _session(books=books) as session:
            scenarios = Scenarios(session, scale)
            if books:
                _say("warming up")
                await scenarios.warm_up()
            if profile is not None:
                _say(f"profile of the {profile}")
                return await PROFILES[profile](session, scenarios, scale)
            await telling.run(_Bench(scenarios, results))
            machine = await describe_machine(session.connection)
    if wanted & set(LARGE_RUNS):
        async with _large_stack(scale) as stack:
            await telling.run(_LargeBench(stack, results, repeats=scale.asked))
            machine = machine or await describe_machine(stack.connection)
    await telling.run(_StackBench(results, seconds=scale.activations_s))
    return render(results, machine, at=datetime.now(UTC), command=command)


class _Telling:
    """Does the runs that are wanted, and tells each figure once, as soon as it is there."""

    def __init__(self, results: Results, wanted: set[str]) -> None:
        self._results = results
        self._wanted = wanted
        self._told = set[tuple[str, ...]]()

    async def run(self, bench: _Runs) -> None:
        for name, run in bench.runs.items():
            if name in self._wanted:
                _say(name)
                # What is there already is not looked through again and again while answers are timed.
                gc.collect()
                gc.freeze()
                await run()
                self._tell()

    def _tell(self) -> None:
        for row in absolutes(self._results):
            if row not in self._told:
                _say(" | ".join(row))
                self._told.add(row)


@asynccontextmanager
async def _session(*, books: bool) -> AsyncIterator[Session]:
    with TemporaryDirectory(prefix="rappen-bench-") as folder:
        session = Session(Path(folder))
        try:
            await (session.start() if books else session.start_servers())
            yield session
        finally:
            await session.stop()


@asynccontextmanager
async def _large_stack(scale: Scale) -> AsyncIterator[LargeStack]:
    with TemporaryDirectory(prefix="rappen-bench-") as folder:
        size = FULL_SIZE if scale is FULL else QUICK_SIZE
        _say(f"filling a ledger of {size.rows:,} rows")
        async with LargeStack(Path(folder), size).running() as stack:
            _say(f"filled in {stack.filled_s:.0f} s; the audit found nothing in {stack.audited_s:.0f} s")
            yield stack


def _say(what: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S} {what}", file=sys.stderr, flush=True)


def _main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument("--quick", action="store_true", help="smaller runs, once each; does not write the page")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=[], help="some runs; does not write the page")
    parser.add_argument("--profile", choices=list(PROFILES), help="where the microseconds of a process go, instead")
    given = parser.parse_args()
    command = " ".join(["python -m tests.bench", *sys.argv[1:]])
    scale = QUICK if given.quick else FULL
    text = asyncio.run(_run(scale, given.only, profile=given.profile, command=command))
    print(text)
    if not (given.quick or given.only or given.profile):
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(text)
    return 1 if MISSED in text else 0


if __name__ == "__main__":
    sys.exit(_main())
