"""Statistics of a year, of a mandate with many charges and of one with a tenth of them, and as many members."""

from collections.abc import Mapping
from dataclasses import dataclass

from services.chassis.caller import Caller
from tests.bench.cpu import CpuMeter, CpuUse
from tests.bench.large_ledger import LARGE, TENTH
from tests.bench.large_stack import LargeStack, asked
from tests.bench.measure import Latency

__all__ = ["YEAR", "Shown", "show_large"]

YEAR = "year"
# The first of each warm up.
WARM_UP = 10


@dataclass(frozen=True, slots=True)
class Shown:
    """Statistics by what was asked and of which mandate, and the CPU of all of them."""

    latencies: Mapping[tuple[str, str], Latency]
    cpu: CpuUse
    requests: int

    def flatness(self, what: str) -> float:
        """How many times as long the large mandate's take as the other's."""
        return self.latencies[what, LARGE].p50_ms / self.latencies[what, TENTH].p50_ms


async def show_large(stack: LargeStack, repeats: int) -> Shown:
    """So many requests of each kind, by turns, so that a machine that others use is as slow for both mandates."""
    found: dict[tuple[str, str], list[float]] = {}
    kinds = _kinds(stack.middle.year)
    async with stack.api() as (api, client):
        meter = CpuMeter({"api": [api.pid], "postgres": [stack.servers.postgres.pid]})
        for number in range(repeats + WARM_UP):
            for name, (user, path, params) in kinds.items():
                for mandate in (LARGE, TENTH):
                    caller = Caller(user_id=f"{mandate}-{user}", mandates={mandate: user == "boss"})
                    elapsed = await asked(client, path, params, stack.signed(caller))
                    if number >= WARM_UP:
                        found.setdefault((name, mandate), []).append(elapsed)
        use = meter.read()
    requests = (repeats + WARM_UP) * len(kinds) * 2
    return Shown({key: Latency.of(milliseconds) for key, milliseconds in found.items()}, use, requests)


def _kinds(year: int) -> dict[str, tuple[str, str, dict[str, str]]]:
    """What is asked: by whom, and where."""
    view = "/api/billing/view/statistics"
    return {
        YEAR: ("boss", view, {"year": str(year)}),
        "month by day": ("boss", view, {"period": "day", "year": str(year), "month": "6"}),
        "a member's own year": ("u1", "/api/billing/statistics/year", {"year": str(year)}),
    }
