"""Corrections: POST /api/billing/transactions/{transactionId}/reverse."""

from typing import Annotated, Any

from fastapi import Depends, Path
from pydantic import WithJsonSchema

from services.billing.corrections.bodies import Reversal
from services.billing.corrections.reverse_charge import reverse_charge
from services.billing.http import Context, router
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
