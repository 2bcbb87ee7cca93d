"""Creates the topics of the contract registry, and brings those that exist to what it says.

As a program, `python -m deploy.local.topics`, it serves `compose.yaml`; it reads `RAPPEN_KAFKA` (host:port) and, when
set, `RAPPEN_REPLICATION`.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from deploy.local.errors import StackError

# The source that DescribeConfigs gives for a value set on the topic itself, as against a default.
_SET_ON_TOPIC = 1

_VISIBLE_TIMEOUT_S = 15
# For a broker that was started at the same moment.
_BROKER_TIMEOUT_S = 90.0


class Topic(Protocol):
    """What a topic of the registry says of itself."""

    @property
    def name(self) -> str:
        """The topic's name."""

    @property
    def partitions(self) -> int:
        """The least number of partitions."""

    @property
    def config(self) -> dict[str, str]:
        """The settings that differ from the broker's own."""


async def ensure_topics(bootstrap: str, topics: Iterable[Topic], *, replication: int = 1) -> None:
    """Create the missing topics, add missing partitions, and correct settings that differ.

    Partitions are never taken away, and settings that the registry does not name are left as an operator put them.
    Returns when the broker names every topic with its partitions, so that a consumer started next finds them.
    """
    wanted = {topic.name: _durable(topic, replication) for topic in topics}
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=20_000)
    try:
        await admin.start()
        existing = await _partitions(admin)
        await _create(admin, [topic for topic in wanted.values() if topic.name not in existing], replication)
        present = [topic for topic in wanted.values() if topic.name in existing]
        await _grow(admin, [topic for topic in present if existing[topic.name] < topic.partitions])
        await _configure(admin, present)
        await _wait_until_visible(admin, wanted)
    except KafkaError as error:
        raise StackError(f"the topics could not be made at {bootstrap}: {error!r}") from error
    finally:
        await admin.close()


@dataclass(frozen=True)
class _Durable:
    name: str
    partitions: int
    config: dict[str, str]


def _durable(topic: Topic, replication: int) -> Topic:
    """The topic with the number of copies that an acknowledgement stands for: of three, one may be away."""
    return _Durable(topic.name, topic.partitions, {**topic.config, "min.insync.replicas": str(max(1, replication - 1))})


async def _partitions(admin: AIOKafkaAdminClient) -> dict[str, int]:
    """Give the number of partitions of every topic that exists, those without a leader left out."""
    return {
        topic["topic"]: sum(1 for partition in topic["partitions"] if not partition["error_code"])
        for topic in await admin.describe_topics()
        if not topic["error_code"]
    }


async def _create(admin: AIOKafkaAdminClient, topics: list[Topic], replication: int) -> None:
    if not topics:
        return
    response = await admin.create_topics(
        [NewTopic(topic.name, topic.partitions, replication, topic_configs=topic.config) for topic in topics]
    )
    for name, code, *message in response.topic_errors:
        # Another one that does the same at this moment came first; the outcome is the one we want.
        if code and code != TopicAlreadyExistsError.errno:
            raise StackError(f"topic {name} could not be created: {for_code(code).__name__} {message}")


async def _grow(admin: AIOKafkaAdminClient, topics: list[Topic]) -> None:
    if topics:
        await admin.create_partitions({topic.name: NewPartitions(total_count=topic.partitions) for topic in topics})


async def _configure(admin: AIOKafkaAdminClient, topics: list[Topic]) -> None:
    if not topics:
        return
    configs = await _configs(admin, [topic.name for topic in topics])
    changes = []
    for topic in topics:
        effective, set_here = configs[topic.name]
        if any(effective.get(key) != value for key, value in topic.config.items()):
            # This request replaces all settings of a topic, so those that are there are sent along.
            changes.append(ConfigResource(ConfigResourceType.TOPIC, topic.name, {**set_here, **topic.config}))
    if not changes:
        return
    for response in await admin.alter_configs(changes):
        for code, message, _, name in response.resources:
            if code:
                raise StackError(f"topic {name} could not be configured: {for_code(code).__name__} {message}")


async def _configs(admin: AIOKafkaAdminClient, names: list[str]) -> dict[str, tuple[dict[str, str], dict[str, str]]]:
    """Give by topic all effective settings, and those among them that were set on the topic itself."""
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    found: dict[str, tuple[dict[str, str], dict[str, str]]] = {}
    for response in await admin.describe_configs(resources):
        for code, message, _, name, entries in response.resources:
            if code:
                raise StackError(f"topic {name} could not be described: {for_code(code).__name__} {message}")
            rows: list[tuple[Any, ...]] = [tuple(entry) for entry in entries]
            found[name] = (
                {row[0]: row[1] for row in rows},
                {row[0]: row[1] for row in rows if row[3] == _SET_ON_TOPIC},
            )
    return found


async def _wait_until_visible(admin: AIOKafkaAdminClient, wanted: Mapping[str, Topic]) -> None:
    try:
        async with asyncio.timeout(_VISIBLE_TIMEOUT_S):
            while True:
                partitions = await _partitions(admin)
                if all(partitions.get(name, 0) >= topic.partitions for name, topic in wanted.items()):
                    return
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise StackError(f"the broker did not announce all new topics within {_VISIBLE_TIMEOUT_S} s") from None


def _main() -> None:
    asyncio.run(_ensure_at_start())


async def _ensure_at_start() -> None:
    """Make the topics at a broker that may have been started at the same moment."""
    from deploy.local.kafka import kafka_answers
    from rappen_contracts.registry import TOPICS

    bootstrap = os.environ["RAPPEN_KAFKA"]
    deadline = time.monotonic() + _BROKER_TIMEOUT_S
    # When it does not come, the attempt itself says what is wrong.
    while time.monotonic() < deadline:
        if await kafka_answers(bootstrap):
            break
        await asyncio.sleep(0.5)
    await ensure_topics(bootstrap, TOPICS, replication=int(os.environ.get("RAPPEN_REPLICATION", "1")))


if __name__ == "__main__":
    _main()
