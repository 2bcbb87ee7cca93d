"""Accounts and manual credit: /api/billing/admin/accounts, /admin/credit, /admin/unknown, /internal/top-up-target."""

from decimal import Decimal
from typing import Annotated, Any

from fastapi import Depends, Path, Query
from pydantic import WithJsonSchema

from services.billing.credits.bodies import AccountChange, Credit, Unknown
from services.billing.credits.credit_by_hand import HandCredit, credit_by_hand, credited_account
from services.billing.credits.errors import NoAccount
from services.billing.errors import AmountAboveCeiling
from services.billing.http import Context, IdempotencyKey, require_mandate_admin, router
from services.billing.ledger.accounts import set_enabled
from services.billing.mandates.audit_log import record_change
from services.billing.mandates.queries import ensure_known, unknown_usage
from services.billing.mandates.repository import lock_mandate
from services.billing.parameters import IdOf, MandateId
from services.billing.reports.balances import account_json, list_accounts, read_account
from services.billing.reports.bodies import Account, Transaction
from services.chassis.bodies import IDENTIFIER_SCHEMA
from services.chassis.caller import CurrentCaller, require_system_admin
from services.chassis.operations import CHANGES_PER_MINUTE, Access, Repeat, operation

__all__ = ["api"]

UNKNOWN_MAX = 1000
ACCOUNT_NUMBER_MAX = 2**60

api = router()


@api.get(
    "/api/billing/admin/accounts/{mandateId}",
    dependencies=[Depends(require_mandate_admin)],
    **operation(
        "billing-list-accounts",
        "A mandate's accounts, the pool first.",
        access=Access.MANDATE_ADMIN,
        limit=30,
        answer=list[Account],
        refuses=(404, 422),
    ),
)
async def get_accounts(context: Context, mandate_id: MandateId) -> list[dict[str, Any]]:
    async with context.database.bare() as connection:
        return await list_accounts(connection, await ensure_known(connection, mandate_id))


@api.put(
    "/api/billing/admin/accounts/{accountId}",
    dependencies=[Depends(require_system_admin)],
    **operation(
        "billing-change-account",
        "Enable or disable an account.",
        access=Access.SYSTEM_ADMIN,
        limit=CHANGES_PER_MINUTE,
        answer=Account,
        refuses=(404, 413, 415, 422),
    ),
)
async def put_account(
    context: Context,
    caller: CurrentCaller,
    account_id: Annotated[str, Path(alias="accountId"), WithJsonSchema(IDENTIFIER_SCHEMA)],
    body: AccountChange,
) -> dict[str, Any]:
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


@api.post(
    "/api/billing/admin/credit/{mandateId}",
    dependencies=[Depends(require_system_admin)],
    **operation(
        "billing-credit",
        "Give credit, or take it with a negative amount.",
        access=Access.SYSTEM_ADMIN,
        limit=10,
        repeat=Repeat.KEY,
        answer=Transaction,
        refuses=(400, 404, 413, 415, 422),
    ),
)
async def post_credit(
    context: Context, caller: CurrentCaller, mandate_id: MandateId, body: Credit, key: IdempotencyKey = None
) -> dict[str, Any]:
    _require_below(context.settings.amount_max_chf, body.amount)
    given = HandCredit(body.user_id, body.amount, body.description or "Manual credit", key)
    async with context.database.bare() as connection, connection.transaction():
        number = await ensure_known(connection, mandate_id)
        return await credit_by_hand(connection, number, given, caller=caller, now=context.clock())


@api.get(
    "/api/billing/admin/unknown",
    dependencies=[Depends(require_system_admin)],
    **operation(
        "billing-list-unknown",
        "Mandates and members with usage that the directory does not know.",
        access=Access.SYSTEM_ADMIN,
        answer=Unknown,
        refuses=(422,),
    ),
)
async def get_unknown(context: Context) -> dict[str, Any]:
    async with context.database.bare() as connection:
        return {"items": await unknown_usage(connection, limit=UNKNOWN_MAX)}


@api.get("/internal/top-up-target/{mandateId}", dependencies=[Depends(require_mandate_admin)])
async def get_top_up_target(
    context: Context, mandate_id: MandateId, user_id: Annotated[str | None, Query(alias="userId")] = None
) -> dict[str, Any]:
    """Whether a top-up can be for this user, asked by the gateway before a checkout is made."""
    async with context.database.bare() as connection, connection.transaction():
        number = await ensure_known(connection, mandate_id)
        target = None if user_id is None else IdOf("userId").read(user_id)
        mandate = await lock_mandate(connection, number)
        await credited_account(connection, mandate, target, now=context.clock())
    return {"mandateId": mandate_id, "userId": user_id}


def _require_below(ceiling: Decimal, amount: Decimal) -> None:
    if abs(amount) > ceiling:
        raise AmountAboveCeiling("amount", ceiling)


def _account_number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 19 and int(text) < ACCOUNT_NUMBER_MAX):
        raise NoAccount
    return int(text)
