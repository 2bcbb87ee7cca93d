"""The load: a process of its own that makes usage events and produces them to Kafka.

It says `ready` once its events are encoded, begins at the first line on its input, and ends with one line of JSON.
Every further line of its input is the number of its events that the ledger has: with a window it stays at most that
far ahead, so it produces for as long as the workers charge, and both share the machine throughout. Told `end`, it
leaves out what it has not sent yet.
"""

import json
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from confluent_kafka import KafkaError, Producer

from tests.bench.child import tell_ready
from tests.bench.population import Twentieth, Usages
from tests.bench.publishers import Headers, Record

__all__ = ["LoadOrder", "LoadResult", "make_producer"]

TOPIC = "usage.recorded"
END = "end"
# With a rate or a window, records are sent in portions this long apart. The producer lingers longer than that; waking
# more often would only take from the cores that the rest needs.
TICK_S = 0.01
FLUSH_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class LoadOrder:
    """What to produce. A rate is in events/s; without rate and window it goes as fast as it can."""

    bootstrap_servers: str
    count: int
    seed: int
    rate: float | None = None
    window: int | None = None
    hot: bool = False
    # What one event in twenty is.
    twentieth: Twentieth | None = None
    # Whether each event names a hold that it settles.
    settling: bool = False
    # Contrary to the contract, so that two workers meet on one account.
    without_key: bool = False
    # Encode everything before the start; a backlog is made on the fly because nobody measures its making.
    encode_first: bool = True

    def command(self) -> list[str]:
        """The command line of the process."""
        return [sys.executable, "-m", "tests.bench.load", json.dumps(asdict(self))]


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What was produced, in which time, with how much CPU; the average size; how far behind its rate it ever was."""

    sent: int
    seconds: float
    cpu_s: float
    value_bytes: float
    behind_s_max: float


def make_producer(bootstrap_servers: str, failures: list[str]) -> Producer:
    """A producer as a good publisher sets it; what is not delivered is added to `failures`."""

    def delivered(error: KafkaError | None, _: Any) -> None:
        if error is not None:
            failures.append(str(error))

    return Producer(
        {
            "bootstrap.servers": bootstrap_servers,
            "acks": "all",
            "enable.idempotence": True,
            "compression.type": "lz4",
            "linger.ms": 25,
            "batch.size": 256 * 1024,
            "partitioner": "murmur2_random",
            "queue.buffering.max.messages": 200_000,
            "delivery.report.only.error": True,
            "on_delivery": delivered,
        }
    )


class _Pace:
    """How many events may have been sent by now."""

    def __init__(self, order: LoadOrder) -> None:
        self._order = order
        self._started = time.perf_counter()
        self._committed = 0
        self._ended = False
        self.behind_s_max = 0.0
        if order.window is not None:
            threading.Thread(target=self._listen, daemon=True).start()

    def wait(self, sent: int) -> int:
        """Blocks until at least one more may be sent; returns how many in all, which is `sent` at an early end."""
        while not self._ended:
            allowed = self._allowed(sent)
            if allowed > sent:
                return min(allowed, self._order.count)
            time.sleep(TICK_S)
        return sent

    def _allowed(self, sent: int) -> int:
        if self._order.rate is not None:
            due = int((time.perf_counter() - self._started) * self._order.rate)
            self.behind_s_max = max(self.behind_s_max, (due - sent) / self._order.rate)
            return due
        if self._order.window is not None:
            return self._committed + self._order.window
        return self._order.count

    def _listen(self) -> None:
        for line in sys.stdin:
            if line.strip() == END:
                self._ended = True
                return
            self._committed = int(line)


def _produce(order: LoadOrder, records: Iterable[Record]) -> LoadResult:
    failures: list[str] = []
    producer = make_producer(order.bootstrap_servers, failures)
    source = iter(records)
    pace = _Pace(order)
    started, cpu_started = time.perf_counter(), time.process_time()
    sent = size = 0
    while sent < order.count:
        until = pace.wait(sent)
        if until == sent:
            break
        while sent < until:
            key, value, headers = next(source)
            _send(producer, None if order.without_key else key, value, headers)
            size += len(value)
            sent += 1
        producer.poll(0)
    if producer.flush(FLUSH_TIMEOUT_S) or failures:
        raise RuntimeError(f"not everything was delivered: {failures[:3]}")
    seconds, cpu_s = time.perf_counter() - started, time.process_time() - cpu_started
    return LoadResult(sent, seconds, cpu_s, size / max(1, sent), pace.behind_s_max)


def _send(producer: Producer, key: bytes | None, value: bytes, headers: Headers) -> None:
    while True:
        try:
            producer.produce(TOPIC, value=value, key=key, headers=headers)
        except BufferError:
            producer.poll(0.01)
        else:
            return


def _main() -> None:
    order = LoadOrder(**json.loads(sys.argv[1]))
    usages = Usages(order.seed, hot=order.hot, twentieth=order.twentieth, settling=order.settling)
    records: Iterable[Record] = usages.records(order.count)
    if order.encode_first:
        records = list(records)
    tell_ready()
    sys.stdin.readline()
    print(json.dumps(asdict(_produce(order, records))), flush=True)


if __name__ == "__main__":
    _main()
