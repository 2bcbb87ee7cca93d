"""The records of a partition as they are handed on: light ones, because a worker reads tens of thousands a second.

The client makes of each record an object of a dozen fields, some for checksums of old versions. Ours has what a handler
needs, and the bytes that it takes, counted once.
"""

from collections.abc import Iterator
from hashlib import sha256
from typing import Any, NamedTuple

from aiokafka.consumer.fetcher import PartitionRecords

from rappen_contracts.registry import RECORD_BYTES_MAX

__all__ = ["CUT_BYTES", "HEADER_OVERHEAD_BYTES", "CutValue", "KafkaRecord", "LightRecords", "cut_key", "cut_value"]

# What a header takes beside its text.
HEADER_OVERHEAD_BYTES = 64
# What is kept of a value over the limit of a record. A key is kept up to that limit itself.
CUT_BYTES = 64 * 1024


class KafkaRecord(NamedTuple):
    """A record that was read; `timestamp` is in milliseconds since 1970, `size` the bytes that it takes."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    size: int = 0


class CutValue(bytes):
    """The beginning of a value that is over the limit, with the length and digest of the whole."""

    length: int
    digest: bytes
    code = "RECORD_TOO_LARGE"
    why = f"at most {RECORD_BYTES_MAX} bytes"

    @classmethod
    def of(cls, value: bytes) -> "CutValue":
        """The truncated form of a value, with its length and digest."""
        cut = cls(value[:CUT_BYTES])
        cut.length = len(value)
        cut.digest = sha256(value).digest()
        return cut


def cut_key(key: bytes | None) -> bytes | None:
    """A key within the limit as it is, a larger one truncated."""
    return key if key is None or len(key) <= RECORD_BYTES_MAX else key[:RECORD_BYTES_MAX]


def cut_value(value: bytes | None) -> bytes | None:
    """A value within the limit as it is, a larger one as `CutValue`."""
    return value if value is None or len(value) <= RECORD_BYTES_MAX else CutValue.of(value)


class LightRecords(PartitionRecords):  # type: ignore[misc]
    """The client's iterator over what it fetched of a partition. Readers that truncate values as ours do get a
    `KafkaRecord` of each, others what the client makes of it."""

    def __iter__(self) -> Iterator[Any]:
        # Its own iterator would call a method for each record, only to forget this one at the end.
        return self._records_iterator if self._records_iterator is not None else iter(())

    def _consumer_record(self, tp: Any, record: Any) -> Any:
        if self._value_deserializer is not cut_value:
            return super()._consumer_record(tp, record)
        key, value, headers = record.key, record.value, record.headers
        size = sum([HEADER_OVERHEAD_BYTES + len(name) + len(raw or b"") for name, raw in headers])
        if key is not None:
            size += len(key)
            key = cut_key(key)
        if value is not None:
            size += len(value)
            value = cut_value(value)
        # A named tuple made so takes half the time, and this is done for each record.
        return tuple.__new__(KafkaRecord, (tp[0], tp[1], record.offset, record.timestamp, key, value, headers, size))
