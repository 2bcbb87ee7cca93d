"""The load of checks: a process that asks the billing api, or a gateway, over connections that stay open.

At a rate, a check is due at its time whether or not earlier ones were answered, and its latency counts from then.
Without one, each connection asks its next check when its last one was answered.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from typing import Any

import uvloop

from tests.bench.child import tell_ready
from tests.bench.connections import LOST, Connection, connect, least_busy, post
from tests.bench.measure import Latency
from tests.bench.population import MEMBERS, Usages

__all__ = ["CheckOrder"]

BODIES = 2_000
# An api that cannot keep up is to be told by its latencies, not by a bench that gives up.
LAST_S = 180.0


@dataclass(frozen=True, slots=True)
class CheckOrder:
    """How many checks, how many a second (None: as many as are answered), over how many connections, with which header
    that says who asks."""

    port: int
    caller_header: str
    caller: str
    count: int
    rate: float | None
    # As many more are asked before, unmeasured: connections, plans and caches are there when the measuring begins.
    warm_up: int
    connections: int = 16

    def command(self) -> list[str]:
        """The command line of the process."""
        return [sys.executable, "-m", "tests.bench.checks", json.dumps(asdict(self))]


class _Tally:
    """Latencies of good answers, and the number of answers by status and outcome; `complete` when all are here."""

    def __init__(self, warm_up: int, expected: int) -> None:
        self.latencies_ms: list[float] = []
        self.outcomes: Counter[str] = Counter()
        self.complete = asyncio.Event()
        self._warm_up = warm_up
        self._expected = expected
        # The measured time.
        self._began = self._ended = time.perf_counter()

    @property
    def per_second(self) -> float:
        """Measured answers a second."""
        return self._expected / (self._ended - self._began)

    def count(self, outcome: str, latency_ms: float | None = None) -> None:
        """Counts an answer, or a request that will have none; those of the warm-up are only waited for."""
        if self._warm_up > 0:
            self._warm_up -= 1
            self._began = time.perf_counter()
            return
        if latency_ms is not None:
            self.latencies_ms.append(latency_ms)
        self.outcomes[outcome] += 1
        if self.outcomes.total() >= self._expected:
            self._ended = time.perf_counter()
            self.complete.set()


class _Load:
    """Asks checks and counts their answers."""

    def __init__(self, tally: _Tally, connections: Sequence[Connection], following: Iterator[bytes]) -> None:
        """`following` is asked one by one as answers come."""
        self._tally = tally
        self._connections = connections
        self._following = following

    def begin(self) -> None:
        """Asks what comes first, on each connection."""
        for connection in self._connections:
            self._ask_following(connection)

    def ask(self, connection: Connection, request: bytes, due: float) -> None:
        """Sends one request that was due at that time."""

        def answered(status: str, body: bytes) -> None:
            if status == "200":
                latency_ms = 1000 * (time.perf_counter() - due)
                self._tally.count(json.loads(body)["reason"] or "ALLOWED", latency_ms=latency_ms)
            else:
                self._tally.count(status)
            if status != LOST:
                self._ask_following(connection)

        connection.ask(request, answered)

    async def ask_at(self, rate: float, requests: Sequence[bytes], total: int) -> None:
        """Sends so many at that rate, each on the least busy connection."""
        started = time.perf_counter()
        for number in range(total):
            due = started + number / rate
            delay_s = due - time.perf_counter()
            if delay_s > 0:
                await asyncio.sleep(delay_s)
            self.ask(least_busy(self._connections), requests[number % BODIES], due)

    def _ask_following(self, connection: Connection) -> None:
        request = next(self._following, None)
        if request is not None:
            self.ask(connection, request, time.perf_counter())


def _requests(order: CheckOrder) -> list[bytes]:
    """Checks of members by zipf: one half by estimated tokens, the other by final cost."""
    usages = Usages(seed=11)
    requests = []
    for number in range(BODIES):
        member = usages.member() if number % 10 else MEMBERS[number % len(MEMBERS)]
        usage = usages.body(member)
        asked: dict[str, Any] = {"mandateId": member.mandate_id, "userId": member.user_id}
        if number % 2 and "tokens" in usage:
            asked["estimate"] = {name: usage[name] for name in ("provider", "model", "tokens")}
        else:
            asked |= {"estimatedCost": {"amount": "0.05", "currency": "CHF"}, "provider": usage["provider"]}
        headers = {order.caller_header: order.caller, "X-Request-Id": f"bench-{number}"}
        requests.append(post(order.port, "/api/billing/check", headers, asked))
    return requests


async def _run(order: CheckOrder) -> dict[str, Any]:
    tally = _Tally(order.warm_up, order.count)
    requests = _requests(order)
    total = order.warm_up + order.count
    following = islice(cycle(requests), total if order.rate is None else 0)
    load = _Load(tally, await connect(order.port, order.connections), following)
    tell_ready()
    await asyncio.to_thread(sys.stdin.readline)
    started = time.perf_counter()
    if order.rate is None:
        load.begin()
    else:
        await load.ask_at(order.rate, requests, total)
    seconds = time.perf_counter() - started
    async with asyncio.timeout(LAST_S):
        await tally.complete.wait()
    return {
        "latency": asdict(Latency.of(tally.latencies_ms)),
        "outcomes": tally.outcomes,
        "sent_per_s": total / seconds,
        "answered_per_s": tally.per_second,
        "cpu_s": time.process_time(),
    }


if __name__ == "__main__":
    print(json.dumps(uvloop.run(_run(CheckOrder(**json.loads(sys.argv[1]))))), flush=True)
