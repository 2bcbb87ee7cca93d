"""Balances of many at once: of every mandate for the operator, of members for who may see them."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from services.billing.ledger.domain import BillingModel
from services.billing.ledger.grants import balance_at
from services.billing.ledger.thresholds import is_warning, warning_threshold
from services.billing.mandates.queries import display_name
from services.billing.money import from_micro
from services.billing.reports.scope import Scope
from services.billing.tables import accounts, directory_mandates, directory_users, mandates
from services.chassis.database import Database
from services.chassis.lists.reading import list_reading

__all__ = ["list_mandate_balances", "list_member_balances"]

_MANDATES = mandates.outerjoin(directory_mandates, directory_mandates.c.id == mandates.c.id)
_POOL_MODELS = ("PREPAY_MANDATE", "CREDIT_POSTPAY")


async def list_mandate_balances(database: Database, *, now: datetime, statement_s: float) -> list[dict[str, Any]]:
    """Each mandate with what it has, by mandate id: the sum of its members' budgets, or its pool."""
    columns = mandates.c
    budget = sa.and_(columns.billing_model == "PREPAY_USER", accounts.c.type == "USER")
    pool = sa.and_(columns.billing_model.in_(_POOL_MODELS), accounts.c.type == "MANDATE")
    counted = sa.case((sa.or_(budget, pool), balance_at(now)))
    of_mandate = sa.and_(accounts.c.mandate_no == columns.no, accounts.c.type.in_(("MANDATE", "USER")))
    sums = (
        sa.select(
            sa.func.coalesce(sa.func.sum(counted), 0).label("balance"),
            sa.func.count().filter(accounts.c.type == "USER").label("users"),
        )
        .where(of_mandate)
        .correlate(mandates)
        .lateral("sums")
    )
    read = (
        sa.select(
            columns.id,
            directory_mandates.c.label,
            directory_mandates.c.name,
            columns.warning_threshold_percent,
            columns.billing_model,
            columns.default_user_credit,
            columns.block_on_zero_balance,
            sums.c.balance,
            sums.c.users,
        )
        .select_from(_MANDATES.join(sums, sa.true()))
        .order_by(columns.id)
    )
    async with list_reading(database, statement_s=statement_s) as connection:
        return [_mandate_json(row) for row in (await connection.execute(read)).mappings()]


async def list_member_balances(
    database: Database, scope: Scope, *, now: datetime, statement_s: float
) -> list[dict[str, Any]]:
    """The members' accounts of the scope, by mandate and user id."""
    shown = scope.of_member()
    read = (
        sa.select(
            accounts.c.no,
            accounts.c.user_id,
            accounts.c.enabled,
            accounts.c.balance_after_last_credit,
            balance_at(now).label("balance"),
            mandates.c.id.label("mandate_id"),
            mandates.c.billing_model,
            mandates.c.warning_threshold_percent,
            directory_mandates.c.label,
            directory_mandates.c.name,
            directory_users.c.display_name,
        )
        .select_from(
            _MANDATES.join(accounts, accounts.c.mandate_no == mandates.c.no).outerjoin(
                directory_users, directory_users.c.id == accounts.c.user_id
            )
        )
        .where(
            accounts.c.type == "USER",
            shown.shows_mandate(mandates.c.id),
            shown.shows_balance(mandates.c.id, accounts.c.user_id),
        )
        .order_by(mandates.c.id, accounts.c.user_id)
    )
    async with list_reading(database, statement_s=statement_s) as connection:
        return [_member_json(row) for row in (await connection.execute(read)).mappings()]


def _mandate_json(row: sa.RowMapping) -> dict[str, Any]:
    return {
        "mandateId": row["id"],
        "mandateName": display_name(row["label"], row["name"], row["id"]),
        "totalBalance": from_micro(int(row["balance"])),
        "userCount": row["users"],
        "warningThresholdPercent": row["warning_threshold_percent"],
        "billingModel": row["billing_model"],
        "defaultUserCredit": from_micro(row["default_user_credit"]),
        "blockOnZeroBalance": row["block_on_zero_balance"],
    }


def _member_json(row: sa.RowMapping) -> dict[str, Any]:
    """Where the pool pays, a member's account has nothing and warns nobody."""
    model: BillingModel = row["billing_model"]
    own = model == "PREPAY_USER"
    balance = row["balance"] if own else 0
    threshold = (
        warning_threshold(model, row["warning_threshold_percent"], row["balance_after_last_credit"], None) if own else 0
    )
    return {
        "accountId": str(row["no"]),
        "mandateId": row["mandate_id"],
        "mandateName": display_name(row["label"], row["name"], row["mandate_id"]),
        "userId": row["user_id"],
        "userName": row["display_name"] or row["user_id"],
        "balance": from_micro(balance),
        "warningThreshold": from_micro(threshold),
        "isWarning": own and is_warning(model, balance, threshold, None),
        "enabled": row["enabled"],
    }
