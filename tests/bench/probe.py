"""Latency from an event to its visible balance: a process that sends probe events and watches balances change.

Each probe is a usage event of a mandate of the probes. The probe is visible when the sequence number of that
mandate's pool, read beside its balance in a new statement, has moved on; a balance is looked at every few
milliseconds, so a latency is measured too long by at most that, never too short.
"""

import asyncio
import json
import sys
import time
from collections import deque
from dataclasses import asdict, dataclass

import asyncpg
from confluent_kafka import Producer

from tests.bench.child import tell_ready
from tests.bench.load import TOPIC, make_producer
from tests.bench.measure import Latency
from tests.bench.population import PROBES, Usages

__all__ = ["ProbeOrder"]

# A look costs database and cores that the charges need, so there are no more of them than the figure calls for.
POLL_S = 0.01
# After the last probe was sent, for those on their way.
LAST_S = 20.0


@dataclass(frozen=True, slots=True)
class ProbeOrder:
    """How many probes, how many a second, and where."""

    bootstrap_servers: str
    dsn: str
    count: int
    rate: float
    # As many more are sent before, unmeasured: the workers have begun, as they have in steady work.
    warm_up: int

    @property
    def sent(self) -> int:
        """All probes."""
        return self.warm_up + self.count

    def command(self) -> list[str]:
        """The command line of the process."""
        return [sys.executable, "-m", "tests.bench.probe", json.dumps(asdict(self))]


class _Probes:
    """Probes on their way, by mandate in the order of sending, and the latencies of those that were seen."""

    def __init__(self, order: ProbeOrder, connection: asyncpg.Connection) -> None:
        self._order = order
        self._connection = connection
        self._usages = Usages(seed=7)
        self._waiting: dict[str, deque[float]] = {member.mandate_id: deque() for member in PROBES}
        self._seen: dict[str, int] = {}
        self.latencies_ms: list[float] = []

    async def begin(self) -> None:
        """Notes where the balances stand. An account that is not there yet stands at nothing."""
        self._seen = await self._sequences()

    async def send(self, producer: Producer) -> None:
        """Sends at the rate, each probe at its own moment."""
        started = time.perf_counter()
        for number in range(self._order.sent):
            delay_s = started + number / self._order.rate - time.perf_counter()
            if delay_s > 0:
                await asyncio.sleep(delay_s)
            member = PROBES[number % len(PROBES)]
            key, value, headers = self._usages.record(member)
            self._waiting[member.mandate_id].append(time.perf_counter())
            producer.produce(TOPIC, value=value, key=key, headers=headers)
            producer.poll(0)

    async def watch(self) -> None:
        """Looks until every probe was seen."""
        while len(self.latencies_ms) < self._order.sent:
            sequences = await self._sequences()
            now = time.perf_counter()
            for mandate_id, sequence in sequences.items():
                for _ in range(sequence - self._seen.get(mandate_id, 0)):
                    self.latencies_ms.append(1000 * (now - self._waiting[mandate_id].popleft()))
                self._seen[mandate_id] = sequence
            await asyncio.sleep(POLL_S)

    async def _sequences(self) -> dict[str, int]:
        rows = await self._connection.fetch(
            "SELECT m.id, a.seq, a.balance FROM mandates m JOIN accounts a ON a.mandate_no = m.no"
            " AND a.type = 'MANDATE' AND a.user_id IS NULL WHERE m.id = ANY($1)",
            list(self._waiting),
        )
        return {row["id"]: row["seq"] for row in rows}


async def _run(order: ProbeOrder) -> Latency:
    failures: list[str] = []
    producer = make_producer(order.bootstrap_servers, failures)
    connection = await asyncpg.connect(order.dsn, server_settings={"search_path": "billing"})
    try:
        probes = _Probes(order, connection)
        await probes.begin()
        tell_ready()
        await asyncio.to_thread(sys.stdin.readline)
        async with asyncio.timeout(order.sent / order.rate + LAST_S):
            await asyncio.gather(probes.send(producer), probes.watch())
    finally:
        await connection.close()
    if producer.flush(LAST_S) or failures:
        raise RuntimeError(f"not every probe was delivered: {failures[:3]}")
    return Latency.of(probes.latencies_ms[order.warm_up :])


if __name__ == "__main__":
    print(json.dumps(asdict(asyncio.run(_run(ProbeOrder(**json.loads(sys.argv[1])))))), flush=True)
