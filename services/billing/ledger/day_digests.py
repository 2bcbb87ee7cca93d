"""The digest of a sealed day, in numbered forms that never change (docs/sealed-days.md describes them for others).

A row's digest is SHA-256 over its columns, in the order of the form, each as text in UTF-8 with its length in front. A
day's is SHA-256 over a heading that names form, day and the digest of the day sealed before, and then over the digests
of its rows in the order of their key. A new column of the ledger needs a new form: days keep the form they were sealed
in, and are looked at in that one.
"""

from collections.abc import Mapping
from datetime import date
from hashlib import sha256
from typing import Final, Literal

__all__ = ["FIRST", "FORM", "FORMS", "DayDigest", "row_digest"]

Kind = Literal["plain", "time", "day", "bytes"]

FORMS: Final[Mapping[int, Mapping[str, Kind]]] = {
    1: {
        "mandate_no": "plain",
        "event_id": "plain",
        "own": "plain",
        "member_account_no": "plain",
        "posted_account_no": "plain",
        "seq": "plain",
        "transaction_type": "plain",
        "amount": "plain",
        "balance_after": "plain",
        "contra_account": "plain",
        "reference_type": "plain",
        "reference_id": "plain",
        "description": "plain",
        "occurred_at": "time",
        "recorded_at": "time",
        "period_day": "day",
        "dimension_no": "plain",
        "workflow_id": "plain",
        "created_by_user_id": "plain",
        "processing_time_ms": "plain",
        "bytes_sent": "plain",
        "bytes_received": "plain",
        "error_count": "plain",
        "input_tokens": "plain",
        "output_tokens": "plain",
        "derivation": "plain",
        "digest": "bytes",
        "grants": "plain",
    },
}
# In which days are sealed now.
FORM: Final = max(FORMS)
# What the first sealed day has for the digest of a day before.
FIRST: Final = bytes(32)

# The value as text: numbers in decimal, ids in lower case with hyphens, `true` and `false`, microseconds and days since
# 1970 in UTC, bytes in hexadecimal digits.
_TEXTS: Final[Mapping[Kind, str]] = {
    "plain": "t.{0}::text",
    "time": "trim_scale(extract(epoch FROM t.{0}) * 1000000)::text",
    "day": "trim_scale(extract(epoch FROM t.{0}) / 86400)::text",
    "bytes": "encode(t.{0}, 'hex')",
}


def row_digest(form: int) -> str:
    """SQL for the digest of a row `t` of the ledger."""
    columns = [
        f"coalesce(octet_length({text}) || ':' || {text} || ',', '-,')"
        for name, kind in FORMS[form].items()
        for text in [_TEXTS[kind].format(name)]
    ]
    return f"sha256(convert_to({' || '.join(columns)}, 'UTF8'))"


class DayDigest:
    """The digest of a day, row by row."""

    def __init__(self, form: int, day: date, previous: bytes) -> None:
        self._hash = sha256(f"rappen.sealed-day.v{form}\n{day.isoformat()}\n{previous.hex()}\n".encode())
        self.rows = 0

    def add(self, row: bytes) -> None:
        """Takes the digest of the next row."""
        self._hash.update(row)
        self.rows += 1

    def value(self) -> bytes:
        """The digest of the rows so far."""
        return self._hash.digest()
