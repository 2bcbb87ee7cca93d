"""Settings, terms and billing model of a mandate: /api/billing/admin/settings, /terms, /model."""

from decimal import Decimal
from typing import Any

from fastapi import Depends, Request

from services.billing.errors import AmountAboveCeiling, InvalidField
from services.billing.http import Context, IdempotencyKey, require_mandate_admin, router, take_long
from services.billing.ledger.keys import AccountKey, ensure_accounts
from services.billing.mandates.answers import KeyedRequest, answer_once
from services.billing.mandates.bodies import (
    ModelChange,
    ModelChanged,
    Settings,
    SettingsChange,
    Terms,
    TermsChange,
)
from services.billing.mandates.change_settings import change_settings, change_terms, settings_json
from services.billing.mandates.queries import ensure_known, read_settings
from services.billing.mandates.repository import lock_mandate
from services.billing.mandates.switch_model import switch_model
from services.billing.money import from_micro, to_micro
from services.billing.parameters import MandateId
from services.chassis.caller import CurrentCaller, require_system_admin
from services.chassis.operations import CHANGES_PER_MINUTE, Access, Repeat, operation

__all__ = ["api"]

api = router()


@api.get(
    "/api/billing/admin/settings/{mandateId}",
    dependencies=[Depends(require_mandate_admin)],
    **operation(
        "billing-get-settings",
        "A mandate's settings.",
        access=Access.MANDATE_ADMIN,
        limit=30,
        answer=Settings,
        refuses=(404, 422),
    ),
)
async def get_settings(context: Context, mandate_id: MandateId) -> dict[str, Any]:
    async with context.database.bare() as connection:
        number = await ensure_known(connection, mandate_id)
        return settings_json(await read_settings(connection, number))


@api.post(
    "/api/billing/admin/settings/{mandateId}",
    dependencies=[Depends(require_mandate_admin)],
    **operation(
        "billing-change-settings",
        "Change a mandate's settings.",
        access=Access.MANDATE_ADMIN,
        limit=10,
        repeat=Repeat.SAME,
        answer=Settings,
        refuses=(404, 409, 413, 415, 422),
    ),
)
async def post_settings(
    context: Context, caller: CurrentCaller, mandate_id: MandateId, body: SettingsChange | None = None
) -> dict[str, Any]:
    given = {} if body is None else body.model_dump(by_alias=True)
    async with context.database.bare() as connection, connection.transaction():
        number = await ensure_known(connection, mandate_id)
        ceiling = context.settings.amount_max_chf
        return await change_settings(connection, number, given, caller=caller, amount_max=ceiling, now=context.clock())


@api.put(
    "/api/billing/admin/terms/{mandateId}",
    dependencies=[Depends(require_system_admin)],
    **operation(
        "billing-set-terms",
        "Replace a mandate's markup and credit limit.",
        access=Access.SYSTEM_ADMIN,
        limit=CHANGES_PER_MINUTE,
        answer=Terms,
        refuses=(404, 409, 413, 415, 422),
    ),
)
async def put_terms(
    context: Context, caller: CurrentCaller, mandate_id: MandateId, body: TermsChange
) -> dict[str, Any]:
    limit = None
    if body.credit_limit is not None:
        if body.credit_limit.currency != "CHF":
            raise InvalidField("creditLimit.currency", en="a credit limit is in CHF", de="ein Kreditlimit ist in CHF")
        limit = _micros("creditLimit.amount", body.credit_limit.amount, context.settings.credit_limit_max_chf)
    async with context.database.bare() as connection, connection.transaction():
        number = await ensure_known(connection, mandate_id)
        await lock_mandate(connection, number)
        pool = AccountKey(number, "MANDATE")
        pool_no = (await ensure_accounts(connection, [pool]))[pool]
        await change_terms(
            connection,
            number,
            markup_percent=body.markup_percent,
            credit_limit=limit,
            pool_no=pool_no,
            caller=caller,
            now=context.clock(),
        )
    money = None if limit is None else {"amount": format(from_micro(limit), "f"), "currency": "CHF"}
    return {"markupPercent": body.markup_percent, "creditLimit": money}


@api.post(
    "/api/billing/admin/model/{mandateId}",
    dependencies=[Depends(require_system_admin)],
    **operation(
        "billing-change-model",
        "Change a mandate's billing model and move its money.",
        access=Access.SYSTEM_ADMIN,
        limit=CHANGES_PER_MINUTE,
        repeat=Repeat.KEY,
        long=True,
        answer=ModelChanged,
        refuses=(404, 409, 413, 415, 422),
    ),
)
async def post_model(
    context: Context,
    *,
    caller: CurrentCaller,
    mandate_id: MandateId,
    body: ModelChange,
    request: Request,
    key: IdempotencyKey = None,
) -> dict[str, Any]:
    async with context.database.bare() as connection, connection.transaction():
        await take_long(request, connection)
        number = await ensure_known(connection, mandate_id)

        async def switch() -> dict[str, Any]:
            done = await switch_model(connection, number, body.billing_model, caller=caller, now=context.clock())
            return {
                "oldModel": done.old_model,
                "newModel": done.new_model,
                "migratedAmount": {"amount": format(from_micro(done.migrated), "f"), "currency": "CHF"},
                "userCount": done.user_count,
            }

        asked = KeyedRequest("model", number, caller.user_id, key, body.model_dump_json())
        return await answer_once(connection, asked, switch, now=context.clock())


def _micros(field: str, amount: Decimal, ceiling: Decimal) -> int:
    """An amount of the ledger, which has six decimals, up to a ceiling."""
    try:
        micros = to_micro(amount)
    except ValueError:
        raise InvalidField(field, en="at most six decimals", de="höchstens sechs Nachkommastellen") from None
    if amount > ceiling:
        raise AmountAboveCeiling(field, ceiling)
    return micros
