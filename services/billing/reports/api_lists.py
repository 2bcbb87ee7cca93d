"""Lists of transactions over HTTP: /api/billing/transactions, /admin/transactions, /view/mandates/transactions,
/view/users/transactions with its filter values and its export."""

from typing import Annotated, Any

from fastapi import Depends, Query, Response

from services.billing.errors import MalformedParameter
from services.billing.http import Context, require_mandate_admin, router
from services.billing.parameters import IntegerOf, MandateId, TextOf
from services.billing.reports.bodies import MovementPage, MovementRow, MovementSlice
from services.billing.reports.distinct_values import distinct_values
from services.billing.reports.export_movements import CSV, RunningExports, export_movements
from services.billing.reports.list_movements import (
    NEWEST_FIRST,
    list_newest,
    list_page,
    list_part,
)
from services.billing.reports.listing import ListLimits
from services.billing.reports.scope import ContextScope, RequestedScope, Scope, requested_mandate
from services.chassis.caller import CurrentCaller, require_person, require_system_admin
from services.chassis.lists.pagination import PaginationText
from services.chassis.operations import Access, operation
from services.chassis.state import of_state
from services.chassis.streams import StreamedAnswer

__all__ = ["api"]

# What admin/transactions answers where no page is asked for.
NEWEST = 200
PART = 50

api = router()

_Pagination = Annotated[PaginationText | None, Query()]
_Exports = Annotated[RunningExports, of_state("exports")]


def _limits(context: Context) -> ListLimits:
    settings = context.settings
    return ListLimits(settings.page_size_max, settings.filter_values_max, settings.list_statement_s)


Limits = Annotated[ListLimits, Depends(_limits)]


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
        refuses=(400, 404),
    ),
)
async def get_transactions(
    context: Context,
    limits: Limits,
    scope: ContextScope,
    limit: Annotated[int, Query(), IntegerOf("limit", least=1, most=500)] = 50,
    offset: Annotated[int, Query(), IntegerOf("offset", least=0)] = 0,
) -> list[dict[str, Any]]:
    return await list_newest(context.database, scope, limits, limit=limit, offset=offset)


@api.get(
    "/api/billing/admin/transactions/{mandateId}",
    dependencies=[Depends(require_mandate_admin)],
    **operation(
        "billing-list-mandate-transactions",
        "A mandate's transactions by page; without a pagination the newest 200.",
        access=Access.MANDATE_ADMIN,
        limit=30,
        answer=MovementPage,
        refuses=(400, 404, 422),
    ),
)
async def get_mandate_transactions(
    context: Context, limits: Limits, caller: CurrentCaller, mandate_id: MandateId, pagination: _Pagination = None
) -> dict[str, Any]:
    scope = await requested_mandate(context.database, caller, mandate_id)
    if not pagination or pagination.strip() in ("", NEWEST_FIRST):
        items = await list_newest(context.database, scope, limits, limit=NEWEST, users=True)
        return {"items": items, "pagination": None}
    return await list_page(context.database, scope, pagination, limits)


@api.get(
    "/api/billing/view/mandates/transactions",
    dependencies=[Depends(require_system_admin)],
    **operation(
        "billing-view-mandates-transactions",
        "The transactions of all mandates, newest first.",
        access=Access.SYSTEM_ADMIN,
        limit=30,
        answer=list[MovementRow],
        refuses=(400,),
    ),
)
async def get_all_transactions(
    context: Context,
    limits: Limits,
    caller: CurrentCaller,
    limit: Annotated[int, Query(), IntegerOf("limit", least=1, most=1000)] = 100,
) -> list[dict[str, Any]]:
    return await list_newest(context.database, Scope.of(caller), limits, limit=limit)


@api.get(
    "/api/billing/view/users/transactions",
    dependencies=[Depends(require_person)],
    **operation(
        "billing-view-users-transactions",
        "The transactions of a scope, by page, or by cursor and limit.",
        access=Access.PERSON,
        limit=30,
        answer=MovementPage | MovementSlice,
        refuses=(400, 404),
    ),
)
async def get_user_transactions(
    context: Context,
    limits: Limits,
    scope: RequestedScope,
    *,
    pagination: _Pagination = None,
    cursor: Annotated[str | None, Query(), TextOf("cursor")] = None,
    limit: Annotated[int | None, Query(), IntegerOf("limit", least=1)] = None,
) -> dict[str, Any]:
    asked = pagination or NEWEST_FIRST
    if cursor is None and limit is None:
        return await list_page(context.database, scope, asked, limits)
    return await list_part(context.database, scope, asked, limits, cursor=cursor, limit=limit or PART)


@api.get(
    "/api/billing/view/users/transactions/filter-values",
    dependencies=[Depends(require_person)],
    **operation(
        "billing-view-filter-values",
        "The distinct values of a column under the filters of the others.",
        access=Access.PERSON,
        answer=list[str],
        refuses=(400, 404),
    ),
)
async def get_filter_values(
    context: Context,
    limits: Limits,
    scope: RequestedScope,
    column: Annotated[str | None, Query(), TextOf("column")] = None,
    pagination: _Pagination = None,
) -> list[str]:
    if column is None:
        raise MalformedParameter("column", en="a column has to be named", de="eine Spalte muss genannt werden")
    return await distinct_values(context.database, scope, column, pagination or NEWEST_FIRST, limits)


@api.get(
    "/api/billing/view/users/transactions/export",
    dependencies=[Depends(require_person)],
    **operation(
        "billing-export-transactions",
        "The transactions of a scope as CSV: filters, search and order as in the list, every row of it.",
        access=Access.PERSON,
        limit=30,
        streams=True,
        answer=None,
        answer_type=CSV,
        refuses=(400, 404),
    ),
)
async def export_transactions(
    context: Context, limits: Limits, exports: _Exports, scope: RequestedScope, pagination: _Pagination = None
) -> Response:
    lines = export_movements(
        context.database, exports, scope, pagination or NEWEST_FIRST, limits, export_s=context.settings.export_s
    )
    return await StreamedAnswer.begun(
        lines, media_type=f"{CSV}; charset=utf-8; header=present", filename="transactions.csv"
    )
