"""GET /api/billing/transactions."""

from typing import Annotated, Any

from fastapi import Depends, Query

from services.billing.http import Context, router
from services.billing.parameters import IntegerOf
from services.billing.reports.bodies import MovementRow
from services.billing.reports.transactions import Scope, list_transactions
from services.chassis.caller import CurrentCaller, require_person
from services.chassis.operations import Access, operation

__all__ = ["api"]

api = router()


@api.get(
    "/api/billing/transactions",
    dependencies=[Depends(require_person)],
    **operation(
        "billing-list-transactions",
        "The transactions in the caller's scope, newest first.",
        access=Access.PERSON,
        limit=30,
        context=True,
        answer=list[MovementRow],
        refuses=(422,),
    ),
)
async def get_transactions(
    context: Context,
    caller: CurrentCaller,
    limit: Annotated[int, Query(), IntegerOf("limit", least=1, most=500)] = 50,
    offset: Annotated[int, Query(), IntegerOf("offset", least=0)] = 0,
) -> list[dict[str, Any]]:
    return await list_transactions(context.database, Scope.of(caller), limit=limit, offset=offset)
