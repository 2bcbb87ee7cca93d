"""Re-rating of all that was charged so far, after a change by which every price differs, while usage goes on."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx

from services.chassis.caller import Caller
from tests.bench.cpu import CpuMeter, CpuUse
from tests.bench.figures import met
from tests.bench.load import END
from tests.bench.measure import MEMORY_MB, Ledger, memory_peak_mb
from tests.bench.population import Expected
from tests.bench.session import PRICES_FROM, Session

__all__ = ["Rerated", "rerating_of_everything"]

# Charges a second.
LEAST = 20_000
WORKERS = 2
# Usage meanwhile, in events a second, and for how long at most.
CHARGED_BESIDE = 2_000.0
BESIDE_S = 600.0
LOOK_S = 0.1
PATH = "/api/billing/admin/rerate"
# All prices are in USD, so that every charge differs by a change of its rate; by a little more each time.
RATE, STEP = Decimal("0.80"), Decimal("0.01")


@dataclass(frozen=True, slots=True)
class Rerated:
    """Charges that were priced again for a preview, and those whose differences were posted, with the seconds of each.
    The memory is the most of any process that worked on them."""

    charges: int
    preview_s: float
    posting_s: float
    events_per_s: float
    memory_peak_mb: float
    preview_cpu: CpuUse
    posting_cpu: CpuUse

    def rows(self) -> list[tuple[str, ...]]:
        """The rows of the page."""
        beside = f"{self.charges:,} charges that all differ, beside {self.events_per_s:,.0f} events/s"
        told = [
            ("P7", f"re-rating, {what}: {beside}", f"≥ {LEAST:,}/s", f"{rate:,.0f}/s", met(rate >= LEAST))
            for what, seconds in (("preview", self.preview_s), ("posting", self.posting_s))
            for rate in [self.charges / seconds]
        ]
        peak, most = f"{self.memory_peak_mb:.0f} MB", f"< {MEMORY_MB:.0f} MB"
        return [*told, ("P7", "memory of a process meanwhile", most, peak, met(self.memory_peak_mb < MEMORY_MB))]

    def uses(self) -> list[tuple[str, CpuUse, int]]:
        """A charge's share."""
        runs = ("re-rating, preview", self.preview_cpu), ("re-rating, posting", self.posting_cpu)
        return [(name, use, self.charges) for name, use in runs]


async def rerating_of_everything(session: Session, ledger: Ledger) -> Rerated:
    """Changes a rate, previews, posts, and proves the books."""
    before, until = await ledger.figures(), datetime.now(UTC)
    await session.set_rate("USD", RATE + STEP)
    selection = {"from": PRICES_FROM.isoformat(), "to": until.isoformat()}
    async with session.workers(WORKERS) as workers, _client(session) as ask:
        load = await session.load(int(CHARGED_BESIDE * BESIDE_S), rate=CHARGED_BESIDE, window=1, encode_first=False)
        pids = {"workers": [worker.pid for worker in workers], "api": [session.api.pid]}
        pids["postgres"] = [session.servers.postgres.pid]
        load.tell()
        meter, started = CpuMeter(pids), time.perf_counter()
        preview = await ask("POST", selection | {"preview": True})
        preview_s, preview_cpu = time.perf_counter() - started, meter.read()
        meter, started = CpuMeter(pids), time.perf_counter()
        rerating = await ask("POST", selection | {"preview": False})
        while rerating["state"] == "RUNNING":
            await asyncio.sleep(LOOK_S)
            rerating = await ask("GET", None, rerating["id"])
        posting_s, posting_cpu = time.perf_counter() - started, meter.read()
        peak = max(memory_peak_mb(process.pid) for process in [*workers, session.api])
        load.tell(END)
        loaded = await load.result()
        await session.settled()
    _require_all(preview, rerating, await ledger.captured())
    corrected = Expected(rerating["differing"], 0, 0, 0)
    await ledger.require(before, Expected.of(loaded["sent"]), corrected)
    charges = rerating["charges"]
    return Rerated(charges, preview_s, posting_s, CHARGED_BESIDE, peak, preview_cpu, posting_cpu)


def _require_all(preview: Mapping[str, Any], posted: Mapping[str, Any], in_chf: int) -> None:
    """Raises unless both saw the same charges, all of which differ, but for at most so many captures by cost in CHF."""
    same = ("charges", "differing", "oldTotal", "newTotal", "notPriced")
    if any(preview[name] != posted[name] for name in same):
        raise RuntimeError("what was posted is not what the preview said")
    if not posted["charges"] or posted["differing"] < posted["charges"] - in_chf:
        raise RuntimeError(f"{posted['differing']} of {posted['charges']} charges differ")


class _Ask:
    """Re-ratings over HTTP, as the operator."""

    def __init__(self, session: Session, client: httpx.AsyncClient) -> None:
        self._session = session
        self._client = client

    async def __call__(self, method: str, body: Mapping[str, Any] | None, rerating_id: str | None = None) -> Any:
        """What is answered."""
        signed = self._session.caller_header(Caller(user_id="operator", system_admin=True))
        path = PATH if rerating_id is None else f"{PATH}/{rerating_id}"
        content = None if body is None else json.dumps(body)
        headers = signed | {"Content-Type": "application/json"}
        answer = await self._client.request(method, path, content=content, headers=headers)
        answer.raise_for_status()
        return answer.json()


@asynccontextmanager
async def _client(session: Session) -> AsyncIterator[_Ask]:
    async with httpx.AsyncClient(base_url=session.api.url, trust_env=False, timeout=60.0) as client:
        yield _Ask(session, client)
