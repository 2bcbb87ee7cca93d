"""Ledger rows in PostgreSQL's own binary form: a batch of them is one COPY of ready bytes.

Encoding value by value through the driver was the largest single part of a charge. The form is that of `COPY ...
(FORMAT binary)`: a signature, then for each row the number of its fields and each field as its length and its bytes,
big-endian, with length -1 for null (PostgreSQL manual, "COPY", Binary Format).
"""

from collections.abc import Iterable, Sequence
from datetime import date
from functools import lru_cache
from hashlib import blake2b
from struct import Struct
from struct import error as StructError  # noqa: N812 - its name says nothing without its module.
from typing import Final, NamedTuple

from services.billing.ledger.domain import ContraAccount, Posting, ReferenceType, TransactionType

__all__ = ["COLUMNS", "ChargeRow", "charges_among", "copied", "encoded_row", "identity_of", "recorded_at_of"]

COLUMNS: Final = (
    "mandate_no",
    "event_id",
    "member_account_no",
    "posted_account_no",
    "seq",
    "amount",
    "balance_after",
    "occurred_at",
    "recorded_at",
    "period_day",
    "digest",
    "dimension_no",
    "transaction_type",
    "contra_account",
    "reference_type",
    "own",
    "processing_time_ms",
    "bytes_sent",
    "bytes_received",
    "error_count",
    "input_tokens",
    "output_tokens",
    "workflow_id",
    "description",
    "derivation",
    "reference_id",
    "created_by_user_id",
    "grants",
)

_SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"
_NULL = b"\xff\xff\xff\xff"
# The columns up to `digest`, which are never null: each length, then the value.
_FIXED = Struct("!h ii i16s iq iq iq iq iq iq iq ii i16s".replace(" ", ""))
_IDENTITY = Struct("!hiii16s")
# The columns before `recorded_at`, with its length.
_BEFORE_RECORDED_AT = Struct("!h ii i16s iq iq iq iq iq iq i".replace(" ", ""))
# What `ChargeRow` has, and where.
_CHARGED = Struct("!q4xq4xq4xq")
_CHARGED_AT = Struct("!h ii i16s iq i".replace(" ", "")).size
_BIGINT = Struct("!q")
# A nullable number, of four bytes and of eight, and all six of what usage measures where none is null.
_SHORT = Struct("!ii")
_INTEGER = Struct("!iq")
_INTEGERS = Struct("!" + "iq" * 6)
_NOT_MEASURED = _NULL * 6
_LENGTH = Struct("!i")
_EPOCH_DAY = date(2000, 1, 1).toordinal()


def encoded_row(
    posting: Posting,
    *,
    amount: int,
    seq: int,
    balance_after: int,
    recorded_at: int,
    day: date,
    derivation: bytes | None,
    grants: bytes | None,
) -> bytes:
    """The row of a posting of `amount` micro-CHF on a day. Rows sort, as bytes, by the key: mandate and event id.

    `grants` is how it changes grants, as `spending` writes it. `seq` and `balance_after` are those of the posted
    account; `recorded_at` is a time as `since_epoch` gives it.
    OverflowError for a number that its column cannot hold.
    """
    usage, dimension_no = posting.usage, posting.dimension_no
    workflow_id, description = posting.workflow_id, posting.description
    try:
        # The number of fields; then each field's length and value, in the order of `COLUMNS`.
        # fmt: off
        fixed = _FIXED.pack(
            len(COLUMNS), 4, posting.mandate_no, 16, posting.event_id, 8, posting.member_account_no,
            8, posting.posted_account_no, 8, seq, 8, amount, 8, balance_after, 8, posting.occurred_at,
            8, recorded_at, 4, day.toordinal() - _EPOCH_DAY, 16, posting.digest or _digest(posting),
        )
        # fmt: on
        dimension = _NULL if dimension_no is None else _SHORT.pack(4, dimension_no)
        measured = _NOT_MEASURED if usage is None else _integers(usage.measured())
    except StructError as error:
        raise OverflowError(f"a number of event {posting.event_id.hex()} is too large for the ledger") from error
    return b"".join(
        (
            fixed,
            dimension,
            _kind(posting.transaction_type, posting.contra_account, posting.reference_type, posting.digest is None),
            measured,
            _NULL if workflow_id is None else _text(workflow_id),
            _NULL if description is None else _text(description),
            _NULL if derivation is None else _LENGTH.pack(len(derivation)) + derivation,
            _NULL if posting.reference_id is None else _text(posting.reference_id),
            _NULL if posting.created_by_user_id is None else _text(posting.created_by_user_id),
            _NULL if grants is None else _LENGTH.pack(len(grants)) + grants,
        )
    )


def copied(rows: Sequence[bytes]) -> bytes:
    """The bytes of a COPY of these rows."""
    return b"".join((_SIGNATURE, *rows, _TRAILER))


def identity_of(row: bytes) -> tuple[int, bytes]:
    """The mandate and the event's id of a row."""
    _, _, mandate_no, _, event_id = _IDENTITY.unpack_from(row)
    return mandate_no, event_id


class ChargeRow(NamedTuple):
    """What a row says of a charge of usage; amount and balance are micro-CHF."""

    posted_account_no: int
    seq: int
    amount: int
    balance_after: int


def charges_among(rows: Iterable[bytes]) -> dict[tuple[int, bytes], ChargeRow]:
    """The rows of usage that was charged, by mandate and event. A charge has a dimension, and what it is stands behind
    that."""
    at, charge = _FIXED.size + _SHORT.size, _text("DEBIT") + _text("REVENUE")
    return {
        identity_of(row): ChargeRow(*_CHARGED.unpack_from(row, _CHARGED_AT))
        for row in rows
        if row.startswith(charge, at)
    }


def recorded_at_of(row: bytes) -> int:
    """When a row was recorded, as `since_epoch` gives it."""
    recorded_at: int = _BIGINT.unpack_from(row, _BEFORE_RECORDED_AT.size)[0]
    return recorded_at


@lru_cache(maxsize=256)
def _kind(transaction_type: TransactionType, contra: ContraAccount, reference_type: ReferenceType, own: bool) -> bytes:
    """The columns that are the same for all postings of a kind; usage is named by its publisher and has the digest of
    its event, all else is named by us."""
    return _text(transaction_type) + _text(contra) + _text(reference_type) + _LENGTH.pack(1) + bytes([own])


def _integers(numbers: Sequence[int | None]) -> bytes:
    if None in numbers:
        return b"".join([_NULL if number is None else _INTEGER.pack(8, number) for number in numbers])
    first, second, third, fourth, fifth, sixth = numbers
    return _INTEGERS.pack(8, first, 8, second, 8, third, 8, fourth, 8, fifth, 8, sixth)


def _text(value: str) -> bytes:
    raw = value.encode()
    return _LENGTH.pack(len(raw)) + raw


def _digest(posting: Posting) -> bytes:
    """The digest that distinguishes a repeat of the posting from another one with the same id; usage has its
    event's."""
    text = (
        f"{posting.posted_account_no}|{posting.transaction_type}|{posting.amount}|{posting.contra_account}"
        f"|{posting.reference_id}"
    )
    return blake2b(text.encode(), digest_size=16).digest()
