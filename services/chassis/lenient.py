"""The parser of the records that the client cannot read in its usual way, and what is kept of a value.

The names of headers may be any bytes, and so may the attributes of a record, which the client reads as a varint; it
then finds the wrong offset, or none. A batch may expand to more than is unpacked, or be damaged in a way that the
broker lets pass: of such a batch those records are read that lie whole in what was unpacked. The others are reported by
their offsets, the first of them also by its key and the beginning of its value.
"""

from collections.abc import Iterator
from typing import Any

from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import READ_COMMITTED
from aiokafka.errors import CorruptRecordException

# The client's own parser in Python; the compiled one in everyday use has no lenient mode, and reads varints beyond the
# end of a buffer, which crashes the process.
from aiokafka.record.default_records import _DefaultRecordBatchPy, _DefaultRecordPy
from aiokafka.record.memory_records import _MemoryRecordsPy
from aiokafka.record.util import decode_varint_py as decode_varint

from rappen_contracts.registry import RECORD_BYTES_MAX
from services.chassis.partition_records import CUT_BYTES, CutValue, LightRecords, cut_key, cut_value
from services.chassis.unpacking import HEADERS_MAX, UNPACKED_BYTES_MAX, Damaged, header_count, unpack

__all__ = ["UnreadValue", "lenient_records"]

# An oversized batch of more records than this is not looked into: they are tiny, and finding an offset among them again
# costs time for each.
OVERSIZED_RECORDS_MAX = 50_000
# How many records that were not unpacked are reported one by one; the last of them stands for the rest of its batch.
UNREAD_RECORDS_MAX = 10_000
_MAGIC_WITH_HEADERS = 2
_LENGTH_UNKNOWN = -1


class UnreadValue(CutValue):
    """A value that was not unpacked whole: its digest is unknown, its length is known only where that field was
    reached."""

    @classmethod
    def of_unread(cls, beginning: bytes, length: int, *, damaged: bool, more: str) -> "UnreadValue":
        """The value of a record that was not read; the length counts where it is over the limit of a record."""
        unread = cls(beginning[:CUT_BYTES])
        unread.length = length if length > RECORD_BYTES_MAX else _LENGTH_UNKNOWN
        unread.digest = b""
        unread.why = f"in a batch that expands to more than {UNPACKED_BYTES_MAX} bytes, not unpacked{more}"
        if damaged:
            unread.code = "DAMAGED_BATCH"
            unread.why = f"in a batch that cannot be read, or where a record has over {HEADERS_MAX} headers{more}"
        return unread


def lenient_records(partition: TopicPartition, data: bytes, aborted: Any, offset: int) -> Any:
    """The client's own iterator, which leaves out what was aborted and knows the next position."""
    return LightRecords(
        partition,
        _LenientRecords(data),
        aborted,
        offset,
        cut_key,
        cut_value,
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
    """A batch of records whose text is decoded with escapes in place of errors, and of which not all may be read."""

    def __init__(self, batch: bytes) -> None:
        self._buffer: Any
        self._pos: int
        self._decompressed: bool
        self._whole = True
        super().__init__(batch)

    def _maybe_uncompress(self) -> None:
        if self._decompressed or self.compression_type == self.CODEC_NONE:
            self._buffer = _LenientBytes(self._buffer)
        else:
            space = _LenientBytes(UNPACKED_BYTES_MAX)
            try:
                size, self._whole = unpack(self.compression_type, bytes(self._buffer[self._pos :]), space)
            except Damaged:
                size = 0
            if not self._whole and self._num_records > OVERSIZED_RECORDS_MAX:
                size = 0
            del space[size:]
            self._buffer, self._pos = space, 0
        self._decompressed = True

    def __iter__(self) -> Iterator[Any]:
        self._maybe_uncompress()
        return self._what_is_there()

    def _what_is_there(self) -> Iterator[Any]:
        """The records that can be read, then the others by their offsets."""
        offset, left = self.base_offset - 1, self._num_records
        while left:
            at = self._pos
            record = self._next_record()
            if record is None or not offset < record.offset < self.next_offset:
                self._pos = at
                break
            offset = record.offset
            left -= 1
            yield record
        reported = min(left, UNREAD_RECORDS_MAX)
        for number in range(1, reported + 1):
            rest = f"; it stands for {left - reported + 1} records, to offset {self.next_offset - 1}"
            more = rest if number == reported < left else ""
            yield self._unread(offset + number, more, begun=number == 1)

    def _next_record(self) -> Any:
        try:
            length, start = decode_varint(self._buffer, self._pos)
            if not 0 < length <= len(self._buffer) - start or header_count(self._buffer, start) > HEADERS_MAX:
                return None
            # The attributes are one unused byte; the client's parser reads on while its highest bit is set.
            self._buffer[start] = 0
            return next(self)
        except (CorruptRecordException, IndexError, ValueError):
            return None

    def _read_msg(self, decode_varint: Any = decode_varint) -> Any:
        return super()._read_msg(decode_varint)

    def _unread(self, offset: int, more: str, *, begun: bool) -> Any:
        key, beginning, length = self._beginning() if begun else (None, b"", _LENGTH_UNKNOWN)
        value = UnreadValue.of_unread(beginning, length, damaged=self._whole, more=more)
        return _DefaultRecordPy(offset, self.max_timestamp, self.timestamp_type, key, value, [])

    def _beginning(self) -> tuple[bytes | None, bytes, int]:
        """Key, beginning and length of the value of the record at which unpacking ended."""
        buffer, at = self._buffer, self._pos
        try:
            for _ in ("length", "attributes", "time", "offset"):
                _, at = decode_varint(buffer, at)
            key_length, at = decode_varint(buffer, at)
            key = bytes(buffer[at : at + key_length]) if key_length >= 0 else None
            at += max(0, key_length)
            value_length, at = decode_varint(buffer, at)
        except (IndexError, ValueError):
            return None, b"", _LENGTH_UNKNOWN
        return key, bytes(buffer[at : at + min(CUT_BYTES, max(0, value_length))]), value_length


class _LenientBytes(bytearray):
    def __getitem__(self, at: Any) -> Any:
        return _LenientText(memoryview(self)[at]) if isinstance(at, slice) else super().__getitem__(at)


class _LenientText(bytes):
    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return super().decode(encoding, "backslashreplace")
