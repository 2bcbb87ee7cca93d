"""Single rows of the ledger within a caller's scope, and how every answer shows one."""

from typing import Any

import sqlalchemy as sa
from pydantic_core import PydanticCustomError
from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts.types import parse_uuid
from services.billing.ledger.domain import transaction_id, transaction_place
from services.billing.mandates.queries import display_name
from services.billing.money import from_micro
from services.billing.reports.errors import TransactionUnknown
from services.billing.reports.movement_values import USER_ID, movement_rows
from services.billing.reports.scope import Scope
from services.billing.tables import accounts, dimensions, mandates, transactions

__all__ = [
    "find_transaction",
    "has_balance",
    "place_of",
    "read_transaction",
    "transaction_json",
    "user_transaction_json",
]


async def read_transaction(
    connection: AsyncConnection, mandate_no: int, posted_account_no: int, seq: int
) -> dict[str, Any]:
    """One row, by its number in its account's chain."""
    read = movement_rows(sa.true()).where(_in_chain(mandate_no, posted_account_no, seq))
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
    number = sa.select(accounts.c.mandate_no).where(accounts.c.no == posted_account_no).scalar_subquery()
    shown = scope.shows_row(mandates.c.id, USER_ID, dimensions.c.feature_instance_id)
    read = movement_rows(scope.shows_balance(mandates.c.id, USER_ID)).where(
        _in_chain(number, posted_account_no, seq), scope.shows_mandate(mandates.c.id), shown
    )
    found: sa.RowMapping | None = (await connection.execute(read)).mappings().one_or_none()
    return found


def _in_chain(mandate_no: Any, posted_account_no: int, seq: int) -> sa.ColumnElement[bool]:
    row = transactions.c
    return sa.and_(row.mandate_no == mandate_no, row.posted_account_no == posted_account_no, row.seq == seq)


def user_transaction_json(row: sa.RowMapping) -> dict[str, Any]:
    """A transaction with whose it is; without anybody, the name is empty."""
    user_id = row["created_by_user_id"] or row["member_id"]
    return {**transaction_json(row), "userId": user_id, "userName": row["user_name"] or user_id or ""}


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
        "balanceAfter": from_micro(row["balance_after"]) if has_balance(row) else None,
        "processingTime": _seconds(row["processing_time_ms"]),
        "bytesSent": row["bytes_sent"],
        "bytesReceived": row["bytes_received"],
        "errorCount": row["error_count"],
        "inputTokens": row["input_tokens"],
        "outputTokens": row["output_tokens"],
        "recordedAt": row["recorded_at"],
    }


def has_balance(row: sa.RowMapping) -> bool:
    """Usage of an UNLIMITED mandate moves nobody's balance; others are not everybody's to see."""
    return row["moved_type"] != "INTERNAL" and bool(row["balance_shown"])


def _description(row: sa.RowMapping) -> str:
    if row["reference_type"] == "STORAGE":
        feature = row["feature_code"] or row["feature_instance_id"]
        return f"Storage: {feature}" if feature else "Storage"
    return f"AI Usage: {row['provider']}" if row["provider"] else row["transaction_type"].capitalize()


def _seconds(milliseconds: int | None) -> Any:
    return None if milliseconds is None else from_micro(milliseconds * 1000).normalize()
