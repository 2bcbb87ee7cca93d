"""`python -m tests.bench [--quick] [--only NAME...] [--profile worker|api]`: measures and prints.

Only a whole run at full scale writes the page docs/benchmarks.md. The exit code is 1 when a figure misses its target;
an exception ends the bench when a run leaves the books out of order.
"""

import argparse
import asyncio
import shutil
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.bench.machine import describe_machine
from tests.bench.profile import PROFILES
from tests.bench.report import MISSED, Results, absolutes, render
from tests.bench.scenarios import FULL, QUICK, Scale, Scenarios
from tests.bench.session import Session
from tests.support.stack import ROOT

PAGE = ROOT / "docs" / "benchmarks.md"
# Runs that charge nothing.
WITHOUT_BOOKS = {"webhooks"}


class _Bench:
    """The runs by name, in the order in which they are done; a run that another needs is done once."""

    def __init__(self, scenarios: Scenarios) -> None:
        self._scenarios = scenarios
        self.results = Results()
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

    async def _webhooks(self) -> None:
        self.results.delivered, self.results.processed = await self._scenarios.webhooks()


async def _run(scale: Scale, only: Sequence[str], *, profile: str | None, command: str) -> str:
    folder = Path(tempfile.mkdtemp(prefix="rappen-bench-"))
    session = Session(folder)
    try:
        await session.start()
        scenarios = Scenarios(session, scale)
        if not only or set(only) - WITHOUT_BOOKS:
            await session.open_books()
            _say("warming up")
            await scenarios.warm_up()
        if profile is not None:
            _say(f"profile of the {profile}")
            return await PROFILES[profile](session, scenarios, scale)
        bench, told = _Bench(scenarios), set[tuple[str, ...]]()
        for name, run in bench.runs.items():
            if not only or name in only:
                _say(name)
                await run()
                for row in absolutes(bench.results):
                    if row not in told:
                        _say(" | ".join(row))
                        told.add(row)
        return render(bench.results, await describe_machine(session), at=datetime.now(UTC), command=command)
    finally:
        await session.stop()
        shutil.rmtree(folder)


def _say(what: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S} {what}", file=sys.stderr, flush=True)


def _main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    names = [
        "naive",
        "live",
        "backlog",
        "faulty",
        "published",
        "latency",
        "checks",
        "holds",
        "gateway",
        "memory",
        "webhooks",
    ]
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
