"""One side of a comparison: a stack whose billing works only when it is told to, for a turn.

`tests.bench.compare` runs this file, of its own checkout, once with each checkout's interpreter, folder and modules;
so it takes from `tests.bench` only what older checkouts have too, and private names where those have no other.
Orders are lines of JSON on its input, answers lines of JSON on its output. The end of its input ends it, and with it
everything that it started.
"""

import asyncio
import dataclasses
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import psutil

from services.chassis.caller import CALLER_HEADER, Caller
from tests.bench.checks import CheckOrder
from tests.bench.child import Child
from tests.bench.cpu import CpuMeter, CpuUse
from tests.bench.measure import POLL_S, Figures, Ledger, Look, Progress
from tests.bench.scenarios import CHECKS_PER_S, LIVE_WINDOW, QUICK, WORKERS, Scenarios
from tests.bench.session import Session
from tests.support.processes import ServiceProcess

WARM_UP_EVENTS = 60_000
# PostgreSQL ends the statements that were under way when the workers were stopped.
SETTLE_S = 0.15
WARM_UP_CHECKS = 300
KILLED_TIMEOUT_S = 10.0
PARKED_TIMEOUT_S = 60.0
# Every batch has the time of its transaction, which all of its rows share.
_BATCHES = "SELECT count(*) AS rows, count(DISTINCT recorded_at) AS batches FROM transactions WHERE recorded_at > $1"


class _Run:
    """Charging that was begun and stands still between turns: a backlog, or live beside its producer.

    `load` is the order to the producer, which is of the checkout at `root`; so many of its events are `charged`.
    """

    def __init__(self, session: Session, *, root: str, load: dict[str, Any], charged: int) -> None:
        self._session = session
        self._events: int = load["count"]
        self._charged = charged
        self._live = load["window"] is not None
        self._command = _load_command(root, load | {"bootstrap_servers": session.servers.kafka.bootstrap_servers})
        self._stack = AsyncExitStack()
        self._ledger = Ledger(session.connection, session.books)
        self._workers: list[ServiceProcess] = []
        self._before: Figures
        self._load: Child
        self._progress: Progress
        self._committed = 0

    async def prepare(self) -> None:
        """Produces the backlog, or encodes what will be produced."""
        self._before = await self._ledger.figures()
        self._load = await Child.start(self._command)
        if not self._live:
            self._load.tell()
            await self._load.result()
        self._connection = await self._stack.enter_async_context(self._session.connection())
        await self._tidy()
        await asyncio.to_thread(os.sync)
        self._progress = await Progress.begin(self._connection)

    async def _tidy(self) -> None:
        """Vacuums, and nothing is vacuumed or checkpointed until the end.

        PostgreSQL looks for what to vacuum every 15 s since its start. A round takes two and a half, and its order
        alternates, so that of one side this fell into its own turns again and again, of the other never.
        """
        for statement in (
            "ALTER SYSTEM SET autovacuum = off",
            "SELECT pg_reload_conf()",
            "VACUUM ANALYZE",
            "CHECKPOINT",
        ):
            await self._connection.execute(statement)
        self._stack.push_async_callback(self._untidy)

    async def _untidy(self) -> None:
        for statement in ("ALTER SYSTEM RESET autovacuum", "SELECT pg_reload_conf()"):
            await self._connection.execute(statement)

    async def hold(self) -> None:
        """Starts the workers, and stops them as soon as they charge."""
        # A backlog is charged by the first that is ready, long before the other is.
        self._workers = await self._stack.enter_async_context(self._session.workers(WORKERS, wait=self._live))
        self._stack.callback(self._signal, signal.SIGCONT)
        if self._live:
            self._load.tell()
        await self._progress.first()
        self._signal(signal.SIGSTOP)
        self._committed = await self._progress.committed()
        self._since = await self._connection.fetchval("SELECT max(recorded_at) FROM transactions")

    async def turn(self, seconds: float) -> dict[str, Any]:
        """Works for so long; what was committed, what it cost, and how much is left to be charged."""
        meter = CpuMeter(self._pids())
        started = time.perf_counter()
        self._signal(signal.SIGCONT)
        try:
            await self._pass(started + seconds)
        finally:
            self._signal(signal.SIGSTOP)
        passed = time.perf_counter() - started
        await asyncio.sleep(SETTLE_S)
        use = meter.read()
        before, self._committed = self._committed, await self._progress.committed()
        left = self._charged - self._committed - (LIVE_WINDOW if self._live else 0)
        return _turn(self._committed - before, passed, use) | {"left": left}

    async def batch(self) -> float:
        """Events in a batch on average, since the workers were held."""
        rows, batches = await self._connection.fetchrow(_BATCHES, self._since)
        return float(rows / max(1, batches))

    async def end(self) -> int:
        """Goes on, and ends a live producer; how many events it has sent in all."""
        self._signal(signal.SIGCONT)
        if not self._live:
            return self._events
        self._load.tell("end")
        return int((await self._load.result())["sent"])

    async def finish(self, *, charged: int, parked: int) -> None:
        """Charges the rest of what was sent; raises unless every event has its effect once and the audit finds
        nothing."""
        await self._progress.until(charged, Look(time.perf_counter(), self._committed))
        # By position: charged, unposted, quarantined, of which the second had another name once.
        were = dataclasses.astuple(self._before)
        expected = Figures(were[0] + charged, were[1] + parked, were[2])
        async with asyncio.timeout(PARKED_TIMEOUT_S):
            # Older checkouts have nothing to wait with.
            while dataclasses.astuple(await self._ledger.figures())[1] < were[1] + parked:  # noqa: ASYNC110
                await asyncio.sleep(POLL_S)
        await self.stop()
        after = await self._ledger.figures()
        failing = await self._session.books.failing()
        if after != expected or failing:
            raise RuntimeError(f"the ledger has {after}, expected {expected}; the audit says {failing}")

    async def stop(self) -> None:
        """Stops the workers, which are continued before, because a stopped process does not hear that it should end."""
        await self._stack.aclose()

    async def _pass(self, until: float) -> None:
        """Waits, and tells a live producer how far the ledger is, which is its pace."""
        while (left_s := until - time.perf_counter()) > 0:
            if self._live:
                committed = await self._progress.committed()
                self._load.tell(str(committed * self._events // self._charged))
            await asyncio.sleep(min(POLL_S, left_s) if self._live else left_s)

    def _pids(self) -> dict[str, list[int]]:
        servers = self._session.servers
        pids = {
            "worker": [worker.pid for worker in self._workers],
            "postgres": [servers.postgres.pid],
            "kafka": [servers.kafka.pid],
        }
        return pids | {"load": [self._load._process.pid]} if self._live else pids

    def _signal(self, number: signal.Signals) -> None:
        pids = [worker.pid for worker in self._workers if worker.running]
        if self._live and self._load._process.returncode is None:
            pids.append(self._load._process.pid)
        for pid in pids:
            os.kill(pid, number)


class _Compared:
    """The session, and what it is ordered to do."""

    def __init__(self, folder: Path) -> None:
        self._session = Session(folder)
        self._run: _Run | None = None
        self.orders: dict[str, Callable[..., Awaitable[dict[str, Any]]]] = {
            "start": self.start,
            "prepare": self.prepare,
            "hold": self.hold,
            "turn": self.turn,
            "end": self.end,
            "finish": self.finish,
            "check": self.check,
        }

    async def start(self) -> dict[str, Any]:
        """Servers and api, warm."""
        await self._session.start()
        await Scenarios(self._session, dataclasses.replace(QUICK, warm_up_events=WARM_UP_EVENTS)).warm_up()
        return {}

    async def prepare(self, **given: Any) -> dict[str, Any]:
        """What takes long before a run and depends on no worker."""
        self._run = _Run(self._session, **given)
        await self._run.prepare()
        return {}

    async def hold(self) -> dict[str, Any]:
        """The workers, begun and stopped."""
        await self._begun.hold()
        return {}

    async def turn(self, *, seconds: float) -> dict[str, Any]:
        """One turn of the run."""
        return await self._begun.turn(seconds)

    async def end(self) -> dict[str, Any]:
        """The end of the turns: how many events there are, and how many were in a batch."""
        batch = await self._begun.batch()
        return {"sent": await self._begun.end(), "batch": batch}

    async def finish(self, **given: Any) -> dict[str, Any]:
        """The end of the run."""
        await self._begun.finish(**given)
        self._run = None
        return {}

    async def check(self, *, checks: int) -> dict[str, Any]:
        """One turn of checks at the api, without workers; a few more are asked before, unmeasured but paid for."""
        session = self._session
        caller = Caller(user_id="publisher", service=True, scopes=frozenset({"usage:check"}))
        # Signed for each turn, because a signature lives a minute.
        signed = session.caller_header(caller)[CALLER_HEADER]
        order = CheckOrder(session.api.port, CALLER_HEADER, signed, checks, CHECKS_PER_S, WARM_UP_CHECKS)
        checking = await Child.start(order.command())
        meter = CpuMeter({"api": [session.api.pid], "postgres": [session.servers.postgres.pid]})
        started = time.perf_counter()
        checking.tell()
        checked = await checking.result()
        turn = _turn(checks + WARM_UP_CHECKS, time.perf_counter() - started, meter.read({"checks": checked["cpu_s"]}))
        return turn | {name: checked["latency"][name] for name in ("p50_ms", "p99_ms")}

    async def stop(self) -> None:
        """Everything, in order."""
        if self._run is not None:
            await self._run.stop()
        await self._session.stop()

    @property
    def _begun(self) -> _Run:
        if self._run is None:
            raise AssertionError("prepared before")
        return self._run


def _load_command(root: str, order: dict[str, Any]) -> list[str]:
    """Its events are of that checkout; the `encode` that some are written by is of this one's environment."""
    return ["env", f"PYTHONPATH={root}", sys.executable, "-P", "-m", "tests.bench.load", json.dumps(order)]


def _turn(count: int, seconds: float, use: CpuUse) -> dict[str, Any]:
    return {
        "count": count,
        "seconds": seconds,
        "cpu_s": {name: spent for name, spent in use.by_process.items() if name != "bench"},
        "others_percent": use.others_percent,
    }


async def _obey(compared: _Compared, orders: asyncio.Queue[str]) -> None:
    try:
        while True:
            order = json.loads(await orders.get())
            answer = await compared.orders[order.pop("do")](**order)
            print(json.dumps(answer), flush=True)
    finally:
        await compared.stop()


async def _main(compared: _Compared) -> None:
    loop, orders = asyncio.get_running_loop(), asyncio.Queue[str]()
    obeying = asyncio.create_task(_obey(compared, orders))
    loop.add_signal_handler(signal.SIGTERM, obeying.cancel)
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)

    async def listen() -> None:
        while line := await reader.readline():
            orders.put_nowait(line.decode())
        obeying.cancel()

    listening = asyncio.create_task(listen())
    await asyncio.wait([obeying])
    listening.cancel()
    if not obeying.cancelled():
        obeying.result()


def _kill_what_remains() -> None:
    """A load whose run was broken off, or a server that a start broken off in a thread had yet to see."""
    remaining = psutil.Process().children(recursive=True)
    for process in remaining:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue  # It ended with its parent, a moment ago.
    psutil.wait_procs(remaining, timeout=KILLED_TIMEOUT_S)


if __name__ == "__main__":
    given = Path(sys.argv[1])
    given.mkdir()
    try:
        asyncio.run(_main(_Compared(given)))
    finally:
        _kill_what_remains()
