"""Accounts and manual credit: /api/billing/admin/accounts, /admin/credit, /admin/unknown, /internal/top-up-target."""

from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import AfterValidator, StringConstraints

from services.billing.credits.credit_by_hand import HandCredit, credit_by_hand, credited_account
from services.billing.credits.errors import NoAccount
from services.billing.errors import AmountAboveCeiling
from services.billing.http import (
    ApiContext,
    Body,
    ChfNumber,
    IdempotencyKey,
    Identifier,
    id_parameter,
    mandate_parameter,
    router,
)
from services.billing.ledger.accounts import set_enabled
from services.billing.mandates.audit_log import record_change
from services.billing.mandates.queries import ensure_known, unknown_usage
from services.billing.mandates.repository import lock_mandate
from services.billing.reports.balances import account_json, list_accounts, read_account
from services.chassis.caller import Caller
from services.chassis.validation import value_fault

__all__ = ["routes"]

UNKNOWN_MAX = 1000
ACCOUNT_NUMBER_MAX = 2**60


def _said(text: str) -> str:
    if "\x00" in text or not text.strip():
        raise value_fault(
            "text",
            en="text that is not blank and has no NUL is expected",
            de="Text ohne NUL, der nicht leer ist, wird erwartet",
        )
    return text


class CreditBody(Body):
    """A signed amount: positive credits, negative deducts."""

    user_id: Identifier | None = None
    amount: ChfNumber
    description: Annotated[str, StringConstraints(max_length=500), AfterValidator(_said)] | None = None


class AccountBody(Body):
    """What can be set on an account."""

    enabled: bool


def routes(context: ApiContext) -> APIRouter:
    """What administrators see of accounts and do to them."""
    api = router()
    Who = Annotated[Caller, Depends(context.caller)]

    async def system_admin(caller: Who) -> None:
        caller.require_system_admin()

    @api.get("/api/billing/admin/accounts/{mandate_id}")
    async def accounts(caller: Who, mandate_id: str) -> list[dict[str, Any]]:
        caller.require_admin(mandate_parameter(mandate_id))
        async with context.database.bare() as connection:
            return await list_accounts(connection, await ensure_known(connection, mandate_id))

    @api.put("/api/billing/admin/accounts/{account_id}", dependencies=[Depends(system_admin)])
    async def set_account(caller: Who, account_id: str, body: AccountBody) -> dict[str, Any]:
        number = _account_number(account_id)
        async with context.database.bare() as connection, connection.transaction():
            before = await read_account(connection, number)
            if before is None:
                raise NoAccount
            if before["enabled"] != body.enabled:
                mandate_no = await set_enabled(connection, number, enabled=body.enabled)
                await record_change(
                    connection,
                    mandate_no=mandate_no,
                    actor=caller.user_id,
                    action="account",
                    before={"id": account_id, "enabled": before["enabled"]},
                    after={"id": account_id, "enabled": body.enabled},
                    now=context.clock(),
                )
            after = await read_account(connection, number)
            if after is None:
                raise NoAccount
            return account_json(after)

    @api.post("/api/billing/admin/credit/{mandate_id}", dependencies=[Depends(system_admin)])
    async def credit(
        caller: Who,
        mandate_id: str,
        body: CreditBody,
        key: IdempotencyKey = None,
    ) -> dict[str, Any]:
        _require_below(context.settings.amount_max_chf, body.amount)
        given = HandCredit(body.user_id, body.amount, body.description or "Manual credit", key)
        async with context.database.bare() as connection, connection.transaction():
            number = await ensure_known(connection, mandate_parameter(mandate_id))
            return await credit_by_hand(connection, number, given, caller=caller, now=context.clock())

    @api.get("/api/billing/admin/unknown")
    async def unknown(caller: Who) -> dict[str, Any]:
        caller.require_system_admin()
        async with context.database.bare() as connection:
            return {"items": await unknown_usage(connection, limit=UNKNOWN_MAX)}

    @api.get("/internal/top-up-target/{mandate_id}")
    async def top_up_target(
        caller: Who, mandate_id: str, user_id: Annotated[str | None, Query(alias="userId")] = None
    ) -> dict[str, Any]:
        """Whether a top-up can be for this user, asked by the gateway before a checkout is made."""
        caller.require_admin(mandate_parameter(mandate_id))
        async with context.database.bare() as connection, connection.transaction():
            number = await ensure_known(connection, mandate_id)
            target = None if user_id is None else id_parameter("userId", user_id)
            mandate = await lock_mandate(connection, number)
            await credited_account(connection, mandate, target, now=context.clock())
        return {"mandateId": mandate_id, "userId": user_id}

    return api


def _require_below(ceiling: Decimal, amount: Decimal) -> None:
    if abs(amount) > ceiling:
        raise AmountAboveCeiling("amount", ceiling)


def _account_number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 19 and int(text) < ACCOUNT_NUMBER_MAX):
        raise NoAccount
    return int(text)
