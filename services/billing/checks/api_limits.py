"""Limits inside a mandate: /api/billing/admin/limits."""

from typing import Annotated, Any

from fastapi import Body, Depends, Request

from services.billing.checks.bodies import LimitGiven, LimitShown
from services.billing.checks.set_limits import LIMITS_MAX, GivenLimit, set_limits, show_limits
from services.billing.http import Context, long_time, require_mandate_admin, router
from services.billing.parameters import MandateId
from services.chassis.caller import CurrentCaller
from services.chassis.operations import CHANGES_PER_MINUTE, Access, operation

__all__ = ["api"]

PATH = "/api/billing/admin/limits/{mandateId}"

api = router()


@api.get(
    PATH,
    dependencies=[Depends(require_mandate_admin)],
    **operation(
        "billing-list-limits",
        "How much may be spent inside a mandate in a day or a month, by kind, key and period.",
        access=Access.MANDATE_ADMIN,
        limit=30,
        answer=list[LimitShown],
        refuses=(404, 422),
    ),
)
async def get_limits(context: Context, mandate_id: MandateId) -> list[dict[str, Any]]:
    return await show_limits(context.database, mandate_id)


@api.put(
    PATH,
    dependencies=[Depends(require_mandate_admin)],
    **operation(
        "billing-set-limits",
        "Replace all limits of a mandate.",
        access=Access.MANDATE_ADMIN,
        limit=CHANGES_PER_MINUTE,
        long=True,
        answer=list[LimitShown],
        refuses=(404, 413, 415, 422),
    ),
)
async def put_limits(
    context: Context,
    *,
    caller: CurrentCaller,
    mandate_id: MandateId,
    body: Annotated[list[LimitGiven], Body(max_length=LIMITS_MAX)],
    request: Request,
) -> list[dict[str, Any]]:
    return await set_limits(
        context.database,
        mandate_id,
        [GivenLimit(each.kind, each.key, each.period, each.limit) for each in body],
        caller=caller,
        allow_long_answer=long_time(request),
        clock=context.clock,
    )
