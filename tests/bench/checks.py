"""The load of checks: a process that asks the billing api, or a gateway, over connections that stay open.

At a rate, a check is due at its time whether or not earlier ones were answered, and its latency counts from then.
Without one, each connection asks its next check when its last one was answered.
The client is a bare protocol, because a full one would use the core that the api needs.
"""

import asyncio
import json
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from typing import Any, cast

import uvloop

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

    def count(self, outcome: str, number: int = 1, latency_ms: float | None = None) -> None:
        """Counts answers, or requests that will have none; those of the warm-up are only waited for."""
        if self._warm_up > 0:
            self._warm_up -= number
            self._began = time.perf_counter()
            return
        if latency_ms is not None:
            self.latencies_ms.append(latency_ms)
        self.outcomes[outcome] += number
        if self.outcomes.total() >= self._expected:
            self._ended = time.perf_counter()
            self.complete.set()


class _Connection(asyncio.Protocol):
    """One HTTP/1.1 connection; requests on it are answered in their order."""

    def __init__(self, tally: _Tally, following: Iterator[bytes]) -> None:
        """`following` is asked one by one as answers come."""
        self._tally = tally
        self._following = following
        self._due: deque[float] = deque()
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    @property
    def waiting(self) -> int:
        """Requests without an answer."""
        return len(self._due)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # The loop's own class has all of its methods, and is no subclass of it.
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._due:
            self._tally.count("connection lost", len(self._due))
            self._due.clear()

    def ask(self, request: bytes, due: float) -> None:
        """Sends one request that was due at that time."""
        if self._transport is None:
            raise AssertionError("connected before")
        self._due.append(due)
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while True:
            head, separator, rest = self._buffer.partition(b"\r\n\r\n")
            if not separator:
                return
            length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
            if len(rest) < length:
                return
            self._buffer = rest[length:]
            self._answer(head[9:12].decode(), rest[:length])

    def _answer(self, status: str, body: bytes) -> None:
        due = self._due.popleft()
        if status == "200":
            latency_ms = 1000 * (time.perf_counter() - due)
            self._tally.count(json.loads(body)["reason"] or "ALLOWED", latency_ms=latency_ms)
        else:
            self._tally.count(status)
        self.ask_following()

    def ask_following(self) -> None:
        """Asks what comes next, if anything does."""
        request = next(self._following, None)
        if request is not None:
            self.ask(request, time.perf_counter())


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
        body = json.dumps(asked).encode()
        head = (
            f"POST /api/billing/check HTTP/1.1\r\nHost: 127.0.0.1:{order.port}\r\nContent-Type: application/json\r\n"
            f"{order.caller_header}: {order.caller}\r\nX-Request-Id: bench-{number}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        requests.append(head.encode() + body)
    return requests


async def _run(order: CheckOrder) -> dict[str, Any]:
    tally = _Tally(order.warm_up, order.count)
    loop = asyncio.get_running_loop()
    requests = _requests(order)
    total = order.warm_up + order.count
    following = islice(cycle(requests), total if order.rate is None else 0)
    connections = []
    for _ in range(order.connections):
        _, connection = await loop.create_connection(lambda: _Connection(tally, following), "127.0.0.1", order.port)
        connections.append(connection)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    started = time.perf_counter()
    if order.rate is None:
        for connection in connections:
            connection.ask_following()
    else:
        await _ask_at(order.rate, connections, requests, total)
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


async def _ask_at(rate: float, connections: Sequence[_Connection], requests: Sequence[bytes], total: int) -> None:
    started = time.perf_counter()
    for number in range(total):
        due = started + number / rate
        delay_s = due - time.perf_counter()
        if delay_s > 0:
            await asyncio.sleep(delay_s)
        # The connection with the fewest requests, as a pool would give a free one.
        min(connections, key=lambda connection: connection.waiting).ask(requests[number % BODIES], due)


if __name__ == "__main__":
    print(json.dumps(uvloop.run(_run(CheckOrder(**json.loads(sys.argv[1]))))), flush=True)
