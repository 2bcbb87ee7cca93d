"""Prices, rates and what waits for them: /api/billing/admin/prices, /rates, /unpriced."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from rappen_contracts.types import CURRENCIES, NonNegativeDecimal, Timestamp, parse_time
from services.billing.api.context import ApiContext, Body, integer_parameter, router
from services.billing.errors import MalformedParameter, PriceFileRefused
from services.billing.queries.prices import list_prices, list_rates, list_unpriced
from services.billing.use_cases.import_prices import PriceFileError, import_prices, read_price_file, set_rate
from services.chassis.caller import Caller
from services.chassis.validation import value_fault

__all__ = ["routes"]


def _foreign(code: str) -> str:
    if code not in CURRENCIES or code == "CHF":
        raise value_fault(
            "currency",
            en="a known currency other than CHF is expected",
            de="eine bekannte Währung ausser CHF wird erwartet",
        )
    return code


def _positive(rate: Decimal) -> Decimal:
    if not rate:
        raise value_fault("rate", en="a rate is more than zero", de="ein Kurs ist grösser als null")
    return rate


class RateBody(Body):
    """The CHF for one unit of a currency, from a time on."""

    currency: Annotated[str, AfterValidator(_foreign)]
    rate: Annotated[NonNegativeDecimal, AfterValidator(_positive)]
    valid_from: Timestamp


def routes(context: ApiContext) -> APIRouter:
    """What the operator charges by."""
    api = router()
    Who = Annotated[Caller, Depends(context.caller)]

    async def system_admin(caller: Who) -> None:
        caller.require_system_admin()

    admin_only = [Depends(system_admin)]

    @api.get("/api/billing/admin/prices", dependencies=admin_only)
    async def prices(
        cursor: Annotated[str | None, Query()] = None, limit: Annotated[str | None, Query()] = None
    ) -> dict[str, Any]:
        size = integer_parameter("limit", limit, default=100, least=1, most=1000)
        after = integer_parameter("cursor", cursor, default=0, least=0, most=999_999_999)
        async with context.database.bare() as connection:
            return await list_prices(connection, after=after, limit=size)

    @api.post("/api/billing/admin/prices", dependencies=admin_only)
    async def add_prices(
        request: Request,
        caller: Who,
        form: Annotated[Literal["rappen", "litellm"], Query(alias="format")] = "rappen",
        valid_from: Annotated[str | None, Query(alias="validFrom")] = None,
        preview: Annotated[bool, Query()] = False,
    ) -> dict[str, Any]:
        at = context.clock() if valid_from is None else _time("validFrom", valid_from)
        try:
            file = read_price_file(await request.body(), form, at)
        except PriceFileError as error:
            raise PriceFileRefused(why=str(error)) from error
        async with context.database.bare() as connection, connection.transaction():
            done = await import_prices(
                connection, file, tariffs=context.tariffs, apply=not preview, actor=caller.user_id
            )
        return done.json()

    @api.get("/api/billing/admin/rates", dependencies=admin_only)
    async def rates() -> dict[str, Any]:
        async with context.database.bare() as connection:
            return {"items": await list_rates(connection)}

    @api.post("/api/billing/admin/rates", dependencies=admin_only)
    async def add_rate(caller: Who, body: RateBody) -> dict[str, Any]:
        async with context.database.bare() as connection, connection.transaction():
            await set_rate(
                connection, currency=body.currency, rate=body.rate, valid_from=body.valid_from, actor=caller.user_id
            )
        return {"currency": body.currency, "rate": format(body.rate, "f"), "validFrom": body.valid_from}

    @api.get("/api/billing/admin/unpriced", dependencies=admin_only)
    async def unpriced(
        cursor: Annotated[str | None, Query()] = None, limit: Annotated[str | None, Query()] = None
    ) -> dict[str, Any]:
        size = integer_parameter("limit", limit, default=100, least=1, most=1000)
        async with context.database.bare() as connection:
            return await list_unpriced(connection, cursor=cursor, limit=size)

    return api


def _time(name: str, text: str) -> datetime:
    try:
        return parse_time(text).astimezone(UTC)
    except PydanticCustomError:
        raise MalformedParameter(
            name,
            en="a time with an offset is expected, as RFC 3339 says",
            de="eine Zeit mit Offset nach RFC 3339 wird erwartet",
        ) from None
