"""The switch of a large mandate's billing model, to budgets of its members and back, while usage of others is charged.

Before the first switch all money is in the pool: paid credit, and grants that expire at different times. Before the
second every member has used something, which leaves rounding remainders, and some have open holds.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from services.chassis.caller import Caller
from tests.bench.cpu import CpuMeter, CpuUse
from tests.bench.figures import met
from tests.bench.load import END, TOPIC, make_producer
from tests.bench.measure import Ledger
from tests.bench.population import CROWD, MANDATES, Expected, Usages
from tests.bench.session import CREDIT_CHF, GRANTS_UNTIL, Session
from tests.support.waiting import eventually

__all__ = ["Switched", "switches_of_a_crowd"]

# Most that a switch may take.
SWITCH_S = 5.0
WORKERS = 2
# Usage of others meanwhile, in events a second, and for how long at most.
CHARGED_BESIDE = 2_000.0
BESIDE_S = 240.0
GRANTS = 3
HOLDS = 1_000
AT_ONCE = 16
LOOK_S = 0.02


@dataclass(frozen=True, slots=True)
class Switched:
    """Both switches: seconds until the answer, and the longest time in which nothing of others was charged."""

    members: int
    to_members_s: float
    to_pool_s: float
    events_per_s: float
    others_waited_s: float
    cpu: CpuUse

    def rows(self) -> list[tuple[str, ...]]:
        """The rows of the page."""
        what = f"switch of {self.members:,} members {{}}, beside {self.events_per_s:,.0f} events/s of others"
        both = ("to their budgets", self.to_members_s), ("back to the pool", self.to_pool_s)
        told = [
            ("L2", what.format(to), f"< {SWITCH_S:.0f} s", f"{seconds:.1f} s", met(seconds < SWITCH_S))
            for to, seconds in both
        ]
        waited = f"{1000 * self.others_waited_s:.0f} ms"
        return [*told, ("L2", "longest time without a charge of others meanwhile", "", waited, "")]

    def uses(self) -> list[tuple[str, CpuUse, int]]:
        """A member's share."""
        return [("a switch to members and back, a member", self.cpu, self.members)]


async def switches_of_a_crowd(session: Session, ledger: Ledger) -> Switched:
    """Makes the mandate, switches it twice, and proves the books."""
    before = await ledger.figures()
    await session.enrol_crowd()
    async with _client(session) as client:
        await client.fund()
        async with session.workers(WORKERS) as workers:
            load = await session.load(int(CHARGED_BESIDE * BESIDE_S), rate=CHARGED_BESIDE, window=1, encode_first=False)
            pids = {"workers": [worker.pid for worker in workers], "api": [session.api.pid]}
            meter = CpuMeter({**pids, "postgres": [session.servers.postgres.pid]})
            load.tell()
            async with _watched(session) as first:
                to_members_s = await client.switch("PREPAY_USER")
            await asyncio.to_thread(_use, session)
            await _used(session)
            await client.hold()
            async with _watched(session) as second:
                to_pool_s = await client.switch("PREPAY_MANDATE")
            use = meter.read()
            load.tell(END)
            loaded = await load.result()
            await session.settled()
    crowd = Expected(len(CROWD), 0, 0, 0)
    await ledger.require(before, Expected.of(loaded["sent"]), crowd)
    waited_s = max(first.longest_s, second.longest_s)
    return Switched(len(CROWD), to_members_s, to_pool_s, CHARGED_BESIDE, waited_s, use)


class _Client:
    """The billing api, as the operator and as a publisher."""

    def __init__(self, session: Session, client: httpx.AsyncClient) -> None:
        self._session = session
        self._client = client
        self._mandate = CROWD[0].mandate_id

    async def fund(self) -> None:
        """Credit and grants of the pool."""
        await self._post(f"credit/{self._mandate}", {"userId": None, "amount": CREDIT_CHF, "description": "Funds"})
        for number in range(GRANTS):
            until = GRANTS_UNTIL.replace("2199", str(2190 + number))
            amount = {"amount": str(CREDIT_CHF), "currency": "CHF"}
            grant = {"mandateId": self._mandate, "amount": amount, "expiresAt": until, "reason": "Funds"}
            await self._post("promotions", grant)

    async def switch(self, model: str) -> float:
        """Seconds until the switch is answered."""
        started = time.perf_counter()
        await self._post(f"model/{self._mandate}", {"billingModel": model})
        return time.perf_counter() - started

    async def hold(self) -> None:
        """Holds of some members, which stay open."""
        gate = asyncio.Semaphore(AT_ONCE)
        publisher = Caller(user_id="publisher", service=True, scopes=frozenset({"usage:check"}))

        async def hold(user_id: str) -> None:
            async with gate:
                amount = {"amount": "0.01", "currency": "CHF"}
                asked = {"mandateId": self._mandate, "userId": user_id, "estimatedCost": amount, "ttlSeconds": 3600}
                await self._ask(publisher, "/api/billing/holds", asked)

        await asyncio.gather(*(hold(member.user_id) for member in CROWD[:HOLDS]))

    async def _post(self, path: str, body: dict[str, Any]) -> None:
        await self._ask(Caller(user_id="operator", system_admin=True), f"/api/billing/admin/{path}", body)

    async def _ask(self, caller: Caller, path: str, body: dict[str, Any]) -> None:
        headers = self._session.caller_header(caller) | {"Content-Type": "application/json"}
        answer = await self._client.post(path, content=json.dumps(body), headers=headers)
        answer.raise_for_status()


@asynccontextmanager
async def _client(session: Session) -> AsyncIterator[_Client]:
    async with httpx.AsyncClient(base_url=session.api.url, trust_env=False, timeout=60.0) as client:
        yield _Client(session, client)


def _use(session: Session) -> None:
    """An event of each member."""
    failures: list[str] = []
    producer, usages = make_producer(session.servers.kafka.bootstrap_servers, failures), Usages(seed=23)
    for member in CROWD:
        key, value, headers = usages.record(member)
        producer.produce(TOPIC, value=value, key=key, headers=headers)
        producer.poll(0)
    if producer.flush(60.0) or failures:
        raise RuntimeError(f"not everything was delivered: {failures[:3]}")


async def _used(session: Session) -> None:
    """Waits until that is charged; others are charged without end meanwhile."""
    async with session.connection() as connection:

        async def charged() -> bool:
            return int(await connection.fetchval(_USED, CROWD[0].mandate_id)) == len(CROWD)

        await eventually(charged, what="the usage of every member")


@dataclass(slots=True)
class _Watch:
    longest_s: float = 0.0


@asynccontextmanager
async def _watched(session: Session) -> AsyncIterator[_Watch]:
    """Watches the charges of others in the block: how long none was committed at most. Begins with one."""
    watch, stop = _Watch(), asyncio.Event()
    async with session.connection() as connection:

        async def charged() -> int:
            return int(await connection.fetchval(_CHARGED, MANDATES))

        began = await charged()
        await eventually(lambda: _moved(charged, began), what="a charge of others")

        async def look() -> None:
            seen, since = await charged(), time.perf_counter()
            while not stop.is_set():
                now = await charged()
                at = time.perf_counter()
                watch.longest_s = max(watch.longest_s, at - since)
                if now != seen:
                    seen, since = now, at
                await asyncio.sleep(LOOK_S)

        looking = asyncio.create_task(look())
        try:
            yield watch
        finally:
            stop.set()
            await looking


async def _moved(charged: Any, began: int) -> bool:
    return bool(await charged() != began)


_USED = "SELECT coalesce(sum(r.count), 0)::bigint FROM mandates m JOIN rollups r ON r.mandate_no = m.no WHERE m.id = $1"
_CHARGED = (
    "SELECT coalesce(sum(a.seq), 0)::bigint FROM mandates m JOIN accounts a ON a.mandate_no = m.no WHERE m.id = ANY($1)"
)
