"""Charges that say nothing of their own but, perhaps, a description: usage of a member for a dimension.

Nearly all rows of a ledger are such charges, and whether one is listed follows from three numbers of it wherever a list
is about whose it is and what it was for, and not about descriptions. The rollups have these numbers with a count, so
that a list knows how many there are, and which values they have, without looking at them. All other rows have an index
of their own, and each is looked at.
"""

from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.sql import visitors
from sqlalchemy.sql.util import ClauseAdapter

from services.billing.reports.movement_values import TABLES, row, with_columns
from services.billing.tables import transactions
from services.chassis.lists.columns import Column

__all__ = ["INDEXED", "NUMBERS", "OTHERS", "is_plain", "of_numbers", "of_plain_charge", "row_columns"]

_Value = sa.ColumnElement[Any]

# What a plain charge is known by, and what of each row is in the index by time.
NUMBERS: Final = frozenset({"mandate_no", "member_account_no", "dimension_no"})
INDEXED: Final = NUMBERS | {"posted_account_no", "seq", "occurred_at", "amount"}

# Whether a row is none, as `ix_transactions_others` has it.
OTHERS: Final[sa.ColumnElement[bool]] = sa.or_(
    row.contra_account != sa.literal_column("'REVENUE'", sa.Text),
    row.transaction_type != sa.literal_column("'DEBIT'", sa.Text),
    row.reference_type != sa.literal_column("'WORKFLOW'", sa.Text),
    row.reference_id.is_not(None),
    row.created_by_user_id.is_not(None),
)
_OTHER = transactions.alias("other")
_IS_OTHER = ClauseAdapter(_OTHER).traverse(OTHERS)
_NULL: Final = sa.literal_column("NULL::text", sa.Text)
# Each with its type, since a list can be sorted by one, and PostgreSQL takes no bare text in ORDER BY.
_SAME: Final[dict[str, _Value]] = {
    "contra_account": sa.literal_column("'REVENUE'::text", sa.Text),
    "transaction_type": sa.literal_column("'DEBIT'::text", sa.Text),
    "reference_type": sa.literal_column("'WORKFLOW'::text", sa.Text),
    **dict.fromkeys(("reference_id", "created_by_user_id"), _NULL),
}
_SAME_WITHOUT_DESCRIPTION: Final = {**_SAME, "description": _NULL}


def is_plain() -> sa.ColumnElement[bool]:
    """Whether a row is a plain charge, by the index of all others."""
    same = [_OTHER.c[name] == row[name] for name in ("mandate_no", "occurred_at", "posted_account_no", "seq")]
    return ~sa.exists().where(*same, _IS_OTHER).correlate(transactions)


def of_plain_charge(value: _Value, *, described: bool) -> _Value:
    """What a value of a row is for a plain charge, which can be `described`."""
    return with_columns(value, _SAME if described else _SAME_WITHOUT_DESCRIPTION)


def row_columns(value: _Value) -> frozenset[str]:
    """The columns of the ledger that a value is computed from."""
    parts = visitors.iterate(value)
    return frozenset(part.name for part in parts if isinstance(part, sa.Column) and part.table is transactions)


def of_numbers(column: Column, *, described: bool) -> frozenset[str] | None:
    """From which numbers of a plain charge the value of a column is computed, of its mandate where from none; None
    where it is computed from more."""
    read = [column.value, *(condition for name, (_, condition) in TABLES.items() if name in column.needs)]
    found = frozenset[str]().union(*(row_columns(of_plain_charge(value, described=described)) for value in read)) | {
        "mandate_no"
    }
    return found if found <= NUMBERS else None
