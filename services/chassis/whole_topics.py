"""Reading a topic from its beginning, beside whatever consumer groups it has."""

import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import chain
from typing import Final

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from rappen_contracts.registry import SourceTopic
from services.chassis.settings import KafkaSettings

__all__ = ["read_whole_topic"]

REQUEST_TIMEOUT_MS: Final = 10_000
POLL_MS: Final = 1_000
# Without a record for so long the broker does not give what it says it has.
STALL_S: Final = 30.0


async def read_whole_topic(
    kafka: KafkaSettings,
    topic: SourceTopic,
    take: Callable[[Sequence[ConsumerRecord]], Awaitable[None]],
    *,
    client_id: str,
    records_max: int,
) -> int:
    """Gives `take` all records up to the end that the topic has now, up to `records_max` at a time, those of a
    partition in their order; how many there were. Raises what the client raises when the broker is away, `TimeoutError`
    when it gives nothing more, and what `take` raises."""
    partitions = [TopicPartition(topic.name, number) for number in range(topic.partitions)]
    consumer = AIOKafkaConsumer(
        bootstrap_servers=kafka.bootstrap_servers,
        client_id=client_id,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        request_timeout_ms=REQUEST_TIMEOUT_MS,
    )
    await consumer.start()
    try:
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        read, moved = 0, time.monotonic()
        while behind := [at for at in partitions if await consumer.position(at) < ends[at]]:
            found = await consumer.getmany(*behind, timeout_ms=POLL_MS, max_records=records_max)
            if found:
                moved = time.monotonic()
            elif time.monotonic() - moved > STALL_S:
                raise TimeoutError(f"{topic.name} gives no more records")
            records = list(chain.from_iterable(found.values()))
            await take(records)
            read += len(records)
        return read
    finally:
        await consumer.stop()
