"""How the bench measures: progress of the ledger, percentiles, memory, and whether every event is accounted for."""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import asyncpg

from tests.bench.population import Expected
from tests.support.ledger import Books

__all__ = [
    "MEMORY_MB",
    "Figures",
    "Latency",
    "Ledger",
    "Look",
    "Progress",
    "Rate",
    "memory_peak_mb",
]

# What a process may take at most, whatever it works on.
MEMORY_MB = 300.0

POLL_S = 0.05
# Nothing committed for so long: the workers are stuck, and the bench fails instead of waiting for ever.
STALL_S = 60.0

# Every posting raises its account's sequence number, so this counts the committed ledger rows without reading them.
_POSTED = "SELECT coalesce(sum(seq), 0)::bigint FROM accounts"


@dataclass(frozen=True, slots=True)
class Rate:
    """Events committed and the seconds between the first and the last commit seen."""

    events: int
    seconds: float

    @property
    def per_second(self) -> float:
        """Events a second."""
        return self.events / self.seconds


class Look(NamedTuple):
    """A look at the ledger: when (seconds, monotonic) and how many events were committed."""

    at: float
    events: int


@dataclass(frozen=True, slots=True)
class Figures:
    """The counts that must be as they were plus what was sent."""

    charged: int
    unposted: int
    quarantined: int


class Progress:
    """Watches the ledger grow, from where it stands when this is made."""

    def __init__(self, connection: asyncpg.Connection, before: int) -> None:
        self._connection = connection
        self._before = before

    @classmethod
    async def begin(cls, connection: asyncpg.Connection) -> "Progress":
        """Counts what is there already."""
        return cls(connection, await connection.fetchval(_POSTED))

    async def committed(self) -> int:
        """Events committed since the beginning."""
        return int(await self._connection.fetchval(_POSTED)) - self._before

    async def first(self) -> Look:
        """Waits for the first commit."""
        return await self._until(1, Look(time.perf_counter(), 0), lambda _: None)

    async def until(self, events: int, first: Look, seen: Callable[[int], None] = lambda _: None) -> Rate:
        """Waits until so many are committed, telling `seen` the number at each look; the rate since the first look."""
        last = await self._until(events, first, seen)
        return Rate(last.events - first.events, last.at - first.at)

    async def _until(self, events: int, last: Look, seen: Callable[[int], None]) -> Look:
        while True:
            look = Look(time.perf_counter(), await self.committed())
            seen(look.events)
            if look.events >= events:
                return look
            if look.events > last.events:
                last = look
            elif look.at - last.at > STALL_S:
                raise RuntimeError(f"{look.events} of {events} events are charged; for {STALL_S} s nothing has moved")
            await asyncio.sleep(POLL_S)


class Ledger:
    """The books before and after a run: every event sent has its effect once, and the audit finds nothing."""

    def __init__(self, connect: Callable[[], AbstractAsyncContextManager[asyncpg.Connection]], books: Books) -> None:
        self._connect = connect
        self._books = books

    async def figures(self) -> Figures:
        """What is in the ledger now."""
        async with self._connect() as connection:
            row = await connection.fetchrow(
                "SELECT (SELECT count(*) FROM transactions WHERE contra_account = 'REVENUE') AS charged,"
                " (SELECT count(*) FROM unposted_events) AS unposted,"
                " (SELECT count(*) FROM quarantine) AS quarantined"
            )
        return Figures(*row)

    async def captured(self) -> int:
        """How many holds are captured by now."""
        async with self._connect() as connection:
            return int(await connection.fetchval("SELECT count(*) FROM holds WHERE state = 'CAPTURED'"))

    async def require(self, before: Figures, *runs: Expected) -> None:
        """Raises unless exactly so many events were charged, parked and refused, and the books add up."""
        expected = Figures(
            before.charged + sum(run.charged for run in runs),
            before.unposted + sum(run.parked for run in runs),
            before.quarantined + sum(run.refused for run in runs),
        )
        after = await self.figures()
        if after != expected:
            raise RuntimeError(f"the ledger has {after}, expected {expected}")
        failing = await self._books.failing()
        if failing:
            raise RuntimeError(f"the audit fails: {failing}")


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds: what half, 99 and 99.9 percent of all did not exceed, and the worst."""

    count: int
    p50_ms: float
    p99_ms: float
    p999_ms: float
    worst_ms: float

    @classmethod
    def of(cls, milliseconds: Sequence[float]) -> "Latency":
        """The figures of at least one latency."""
        ordered = sorted(milliseconds)

        def at(part: float) -> float:
            return ordered[max(0, math.ceil(len(ordered) * part) - 1)]

        return cls(len(ordered), at(0.5), at(0.99), at(0.999), ordered[-1])


def memory_peak_mb(pid: int) -> float:
    """The most memory that was ever resident, in MB (10^6 bytes)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError(f"no VmHWM of {pid}")
