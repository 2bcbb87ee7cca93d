"""What the broker says of a topic that the client below does not ask: which incarnation it is, and where it ends.

A topic that was deleted and made again has the same name, and its offsets begin at 0 again; only its id differs. And to
a reader of committed records, a partition ends where the oldest open transaction begins.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import (
    KafkaError,
    LeaderNotAvailableError,
    NodeNotReadyError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
)

__all__ = ["partition_ends", "topic_ids"]

_LATEST = -1
_NO_NODE = -1
_TEXT = CompactString("utf-8")
_TAGS = ("tags", TaggedFields)


class _MetadataResponse(Response):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 10
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("brokers", CompactArray(("node_id", Int32), ("host", _TEXT), ("port", Int32), ("rack", _TEXT), _TAGS)),
        ("cluster_id", _TEXT),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", _TEXT),
                ("id_high", Int64),
                ("id_low", Int64),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        _TAGS,
                    ),
                ),
                ("authorized_operations", Int32),
                _TAGS,
            ),
        ),
        ("cluster_authorized_operations", Int32),
        _TAGS,
    )


class _MetadataRequestStruct(RequestStruct):  # type: ignore[misc]
    """The first version whose answer has the ids of topics; the client's own request ends at version 5."""

    FLEXIBLE_VERSION = True
    API_KEY = 3
    API_VERSION = 10
    RESPONSE_TYPE = _MetadataResponse
    SCHEMA = Schema(
        ("topics", CompactArray(("id_high", Int64), ("id_low", Int64), ("name", _TEXT), _TAGS)),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        _TAGS,
    )


class _MetadataRequest(Request[_MetadataRequestStruct]):  # type: ignore[misc]
    API_KEY = 3

    def __init__(self, topics: Iterable[str]) -> None:
        self._topics = list(topics)

    def build(self, request_struct_class: type[_MetadataRequestStruct]) -> _MetadataRequestStruct:
        topics: list[tuple[int, int, str, dict[int, bytes]]] = [(0, 0, name, {}) for name in self._topics]
        return request_struct_class(topics, False, False, False, {})


async def topic_ids(client: Any, topics: Iterable[str]) -> dict[str, str]:
    """The id of each topic that exists; `client` is that of a consumer. Raises KafkaError when nobody says."""
    node = client.get_random_node()
    if node is None:
        raise NodeNotReadyError("no broker is known")
    response = await client.send(node, _MetadataRequest(topics))
    ids: dict[str, str] = {}
    for error, name, high, low, *_ in response.topics:
        if not error:
            ids[name] = f"{high & (2**64 - 1):016x}{low & (2**64 - 1):016x}"
        elif for_code(error) is not UnknownTopicOrPartitionError:
            raise for_code(error)(name)
    return ids


async def partition_ends(
    client: Any, partitions: Iterable[TopicPartition], isolation: int
) -> dict[TopicPartition, int]:
    """Where each partition ends for readers of the isolation level; raises KafkaError when a leader does not say."""
    by_node: dict[int, dict[str, list[tuple[int, int]]]] = defaultdict(lambda: defaultdict(list))
    for partition in partitions:
        node = client.cluster.leader_for_partition(partition)
        if node is None or node == _NO_NODE:
            raise LeaderNotAvailableError(f"{partition.topic}[{partition.partition}]")
        by_node[node][partition.topic].append((partition.partition, _LATEST))
    ends: dict[TopicPartition, int] = {}
    for node, topics in by_node.items():
        response = await client.send(node, OffsetRequest(-1, isolation, list(topics.items())))
        for topic, found in response.topics:
            for number, error, _, offset in found:
                if error:
                    kind: type[KafkaError] = for_code(error)
                    raise kind(f"{topic}[{number}]")
                ends[TopicPartition(topic, number)] = offset
    return ends
