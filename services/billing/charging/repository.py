"""Ledger rows of usage in PostgreSQL's own binary form: a batch of them is one COPY of ready bytes.

Encoding value by value through the driver was the largest single part of a charge. The form is that of `COPY ...
(FORMAT binary)`: a signature, then for each row the number of its fields and each field as its length and its bytes,
big-endian, with length -1 for null (PostgreSQL manual, "COPY", Binary Format).
"""

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime
from struct import Struct
from struct import error as StructError  # noqa: N812 - its name says nothing without its module.
from typing import Final
from uuid import UUID

import asyncpg
from asyncpg.exceptions import DataError, IntegrityConstraintViolationError, UniqueViolationError

from rappen_contracts import Event
from rappen_contracts.usage.v1 import UsageRecorded
from services.billing.ledger.domain import LockedAccount
from services.billing.ledger.keys import Place

__all__ = ["RowsRefused", "faulty_rows", "insert_usage_rows", "since_epoch", "usage_row"]

COLUMNS: Final = (
    "mandate_no",
    "event_id",
    "account_no",
    "moved_account_no",
    "seq",
    "amount",
    "balance_after",
    "occurred_at",
    "recorded_at",
    "period_day",
    "dimension_no",
    "digest",
    "transaction_type",
    "counter",
    "reference_type",
    "processing_time_ms",
    "bytes_sent",
    "bytes_received",
    "error_count",
    "input_tokens",
    "output_tokens",
    "workflow_id",
    "description",
    "derivation",
)

# Rows that are tried together when some of a batch are faulty: what follows a faulty one is tried again.
TRIED_AT_ONCE = 64
_LINE = re.compile(r"\bline (\d+)")

_SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"
_NULL = b"\xff\xff\xff\xff"
# The columns up to `digest`, which are never null: each length, then the value.
_FIXED = Struct("!h ii i16s iq iq iq iq iq iq iq ii ii i16s".replace(" ", ""))
_IDENTITY = Struct("!hiii16s")
# The nullable numbers behind it: one of them, and all six where none is null.
_INTEGER = Struct("!iq")
_INTEGERS = Struct("!" + "iq" * 6)
_LENGTH = Struct("!i")
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_EPOCH_DAY = date(2000, 1, 1).toordinal()


def since_epoch(time: datetime) -> int:
    """A time as PostgreSQL counts it: microseconds since the year 2000."""
    passed = time - _EPOCH
    return (passed.days * 86_400 + passed.seconds) * 1_000_000 + passed.microseconds


def _text(value: str | None) -> bytes:
    if value is None:
        return _NULL
    raw = value.encode()
    return _LENGTH.pack(len(raw)) + raw


_DEBIT = _text("DEBIT") + _text("REVENUE")
_REFERENCE = {"ai": _DEBIT + _text("WORKFLOW"), "storage": _DEBIT + _text("STORAGE")}


def usage_row(
    event: Event,
    data: UsageRecorded,
    place: Place,
    account: LockedAccount,
    *,
    amount: int,
    recorded_at: int,
    period_day: date,
    tokens: tuple[int, int] | tuple[None, None],
    derivation: bytes,
) -> bytes:
    """The row of a usage charge that has moved `account`. Rows sort, as bytes, by the key: mandate and event id.

    `data` is the event's; `tokens` are those sent to and received from the provider; `recorded_at` is a time as
    `since_epoch` gives it. OverflowError for a number that its column cannot hold.
    """
    counted = (
        data.processing_time_ms,
        data.bytes_sent,
        data.bytes_received,
        data.error_count,
        *tokens,
    )
    if None in counted:
        integers = b"".join([_NULL if number is None else _INTEGER.pack(8, number) for number in counted])
    else:
        first, second, third, fourth, fifth, sixth = counted
        integers = _INTEGERS.pack(8, first, 8, second, 8, third, 8, fourth, 8, fifth, 8, sixth)
    try:
        # The number of fields; then each field's length and value, in the order of `COLUMNS`.
        # fmt: off
        fixed = _FIXED.pack(
            len(COLUMNS), 4, place.mandate_no, 16, event.id.bytes, 8, place.member_no, 8, account.no, 8, account.seq,
            8, amount, 8, account.balance, 8, since_epoch(event.time), 8, recorded_at,
            4, period_day.toordinal() - _EPOCH_DAY, 4, place.dimension_no, 16, event.digest,
        )
        # fmt: on
    except StructError as error:
        raise OverflowError(f"a number of event {event.id} is too large for the ledger") from error
    texts = _text(data.workflow_id), _text(data.description), _LENGTH.pack(len(derivation)), derivation
    return b"".join((fixed, _REFERENCE[data.kind], integers, *texts))


class RowsRefused(ValueError):  # noqa: N818 - a signal to look which, as the others of the charge.
    """PostgreSQL refuses a row for what is in it. The transaction is lost; `faulty_rows` tells which they are."""

    def __init__(self, rows: Sequence[bytes]) -> None:
        super().__init__(f"one of {len(rows)} rows")
        self.rows = rows


async def insert_usage_rows(connection: asyncpg.Connection, rows: Sequence[bytes]) -> None:
    """Appends rows to the ledger; raises `UniqueViolationError` when one of the events has a row already, and
    `RowsRefused` when one is not to be had at all."""
    try:
        await _copy(connection, rows)
    except UniqueViolationError:
        raise
    except (IntegrityConstraintViolationError, DataError) as error:
        raise RowsRefused(rows) from error


async def _copy(connection: asyncpg.Connection, rows: Sequence[bytes]) -> None:
    # As a view, because plain bytes would be taken for the name of a file.
    source = memoryview(b"".join((_SIGNATURE, *rows, _TRAILER)))
    await connection.copy_to_table("transactions", source=source, format="binary", columns=COLUMNS)


async def faulty_rows(connection: asyncpg.Connection, rows: Sequence[bytes]) -> dict[tuple[int, UUID], str]:
    """The mandate and event of each row that is refused for what is in it, and why. Nothing is written.

    PostgreSQL names the row at which it stops, so each faulty row costs one piece, and all others a part of one.
    """
    faulty: dict[tuple[int, UUID], str] = {}
    trial = connection.transaction()
    await trial.start()
    try:
        # Rows that were taken may stay until the end of the trial, so one savepoint serves all pieces.
        await connection.execute("SAVEPOINT trial")
        at, size = 0, TRIED_AT_ONCE
        while at < len(rows):
            piece = rows[at : at + size]
            try:
                await _copy(connection, piece)
            except (IntegrityConstraintViolationError, DataError) as error:
                await connection.execute("ROLLBACK TO SAVEPOINT trial")
                line = _LINE.search(error.context or "")
                if line is None and size > 1:
                    size = 1
                    continue
                stopped_at = int(line[1]) - 1 if line is not None and size > 1 else 0
                if not isinstance(error, UniqueViolationError):
                    faulty[_identity(piece[stopped_at])] = type(error).__name__
                at += stopped_at + 1
            else:
                at += len(piece)
    finally:
        await trial.rollback()
    return faulty


def _identity(row: bytes) -> tuple[int, UUID]:
    _, _, mandate_no, _, event_id = _IDENTITY.unpack_from(row)
    return mandate_no, UUID(bytes=event_id)
