"""Watches a consumer: its lag, what holds it up from outside, and whether it is alive but stuck.

Three things stop a partition without an error anywhere: a producer that leaves a transaction open, a topic that was
deleted, and a client that does not move. The first two show in readiness and metrics; a topic that was made again is
read from its beginning; the third ends the process.
"""

import asyncio
import time
from collections.abc import Sequence

from aiokafka import TopicPartition

from services.chassis.dead_letter_limit import DeadLetterLimit
from services.chassis.kafka import BatchSubscription
from services.chassis.logging import get_logger
from services.chassis.metrics import CONSUMER_LAG_RECORDS, PARTITION_HELD_SECONDS
from services.chassis.process import pause, unless_stopped
from services.chassis.records import PartitionOffsets, RecordReader

__all__ = ["Watchdog"]

INTERVAL_S = 5.0
STUCK_AFTER_S = 120.0
# A transaction usually takes less than a second; one that stays open longer is reported.
HELD_AFTER_S = 15.0

_log = get_logger(__name__)


class Watchdog:
    """Looks at one subscription every few seconds; `busy` is held while a batch is in flight."""

    def __init__(
        self,
        name: str,
        topics: Sequence[str],
        subscription: BatchSubscription,
        busy: asyncio.Lock,
        limit: DeadLetterLimit,
    ) -> None:
        self._name = name
        self._topics = tuple(topics)
        self._subscription = subscription
        self._busy = busy
        self._limit = limit
        self._missing: list[str] = []
        # By partition that is held up: the offset, and since when.
        self._held: dict[TopicPartition, tuple[int, float]] = {}
        self._positions: dict[TopicPartition, int] = {}
        self._moved_at = time.monotonic()
        self._failure: str | None = None

    def fail(self, why: str) -> None:
        """Ends the process at the next look."""
        self._failure = why

    def ready(self) -> bool | str:
        """Whether records come as they should; else what keeps them."""
        if self._failure is not None:
            return self._failure
        if self._missing:
            return f"topic {', '.join(self._missing)} does not exist"
        now = time.monotonic()
        held = [
            f"{at.topic}[{at.partition}]@{stable} held up by an open transaction for {now - since:.0f} s"
            for at, (stable, since) in sorted(self._held.items())
            if now - since > HELD_AFTER_S
        ]
        return ", ".join(held) or True

    async def run(self, stop: asyncio.Event) -> None:
        """Looks until told to stop; raises when records wait and nothing has moved for long."""
        self._moved_at = time.monotonic()
        while not stop.is_set():
            if self._failure is not None:
                raise RuntimeError(self._failure)
            await self._limit.look()
            reader = self._subscription.reader
            if reader is not None:
                await unless_stopped(stop, self._look(reader))
            await pause(stop, INTERVAL_S)

    async def _look(self, reader: RecordReader) -> None:
        try:
            async with asyncio.timeout(INTERVAL_S * 4):
                await self._look_at_topics(reader)
                offsets = {} if self._missing else await reader.partition_offsets()
        except Exception as error:  # noqa: BLE001 - the broker is away; standing still is then no fault of ours.
            _log.warning("lag unknown", error=type(error).__name__)
            self._positions, self._moved_at = {}, time.monotonic()
            return
        CONSUMER_LAG_RECORDS.labels(self._topics[0]).set(
            sum(max(0, entry.end - entry.position) for entry in offsets.values())
        )
        self._look_at_transactions(offsets)
        self._look_at_movement(offsets, beginning=not self._missing and reader.is_beginning)

    async def _look_at_topics(self, reader: RecordReader) -> None:
        missing, changed = await reader.topics_now(self._topics)
        if missing != self._missing:
            _log.error("topics missing", topics=missing) if missing else _log.info("topics there again")
        if missing != self._missing or changed or not reader.assignment():
            # The client would find a topic that was made again only when its knowledge is a minute old; if its group
            # was shared out while the topic was away, nobody has its partitions until then.
            await reader.refresh()
        self._missing = missing
        if changed:
            async with self._busy:
                await reader.begin_again(changed)
            _log.error("topics made again, read from their beginning", topics=changed)

    def _look_at_transactions(self, offsets: dict[TopicPartition, PartitionOffsets]) -> None:
        now = time.monotonic()
        before, self._held = self._held, {}
        for at, entry in offsets.items():
            if entry.position >= entry.stable and entry.end > entry.stable:
                stable, since = before.get(at, (entry.stable, now))
                self._held[at] = (entry.stable, since if stable == entry.stable else now)
                PARTITION_HELD_SECONDS.labels(at.topic, str(at.partition)).set(now - self._held[at][1])
                if now - self._held[at][1] > HELD_AFTER_S:
                    _log.warning("partition held up by an open transaction", topic=at.topic, partition=at.partition)
        for at in before.keys() - self._held.keys():
            PARTITION_HELD_SECONDS.remove(at.topic, str(at.partition))

    def _look_at_movement(self, offsets: dict[TopicPartition, PartitionOffsets], *, beginning: bool) -> None:
        """Records held up by an open transaction count as read, because the client cannot get them. A consumer that was
        stopped is not expected to move either; one that is still learning where to begin is."""
        positions = {at: entry.position for at, entry in offsets.items()}
        waiting = sum(max(0, entry.stable - entry.position) for entry in offsets.values())
        if positions != self._positions or (waiting == 0 and not beginning) or self._is_held():
            self._moved_at = time.monotonic()
        if time.monotonic() - self._moved_at > STUCK_AFTER_S:
            if beginning:
                raise RuntimeError(f"{self._name} does not learn where to begin")
            raise RuntimeError(f"{self._name} stands still with {waiting} records waiting")
        self._positions = positions

    def _is_held(self) -> bool:
        """Whether the consumer is processing a batch, or is stopped."""
        return self._busy.locked() or not self._limit.reading.is_set()
