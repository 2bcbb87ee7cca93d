"""The load of holds: a process that reserves at a fixed rate and captures each hold as soon as it has it.

Open loop, as for checks: a hold is due at its time whether or not earlier ones were answered, and its latency counts
from then; that of a capture counts from the answer to its hold. Requests are written before the start, but for what is
new in each, because the load shares the cores of what it measures.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple
from uuid import uuid4

import uvloop

from tests.bench.checks import LAST_S
from tests.bench.child import tell_ready
from tests.bench.connections import Answered, Connection, connect, least_busy, post
from tests.bench.measure import Latency
from tests.bench.population import Usages

__all__ = ["HoldOrder"]

# Fewer than are made before the measuring begins: whatever is needed for each kind is there by then.
BODIES = 1_000
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


class _Form(NamedTuple):
    """A request but for one id in it."""

    before: bytes
    after: bytes

    @classmethod
    def of(cls, port: int, path: str, headers: Mapping[str, str], body: Mapping[str, Any]) -> "_Form":
        """The request with the id in place of `PLACE`, which is as long."""
        return cls(*post(port, path, headers, body).split(_PLACE.encode()))

    def filled(self, id_: bytes) -> bytes:
        """The request."""
        return self.before + id_ + self.after


_PLACE = "-" * len(str(uuid4()))
_HOLD_ID = b'"holdId":"'


def _holds(order: HoldOrder, headers: Mapping[str, str]) -> list[_Form]:
    """Holds of members by zipf, each with an idempotency key to come."""
    usages = Usages(seed=17)
    forms = []
    for _ in range(BODIES):
        member = usages.member()
        usage = usages.body(member)
        asked = {
            "mandateId": member.mandate_id,
            "userId": member.user_id,
            "estimatedCost": {"amount": HELD, "currency": "CHF"},
            "provider": usage["provider"],
            "model": usage["model"],
            "featureInstanceId": usage["feature_instance_id"],
            "idempotencyKey": _PLACE,
        }
        forms.append(_Form.of(order.port, "/api/billing/holds", headers, asked))
    return forms


def _captures(order: HoldOrder, headers: Mapping[str, str]) -> list[_Form]:
    """Captures by cost of a hold to come."""
    path = f"/api/billing/holds/{_PLACE}/capture"
    costs = [{"cost": {"amount": cost, "currency": "CHF"}} for cost in COSTS]
    return [_Form.of(order.port, path, headers, cost) for cost in costs]


class _Load:
    """Holds and their captures, counted; `complete` when the last is answered."""

    def __init__(self, order: HoldOrder, connections: list[Connection]) -> None:
        self.held_ms: list[float] = []
        self.captured_ms: list[float] = []
        self.outcomes: Counter[str] = Counter()
        self.complete = asyncio.Event()
        self.all_captured = True
        headers = {order.caller_header: order.caller}
        self._order = order
        self._connections = connections
        self._holds, self._captures = _holds(order, headers), _captures(order, headers)
        self._ended = 0

    def hold(self, number: int, due: float) -> None:
        """Asks for one hold, and captures it when it is there."""
        measured = number >= self._order.warm_up

        def held(status: str, body: bytes) -> None:
            now = time.perf_counter()
            if status != "201":
                self._end(f"hold {status}", measured)
                return
            if measured:
                self.held_ms.append(1000 * (now - due))
            at = body.index(_HOLD_ID) + len(_HOLD_ID)
            self._capture(body[at : at + len(_PLACE)], number, now, measured)

        self._ask(self._holds[number % BODIES].filled(str(uuid4()).encode()), held)

    def _capture(self, hold: bytes, number: int, since: float, measured: bool) -> None:
        def captured(status: str, _: bytes) -> None:
            if measured and status == "200":
                self.captured_ms.append(1000 * (time.perf_counter() - since))
            self._end("captured" if status == "200" else f"capture {status}", measured)

        self._ask(self._captures[number % len(COSTS)].filled(hold), captured)

    def _ask(self, request: bytes, answered: Answered) -> None:
        least_busy(self._connections).ask(request, answered)

    def _end(self, outcome: str, measured: bool) -> None:
        self.all_captured &= outcome == "captured"
        if measured:
            self.outcomes[outcome] += 1
        self._ended += 1
        if self._ended == self._order.warm_up + self._order.count:
            self.complete.set()


async def _run(order: HoldOrder) -> dict[str, Any]:
    load = _Load(order, await connect(order.port, order.connections))
    tell_ready()
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
