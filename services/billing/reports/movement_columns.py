"""The columns of lists of transactions, as the database computes them: the same values as `transaction_json` gives.

They are computed within what the caller may see: a balance that is not shown is none, also to a filter or an order.
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql.operators import custom_op

from rappen_contracts.types import parse_uuid
from services.billing.ledger.domain import transaction_place
from services.billing.reports.extent import Extent
from services.billing.tables import (
    accounts,
    dimensions,
    directory_mandates,
    directory_users,
    mandates,
    transactions,
)
from services.chassis.lists.columns import Column, Columns, Value

__all__ = ["KEY", "USER_ID", "movement_columns", "movement_rows", "rows_of"]

_Value = sa.ColumnElement[Any]

row = transactions.c
_member, _moved = accounts.alias("member"), accounts.alias("moved")
# What identifies a row, in the order of its public id.
KEY: tuple[_Value, ...] = (row.posted_account_no, row.seq)
METADATA = "metadata."
_MICRO = sa.literal_column("0.000001", sa.Numeric)
_MILLI = sa.literal_column("0.001", sa.Numeric)
# The highest bits of the second half of a UUID of version 8.
_VARIANT = sa.literal_column("(-9223372036854775807 - 1)", sa.BigInteger)


def _text(value: _Value) -> _Value:
    """Texts of different columns have different collations, of which the database would not choose one."""
    return sa.collate(value, "default")


def _of_account(account: sa.FromClause, number: _Value) -> _Value:
    return sa.and_(account.c.mandate_no == row.mandate_no, account.c.no == number)


_said = sa.func.nullif
# Usage and storage that was charged: its row names its event, and is its member's.
_CHARGE = sa.and_(row.contra_account == "REVENUE", row.transaction_type == "DEBIT")
# Whose a row is (S2).
USER_ID = sa.func.coalesce(_text(_said(row.created_by_user_id, "")), _text(_member.c.user_id))
_MANDATE_NAME = sa.func.coalesce(
    _text(_said(directory_mandates.c.label, "")),
    _text(_said(directory_mandates.c.name, "")),
    _text(mandates.c.id),
)

# The tables beside the ledger's own, each with its condition, in the order in which they can be joined; `needs` of a
# column are their names.
TABLES: dict[str, tuple[sa.FromClause, _Value]] = {
    "member": (_member, _of_account(_member, row.member_account_no)),
    "moved": (_moved, _of_account(_moved, row.posted_account_no)),
    "dimension": (
        dimensions,
        sa.and_(dimensions.c.mandate_no == row.mandate_no, dimensions.c.no == row.dimension_no),
    ),
    "mandate": (mandates, mandates.c.no == row.mandate_no),
    "directory": (directory_mandates, directory_mandates.c.id == mandates.c.id),
    "user": (directory_users, directory_users.c.id == USER_ID),
}
_DIMENSION, _MEMBER = frozenset({"dimension"}), frozenset({"member"})
_NAMED = frozenset({"mandate", "directory"})
_USER = frozenset({"member", "user"})


def rows_of(needs: frozenset[str]) -> sa.FromClause:
    """The ledger, with the tables of those names."""
    joined: sa.FromClause = transactions
    for name, (table, condition) in TABLES.items():
        if name in needs:
            joined = joined.outerjoin(table, condition)
    return joined


def movement_rows(balance_shown: sa.ColumnElement[bool]) -> sa.Select[Any]:
    """Rows with everything that `transaction_json` reads of them."""
    return sa.select(
        transactions,
        _member.c.user_id.label("member_id"),
        _moved.c.type.label("moved_type"),
        _moved.c.user_id.label("moved_user_id"),
        dimensions.c.provider,
        dimensions.c.model,
        dimensions.c.feature_code,
        dimensions.c.feature_instance_id,
        mandates.c.id.label("mandate_id"),
        directory_mandates.c.label,
        directory_mandates.c.name,
        directory_users.c.display_name.label("user_name"),
        balance_shown.label("balance_shown"),
    ).select_from(rows_of(frozenset(TABLES)))


def movement_columns(extent: Extent) -> Columns:
    """The columns, by their names in JSON, as far as the extent shows them."""
    feature, instance = dimensions.c.feature_code, dimensions.c.feature_instance_id
    moved = sa.and_(_moved.c.type != "INTERNAL", extent.shows_balance())
    balance = sa.case((moved, row.balance_after * _MICRO))
    charged_member = sa.case((_CHARGE, _text(_member.c.user_id)))
    creator = sa.func.coalesce(_text(_said(row.created_by_user_id, "")), charged_member)
    of_event = sa.case((_CHARGE, sa.cast(row.event_id, sa.Text)))
    user_name = sa.func.coalesce(_text(_said(directory_users.c.display_name, "")), USER_ID, "")
    return Columns.of(
        (
            Column("id", "text", _transaction_id(), nullable=False, searchable=True, equals=_has_id),
            Column("accountId", "text", sa.cast(row.member_account_no, sa.Text), nullable=False, searchable=True),
            Column("transactionType", "text", row.transaction_type, nullable=False),
            _number("amount", row.amount * _MICRO, nullable=False),
            Column("description", "text", _description(), _DIMENSION, nullable=False, searchable=True),
            Column("referenceType", "text", row.reference_type, nullable=False),
            Column("workflowId", "text", row.workflow_id, searchable=True),
            Column("featureCode", "text", feature, _DIMENSION, searchable=True),
            Column("featureInstanceId", "text", instance, _DIMENSION, searchable=True),
            Column("aicoreProvider", "text", dimensions.c.provider, _DIMENSION, searchable=True),
            Column("aicoreModel", "text", dimensions.c.model, _DIMENSION, searchable=True),
            Column("createdByUserId", "text", creator, _MEMBER, searchable=True),
            Column("createdAt", "time", row.occurred_at, nullable=False),
            Column("mandateId", "text", _text(mandates.c.id), _NAMED, nullable=False, searchable=True),
            Column("mandateName", "text", _MANDATE_NAME, _NAMED, nullable=False, searchable=True),
            Column(
                "referenceId",
                "text",
                sa.func.coalesce(_said(row.reference_id, ""), of_event),
                searchable=True,
            ),
            _number("balanceAfter", balance, needs=frozenset({"moved"})),
            _number("processingTime", row.processing_time_ms * _MILLI),
            _number("bytesSent", row.bytes_sent),
            _number("bytesReceived", row.bytes_received),
            _number("errorCount", row.error_count),
            _number("inputTokens", row.input_tokens),
            _number("outputTokens", row.output_tokens),
            Column("recordedAt", "time", row.recorded_at, nullable=False),
            Column("userId", "text", USER_ID, _MEMBER, searchable=True),
            Column("userName", "text", user_name, _USER, nullable=False, searchable=True),
        ),
        aliases={"sysCreatedAt": "createdAt"},
        computed=_metadata_column,
    )


def _number(name: str, value: _Value, *, nullable: bool = True, needs: frozenset[str] = frozenset()) -> Column:
    # Of one type, so that it is compared with an exact number, whatever the column holds.
    return Column(name, "number", sa.cast(value, sa.Numeric), needs, nullable=nullable)


def _metadata_column(name: str) -> Column | None:
    """What the publisher of usage said of it under a key of its own, kept with how the amount came about."""
    key = name.removeprefix(METADATA)
    if key in (name, ""):
        return None
    # What is no JSON, because somebody changed it, says nothing.
    is_object = sa.UnaryExpression(row.derivation, modifier=custom_op("IS JSON OBJECT"), type_=sa.Boolean())
    readable = sa.and_(sa.func.strpos(row.derivation, '"metadata"') > 0, is_object)
    metadata = sa.cast(row.derivation, sa.JSON).op("->", return_type=sa.JSON())(sa.literal("metadata", sa.Text))
    value = metadata.op("->>", return_type=sa.Text())(sa.literal(key, sa.Text))
    return Column(name, "text", sa.case((readable, value)), sortable=False)


def _description() -> _Value:
    """The row's own, else what the row is."""
    provider = _said(dimensions.c.provider, "")
    feature = sa.func.coalesce(_said(dimensions.c.feature_code, ""), _said(dimensions.c.feature_instance_id, ""))
    of_storage = sa.func.coalesce(sa.literal("Storage: ", sa.Text) + feature, "Storage")
    return sa.func.coalesce(
        _said(row.description, ""),
        sa.case(
            (row.reference_type == "STORAGE", of_storage),
            (provider.is_not(None), sa.literal("AI Usage: ", sa.Text) + provider),
            else_=sa.func.initcap(row.transaction_type),
        ),
    )


def _transaction_id() -> _Value:
    """The text of `ledger.domain.transaction_id`."""
    account, seq = row.posted_account_no, row.seq
    high = sa.func.lpad(sa.func.to_hex(account.op(">>")(sa.literal_column("12"))), 12, "0")
    middle = sa.func.lpad(sa.func.to_hex(account.op("&")(sa.literal_column("4095"))), 3, "0")
    low = sa.func.to_hex(seq.op("|")(_VARIANT))
    text = sa.func.concat(high, "8", middle, low, type_=sa.Text)
    return sa.cast(sa.cast(text, sa.Uuid), sa.Text)


def _has_id(values: Sequence[Value]) -> sa.ColumnElement[bool]:
    """Whether the row's id is one of the values, of which each leads to its place."""
    places = [place for value in values if (place := _place(value)) is not None]
    numbers = sa.ARRAY(sa.BigInteger)
    account_nos, seqs = ([place[part] for place in places] for part in (0, 1))
    given = (
        sa.func.unnest(sa.literal(account_nos, numbers), sa.literal(seqs, numbers))
        .table_valued(sa.column("account_no", sa.BigInteger), sa.column("seq", sa.BigInteger))
        .render_derived(name="given")
    )
    return sa.tuple_(*KEY).in_(sa.select(given.c.account_no, given.c.seq))


def _place(value: Value) -> tuple[int, int] | None:
    try:
        return transaction_place(parse_uuid(value))
    except ValueError:
        return None
