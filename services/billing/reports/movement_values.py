"""What the columns of transactions are computed from: the ledger's rows, the tables beside them, and the values that
more than one column has."""

from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql import visitors
from sqlalchemy.sql.visitors import ExternallyTraversible

from services.billing.tables import accounts, dimensions, directory_mandates, directory_users, mandates, transactions
from services.chassis.lists.columns import Column

__all__ = [
    "CHARGE",
    "KEY",
    "MANDATE_NAME",
    "MICRO",
    "TABLES",
    "USER_ID",
    "among",
    "computed_from",
    "description",
    "from_row",
    "member",
    "moved",
    "movement_rows",
    "row",
    "rows_of",
    "said",
    "text_of",
    "transaction_id",
    "with_columns",
]

_Value = sa.ColumnElement[Any]

row = transactions.c
member, moved = accounts.alias("member"), accounts.alias("moved")
# What identifies a row, in the order of its public id.
KEY: tuple[_Value, ...] = (row.posted_account_no, row.seq)
MICRO = sa.literal_column("0.000001", sa.Numeric)
# The highest bits of the second half of a UUID of version 8.
_VARIANT = sa.literal_column("(-9223372036854775807 - 1)", sa.BigInteger)


def text_of(value: _Value) -> _Value:
    """Texts of different columns have different collations, of which the database would not choose one."""
    return sa.collate(value, "default")


def _of_account(account: sa.FromClause, number: _Value) -> _Value:
    return sa.and_(account.c.mandate_no == row.mandate_no, account.c.no == number)


said = sa.func.nullif
# Usage and storage that was charged: its row names its event, and is its member's.
CHARGE = sa.and_(row.contra_account == "REVENUE", row.transaction_type == "DEBIT")
# Whose a row is (S2).
USER_ID = sa.func.coalesce(text_of(said(row.created_by_user_id, "")), text_of(member.c.user_id))
MANDATE_NAME = sa.func.coalesce(
    text_of(said(directory_mandates.c.label, "")),
    text_of(said(directory_mandates.c.name, "")),
    text_of(mandates.c.id),
)

# The tables beside the ledger's own, each with its condition, in the order in which they can be joined; `needs` of a
# column are their names.
TABLES: dict[str, tuple[sa.FromClause, _Value]] = {
    "member": (member, _of_account(member, row.member_account_no)),
    "moved": (moved, _of_account(moved, row.posted_account_no)),
    "dimension": (
        dimensions,
        sa.and_(dimensions.c.mandate_no == row.mandate_no, dimensions.c.no == row.dimension_no),
    ),
    "mandate": (mandates, mandates.c.no == row.mandate_no),
    "directory": (directory_mandates, directory_mandates.c.id == mandates.c.id),
    "user": (directory_users, directory_users.c.id == USER_ID),
}


def among(number: _Value, found: sa.SelectBase) -> sa.ColumnElement[bool]:
    """Whether a number is one of those found, which are found before any row is looked at, so that an index serves."""
    return number == sa.any_(sa.func.array(found.scalar_subquery(), type_=sa.ARRAY(number.type)))


def rows_of(needs: frozenset[str], ledger: sa.FromClause = transactions) -> sa.FromClause:
    """The ledger, or what is joined with it, with the tables of those names."""
    joined = ledger
    for name, (table, condition) in TABLES.items():
        if name in needs:
            joined = joined.outerjoin(table, condition)
    return joined


def from_row(column: Column) -> list[_Value]:
    """The columns of the ledger that a column is computed from, itself or by the tables that it needs."""
    read = [column.value, *(condition for name, (_, condition) in TABLES.items() if name in column.needs)]
    parts = [part for value in read for part in visitors.iterate(value)]
    return list(
        {part.name: part for part in parts if isinstance(part, sa.Column) and part.table is transactions}.values()
    )


def computed_from(
    kept: sa.Subquery, column: Column, of_rows: Callable[[_Value], _Value] = lambda value: value
) -> tuple[_Value, sa.FromClause]:
    """The column's value, and where it is selected from: rows that have no more than `from_row` of it, or than
    `of_rows` makes of the value."""
    columns = {column.name: column for column in kept.c}
    joined: sa.FromClause = kept
    for name, (table, condition) in TABLES.items():
        if name in column.needs:
            joined = joined.outerjoin(table, with_columns(of_rows(condition), columns))
    return with_columns(of_rows(column.value), columns), joined


def with_columns(value: _Value, columns: Mapping[str, _Value]) -> _Value:
    """The value with these columns of the ledger, by name, in place of its own."""

    def replaced(element: ExternallyTraversible, **_: Any) -> _Value | None:
        if isinstance(element, sa.Column) and element.table is transactions:
            return columns.get(element.name)
        return None

    return visitors.replacement_traverse(value, {}, replaced)


def movement_rows(balance_shown: sa.ColumnElement[bool], ledger: sa.FromClause = transactions) -> sa.Select[Any]:
    """Rows of the ledger, or of what is joined with it, with everything that `transaction_json` reads of them."""
    return sa.select(
        transactions,
        member.c.user_id.label("member_id"),
        moved.c.type.label("moved_type"),
        moved.c.user_id.label("moved_user_id"),
        dimensions.c.provider,
        dimensions.c.model,
        dimensions.c.feature_code,
        dimensions.c.feature_instance_id,
        mandates.c.id.label("mandate_id"),
        directory_mandates.c.label,
        directory_mandates.c.name,
        directory_users.c.display_name.label("user_name"),
        balance_shown.label("balance_shown"),
    ).select_from(rows_of(frozenset(TABLES), ledger))


def description() -> _Value:
    """The row's own, else what the row is."""
    provider = said(dimensions.c.provider, "")
    feature = sa.func.coalesce(said(dimensions.c.feature_code, ""), said(dimensions.c.feature_instance_id, ""))
    of_storage = sa.func.coalesce(sa.literal("Storage: ", sa.Text) + feature, "Storage")
    return sa.func.coalesce(
        said(row.description, ""),
        sa.case(
            (row.reference_type == "STORAGE", of_storage),
            (provider.is_not(None), sa.literal("AI Usage: ", sa.Text) + provider),
            else_=sa.func.initcap(row.transaction_type),
        ),
    )


def transaction_id(account: sa.ColumnElement[int] = row.posted_account_no, seq: _Value = row.seq) -> _Value:
    """The text of `ledger.domain.transaction_id`."""
    high = sa.func.lpad(sa.func.to_hex(account.op(">>")(sa.literal_column("12"))), 12, "0")
    middle = sa.func.lpad(sa.func.to_hex(account.op("&")(sa.literal_column("4095"))), 3, "0")
    low = sa.func.to_hex(seq.op("|")(_VARIANT))
    text = sa.func.concat(high, "8", middle, low, type_=sa.Text)
    return sa.cast(sa.cast(text, sa.Uuid), sa.Text)
