"""The load of webhooks: a process that delivers events to the payments api at a fixed rate, signed as Stripe signs.

Open loop, as for checks: a delivery is due at its time whether or not earlier ones were answered, and its latency
counts from then.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import uvloop

from deploy.fakestripe.webhooks import sign
from tests.bench.checks import LAST_S
from tests.bench.child import tell_ready
from tests.bench.connections import Answered, connect, least_busy
from tests.bench.measure import Latency

__all__ = ["PATH", "DeliveryOrder"]

PATH = "/api/billing/webhook/stripe"


@dataclass(frozen=True, slots=True)
class DeliveryOrder:
    """Which events (a file with one on each line), how many a second, over how many connections."""

    port: int
    secret: str
    file: str
    rate: float
    # The first so many are unmeasured.
    warm_up: int
    connections: int = 16

    def command(self) -> list[str]:
        """The command line of the process."""
        return [sys.executable, "-m", "tests.bench.deliveries", json.dumps(asdict(self))]


def _request(order: DeliveryOrder, body: bytes) -> bytes:
    signature = sign(body, order.secret, int(time.time()))
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1:{order.port}\r\nContent-Type: application/json; charset=utf-8\r\n"
        f"Stripe-Signature: {signature}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def _run(order: DeliveryOrder) -> dict[str, Any]:
    content = await asyncio.to_thread(Path(order.file).read_bytes)
    bodies, latencies_ms, statuses = content.splitlines(), list[float](), Counter[str]()
    connections, complete = await connect(order.port, order.connections), asyncio.Event()

    def answering(number: int, due: float) -> Answered:
        def answered(status: str, _: bytes) -> None:
            if number >= order.warm_up:
                latencies_ms.append(1000 * (time.perf_counter() - due))
            statuses[status] += 1
            if statuses.total() == len(bodies):
                complete.set()

        return answered

    tell_ready()
    await asyncio.to_thread(sys.stdin.readline)
    started = time.perf_counter()
    for number, body in enumerate(bodies):
        due = started + number / order.rate
        delay_s = due - time.perf_counter()
        if delay_s > 0:
            await asyncio.sleep(delay_s)
        least_busy(connections).ask(_request(order, body), answering(number, due))
    seconds = time.perf_counter() - started
    async with asyncio.timeout(LAST_S):
        await complete.wait()
    return {
        "latency": asdict(Latency.of(latencies_ms)),
        "statuses": statuses,
        "sent_per_s": len(bodies) / seconds,
        "cpu_s": time.process_time(),
    }


if __name__ == "__main__":
    print(json.dumps(uvloop.run(_run(DeliveryOrder(**json.loads(sys.argv[1]))))), flush=True)
