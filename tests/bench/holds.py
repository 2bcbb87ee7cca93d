"""The load of holds: a process that reserves at a fixed rate and captures each hold as soon as it has it.

Open loop, as for checks: a hold is due at its time whether or not earlier ones were answered, and its latency counts
from then; that of a capture counts from the answer to its hold.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any
from uuid import uuid4

import uvloop

from tests.bench.checks import LAST_S
from tests.bench.connections import Answered, Connection, connect, least_busy, post
from tests.bench.measure import Latency
from tests.bench.population import Usages

__all__ = ["HoldOrder"]

HELD = "0.05"
# What the provider charged in the end, below and above what was held.
COSTS = ("0.0012345", "0.02", "0.031415926", "0.05")


@dataclass(frozen=True, slots=True)
class HoldOrder:
    """How many holds, how many a second, over how many connections, with which signed caller."""

    port: int
    caller_header: str
    caller: str
    count: int
    rate: float
    # As many more are made before, unmeasured.
    warm_up: int
    connections: int = 32

    def command(self) -> list[str]:
        """The command line of the process."""
        return [sys.executable, "-m", "tests.bench.holds", json.dumps(asdict(self))]


class _Load:
    """Holds and their captures, counted; `complete` when the last is answered."""

    def __init__(self, order: HoldOrder, connections: list[Connection]) -> None:
        self.held_ms: list[float] = []
        self.captured_ms: list[float] = []
        self.outcomes: Counter[str] = Counter()
        self.complete = asyncio.Event()
        self._order = order
        self._connections = connections
        self._usages = Usages(seed=17)
        self.all_captured = True
        self._ended = 0

    def hold(self, number: int, due: float) -> None:
        """Asks for one hold, and captures it when it is there."""
        member = self._usages.member()
        usage = self._usages.body(member)
        asked = {
            "mandateId": member.mandate_id,
            "userId": member.user_id,
            "estimatedCost": {"amount": HELD, "currency": "CHF"},
            "provider": usage["provider"],
            "model": usage["model"],
            "featureInstanceId": usage["feature_instance_id"],
            "idempotencyKey": str(uuid4()),
        }
        measured = number >= self._order.warm_up

        def held(status: str, body: bytes) -> None:
            now = time.perf_counter()
            if status != "201":
                self._end(f"hold {status}", measured)
                return
            if measured:
                self.held_ms.append(1000 * (now - due))
            self._capture(json.loads(body)["holdId"], number, now, measured)

        self._ask("/api/billing/holds", asked, held)

    def _capture(self, hold: str, number: int, since: float, measured: bool) -> None:
        def captured(status: str, _: bytes) -> None:
            if measured and status == "200":
                self.captured_ms.append(1000 * (time.perf_counter() - since))
            self._end("captured" if status == "200" else f"capture {status}", measured)

        cost = {"cost": {"amount": COSTS[number % len(COSTS)], "currency": "CHF"}}
        self._ask(f"/api/billing/holds/{hold}/capture", cost, captured)

    def _ask(self, path: str, asked: dict[str, Any], answered: Answered) -> None:
        headers = {self._order.caller_header: self._order.caller}
        least_busy(self._connections).ask(post(self._order.port, path, headers, asked), answered)

    def _end(self, outcome: str, measured: bool) -> None:
        self.all_captured &= outcome == "captured"
        if measured:
            self.outcomes[outcome] += 1
        self._ended += 1
        if self._ended == self._order.warm_up + self._order.count:
            self.complete.set()


async def _run(order: HoldOrder) -> dict[str, Any]:
    load = _Load(order, await connect(order.port, order.connections))
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    started = time.perf_counter()
    for number in range(order.warm_up + order.count):
        due = started + number / order.rate
        delay_s = due - time.perf_counter()
        if delay_s > 0:
            await asyncio.sleep(delay_s)
        load.hold(number, due)
    async with asyncio.timeout(LAST_S):
        await load.complete.wait()
    seconds = time.perf_counter() - started
    return {
        "held": asdict(Latency.of(load.held_ms)),
        "captured": asdict(Latency.of(load.captured_ms)),
        "outcomes": load.outcomes,
        "all_captured": load.all_captured,
        "made_per_s": (order.warm_up + order.count) / seconds,
        "cpu_s": time.process_time(),
    }


if __name__ == "__main__":
    print(json.dumps(uvloop.run(_run(HoldOrder(**json.loads(sys.argv[1]))))), flush=True)
