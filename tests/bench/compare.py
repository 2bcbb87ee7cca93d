"""`python -m tests.bench.compare OTHER_CHECKOUT [--rounds N] [--only NAME...]`: this checkout measured against another.

On a machine that others use too, two runs of the bench after each other differ by more than most changes make. Here
both stacks are up at once and work by turns of about a second, so that whatever the machine does meanwhile falls on
both alike; every second round they change their order. Each checkout has its own `.venv`, made by `make setup`. A
checkout compared with itself tells how much noise is left.

Every run of charging ends with each event charged or parked once and nothing found by the audit, or this ends with exit
code 1.
"""

import argparse
import asyncio
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import psutil

from tests.bench.load import LoadOrder
from tests.bench.paired import CheckTurn, Turn, charged_rows, checked_rows, render
from tests.bench.population import Expected
from tests.bench.scenarios import LIVE_WINDOW
from tests.support.stack import ROOT

SIDE = Path(__file__).with_name("compared.py")
ROUNDS = 20
# Of the first round nothing is kept: workers have just begun, caches and plans are made.
UNMEASURED_ROUNDS = 1
# Much less than a consumer may be silent (8 s) before the broker gives its partitions to others.
TURN_S = 1.0
# What is made for each turn, half more than two workers charge on two cores; and for the time before and between.
EVENTS_A_TURN = 30_000
EVENTS_BESIDE = 60_000
CHECKS_A_TURN = 2_500
# None that a warm-up has, whose events would be the same but for their ids.
SEED = 1_000
# Many rounds of events have to be encoded or produced before the first.
ANSWER_TIMEOUT_S = 1_200.0
END_TIMEOUT_S = 120.0
LOG_TAIL_CHARACTERS = 4_000
# The exit code after Ctrl-C, as shells have it, or SIGTERM.
INTERRUPTED = 130
# From linux/prctl.h.
_PR_SET_CHILD_SUBREAPER = 36


class _Side:
    """A checkout's stack in a process of its own, with that checkout's interpreter and modules."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log

    @classmethod
    async def begin(cls, checkout: Path, folder: Path) -> Self:
        """Starts the process, which starts nothing yet; `folder` will be the stack's, its log beside it."""
        # As in the Makefile: without bytecode each process of a stack would compile all of its imports.
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        log = folder.with_suffix(".log")
        with log.open("wb") as errors:
            process = await asyncio.create_subprocess_exec(
                _python(checkout),
                # Without the script's own folder among the modules, which are those of the checkout.
                "-P",
                SIDE,
                folder,
                cwd=checkout,
                env=kept | {"PYTHONPATH": str(checkout)},
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                # Ctrl-C is for this process alone, which ends the sides in order.
                start_new_session=True,
            )
        return cls(process, log)

    async def ask(self, order: str, **given: Any) -> dict[str, Any]:
        """Its answer to an order; raises RuntimeError with what it said last when it ends instead."""
        if self._process.stdin is None or self._process.stdout is None:
            raise AssertionError("both are pipes")
        self._process.stdin.write(f"{json.dumps({'do': order, **given})}\n".encode())
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            while line := await self._process.stdout.readline():
                # What a program of an older checkout says on its output is no answer.
                if line.startswith(b"{"):
                    answer: dict[str, Any] = json.loads(line)
                    return answer
            await self._process.wait()
        said = self._log.read_text(errors="replace")[-LOG_TAIL_CHARACTERS:]
        raise RuntimeError(f"a side ended with {self._process.returncode} at {order!r}:\n{said}")

    async def end(self) -> None:
        """Ends it with all it has started, whatever state it is in."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), END_TIMEOUT_S)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


class _Comparison:
    """Two sides, this checkout's first, and the runs upon them."""

    def __init__(self, sides: Sequence[_Side], rounds: int) -> None:
        self._sides = sides
        self._rounds = rounds
        self.runs: dict[str, Callable[[], Awaitable[str]]] = {
            "backlog": self._backlog,
            "live": self._live,
            "checks": self._checks,
        }

    async def start(self) -> None:
        """Starts both at once: neither is older than the other, and what they do now and then they do together."""
        await self._both("start")

    async def _backlog(self) -> str:
        return await self._charging("backlog", live=False)

    async def _live(self) -> str:
        return await self._charging("live", live=True)

    async def _checks(self) -> str:
        turns: list[list[CheckTurn]] = [[], []]
        for number in range(UNMEASURED_ROUNDS + self._rounds):
            for side, answer in await self._round(number, "check", checks=CHECKS_A_TURN):
                turns[side].append(CheckTurn.of(answer))
        this, other = (taken[UNMEASURED_ROUNDS:] for taken in turns)
        return render(f"checks, {len(this)} rounds", checked_rows(this, other))

    async def _charging(self, name: str, *, live: bool) -> str:
        turns: list[list[Turn]] = [[], []]
        events = EVENTS_A_TURN * (UNMEASURED_ROUNDS + self._rounds) + EVENTS_BESIDE
        # Of this checkout for both, so that both are sent the same events however old the other is.
        load = LoadOrder("", events, SEED, window=LIVE_WINDOW if live else None, encode_first=live)
        # What is not measured both do at once; and neither waits for the other with its workers stopped.
        await self._both("prepare", root=str(ROOT), load=asdict(load), charged=Expected.of(events).charged)
        await self._both("hold")
        for number in range(UNMEASURED_ROUNDS + self._rounds):
            answers = await self._round(number, "turn", seconds=TURN_S)
            for side, answer in answers:
                turns[side].append(Turn.of(answer))
            most = max(turn.count for taken in turns for turn in taken)
            if any(answer["left"] < 2 * most for _, answer in answers):
                break
        ended = await self._both("end")
        async with asyncio.TaskGroup() as group:
            for side, answer in zip(self._sides, ended, strict=True):
                expected = Expected.of(answer["sent"])
                group.create_task(side.ask("finish", charged=expected.charged, parked=expected.parked))
        this, other = (taken[UNMEASURED_ROUNDS:] for taken in turns)
        if not this:
            raise RuntimeError("the events were charged before anything was measured")
        return render(f"{name}, {len(this)} rounds", charged_rows(this, other, (ended[0]["batch"], ended[1]["batch"])))

    async def _round(self, number: int, order: str, **given: Any) -> list[tuple[int, dict[str, Any]]]:
        """A turn of each, one after the other."""
        sides = list(enumerate(self._sides))
        return [(side, await asked.ask(order, **given)) for side, asked in (reversed(sides) if number % 2 else sides)]

    async def _both(self, order: str, **given: Any) -> list[dict[str, Any]]:
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(side.ask(order, **given)) for side in self._sides]
        return [task.result() for task in asked]


async def _run(other: Path, rounds: int, only: Sequence[str]) -> None:
    _adopt_orphans()
    if (running := asyncio.current_task()) is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    folder = Path(tempfile.mkdtemp(prefix="rappen-compare-"))
    sides: list[_Side] = []
    try:
        for name, checkout in (("this", ROOT), ("other", other)):
            print(f"{name}: {checkout} {_commit(checkout)}", flush=True)
            sides.append(await _Side.begin(checkout, folder / name))
        comparison = _Comparison(sides, rounds)
        _say("starting and warming up")
        await comparison.start()
        for name, run in comparison.runs.items():
            if not only or name in only:
                _say(name)
                print(f"\n{await run()}", flush=True)
    finally:
        await asyncio.gather(*(side.end() for side in sides))
        _kill_orphans()
        shutil.rmtree(folder, ignore_errors=True)


def _adopt_orphans() -> None:
    """Makes this process the parent of what a side leaves behind that was killed, so that it is found."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def _kill_orphans() -> None:
    orphans = psutil.Process().children(recursive=True)
    for process in orphans:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue  # It ended with its parent, a moment ago.
    psutil.wait_procs(orphans, timeout=END_TIMEOUT_S)


def _python(checkout: Path) -> Path:
    return checkout / ".venv" / "bin" / "python"


def _commit(checkout: Path) -> str:
    """The commit, and whether there are changes to it."""
    described = subprocess.run(
        ["git", "-C", str(checkout), "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    return described.stdout.strip() or "without a commit"


def _say(what: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S} {what}", file=sys.stderr, flush=True)


def _main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.compare")
    parser.add_argument("other", type=Path, metavar="OTHER_CHECKOUT", help="a checkout after `make setup`")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="a turn of each side, %(default)s by default")
    parser.add_argument("--only", nargs="+", choices=["backlog", "live", "checks"], default=[], help="some of the runs")
    given = parser.parse_args()
    other = given.other.resolve()
    if given.rounds < 1:
        parser.error("--rounds is 1 or more")
    for checkout in (ROOT, other):
        if not _python(checkout).exists():
            parser.error(f"{checkout} has no .venv: run `make setup` there")
    try:
        asyncio.run(_run(other, given.rounds, given.only))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(_main())
