"""Reads of balances and accounts. Amounts in answers are exact CHF; grants whose time is over do not count."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.checks.domain import is_warning, warning_threshold
from services.billing.ledger.domain import BillingModel
from services.billing.ledger.grants import balance_at
from services.billing.mandates.open_mandate import open_mandate
from services.billing.mandates.queries import display_name, markup_in_force
from services.billing.money import from_micro
from services.billing.tables import accounts, directory_mandates, mandates
from services.chassis.caller import Caller
from services.chassis.clock import Clock
from services.chassis.database import Database

__all__ = ["list_accounts", "list_balances", "read_account", "show_balance", "show_markup"]


async def list_balances(database: Database, caller: Caller, *, clock: Clock) -> list[dict[str, Any]]:
    """The caller's balance in each of their mandates, by mandate id."""
    async with database.reading() as connection:
        return await _own_balances(connection, caller, sorted(caller.mandates), clock())


async def show_balance(database: Database, caller: Caller, mandate_id: str, *, clock: Clock) -> dict[str, Any]:
    """The caller's balance in one mandate."""
    async with database.reading() as connection:
        await open_mandate(connection, mandate_id)
        return (await _own_balances(connection, caller, [mandate_id], clock()))[0]


async def show_markup(database: Database, mandate_id: str, default: Decimal) -> dict[str, Decimal]:
    """The markup in force for a mandate; `default` is the platform's, in percent."""
    async with database.reading() as connection:
        mandate_no = await open_mandate(connection, mandate_id)
        return {"percent": await markup_in_force(connection, mandate_no, default)}


async def list_accounts(database: Database, mandate_id: str, *, clock: Clock) -> list[dict[str, Any]]:
    """The pool and the members' accounts of a mandate, the pool first."""
    async with database.reading() as connection:
        of_mandate = accounts.c.mandate_no == await open_mandate(connection, mandate_id)
        read = _accounts(clock()).where(of_mandate).order_by(accounts.c.user_id.is_not(None), accounts.c.no)
        return [_account_json(row) for row in (await connection.execute(read)).mappings()]


async def read_account(connection: AsyncConnection, account_no: int, *, now: datetime) -> dict[str, Any] | None:
    """One pool or member account by its number."""
    row = (await connection.execute(_accounts(now).where(accounts.c.no == account_no))).mappings().first()
    return None if row is None else _account_json(row)


def _accounts(now: datetime) -> sa.Select[Any]:
    """Pools and members' accounts, with their balances at a time."""
    return (
        sa.select(
            accounts.c.no,
            accounts.c.type,
            accounts.c.user_id,
            balance_at(now).label("balance"),
            accounts.c.held,
            accounts.c.credit_limit,
            accounts.c.balance_after_last_credit,
            accounts.c.enabled,
            mandates.c.id.label("mandate_id"),
            mandates.c.billing_model,
            mandates.c.warning_threshold_percent,
        )
        .select_from(accounts.join(mandates, mandates.c.no == accounts.c.mandate_no))
        .where(accounts.c.type.in_(("MANDATE", "USER")))
    )


async def _own_balances(
    connection: AsyncConnection, caller: Caller, mandate_ids: Sequence[str], now: datetime
) -> list[dict[str, Any]]:
    """By mandate id: the caller's budget, the pool, or nothing (UNLIMITED)."""
    ids = sa.func.unnest(sa.literal(list(mandate_ids), ARRAY(sa.Text)))
    given = ids.table_valued(sa.column("id", sa.Text)).render_derived(name="given")
    own = sa.and_(
        mandates.c.billing_model == "PREPAY_USER", accounts.c.type == "USER", accounts.c.user_id == caller.user_id
    )
    shared = sa.and_(mandates.c.billing_model.in_(("PREPAY_MANDATE", "CREDIT_POSTPAY")), accounts.c.type == "MANDATE")
    rows = await connection.execute(
        sa.select(
            given.c.id,
            directory_mandates.c.label,
            directory_mandates.c.name,
            sa.func.coalesce(mandates.c.billing_model, "PREPAY_MANDATE").label("billing_model"),
            sa.func.coalesce(mandates.c.warning_threshold_percent, Decimal(10)).label("percent"),
            balance_at(now).label("balance"),
            accounts.c.balance_after_last_credit,
            accounts.c.credit_limit,
        )
        .select_from(
            given.outerjoin(directory_mandates, directory_mandates.c.id == given.c.id)
            .outerjoin(mandates, mandates.c.id == given.c.id)
            .outerjoin(accounts, sa.and_(accounts.c.mandate_no == mandates.c.no, sa.or_(own, shared)))
        )
        .order_by(given.c.id)
    )
    return [_balance_json(row) for row in rows.mappings()]


def _balance_json(row: sa.RowMapping) -> dict[str, Any]:
    model: BillingModel = row["billing_model"]
    balance = row["balance"] or 0
    limit = row["credit_limit"] if model == "CREDIT_POSTPAY" else None
    threshold = _threshold(model, row["percent"], row["balance_after_last_credit"] or 0, limit)
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


def _threshold(model: BillingModel, percent: Decimal, balance_after_last_credit: int, limit: int | None) -> int:
    """The warning threshold in whole micro-CHF, rounded towards zero."""
    return warning_threshold(
        model, int(percent * balance_after_last_credit / 100), None if limit is None else int(percent * limit / 100)
    )


def _account_json(row: sa.RowMapping) -> dict[str, Any]:
    """An account as every answer shows it; amounts in CHF."""
    limit = row["credit_limit"]
    threshold = _threshold(
        row["billing_model"], row["warning_threshold_percent"], row["balance_after_last_credit"], limit
    )
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
