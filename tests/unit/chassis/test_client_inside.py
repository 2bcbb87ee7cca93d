"""What the reading of records relies on inside aiokafka and FastStream, which neither promises to keep.

Where one of these fails after an upgrade, `services/chassis` (kafka, records, lenient, unpacking, topics, watch) has to
be read beside the new version before anything else: that a record could then be lost or stop a partition is shown by
tests/messaging alone, and only for what these tests thought of.
"""

import inspect
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from functools import partial
from importlib.metadata import version
from typing import Any

import aiokafka
import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.cluster import ClusterMetadata
from aiokafka.consumer import fetcher
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.consumer.subscription_state import (
    Assignment,
    ManualSubscription,
    Subscription,
    SubscriptionState,
    TopicPartitionState,
)
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.record import default_records
from aiokafka.record.default_records import _DefaultRecordBatchPy, _DefaultRecordPy
from aiokafka.record.memory_records import _MemoryRecordsPy
from faststream import AckPolicy
from faststream.kafka import KafkaBroker
from faststream.kafka.message import KafkaAckableMessage

from services.chassis.kafka import _read_by
from services.chassis.records import RecordReader

CALLS: list[tuple[Callable[..., Any], str]] = [
    (AIOKafkaConsumer.getmany, "self, *partitions, timeout_ms, max_records"),
    (AIOKafkaConsumer.commit, "self, offsets"),
    (AIOKafkaConsumer.seek, "self, partition, offset"),
    (AIOKafkaConsumer.assignment, "self"),
    (AIOKafkaClient.send, "self, node_id, request, group"),
    (AIOKafkaClient.get_random_node, "self"),
    (AIOKafkaClient.force_metadata_update, "self"),
    (ClusterMetadata.leader_for_partition, "self, partition"),
    (GroupCoordinator.check_errors, "self"),
    (GroupCoordinator.fetch_committed_offsets, "self, partitions"),
    (GroupCoordinator._do_heartbeat, "self"),
    (GroupCoordinator.need_rejoin, "self, subscription"),
    (SubscriptionState.fetch_context, "self"),
    (Assignment.all_consumed_offsets, "self"),
    (Assignment.state_value, "self, tp"),
    (FetchRequest.__init__, "self, max_wait_time, min_bytes, max_bytes, isolation_level, topics, rack_id"),
    (OffsetRequest.__init__, "self, replica_id, isolation_level, topics"),
    (fetcher.PartitionRecords._consumer_record, "self, tp, record"),
    (
        fetcher.PartitionRecords.__init__,
        (
            "self, tp, records, aborted_transactions, fetch_offset, key_deserializer, value_deserializer,"
            " check_crcs, isolation_level"
        ),
    ),
    (_MemoryRecordsPy.next_batch, "self, _min_slice, _magic_offset"),
    (_DefaultRecordBatchPy.__init__, "self, buffer"),
    (_DefaultRecordBatchPy._maybe_uncompress, "self"),
    (_DefaultRecordBatchPy._read_msg, "self, decode_varint"),
    (_DefaultRecordPy.__init__, "self, offset, timestamp, timestamp_type, key, value, headers"),
]
ATTRIBUTES: list[tuple[object, tuple[str, ...]]] = [
    (TopicPartitionState, ("has_valid_position", "position")),
    (SubscriptionState, ("subscription",)),
    (Subscription, ("assignment",)),
    (Assignment, ("tps",)),
    (default_records, ("gzip_decode", "snappy_decode", "lz4_decode", "zstd_decode")),
    (_DefaultRecordBatchPy, ("base_offset", "next_offset", "compression_type", "max_timestamp", "timestamp_type")),
]


@pytest.mark.parametrize(("call", "parameters"), CALLS, ids=[call.__qualname__ for call, _ in CALLS])
def test_what_is_called_or_overridden_takes_what_it_took(call: Callable[..., Any], parameters: str) -> None:
    star = inspect.Parameter.VAR_POSITIONAL
    found = inspect.signature(call).parameters.values()
    names = ", ".join(f"*{each.name}" if each.kind == star else each.name for each in found)
    assert names == parameters, _changed(call.__qualname__)


@pytest.mark.parametrize(("owner", "names"), ATTRIBUTES, ids=[str(owner) for owner, _ in ATTRIBUTES])
def test_what_is_looked_at_is_there(owner: object, names: tuple[str, ...]) -> None:
    assert [name for name in names if not hasattr(owner, name)] == [], _changed(str(owner))


@pytest.fixture
async def reader() -> AsyncIterator[Any]:
    made = AIOKafkaConsumer(bootstrap_servers="127.0.0.1:1")
    made.assign([TopicPartition("t", 0)])
    yield made
    await made._client.close()


async def test_the_parts_of_a_consumer_have_the_names_that_are_used(reader: Any) -> None:
    assert isinstance(reader._client, AIOKafkaClient), _changed("_client")
    assert isinstance(reader._client.cluster, ClusterMetadata), _changed("_client.cluster")
    assert isinstance(reader._subscription, SubscriptionState), _changed("_subscription")
    assert isinstance(reader._subscription.subscription, ManualSubscription), _changed("subscription")
    assert reader._subscription.subscription.assignment.tps == {TopicPartition("t", 0)}, _changed("tps")
    # Both are made when the consumer starts.
    source = inspect.getsource(AIOKafkaConsumer.start)
    assert "self._coordinator = GroupCoordinator(" in source, _changed("_coordinator")
    assert "self._fetcher = Fetcher(" in source, _changed("_fetcher")


async def test_the_fetcher_waits_for_as_long_as_it_was_told_last(reader: Any) -> None:
    made = fetcher.Fetcher(reader._client, reader._subscription, fetch_max_wait_ms=70)
    try:
        assert made._fetch_max_wait_ms == 70, _changed("Fetcher._fetch_max_wait_ms")
        # Read for each request, not once.
        assert "self._fetch_max_wait_ms" in inspect.getsource(fetcher.Fetcher._get_actions_per_node), _changed(
            "Fetcher"
        )
        reader._fetcher = made
        RecordReader.gather(reader, 0.025)
        assert made._fetch_max_wait_ms == 25
    finally:
        await made.close()


async def test_the_fetcher_keeps_what_it_has_in_the_order_in_which_it_gives_it(reader: Any) -> None:
    made = fetcher.Fetcher(reader._client, reader._subscription)
    try:
        assert type(made._records) is OrderedDict, _changed("Fetcher._records")
    finally:
        await made.close()


def test_the_iterator_of_a_batch_has_what_ends_it() -> None:
    records = fetcher.PartitionRecords(TopicPartition("t", 0), _MemoryRecordsPy(b""), [], 7, None, None, True, 0)
    assert records.next_fetch_offset == 7, _changed("PartitionRecords.next_fetch_offset")
    assert hasattr(records, "_records_iterator"), _changed("PartitionRecords._records_iterator")
    assert hasattr(records, "_value_deserializer"), _changed("PartitionRecords._value_deserializer")


def test_the_parser_in_python_keeps_its_place_where_it_can_be_moved() -> None:
    builder = default_records.DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, 999)
    builder.append(0, 0, None, b"value", [])
    written = bytes(builder.build())
    records = _MemoryRecordsPy(written)
    assert bytes(records._next_slice) == written, _changed("_MemoryRecordsPy._next_slice")
    batch = _DefaultRecordBatchPy(bytearray(written))
    for name, kind in (("_buffer", bytearray | memoryview), ("_pos", int), ("_decompressed", bool)):
        assert isinstance(getattr(batch, name), kind), _changed(f"_DefaultRecordBatchPy.{name}")
    assert (batch._num_records, [record.value for record in batch]) == (1, [b"value"]), _changed("_num_records")


def test_the_fetcher_takes_the_batches_from_the_class_that_was_put_into_its_module() -> None:
    # Imported above, records.py has put its own class there.
    assert fetcher.MemoryRecords.__module__ == RecordReader.__module__, _changed("fetcher.MemoryRecords")
    assert "MemoryRecords(" in inspect.getsource(fetcher.Fetcher), _changed("Fetcher")


async def test_a_broker_makes_its_consumers_by_the_builder_that_connecting_sets() -> None:
    broker = KafkaBroker("127.0.0.1:1", client_id="tests", consumer_only=True)
    await broker.connect()
    before: Any = broker.config.broker_config.builder
    assert isinstance(before, partial), _changed("builder")
    assert before.func is AIOKafkaConsumer, _changed("builder")
    assert before.keywords["bootstrap_servers"] == ["127.0.0.1:1"], _changed("builder")
    _read_by(broker, partial(RecordReader, reading=None))
    subscriber: Any = broker.subscriber("t", batch=True)
    assert subscriber.builder.func is RecordReader, _changed("builder")
    assert subscriber.builder.keywords == {"reading": None, **before.keywords}, _changed("builder")


async def test_a_batch_is_asked_for_once_and_handed_on_as_it_comes() -> None:
    broker = KafkaBroker("127.0.0.1:1", consumer_only=True)
    subscriber: Any = broker.subscriber("t", batch=True, max_records=7, batch_timeout_ms=1)
    asked: list[dict[str, Any]] = []
    first, second = _record(0), _record(1)

    class Asked:
        async def getmany(self, **options: Any) -> dict[TopicPartition, list[Any]]:
            asked.append(options)
            return {TopicPartition("t", 0): [first], TopicPartition("t", 1): [second]}

    assert await subscriber.get_msg(Asked()) == (first, second), _changed("get_msg")
    assert asked == [{"timeout_ms": 1, "max_records": 7}], _changed("get_msg")


async def test_a_parsed_batch_holds_its_records_where_others_can_be_put() -> None:
    broker = KafkaBroker("127.0.0.1:1", consumer_only=True)
    subscriber: Any = broker.subscriber("t", batch=True, ack_policy=AckPolicy.NACK_ON_ERROR)
    message = await subscriber.parser.parse_batch((_record(0),))
    assert isinstance(message, KafkaAckableMessage), _changed("KafkaAckableMessage")
    message.raw_message = (_record(1), _record(2))
    assert [record.offset for record in message.raw_message] == [1, 2], _changed("raw_message")


def _record(offset: int) -> ConsumerRecord[bytes, bytes]:
    return ConsumerRecord("t", 0, offset, 0, 0, None, b"", None, 0, 0, ())


def _changed(what: str) -> str:
    versions = f"aiokafka {aiokafka.__version__} or faststream {version('faststream')}"
    return f"{what} is not as in the version that services/chassis was written for: now {versions}"
