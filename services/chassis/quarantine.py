"""Records that were refused, with their original bytes, written in the transaction that settles their neighbours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts.registry import RECORD_BYTES_MAX
from services.chassis.database import driver_connection
from services.chassis.metrics import QUARANTINED
from services.chassis.partition_records import CUT_BYTES, CutValue, KafkaRecord

__all__ = ["Refused", "quarantine", "quarantine_table", "sent_key"]

# A record within the limit keeps all of its headers; with a key and a value as large, its dead letter still fits.
HEADER_BYTES_MAX = RECORD_BYTES_MAX
# A header costs more than its bytes; counting it so bounds the number of empty ones.
HEADER_OVERHEAD_BYTES = 16


@dataclass(frozen=True, slots=True)
class Refused:
    """A record that can never be processed as it is, and why."""

    record: KafkaRecord
    code: str
    detail: str
    attempts: int = 1
    # An event that could be read and is refused for what it says, which only its publisher can mend.
    publishers_fault: bool = False


def quarantine_table(metadata: sa.MetaData) -> sa.Table:
    """The table of refused records. Topic, partition, offset, group and content are unique together: a redelivery adds
    nothing, another record at the same offset, of a topic that was made again, adds a row."""
    return sa.Table(
        "quarantine",
        metadata,
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("group_id", sa.Text, nullable=False),
        sa.Column("topic", sa.Text, nullable=False),
        sa.Column("partition", sa.Integer, nullable=False),
        sa.Column("offset", sa.BigInteger, nullable=False),
        sa.Column("key", sa.LargeBinary),
        sa.Column("headers", sa.LargeBinary, nullable=False),
        sa.Column("value", sa.LargeBinary),
        sa.Column("length", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.LargeBinary, nullable=False),
        sa.Column("error_code", sa.Text, nullable=False),
        sa.Column("error_detail", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("quarantined_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("relayed_at", sa.DateTime(timezone=True)),
        sa.Column("replayed_at", sa.DateTime(timezone=True)),
        # An operator has decided that nothing more is done about it.
        sa.Column("closed_at", sa.DateTime(timezone=True)),
        sa.Column("closed_by", sa.Text),
        sa.Column("closed_reason", sa.Text),
        # Of key, headers and the digest of the value.
        sa.Column("record_sha256", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("topic", "partition", "offset", "group_id", "record_sha256", name="uq_quarantine_record"),
    )


_COLUMNS = (
    'group_id, topic, partition, "offset", key, headers, value, length, sha256, error_code, error_detail, attempts,'
    " quarantined_at, record_sha256"
)


async def quarantine(connection: AsyncConnection, refused: Sequence[Refused], *, group: str, now: datetime) -> None:
    """Writes the refused records. Part of the caller's transaction."""
    if not refused:
        return
    await driver_connection(connection).executemany(
        f"INSERT INTO quarantine ({_COLUMNS}) VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14)"
        " ON CONFLICT DO NOTHING",
        [_row(entry, group, now) for entry in refused],
    )
    for entry in refused:
        QUARANTINED.labels(entry.record.topic, entry.code).inc()


def _row(entry: Refused, group: str, now: datetime) -> tuple[object, ...]:
    record = entry.record
    value: bytes | None = record.value
    length, digest = _measure(value)
    kept = value[:CUT_BYTES] if value is not None and length > RECORD_BYTES_MAX else value
    headers = pack_headers(record.headers)
    detail = entry.detail.replace("\x00", "").encode("utf-8", "replace")[:1000].decode("utf-8", "ignore")
    return (
        group,
        record.topic,
        record.partition,
        record.offset,
        record.key,
        headers,
        kept,
        length,
        digest,
        entry.code,
        detail,
        entry.attempts,
        now,
        sha256((record.key or b"") + headers + digest).digest(),
    )


def _measure(value: bytes | None) -> tuple[int, bytes]:
    """Length and digest of the whole value, also of a large one, which arrives here truncated; -1 and none where
    unknown."""
    if isinstance(value, CutValue):
        return value.length, value.digest
    return len(value or b""), sha256(value or b"").digest()


def pack_headers(headers: Sequence[tuple[str, bytes | None]]) -> bytes:
    """Headers as JSON with hexadecimal values, because values may be null or no text at all."""
    packed: list[tuple[str, str | None]] = []
    size = 0
    for name, raw in headers:
        size += len(name) + len(raw or b"") + HEADER_OVERHEAD_BYTES
        if size > HEADER_BYTES_MAX:
            break
        packed.append((name.encode("utf-8", "replace").decode(), None if raw is None else raw.hex()))
    return orjson.dumps(packed)


def unpack_headers(packed: bytes) -> list[tuple[str, bytes | None]]:
    """The headers as they came."""
    return [(name, None if raw is None else bytes.fromhex(raw)) for name, raw in orjson.loads(packed)]


def sent_key(row: Mapping[str, object]) -> bytes | None:
    """The key as it came; empty where key and value are null both, because the client refuses to send such a record."""
    key = row["key"]
    return key if isinstance(key, bytes) else b"" if row["value"] is None else None


def dead_letter_headers(row: Mapping[str, Any]) -> list[tuple[str, bytes | None]]:
    """The original headers and what was wrong, in the names of the contract."""
    added = {
        "dlq_topic": row["topic"],
        "dlq_partition": row["partition"],
        "dlq_offset": row["offset"],
        "dlq_group": row["group_id"],
        "dlq_error_code": row["error_code"],
        "dlq_error_detail": row["error_detail"],
        "dlq_attempts": row["attempts"],
        "dlq_at": row["quarantined_at"].isoformat().replace("+00:00", "Z"),
        "dlq_length": row["length"],
        "dlq_sha256": row["sha256"].hex(),
    }
    return [*unpack_headers(row["headers"]), *((name, str(entry).encode()) for name, entry in added.items())]
