"""Reads of balances and accounts. Amounts in answers are exact CHF."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import asyncpg

from services.billing.checks.domain import is_warning, warning_threshold
from services.billing.ledger.domain import BillingModel
from services.billing.mandates.queries import display_name
from services.billing.money import from_micro
from services.chassis.caller import Caller

__all__ = ["account_json", "list_accounts", "own_balances", "read_account"]

_ACCOUNT = (
    "SELECT a.no, a.type, a.user_id, a.balance, a.held, a.credit_limit, a.level, a.enabled, m.id AS mandate_id,"
    " m.billing_model, m.warning_threshold_percent FROM accounts a JOIN mandates m ON m.no = a.mandate_no"
)


async def own_balances(
    connection: asyncpg.Connection, caller: Caller, mandate_ids: Sequence[str]
) -> list[dict[str, Any]]:
    """The caller's balance in each of the mandates, by mandate id: their budget, the pool, or nothing (UNLIMITED)."""
    rows = await connection.fetch(
        "SELECT given.id, dm.label, dm.name, coalesce(m.billing_model, 'PREPAY_MANDATE') AS billing_model,"
        " coalesce(m.warning_threshold_percent, 10) AS percent, a.balance, a.level, a.credit_limit"
        " FROM unnest($1::text[]) AS given (id)"
        " LEFT JOIN directory_mandates dm ON dm.id = given.id"
        " LEFT JOIN mandates m ON m.id = given.id"
        " LEFT JOIN accounts a ON a.mandate_no = m.no AND ("
        "   (m.billing_model = 'PREPAY_USER' AND a.type = 'USER' AND a.user_id = $2)"
        "   OR (m.billing_model IN ('PREPAY_MANDATE', 'CREDIT_POSTPAY') AND a.type = 'MANDATE'))"
        " ORDER BY given.id",
        list(mandate_ids),
        caller.user_id,
    )
    return [_balance_json(row) for row in rows]


def _balance_json(row: asyncpg.Record) -> dict[str, Any]:
    model: BillingModel = row["billing_model"]
    balance = row["balance"] or 0
    limit = row["credit_limit"] if model == "CREDIT_POSTPAY" else None
    threshold = _threshold(model, row["percent"], row["level"] or 0, limit)
    return {
        "mandateId": row["id"],
        "mandateName": display_name(row["label"], row["name"], row["id"]),
        "billingModel": model,
        "balance": from_micro(balance),
        "currency": "CHF",
        "warningThreshold": from_micro(threshold),
        "isWarning": is_warning(model, balance, threshold, limit),
        "creditLimit": None if limit is None else from_micro(limit),
    }


def _threshold(model: BillingModel, percent: Decimal, level: int, limit: int | None) -> int:
    """Percent of a level in whole micro-CHF; what is smaller than that can warn nobody."""
    return warning_threshold(model, int(percent * level / 100), None if limit is None else int(percent * limit / 100))


async def list_accounts(connection: asyncpg.Connection, mandate_no: int) -> list[dict[str, Any]]:
    """The pool and the members' accounts, the pool first."""
    rows = await connection.fetch(
        f"{_ACCOUNT} WHERE a.mandate_no = $1 AND a.type IN ('MANDATE', 'USER') ORDER BY a.user_id IS NOT NULL, a.no",
        mandate_no,
    )
    return [account_json(row) for row in rows]


async def read_account(connection: asyncpg.Connection, account_no: int) -> asyncpg.Record | None:
    """One pool or member account by its number."""
    return await connection.fetchrow(f"{_ACCOUNT} WHERE a.no = $1 AND a.type IN ('MANDATE', 'USER')", account_no)


def account_json(row: asyncpg.Record) -> dict[str, Any]:
    """The one form of an account."""
    limit = row["credit_limit"]
    threshold = _threshold(row["billing_model"], row["warning_threshold_percent"], row["level"], limit)
    return {
        "id": str(row["no"]),
        "mandateId": row["mandate_id"],
        "userId": row["user_id"],
        "balance": from_micro(row["balance"]),
        "warningThreshold": from_micro(threshold),
        "enabled": row["enabled"],
        "accountType": row["type"],
        "creditLimit": None if limit is None else from_micro(limit),
        "heldAmount": from_micro(row["held"]),
    }
