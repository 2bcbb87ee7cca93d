"""Topics: what is in them, a reader in a service's place, deleted and made again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from deploy.local.topics import ensure_topics
from rappen_contracts.registry import TOPICS
from tests.support.waiting import eventually

__all__ = ["all_read", "delete_topic", "make_topic", "read_in_group", "read_topic"]


async def read_topic(
    bootstrap_servers: str, topic: str, *, key: str | None = None, count: int = 0, timeout_s: float = 60.0
) -> list[ConsumerRecord]:
    """All that is in a topic now, or all of one key, each partition in its order; waits until there are so many."""
    # Outside of any group it has all partitions as soon as it is started.
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap_servers, auto_offset_reset="earliest")
    found: list[ConsumerRecord] = []
    async with consumer, asyncio.timeout(timeout_s):
        partitions = list(consumer.assignment())
        ends = await consumer.end_offsets(partitions)
        while len(found) < count or any([await consumer.position(each) < ends[each] for each in partitions]):
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found += [record for record in records if key is None or record.key == key.encode()]
    return found


async def all_read(bootstrap_servers: str, topic: str, group: str) -> bool:
    """Whether a group has committed all that is in a topic; a service itself tells its lag only now and then."""
    count = next(known.partitions for known in TOPICS if known.name == topic)
    partitions = [TopicPartition(topic, number) for number in range(count)]
    async with AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers, group_id=group, enable_auto_commit=False
    ) as consumer:
        ends = await consumer.end_offsets(partitions)
        return all([(await consumer.committed(partition) or 0) >= ends[partition] for partition in partitions])


async def delete_topic(bootstrap_servers: str, topic: str) -> None:
    """Deletes a topic, and waits until the broker knows it no more."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        await admin.delete_topics([topic])

        async def gone() -> bool:
            return topic not in await admin.list_topics()

        await eventually(gone, what=f"{topic} deleted")
    finally:
        await admin.close()


async def make_topic(bootstrap_servers: str, name: str) -> None:
    """Makes a topic as the contracts say."""
    await ensure_topics(bootstrap_servers, [topic for topic in TOPICS if topic.name == name])


@asynccontextmanager
async def read_in_group(bootstrap_servers: str, topic: str, group: str) -> AsyncIterator[list[ConsumerRecord]]:
    """Reads and commits in a service's consumer group during the block; the list grows as records arrive."""
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap_servers,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    seen: list[ConsumerRecord] = []

    async def read() -> None:
        async for record in consumer:
            seen.append(record)
            await consumer.commit()

    async with consumer:
        reading = asyncio.create_task(read())
        try:
            yield seen
        finally:
            if not reading.done():
                reading.cancel()
            await asyncio.wait([reading])
            if not reading.cancelled():
                reading.result()
