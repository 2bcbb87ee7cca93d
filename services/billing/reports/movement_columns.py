"""The columns of lists of transactions, as the database computes them: the same values as `transaction_json` gives.

They are computed within what the caller may see: a balance that is not shown is none, also to a filter or an order.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql.operators import custom_op

from rappen_contracts.types import parse_uuid
from services.billing.ledger.domain import transaction_place
from services.billing.reports.extent import Extent
from services.billing.reports.movement_values import (
    CHARGE,
    KEY,
    MANDATE_NAME,
    MICRO,
    USER_ID,
    among,
    description,
    member,
    moved,
    row,
    said,
    text_of,
    transaction_id,
)
from services.billing.tables import accounts, dimensions, directory_users, mandates
from services.chassis.lists.columns import Column, Columns, Value
from services.chassis.statements import one_of

__all__ = ["movement_columns"]

_Value = sa.ColumnElement[Any]

METADATA = "metadata."
_MILLI = sa.literal_column("0.001", sa.Numeric)
_DIMENSION, _MEMBER = frozenset({"dimension"}), frozenset({"member"})
_NAMED = frozenset({"mandate", "directory"})
_USER = frozenset({"member", "user"})

# Made once, and not for each request.
_ID, _DESCRIPTION = transaction_id(), description()
_CREATOR = sa.func.coalesce(text_of(said(row.created_by_user_id, "")), sa.case((CHARGE, text_of(member.c.user_id))))
_REFERENCE_ID = sa.func.coalesce(said(row.reference_id, ""), sa.case((CHARGE, sa.cast(row.event_id, sa.Text))))
_USER_NAME = sa.func.coalesce(text_of(said(directory_users.c.display_name, "")), USER_ID, "")


def movement_columns(extent: Extent) -> Columns:
    """The columns, by their names in JSON, as far as the extent shows them."""
    has_balance = sa.and_(moved.c.type != "INTERNAL", extent.shows_balance())
    balance = sa.case((has_balance, row.balance_after * MICRO))
    return Columns.of(
        (
            Column("id", "text", _ID, nullable=False, equals=_has_id),
            Column("accountId", "text", sa.cast(row.member_account_no, sa.Text), nullable=False),
            Column("transactionType", "text", row.transaction_type, nullable=False),
            _number("amount", row.amount * MICRO, nullable=False, order=row.amount),
            Column("description", "text", _DESCRIPTION, _DIMENSION, nullable=False),
            Column("referenceType", "text", row.reference_type, nullable=False),
            Column("workflowId", "text", row.workflow_id),
            _dimension(extent, "featureCode", dimensions.c.feature_code),
            _dimension(extent, "featureInstanceId", dimensions.c.feature_instance_id),
            _dimension(extent, "aicoreProvider", dimensions.c.provider),
            _dimension(extent, "aicoreModel", dimensions.c.model),
            Column("createdByUserId", "text", _CREATOR, _MEMBER),
            Column("createdAt", "time", row.occurred_at, nullable=False),
            Column("mandateId", "text", text_of(mandates.c.id), _NAMED, nullable=False),
            Column("mandateName", "text", MANDATE_NAME, _NAMED, nullable=False),
            Column("referenceId", "text", _REFERENCE_ID),
            _number("balanceAfter", balance, needs=frozenset({"moved"})),
            _number("processingTime", row.processing_time_ms * _MILLI),
            _number("bytesSent", row.bytes_sent),
            _number("bytesReceived", row.bytes_received),
            _number("errorCount", row.error_count),
            _number("inputTokens", row.input_tokens),
            _number("outputTokens", row.output_tokens),
            Column("recordedAt", "time", row.recorded_at, nullable=False),
            Column("userId", "text", USER_ID, _MEMBER, equals=partial(_is_of_user, extent)),
            Column("userName", "text", _USER_NAME, _USER, nullable=False),
        ),
        aliases={"sysCreatedAt": "createdAt"},
        computed=_metadata_column,
    )


def _number(
    name: str,
    value: _Value,
    *,
    nullable: bool = True,
    needs: frozenset[str] = frozenset(),
    order: _Value | None = None,
) -> Column:
    # Of one type, so that it is compared with an exact number, whatever the column holds.
    return Column(name, "number", sa.cast(value, sa.Numeric), needs, nullable=nullable, order=order)


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


def _is_of_user(extent: Extent, values: Sequence[Value]) -> sa.ColumnElement[bool]:
    """Whether a row is one of these users', by the numbers of their accounts."""
    ids = [str(value) for value in values]
    theirs = sa.select(accounts.c.no).where(accounts.c.type == "USER", one_of(accounts.c.user_id, ids))
    of_member = among(row.member_account_no, theirs.where(extent.has_mandate(accounts.c.mandate_no)))
    about = sa.and_(of_member, sa.func.coalesce(row.created_by_user_id, "") == "")
    return sa.or_(about, one_of(row.created_by_user_id, ids))


def _dimension(extent: Extent, name: str, value: sa.Column[Any]) -> Column:
    """A column of what usage was for, which is compared by its numbers."""

    def equals(values: Sequence[Value]) -> sa.ColumnElement[bool]:
        named = sa.select(dimensions.c.no).where(one_of(value, [str(each) for each in values]))
        return among(row.dimension_no, named.where(extent.has_mandate(dimensions.c.mandate_no)))

    return Column(name, "text", value, frozenset({"dimension"}), equals=equals)
