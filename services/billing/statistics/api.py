"""GET /api/billing/statistics/{period}, /view/statistics, /view/runway."""

from typing import Annotated, Any, NamedTuple, cast, get_args

from fastapi import Depends, Path, Query
from pydantic import WithJsonSchema

from services.billing.errors import MalformedParameter
from services.billing.http import Context, router
from services.billing.ledger.calendars import Calendar
from services.billing.parameters import FlagOf, IdOf, IntegerOf, OneOf
from services.billing.reports.scope import ContextScope, RequestedScope, Scope
from services.billing.statistics.bodies import OwnStatistics, Runway, Statistics
from services.billing.statistics.domain import month_period, year_period
from services.billing.statistics.show_runway import show_runway
from services.billing.statistics.show_statistics import Asked, PeriodName, show_own_statistics, show_statistics
from services.chassis.caller import CurrentCaller, require_person
from services.chassis.operations import Access, operation

__all__ = ["api"]

api = router()

_PERIODS = get_args(PeriodName)
_MONTH = IntegerOf("month", least=1, most=12)
_MONTH_SCHEMA = WithJsonSchema({"type": "integer", "minimum": 1, "maximum": 12})


class _Named(NamedTuple):
    """A year, and a month, which is read where the period has use for it and passed over elsewhere, whatever it is."""

    year: int | None
    month: str | None


async def _named(
    year: Annotated[int | None, Query(), IntegerOf("year", least=1, most=9999)] = None,
    month: Annotated[str | None, Query(), _MONTH_SCHEMA] = None,
) -> _Named:
    return _Named(year, month)


Named = Annotated[_Named, Depends(_named)]


async def _asked(
    named: Named,
    period: Annotated[str, Query(), OneOf("period", _PERIODS)] = "month",
    by_member: Annotated[bool, Query(alias="byMember"), FlagOf("byMember")] = False,
) -> Asked:
    # `year` is read as `month`: the months of a year.
    if period != "day":
        return Asked("month", named.year, by_member=by_member)
    return Asked("day", named.year, None if named.month is None else _MONTH.read(named.month), by_member)


AskedPeriod = Annotated[Asked, Depends(_asked)]


@api.get(
    "/api/billing/statistics/{period}",
    dependencies=[Depends(require_person)],
    **operation(
        "billing-get-own-statistics",
        "The caller's own usage: of a calendar month (day) or of a calendar year (month, year).",
        access=Access.PERSON,
        limit=30,
        context=True,
        answer=OwnStatistics,
        refuses=(404, 422),
    ),
)
async def get_own_statistics(
    context: Context,
    caller: CurrentCaller,
    of_context: ContextScope,
    named: Named,
    period: Annotated[str, Path(), OneOf("period", _PERIODS)],
) -> dict[str, Any]:
    if named.year is None:
        raise _missing("year")
    if period != "day":
        asked = year_period(named.year)
    elif named.month is not None:
        asked = month_period(named.year, _MONTH.read(named.month))
    else:
        raise _missing("month")
    scope = Scope.of(caller, "personal", mandate_id=of_context.mandate_id)
    return await show_own_statistics(context.database, scope, cast("PeriodName", period), asked)


@api.get(
    "/api/billing/view/statistics",
    dependencies=[Depends(require_person)],
    **operation(
        "billing-view-statistics",
        "Usage in the requested scope: of a calendar month by day, or of a calendar year by month.",
        access=Access.PERSON,
        limit=30,
        answer=Statistics,
        refuses=(404, 422),
    ),
)
async def get_statistics(
    context: Context,
    caller: CurrentCaller,
    scope: RequestedScope,
    asked: AskedPeriod,
) -> dict[str, Any]:
    platform = Calendar(context.settings.time_zone)
    return await show_statistics(
        context.database, scope, asked, platform=platform, language=caller.language, clock=context.clock
    )


@api.get(
    "/api/billing/view/runway",
    dependencies=[Depends(require_person)],
    **operation(
        "billing-view-runway",
        "How long the balance of a mandate lasts at the present rate, and unusual days, by member and feature.",
        access=Access.PERSON,
        answer=Runway,
        refuses=(404, 422),
    ),
)
async def get_runway(
    context: Context, caller: CurrentCaller, mandate_id: Annotated[str, Query(alias="mandateId"), IdOf("mandateId")]
) -> dict[str, Any]:
    scope = Scope.of(caller, mandate_id=mandate_id)
    return await show_runway(context.database, scope, mandate_id, language=caller.language, clock=context.clock)


def _missing(name: str) -> MalformedParameter:
    return MalformedParameter(name, en="it is needed here", de="hier ist er nötig")
