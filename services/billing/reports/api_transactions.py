"""GET /api/billing/transactions."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query

from services.billing.http import ApiContext, integer_parameter, router
from services.billing.reports.transactions import Scope, list_transactions
from services.chassis.caller import Caller

__all__ = ["routes"]


def routes(context: ApiContext) -> APIRouter:
    """The ledger within the caller's scope."""
    api = router()

    @api.get("/api/billing/transactions")
    async def transactions(
        caller: Annotated[Caller, Depends(context.caller)],
        limit: Annotated[str | None, Query()] = None,
        offset: Annotated[str | None, Query()] = None,
    ) -> list[dict[str, Any]]:
        caller.require_person()
        size = integer_parameter("limit", limit, default=50, least=1, most=500)
        start = integer_parameter("offset", offset, default=0, least=0, most=999_999_999)
        async with context.database.bare() as connection:
            return await list_transactions(connection, Scope.of(caller), limit=size, offset=start)

    return api
