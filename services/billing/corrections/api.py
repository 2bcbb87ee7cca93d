"""Corrections: POST /api/billing/transactions/{transactionId}/reverse, /api/billing/admin/rerate."""

from typing import Annotated, Any

from fastapi import Depends, Path, Request
from pydantic import WithJsonSchema

from services.billing.corrections.bodies import Rerate, Rerating, Reversal
from services.billing.corrections.charges import Selection
from services.billing.corrections.rerate import preview_rerating, show_rerating, start_rerating
from services.billing.corrections.reverse_charge import reverse_charge
from services.billing.errors import InvalidField
from services.billing.http import Context, IdempotencyKey, long_time, router
from services.billing.pricing.dependencies import CurrentTariffs
from services.billing.reports.bodies import MovementRow
from services.chassis.caller import CurrentCaller, require_system_admin
from services.chassis.operations import CHANGES_PER_MINUTE, Access, Repeat, operation

__all__ = ["api"]

api = router()


@api.post(
    "/api/billing/transactions/{transactionId}/reverse",
    dependencies=[Depends(require_system_admin)],
    **operation(
        "billing-reverse-transaction",
        "Take a usage charge back; the answer is the transaction that does.",
        access=Access.SYSTEM_ADMIN,
        limit=CHANGES_PER_MINUTE,
        repeat=Repeat.SAME,
        answer=MovementRow,
        refuses=(404, 409, 413, 415, 422),
    ),
)
async def post_reversal(
    context: Context,
    caller: CurrentCaller,
    transaction_id: Annotated[str, Path(alias="transactionId"), WithJsonSchema({"type": "string", "format": "uuid"})],
    body: Reversal,
) -> dict[str, Any]:
    return await reverse_charge(context.database, transaction_id, body.reason, caller=caller, clock=context.clock)


@api.post(
    "/api/billing/admin/rerate",
    dependencies=[Depends(require_system_admin)],
    **operation(
        "billing-rerate",
        "Price charges again by the prices and rates as they are now; with preview only say what would change, by"
        " mandate.",
        access=Access.SYSTEM_ADMIN,
        limit=CHANGES_PER_MINUTE,
        repeat=Repeat.KEY,
        long=True,
        answer=Rerating,
        refuses=(413, 415, 422),
    ),
)
async def post_rerating(
    context: Context,
    *,
    tariffs: CurrentTariffs,
    caller: CurrentCaller,
    request: Request,
    body: Rerate,
    key: IdempotencyKey = None,
) -> dict[str, Any]:
    if body.to <= body.from_:
        raise InvalidField("to", en="a time after from is expected", de="eine Zeit nach from wird erwartet")
    selection = Selection(body.from_, body.to, body.provider, body.model)
    if body.preview:
        return await preview_rerating(
            context.database, selection, tariffs=tariffs, allow_long_answer=long_time(request)
        )
    return await start_rerating(context.database, selection, user_id=caller.user_id, clock=context.clock, key=key)


@api.get(
    "/api/billing/admin/rerate/{reratingId}",
    dependencies=[Depends(require_system_admin)],
    **operation(
        "billing-get-rerating",
        "A re-rating: how far it is, and what it came to.",
        access=Access.SYSTEM_ADMIN,
        answer=Rerating,
        refuses=(404, 422),
    ),
)
async def get_rerating(
    context: Context,
    rerating_id: Annotated[str, Path(alias="reratingId"), WithJsonSchema({"type": "string", "format": "uuid"})],
) -> dict[str, Any]:
    return await show_rerating(context.database, rerating_id)
