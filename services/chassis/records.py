"""Reading records so that none of them can take the others along: bounded in memory, whatever is in them.

The client below decompresses whatever a record expands to and hands out records by number, so a poll of small
compressed records may need gigabytes. It also decodes the names of headers strictly, although Kafka takes any bytes:
one such record would hold its partition up for ever and lose what was polled with it. Both are closed here.
"""

import asyncio
import struct
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, TypeAlias

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError, for_code
from aiokafka.protocol.fetch import FetchRequest

# The client's own parser in Python; the compiled one in everyday use cannot be told to be lenient.
from aiokafka.record.default_records import _DefaultRecordBatchPy

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
# An unreadable record is at most a step ahead; some of the polls find nothing because records are fetched again.
CAREFUL_POLLS = STEP_MAX * 2
CAREFUL_WAIT_MS = 20
_READ_COMMITTED = 1
# A batch begins with its first offset (8 bytes) and its length (4 bytes), which counts from there on.
_LENGTH = struct.Struct(">8xi")


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
        self._careful_polls = 0

    async def getmany(
        self, *partitions: TopicPartition, timeout_ms: int = 0, max_records: int | None = None
    ) -> dict[TopicPartition, list[KafkaRecord]]:
        """Up to so many records, fewer when they are large; waits while it has none."""
        found: dict[TopicPartition, list[KafkaRecord]] = {}
        left = max_records if max_records is not None else STEP_MAX
        size, step = 0, STEP_FIRST
        while left > 0 and size < POLL_BYTES_MAX:
            try:
                taken = await self._step(partitions, 0 if found else max(timeout_ms, POLL_WAIT_MS), min(step, left))
            except KafkaError:
                # What was taken before is not to be lost; the client will say again what is wrong.
                if not found:
                    raise
                break
            if not taken:
                break
            for partition, records in taken.items():
                found.setdefault(partition, []).extend(records)
                left -= len(records)
                size += sum(map(_size, records))
            step = min(step * 2, STEP_MAX)
        return found

    async def _step(
        self, partitions: Sequence[TopicPartition], timeout_ms: int, count: int
    ) -> Mapping[TopicPartition, list[KafkaRecord]]:
        if self._careful_polls:
            self._careful_polls -= 1
            return await self._one_by_one(min(timeout_ms, CAREFUL_WAIT_MS))
        before = self._positions()
        try:
            taken: dict[TopicPartition, list[KafkaRecord]] = await super().getmany(
                *partitions, timeout_ms=timeout_ms, max_records=count
            )
        except Exception as error:
            # What was unpacked before the fault is gone, of this and of other partitions: begin again.
            for partition, position in before.items():
                self._rewind(partition, position)
            if not isinstance(error, UnicodeDecodeError):
                raise
            self._careful_polls = CAREFUL_POLLS
            return {}
        return taken

    async def _one_by_one(self, timeout_ms: int) -> Mapping[TopicPartition, list[KafkaRecord]]:
        """One record of each partition, so that an unreadable one stands alone and is read in another way."""
        taken: dict[TopicPartition, list[KafkaRecord]] = {}
        for partition in sorted(self.assignment()):
            try:
                taken.update(await self._single(partition))
            except KafkaError:
                if not taken:
                    raise
                break
        if not taken:
            await asyncio.sleep(timeout_ms / 1000)
        return taken

    async def _single(self, partition: TopicPartition) -> Mapping[TopicPartition, list[KafkaRecord]]:
        try:
            taken: dict[TopicPartition, list[KafkaRecord]] = await super().getmany(partition, max_records=1)
        except UnicodeDecodeError:
            # Asked again, the client moves its position to exactly the record that it could not read.
            await super().getmany(partition, max_records=1)
            record = await self._read_leniently(partition, await self.position(partition))
            self._rewind(partition, record.offset + 1)
            self._careful_polls = 0
            return {partition: [record]}
        return taken

    def _positions(self) -> dict[TopicPartition, int]:
        subscription = self._subscription.subscription
        assignment = subscription.assignment if subscription is not None else None
        if assignment is None:
            return {}
        states = ((partition, assignment.state_value(partition)) for partition in assignment.tps)
        return {partition: state.position for partition, state in states if state.has_valid_position}

    def _rewind(self, partition: TopicPartition, position: int) -> None:
        try:
            self.seek(partition, position)
        except IllegalStateError:
            # It was taken away meanwhile; its next owner begins at what was committed.
            return

    async def _read_leniently(self, partition: TopicPartition, offset: int) -> KafkaRecord:
        """The record at an offset, fetched alone; undecodable bytes in the names of its headers are escaped."""
        node = self._client.cluster.leader_for_partition(partition)
        wanted = [(partition.topic, [(partition.partition, offset, RECORD_BYTES_MAX)])]
        response = await self._client.send(node, FetchRequest(0, 1, RECORD_BYTES_MAX, _READ_COMMITTED, wanted))
        ((_, ((_, error, *_, batches),)),) = response.topics
        if error:
            raise for_code(error)
        for record in _LenientBatch(batches[: _LENGTH.unpack_from(batches)[0] + _LENGTH.size]):
            if record.offset >= offset:
                return ConsumerRecord(
                    partition.topic,
                    partition.partition,
                    record.offset,
                    record.timestamp,
                    record.timestamp_type,
                    _cut_key(record.key),
                    _cut_value(record.value),
                    record.checksum,
                    len(record.key or b""),
                    len(record.value or b""),
                    tuple(record.headers),
                )
        raise KafkaError(f"no record at {partition.topic}[{partition.partition}]@{offset}")


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
