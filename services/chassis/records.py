"""Reading records so that none of them can take the others along: bounded in memory, whatever is in them.

The client below decompresses whatever a record expands to and hands out records by number, so a poll of small
compressed records may need gigabytes. It also decodes the names of headers strictly, although Kafka takes any bytes:
one such record would hold its partition up for ever and lose what was polled with it. Both are closed here.
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, TypeAlias

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.consumer.fetcher import READ_COMMITTED, PartitionRecords
from aiokafka.errors import KafkaError, LeaderNotAvailableError, for_code
from aiokafka.protocol.fetch import FetchRequest

# The client's own parser in Python; the compiled one in everyday use cannot be told to be lenient.
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import _MemoryRecordsPy

from rappen_contracts.registry import RECORD_BYTES_MAX

__all__ = ["CUT_BYTES", "CutValue", "KafkaRecord", "RecordReader"]

KafkaRecord: TypeAlias = ConsumerRecord

# What is kept of a value over the limit. A key is kept up to that limit itself.
CUT_BYTES = 64 * 1024
# A poll that finds nothing ends after this time; then the caller looks whether it should stop.
POLL_WAIT_MS = 1_000
# A poll ends when it holds this much, whatever number of records was asked for.
POLL_BYTES_MAX = 8 * 1024 * 1024
# Records are taken in steps, small ones first, so that few have been unpacked when the first large one is seen.
STEP_FIRST, STEP_MAX = 16, 256
_NO_NODE = -1
_MAGIC_WITH_HEADERS = 2
# Where an answer says which transactions were aborted; to version 4 it does not say where the log starts.
_ABORTED_AT, _LAST_WITHOUT_LOG_START = 2, 4


class CutValue(bytes):
    """The beginning of a value that is over the limit, with the length and digest of the whole."""

    length: int
    digest: bytes

    @classmethod
    def of(cls, value: bytes) -> "CutValue":
        """Cuts a value."""
        cut = cls(value[:CUT_BYTES])
        cut.length = len(value)
        cut.digest = sha256(value).digest()
        return cut


class RecordReader(AIOKafkaConsumer):  # type: ignore[misc]
    """The client's consumer with a `getmany` that is bounded in bytes and loses nothing to an unreadable record."""

    def __init__(self, *topics: str, **options: Any) -> None:
        super().__init__(*topics, **options | {"key_deserializer": _cut_key, "value_deserializer": _cut_value})

    async def getmany(
        self, *partitions: TopicPartition, timeout_ms: int = 0, max_records: int | None = None
    ) -> dict[TopicPartition, list[KafkaRecord]]:
        """Up to so many records, fewer when they are large; waits while it has none."""
        found: dict[TopicPartition, list[KafkaRecord]] = {}
        left = max_records if max_records is not None else STEP_MAX
        size, step = 0, STEP_FIRST
        while left > 0 and size < POLL_BYTES_MAX:
            try:
                partition = self._buffered(partitions)
                if partition is not None:
                    taken = await self._take(partition, min(step, left), left, POLL_BYTES_MAX - size)
                elif not found and (waited := await self._wait(partitions, max(timeout_ms, POLL_WAIT_MS), left)):
                    taken = waited
                else:
                    break
            except KafkaError:
                # What was taken before is not to be lost; the client will say again what is wrong.
                if not found:
                    raise
                break
            for source, records in taken.items():
                found.setdefault(source, []).extend(records)
                left -= len(records)
                size += sum(map(_size, records))
            step = min(step * 2, STEP_MAX)
        return found

    def _buffered(self, partitions: Sequence[TopicPartition]) -> TopicPartition | None:
        """The partition that the client would unpack next; an answer that could not be unpacked stays in front."""
        buffered = self._fetcher._records  # noqa: SLF001 - nothing public tells, and asking is taking.
        return next((partition for partition in buffered if not partitions or partition in partitions), None)

    async def _take(
        self, partition: TopicPartition, count: int, count_max: int, size_max: int
    ) -> Mapping[TopicPartition, list[KafkaRecord]]:
        """What is there of one partition: the client drops what it unpacked before a fault, also of other partitions
        if it is asked for several. Its position is then where it was."""
        try:
            taken: dict[TopicPartition, list[KafkaRecord]] = await super().getmany(partition, max_records=count)
        except UnicodeDecodeError:
            return await self._read_leniently(partition, count_max, size_max)
        return taken

    async def _wait(
        self, partitions: Sequence[TopicPartition], timeout_ms: int, count_max: int
    ) -> Mapping[TopicPartition, list[KafkaRecord]]:
        """The first record that comes: one, so that a fault finds nothing unpacked that could be dropped."""
        try:
            taken: dict[TopicPartition, list[KafkaRecord]] = await super().getmany(
                *partitions, timeout_ms=timeout_ms, max_records=1
            )
        except UnicodeDecodeError:
            partition = self._buffered(partitions)
            if partition is None:
                raise
            return await self._read_leniently(partition, count_max, POLL_BYTES_MAX)
        return taken

    def _position(self, partition: TopicPartition) -> int | None:
        subscription = self._subscription.subscription
        assignment = subscription.assignment if subscription is not None else None
        if assignment is None or partition not in assignment.tps:
            return None
        state = assignment.state_value(partition)
        return state.position if state.has_valid_position else None

    async def _read_leniently(
        self, partition: TopicPartition, count_max: int, size_max: int
    ) -> Mapping[TopicPartition, list[KafkaRecord]]:
        """What follows in a partition, fetched apart; undecodable bytes in the names of headers are escaped.

        All of it is read so, not just the one record: where there is one there may be many, and each costs a fetch.
        """
        start = self._position(partition)
        if start is None:
            return {}
        unpacked = await self._fetch_leniently(partition, start)
        if self._position(partition) != start:
            # It was taken away meanwhile, and perhaps came back: its owner begins at what was committed.
            return {}
        taken: list[KafkaRecord] = []
        size = 0
        for record in unpacked:
            taken.append(record)
            size += _size(record)
            if len(taken) >= count_max or size >= size_max:
                break
        if unpacked.next_fetch_offset == start:
            raise KafkaError(f"no record at {partition.topic}[{partition.partition}]@{start}")
        self.seek(partition, unpacked.next_fetch_offset)
        return {partition: taken} if taken else {}

    async def _fetch_leniently(self, partition: TopicPartition, offset: int) -> Any:
        """The client's own iterator, which leaves out what was aborted and knows the next position."""
        node = self._client.cluster.leader_for_partition(partition)
        if node is None or node == _NO_NODE:
            raise LeaderNotAvailableError(f"{partition.topic}[{partition.partition}]")
        wanted = [(partition.topic, [(partition.partition, offset, RECORD_BYTES_MAX)])]
        response = await self._client.send(node, FetchRequest(0, 1, RECORD_BYTES_MAX, READ_COMMITTED, wanted))
        ((_, ((_, error, _, *parts),)),) = response.topics
        if error:
            raise for_code(error)
        return PartitionRecords(
            partition,
            _LenientRecords(parts[-1]),
            parts[_ABORTED_AT if response.API_VERSION > _LAST_WITHOUT_LOG_START else _ABORTED_AT - 1],
            offset,
            _cut_key,
            _cut_value,
            check_crcs=True,
            isolation_level=READ_COMMITTED,
        )


class _LenientRecords(_MemoryRecordsPy):  # type: ignore[misc]
    """The batches of an answer, of which those in today's format are read leniently; older ones have no headers."""

    def next_batch(self) -> Any:
        self._next_slice: Any
        part = self._next_slice
        batch = super().next_batch()
        return _LenientBatch(part) if batch is not None and batch.magic >= _MAGIC_WITH_HEADERS else batch


class _LenientBatch(_DefaultRecordBatchPy):  # type: ignore[misc]
    """A batch of records whose text is decoded with escapes in place of errors."""

    def __init__(self, batch: bytes) -> None:
        self._buffer: Any
        super().__init__(batch)

    def _maybe_uncompress(self) -> None:
        super()._maybe_uncompress()
        self._buffer = _LenientBytes(self._buffer)


class _LenientBytes(bytearray):
    def __getitem__(self, at: Any) -> Any:
        part = super().__getitem__(at)
        return _LenientBytes(part) if isinstance(at, slice) else part

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return super().decode(encoding, "backslashreplace")


def _cut_key(key: bytes | None) -> bytes | None:
    return key if key is None or len(key) <= RECORD_BYTES_MAX else key[:RECORD_BYTES_MAX]


def _cut_value(value: bytes | None) -> bytes | None:
    return value if value is None or len(value) <= RECORD_BYTES_MAX else CutValue.of(value)


def _size(record: KafkaRecord) -> int:
    """The bytes of a record as it came, before anything was cut."""
    headers = sum([len(name) + len(raw or b"") for name, raw in record.headers])
    size: int = record.serialized_value_size + record.serialized_key_size + headers
    return size
