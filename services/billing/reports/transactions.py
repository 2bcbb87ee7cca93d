"""Reads of the ledger within a caller's scope."""

from dataclasses import dataclass
from typing import Any

import asyncpg

from services.billing.ledger.domain import transaction_id
from services.billing.mandates.queries import DISPLAY_NAME
from services.billing.money import from_micro
from services.chassis.caller import Caller
from services.chassis.database import Database, driver_connection

__all__ = ["Scope", "list_transactions", "read_transaction", "transaction_json"]

# The rows of one mandate, newest first. Each gives its newest by its own index before they are merged, so that a list
# costs the same whatever the size of the ledger.
_ROWS = (
    "SELECT t.*, a.user_id AS member_id, moved.type AS moved_type, d.provider, d.model, d.feature_code,"
    " d.feature_instance_id"
    " FROM transactions t"
    " JOIN accounts a ON a.mandate_no = t.mandate_no AND a.no = t.member_account_no"
    " JOIN accounts moved ON moved.mandate_no = t.mandate_no AND moved.no = t.posted_account_no"
    " LEFT JOIN dimensions d ON d.mandate_no = t.mandate_no AND d.no = t.dimension_no"
    " WHERE t.mandate_no = m.no"
)
_ORDER = "ORDER BY t.occurred_at DESC, t.posted_account_no, t.seq DESC"
_FROM = f"SELECT t.*, m.id AS mandate_id, {DISPLAY_NAME} AS mandate_name FROM mandates m"
_NAMES = "LEFT JOIN directory_mandates dm ON dm.id = m.id"


@dataclass(frozen=True, slots=True)
class Scope:
    """What a caller may see of the ledger: which mandates, and which of their rows, as conditions."""

    mandates: str
    rows: str
    values: tuple[object, ...]

    @classmethod
    def of(cls, caller: Caller) -> "Scope":
        """Everything for a system administrator; else administered mandates, own rows, and administered instances,
        whose administrators need not be members of the instances' mandates."""
        only = caller.context_mandate
        if caller.system_admin:
            return cls("$1::text IS NULL OR m.id = $1", "true", (only,))
        visible = caller.mandates.keys() | caller.instance_mandates
        mandates = [mandate for mandate in visible if only is None or mandate == only]
        administered = [mandate for mandate in mandates if caller.mandates.get(mandate, False)]
        return cls(
            "m.id = ANY($1)",
            "m.id = ANY($2) OR d.feature_instance_id = ANY($4)"
            " OR m.id = ANY($5) AND coalesce(t.created_by_user_id, a.user_id) = $3",
            (sorted(mandates), sorted(administered), caller.user_id, sorted(caller.instances), sorted(caller.mandates)),
        )


async def list_transactions(database: Database, scope: Scope, *, limit: int, offset: int) -> list[dict[str, Any]]:
    """A page of the scope's rows, the newest first."""
    size, start = f"${len(scope.values) + 1}", f"${len(scope.values) + 2}"
    async with database.reading() as connection:
        rows = await driver_connection(connection).fetch(
            f"{_FROM} CROSS JOIN LATERAL ({_ROWS} AND ({scope.rows}) {_ORDER} LIMIT {size}::bigint + {start}::bigint) t"
            f" {_NAMES} WHERE {scope.mandates} {_ORDER} LIMIT {size} OFFSET {start}",
            *scope.values,
            limit,
            offset,
        )
    return [transaction_json(row) for row in rows]


async def read_transaction(
    connection: asyncpg.Connection, mandate_no: int, posted_account_no: int, seq: int
) -> dict[str, Any]:
    """One row, by its number in its account's chain."""
    row = await connection.fetchrow(
        f"{_FROM} CROSS JOIN LATERAL ({_ROWS} AND t.posted_account_no = $2 AND t.seq = $3) t {_NAMES} WHERE m.no = $1",
        mandate_no,
        posted_account_no,
        seq,
    )
    return transaction_json(row)


def transaction_json(row: asyncpg.Record) -> dict[str, Any]:
    """A transaction as every answer shows it; amounts in CHF, processing time in seconds."""
    usage = row["contra_account"] == "REVENUE"
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
        "mandateName": row["mandate_name"],
        "referenceId": row["reference_id"] or (str(row["event_id"]) if usage else None),
        # Usage of an UNLIMITED mandate moves nobody's balance.
        "balanceAfter": None if row["moved_type"] == "INTERNAL" else from_micro(row["balance_after"]),
        "processingTime": _seconds(row["processing_time_ms"]),
        "bytesSent": row["bytes_sent"],
        "bytesReceived": row["bytes_received"],
        "errorCount": row["error_count"],
        "inputTokens": row["input_tokens"],
        "outputTokens": row["output_tokens"],
        "recordedAt": row["recorded_at"],
    }


def _description(row: asyncpg.Record) -> str:
    if row["reference_type"] == "STORAGE":
        return f"Storage: {row['feature_code'] or row['feature_instance_id']}"
    return f"AI Usage: {row['provider']}" if row["provider"] else row["transaction_type"].capitalize()


def _seconds(milliseconds: int | None) -> Any:
    return None if milliseconds is None else from_micro(milliseconds * 1000).normalize()
