"""Prices, rates and what waits for them: /api/billing/admin/prices, /rates, /unpriced."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Depends, Query, Request
from pydantic import WithJsonSchema
from pydantic_core import PydanticCustomError

from rappen_contracts.types import parse_instant
from services.billing.errors import InvalidField, MalformedParameter
from services.billing.http import Context, long_time, router
from services.billing.parameters import IntegerOf, TextOf
from services.billing.pricing import OUT_OF_TIME, in_time
from services.billing.pricing.bodies import (
    PARKED_REASONS,
    PriceBook,
    PriceFile,
    PricePreview,
    Rate,
    RateBook,
    RateChange,
    UnpricedPage,
)
from services.billing.pricing.dependencies import CurrentTariffs
from services.billing.pricing.import_prices import import_file, record_rate
from services.billing.pricing.queries import list_prices, list_rates, list_unpriced
from services.chassis.caller import CurrentCaller, require_system_admin
from services.chassis.operations import CHANGES_PER_MINUTE, Access, Repeat, operation

__all__ = ["api"]

_OUT_OF_TIME_GERMAN = "eine Zeit von 2000 bis 2199 wird erwartet"

PAGE_SIZE = 100

PageSize = Annotated[int, Query(), IntegerOf("limit", least=1, most=1000)]
Provider = Annotated[str | None, Query(), TextOf("provider")]
Model = Annotated[str | None, Query(), TextOf("model")]

api = router()


def _only(*names: str) -> Callable[[Request], None]:
    """Refuses unknown parameters: a misspelt filter must not return the whole list, nor a misspelt `validFrom` be
    ignored."""

    def check(request: Request) -> None:
        for name in request.query_params:
            if name not in names:
                known = ", ".join(names)
                raise MalformedParameter(
                    name, en=f"not known here; known are {known}", de=f"hier nicht bekannt; bekannt sind {known}"
                )

    return check


@api.get(
    "/api/billing/admin/prices",
    dependencies=[Depends(require_system_admin), Depends(_only("provider", "model", "cursor", "limit"))],
    **operation(
        "billing-list-prices",
        "The price book: every version, which one of each model is in force, and what of it cannot be used.",
        access=Access.SYSTEM_ADMIN,
        answer=PriceBook,
        refuses=(400, 422),
    ),
)
async def get_prices(
    context: Context,
    *,
    tariffs: CurrentTariffs,
    limit: PageSize = PAGE_SIZE,
    cursor: Annotated[int, Query(), IntegerOf("cursor", least=0)] = 0,
    provider: Provider = None,
    model: Model = None,
) -> dict[str, Any]:
    return await list_prices(
        context.database,
        tariffs,
        provider=provider,
        model=model,
        now=context.clock(),
        after=cursor,
        limit=limit,
    )


@api.post(
    "/api/billing/admin/prices",
    dependencies=[Depends(require_system_admin), Depends(_only("format", "validFrom", "preview"))],
    **operation(
        "billing-import-prices",
        "Import a price file, which is the body; with preview only say what would change.",
        access=Access.SYSTEM_ADMIN,
        limit=CHANGES_PER_MINUTE,
        repeat=Repeat.SAME,
        long=True,
        body=PriceFile,
        answer=PricePreview,
        refuses=(400, 413, 415, 422),
    ),
)
async def post_prices(
    context: Context,
    *,
    tariffs: CurrentTariffs,
    caller: CurrentCaller,
    request: Request,
    form: Annotated[Literal["rappen", "litellm"], Query(alias="format")] = "rappen",
    valid_from: Annotated[
        str | None, Query(alias="validFrom"), WithJsonSchema({"type": "string", "format": "date-time"})
    ] = None,
    preview: Annotated[bool, Query()] = False,
) -> dict[str, Any]:
    done = await import_file(
        context.database,
        await request.body(),
        form,
        valid_from=context.clock() if valid_from is None else _time("validFrom", valid_from),
        tariffs=tariffs,
        apply=not preview,
        actor=caller.user_id,
        allow_long_answer=long_time(request),
    )
    return done.json()


@api.get(
    "/api/billing/admin/rates",
    dependencies=[Depends(require_system_admin), Depends(_only("currency"))],
    **operation(
        "billing-list-rates",
        "The exchange rates: which one of each currency is in force, by whom it was set, and what cannot be used.",
        access=Access.SYSTEM_ADMIN,
        answer=RateBook,
        refuses=(400, 422),
    ),
)
async def get_rates(
    context: Context, currency: Annotated[str | None, Query(), TextOf("currency")] = None
) -> dict[str, Any]:
    return {"items": await list_rates(context.database, currency=currency, now=context.clock())}


@api.post(
    "/api/billing/admin/rates",
    dependencies=[Depends(require_system_admin)],
    **operation(
        "billing-set-rate",
        "Set an exchange rate from a time on.",
        access=Access.SYSTEM_ADMIN,
        limit=CHANGES_PER_MINUTE,
        repeat=Repeat.SAME,
        answer=Rate,
        refuses=(409, 413, 415, 422),
    ),
)
async def post_rate(context: Context, caller: CurrentCaller, body: RateChange) -> dict[str, Any]:
    return await record_rate(
        context.database,
        currency=body.currency,
        rate=body.rate,
        valid_from=body.valid_from,
        actor=caller.user_id,
        clock=context.clock,
    )


@api.get(
    "/api/billing/admin/unpriced",
    dependencies=[
        Depends(require_system_admin),
        Depends(_only("mandateId", "provider", "model", "reason", "cursor", "limit")),
    ],
    **operation(
        "billing-list-unpriced",
        "Usage that no price or rate covers yet.",
        access=Access.SYSTEM_ADMIN,
        answer=UnpricedPage,
        refuses=(400, 422),
    ),
)
async def get_unpriced(
    context: Context,
    *,
    limit: PageSize = PAGE_SIZE,
    mandate_id: Annotated[str | None, Query(alias="mandateId"), TextOf("mandateId")] = None,
    provider: Provider = None,
    model: Model = None,
    reason: Annotated[str | None, Query(), TextOf("reason", PARKED_REASONS)] = None,
    cursor: Annotated[str | None, Query(), WithJsonSchema({"type": "string"})] = None,
) -> dict[str, Any]:
    only = {"mandateId": mandate_id, "provider": provider, "model": model, "reason": reason}
    return await list_unpriced(context.database, only=only, cursor=cursor, limit=limit)


def _time(name: str, text: str) -> datetime:
    try:
        time = parse_instant(text)
    except PydanticCustomError:
        raise MalformedParameter(
            name,
            en="a time with an offset is expected, as RFC 3339 says",
            de="eine Zeit mit Offset nach RFC 3339 wird erwartet",
        ) from None
    if not in_time(time):
        raise InvalidField(name, en=OUT_OF_TIME, de=_OUT_OF_TIME_GERMAN)
    return time
