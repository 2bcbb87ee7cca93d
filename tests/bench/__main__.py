"""`python -m tests.bench [--quick] [--only NAME...] [--profile worker|api]`: measures and prints.

Only a whole run at full scale writes the page docs/benchmarks.md. The exit code is 1 when a figure misses its target;
an exception ends the bench when a run leaves the books out of order. Lists, statistics and invoices are
measured upon a ledger of five million rows, which is filled and audited first.
"""

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.bench.large_stack import FULL_SIZE, QUICK_SIZE, LargeStack
from tests.bench.lists import export_large, list_large
from tests.bench.machine import describe_machine
from tests.bench.month_invoice import invoice_large
from tests.bench.profile import PROFILES
from tests.bench.report import MISSED, Results, absolutes, render
from tests.bench.scenarios import FULL, QUICK, Scale, Scenarios
from tests.bench.session import Session
from tests.bench.year_statistics import show_large
from tests.support.stack import ROOT

PAGE = ROOT / "docs" / "benchmarks.md"
LARGE_RUNS = ("lists", "statistics", "invoices")


class _Bench:
    """The runs by name, in the order in which they are done; a run that another needs is done once."""

    def __init__(self, scenarios: Scenarios, results: Results) -> None:
        self._scenarios = scenarios
        self.results = results
        self.runs: dict[str, Callable[[], Awaitable[None]]] = {
            "naive": self._naive,
            "live": self._live,
            "backlog": self._backlog,
            "faulty": self._faulty,
            "published": self._published,
            "latency": self._latency,
            "checks": self._checks,
            "holds": self._holds,
            "gateway": self._gateway,
            "memory": self._memory,
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
        self.results.beside_published, self.results.published = await self._scenarios.live_by_turns()

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


class _LargeBench:
    """The same of the runs upon a large ledger, of which the last one writes to it."""

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


async def _run(scale: Scale, only: Sequence[str], *, profile: str | None, command: str) -> str:
    results, machine = Results(), dict[str, str]()
    told = set[tuple[str, ...]]()
    if profile is not None or not only or set(only) - set(LARGE_RUNS):
        async with _session() as session:
            scenarios = Scenarios(session, scale)
            _say("warming up")
            await scenarios.warm_up()
            if profile is not None:
                _say(f"profile of the {profile}")
                return await PROFILES[profile](session, scenarios, scale)
            await _each(_Bench(scenarios, results), only, told)
            machine = await describe_machine(session.connection)
    if not only or set(only) & set(LARGE_RUNS):
        async with _large_stack(scale) as stack:
            await _each(_LargeBench(stack, results, repeats=scale.asked), only, told)
            machine = machine or await describe_machine(stack.connection)
    return render(results, machine, at=datetime.now(UTC), command=command)


async def _each(bench: _Bench | _LargeBench, only: Sequence[str], told: set[tuple[str, ...]]) -> None:
    for name, run in bench.runs.items():
        if not only or name in only:
            _say(name)
            await run()
            for row in absolutes(bench.results):
                if row not in told:
                    _say(" | ".join(row))
                    told.add(row)


@asynccontextmanager
async def _session() -> AsyncIterator[Session]:
    with TemporaryDirectory(prefix="rappen-bench-") as folder:
        session = Session(Path(folder))
        try:
            await session.start()
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
    names = ["naive", "live", "backlog", "faulty", "published", "latency", "checks", "holds", "gateway", "memory"]
    names += LARGE_RUNS
    parser.add_argument("--quick", action="store_true", help="smaller runs, once each; does not write the page")
    parser.add_argument("--only", nargs="+", choices=names, default=[], help="some runs; does not write the page")
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
