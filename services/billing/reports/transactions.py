"""Reads of the ledger within a caller's scope."""

from typing import Any

import sqlalchemy as sa
from pydantic_core import PydanticCustomError
from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts.types import parse_uuid
from services.billing.ledger.domain import transaction_id, transaction_place
from services.billing.mandates.queries import display_name
from services.billing.money import from_micro
from services.billing.reports.errors import TransactionUnknown
from services.billing.reports.scope import Scope
from services.billing.tables import accounts, dimensions, directory_mandates, mandates, transactions
from services.chassis.database import Database

__all__ = ["find_transaction", "list_transactions", "place_of", "read_transaction", "transaction_json"]


def _account_of(account: sa.FromClause, number: sa.ColumnElement[int]) -> sa.ColumnElement[bool]:
    return sa.and_(account.c.mandate_no == transactions.c.mandate_no, account.c.no == number)


_member, _moved = accounts.alias("member"), accounts.alias("moved")
# The rows of one mandate.
_ROWS = (
    sa.select(
        transactions,
        _member.c.user_id.label("member_id"),
        _moved.c.type.label("moved_type"),
        _moved.c.user_id.label("moved_user_id"),
        dimensions.c.provider,
        dimensions.c.model,
        dimensions.c.feature_code,
        dimensions.c.feature_instance_id,
    )
    .select_from(
        transactions.join(_member, _account_of(_member, transactions.c.member_account_no))
        .join(_moved, _account_of(_moved, transactions.c.posted_account_no))
        .outerjoin(
            dimensions,
            sa.and_(
                dimensions.c.mandate_no == transactions.c.mandate_no, dimensions.c.no == transactions.c.dimension_no
            ),
        )
    )
    .where(transactions.c.mandate_no == mandates.c.no)
    .correlate(mandates)
)


# Whose a row is (S2).
_USER_ID = sa.func.coalesce(transactions.c.created_by_user_id, _member.c.user_id)


def _rows_of(scope: Scope) -> sa.Select[Any]:
    """The rows of one mandate that the scope shows, and of which of them it shows the balance."""
    shown = scope.shows_row(mandates.c.id, _USER_ID, dimensions.c.feature_instance_id)
    return _ROWS.add_columns(scope.shows_balance(mandates.c.id, _USER_ID).label("balance_shown")).where(shown)


async def list_transactions(database: Database, scope: Scope, *, limit: int, offset: int) -> list[dict[str, Any]]:
    """A page of the scope's rows, the newest first."""
    # Each mandate gives its newest by its own index before they are merged, so that a list costs the same whatever the
    # size of the ledger.
    newest = _rows_of(scope).order_by(*_newest_first(transactions.c)).limit(limit + offset).lateral("newest")
    page = (
        _named(newest)
        .where(scope.shows_mandate(mandates.c.id))
        .order_by(*_newest_first(newest.c))
        .limit(limit)
        .offset(offset)
    )
    async with database.reading() as connection:
        return [
            transaction_json(row) for row in (await connection.execute(page.limit(limit).offset(offset))).mappings()
        ]


async def read_transaction(
    connection: AsyncConnection, mandate_no: int, posted_account_no: int, seq: int
) -> dict[str, Any]:
    """One row, by its number in its account's chain."""
    in_chain = sa.and_(transactions.c.posted_account_no == posted_account_no, transactions.c.seq == seq)
    read = _named(_ROWS.add_columns(sa.true().label("balance_shown")).where(in_chain).lateral("one")).where(
        mandates.c.no == mandate_no
    )
    return transaction_json((await connection.execute(read)).mappings().one())


def place_of(transaction: str) -> tuple[int, int]:
    """The account of a row and its number in the chain, by the text of its id; raises `TransactionUnknown` for a text
    that no row can have as its id."""
    try:
        place = transaction_place(parse_uuid(transaction))
    except PydanticCustomError:
        place = None
    if place is None:
        raise TransactionUnknown
    return place


async def find_transaction(
    connection: AsyncConnection, scope: Scope, posted_account_no: int, seq: int
) -> sa.RowMapping | None:
    """One row of the scope, by its number in its account's chain; None where the scope has no such row."""
    in_chain = sa.and_(transactions.c.posted_account_no == posted_account_no, transactions.c.seq == seq)
    of_account = sa.select(accounts.c.mandate_no).where(accounts.c.no == posted_account_no).scalar_subquery()
    read = _named(_rows_of(scope).where(in_chain).lateral("one")).where(
        scope.shows_mandate(mandates.c.id), mandates.c.no == of_account
    )
    found: sa.RowMapping | None = (await connection.execute(read)).mappings().one_or_none()
    return found


def _named(rows: sa.FromClause) -> sa.Select[Any]:
    """Rows of each mandate with its id and what it is called."""
    named = mandates.join(rows, sa.true()).outerjoin(directory_mandates, directory_mandates.c.id == mandates.c.id)
    of_mandate = (mandates.c.id.label("mandate_id"), directory_mandates.c.label, directory_mandates.c.name)
    return sa.select(rows, *of_mandate).select_from(named)


def _newest_first(columns: sa.ColumnCollection[str, sa.ColumnElement[Any]]) -> list[sa.ColumnElement[Any]]:
    return [columns["occurred_at"].desc(), columns["posted_account_no"], columns["seq"].desc()]


def transaction_json(row: sa.RowMapping) -> dict[str, Any]:
    """A transaction as every answer shows it; amounts in CHF, processing time in seconds."""
    usage = row["contra_account"] == "REVENUE" and row["transaction_type"] == "DEBIT"
    return {
        "id": transaction_id(row["posted_account_no"], row["seq"]),
        "accountId": str(row["member_account_no"]),
        "transactionType": row["transaction_type"],
        "amount": from_micro(row["amount"]),
        "description": row["description"] or _description(row),
        "referenceType": row["reference_type"],
        "workflowId": row["workflow_id"],
        "featureCode": row["feature_code"],
        "featureInstanceId": row["feature_instance_id"],
        "aicoreProvider": row["provider"],
        "aicoreModel": row["model"],
        "createdByUserId": row["created_by_user_id"] or (row["member_id"] if usage else None),
        "createdAt": row["occurred_at"],
        "mandateId": row["mandate_id"],
        "mandateName": display_name(row["label"], row["name"], row["mandate_id"]),
        "referenceId": row["reference_id"] or (str(row["event_id"]) if usage else None),
        "balanceAfter": from_micro(row["balance_after"]) if _has_balance(row) else None,
        "processingTime": _seconds(row["processing_time_ms"]),
        "bytesSent": row["bytes_sent"],
        "bytesReceived": row["bytes_received"],
        "errorCount": row["error_count"],
        "inputTokens": row["input_tokens"],
        "outputTokens": row["output_tokens"],
        "recordedAt": row["recorded_at"],
    }


def _has_balance(row: sa.RowMapping) -> bool:
    """Usage of an UNLIMITED mandate moves nobody's balance; others are not everybody's to see."""
    return row["moved_type"] != "INTERNAL" and bool(row["balance_shown"])


def _description(row: sa.RowMapping) -> str:
    if row["reference_type"] == "STORAGE":
        return f"Storage: {row['feature_code'] or row['feature_instance_id']}"
    return f"AI Usage: {row['provider']}" if row["provider"] else row["transaction_type"].capitalize()


def _seconds(milliseconds: int | None) -> Any:
    return None if milliseconds is None else from_micro(milliseconds * 1000).normalize()
