"""Accounts and credits: /api/billing/admin/accounts, /credit, /promotions, /unknown; /api/billing/redeem;
/internal/top-up-target."""

from typing import Annotated, Any

from fastapi import Depends, Path, Query
from pydantic import WithJsonSchema

from services.billing.credits.bodies import AccountChange, Credit, Promotion, PromotionOffer, Redemption, Unknown
from services.billing.credits.change_account import change_account
from services.billing.credits.give_credit import find_top_up_target, give_credit
from services.billing.credits.post_manual_credit import ManualCredit
from services.billing.credits.promotions import Offer, give_promotion, redeem_code
from services.billing.http import Context, IdempotencyKey, require_mandate_admin, router
from services.billing.mandates.queries import list_unknown
from services.billing.parameters import IdOf, MandateId
from services.billing.reports.balances import list_accounts
from services.billing.reports.bodies import Account, MovementRow
from services.chassis.bodies import IDENTIFIER_SCHEMA
from services.chassis.caller import CurrentCaller, require_system_admin
from services.chassis.operations import CHANGES_PER_MINUTE, Access, Repeat, operation

__all__ = ["api"]

api = router()

# One path for OpenAPI, and so one name: whose accounts are read, or which account is changed.
_OfMandate = Annotated[str, Path(alias="id", description="The mandate."), IdOf("id")]


async def _require_admin(caller: CurrentCaller, mandate_id: _OfMandate) -> None:
    caller.require_admin(mandate_id)


@api.get(
    "/api/billing/admin/accounts/{id}",
    dependencies=[Depends(_require_admin)],
    **operation(
        "billing-list-accounts",
        "A mandate's accounts, the pool first.",
        access=Access.MANDATE_ADMIN,
        mandate_parameter="id",
        limit=30,
        answer=list[Account],
        refuses=(404, 422),
    ),
)
async def get_accounts(context: Context, mandate_id: _OfMandate) -> list[dict[str, Any]]:
    return await list_accounts(context.database, mandate_id, clock=context.clock)


@api.put(
    "/api/billing/admin/accounts/{id}",
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
    account_id: Annotated[str, Path(alias="id", description="The account."), WithJsonSchema(IDENTIFIER_SCHEMA)],
    body: AccountChange,
) -> dict[str, Any]:
    return await change_account(context.database, account_id, enabled=body.enabled, caller=caller, clock=context.clock)


@api.post(
    "/api/billing/admin/credit/{mandateId}",
    dependencies=[Depends(require_system_admin)],
    **operation(
        "billing-credit",
        "Give credit, or take it with a negative amount.",
        access=Access.SYSTEM_ADMIN,
        limit=10,
        repeat=Repeat.KEY,
        answer=MovementRow,
        refuses=(400, 404, 413, 415, 422),
    ),
)
async def post_credit(
    context: Context, caller: CurrentCaller, mandate_id: MandateId, body: Credit, key: IdempotencyKey = None
) -> dict[str, Any]:
    credit = ManualCredit(body.user_id, body.amount, body.description or "Manual credit", key)
    ceiling = context.settings.amount_max_chf
    return await give_credit(
        context.database, mandate_id, credit, amount_max=ceiling, caller=caller, clock=context.clock
    )


@api.post(
    "/api/billing/admin/promotions",
    dependencies=[Depends(require_system_admin)],
    **operation(
        "billing-give-promotion",
        "Give credit that expires, at once or by a code.",
        access=Access.SYSTEM_ADMIN,
        limit=CHANGES_PER_MINUTE,
        repeat=Repeat.KEY,
        answer=Promotion,
        refuses=(404, 409, 413, 415, 422),
    ),
)
async def post_promotion(
    context: Context, caller: CurrentCaller, body: PromotionOffer, key: IdempotencyKey = None
) -> dict[str, Any]:
    given = (body.mandate_id, body.amount, body.expires_at, body.reason, body.code)
    return await give_promotion(
        context.database,
        Offer(*given, key=key, body=body.model_dump_json()),
        amount_max=context.settings.amount_max_chf,
        caller=caller,
        clock=context.clock,
    )


@api.post(
    "/api/billing/redeem",
    **operation(
        "billing-redeem",
        "Redeem the code of a promotion for a mandate.",
        access=Access.PERSON,
        limit=CHANGES_PER_MINUTE,
        repeat=Repeat.KEY,
        answer=Promotion,
        refuses=(404, 409, 413, 415, 422),
    ),
)
async def post_redemption(
    context: Context, caller: CurrentCaller, body: Redemption, key: IdempotencyKey = None
) -> dict[str, Any]:
    caller.require_admin(body.mandate_id)
    return await redeem_code(context.database, body.mandate_id, body.code, key=key, caller=caller, clock=context.clock)


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
    return {"items": await list_unknown(context.database)}


@api.get("/internal/top-up-target/{mandateId}", dependencies=[Depends(require_mandate_admin)])
async def get_top_up_target(
    context: Context, mandate_id: MandateId, user_id: Annotated[str | None, Query(alias="userId")] = None
) -> dict[str, Any]:
    """Whether this user can be topped up; the gateway asks before it starts a checkout."""
    return await find_top_up_target(context.database, mandate_id, user_id, clock=context.clock)
