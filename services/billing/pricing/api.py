"""Prices, rates and what waits for them: /api/billing/admin/prices, /rates, /unpriced."""

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from rappen_contracts.types import CURRENCIES, NonNegativeDecimal, Timestamp, parse_instant
from services.billing.errors import InvalidField, MalformedParameter
from services.billing.http import ApiContext, Body, integer_parameter, router, take_long, text_parameter
from services.billing.pricing import OUT_OF_TIME, in_time, rate_fault
from services.billing.pricing.errors import PriceFileRefused
from services.billing.pricing.import_prices import PriceFileError, import_prices, read_price_file, set_rate
from services.billing.pricing.queries import list_prices, list_rates, list_unpriced
from services.billing.pricing.repository import Tariffs, current_tariff
from services.chassis.caller import Caller
from services.chassis.validation import FieldFault, value_fault

__all__ = ["routes"]

_OUT_OF_TIME_GERMAN = "eine Zeit von 2000 bis 2199 wird erwartet"
_RATE_GERMAN = "ein Kurs ist grösser als null, mit höchstens 6 Stellen vor und 24 nach dem Punkt"

PRICE_FILTERS = ("provider", "model", "cursor", "limit")
IMPORT_PARAMETERS = ("format", "validFrom", "preview")
UNPRICED_FILTERS = ("mandateId", "provider", "model", "reason", "cursor", "limit")


def _foreign(code: str) -> str:
    if code not in CURRENCIES or code == "CHF":
        raise value_fault(
            "currency",
            en="a known currency other than CHF is expected",
            de="eine bekannte Währung ausser CHF wird erwartet",
        )
    return code


def _sane(rate: Decimal) -> Decimal:
    fault = rate_fault(rate)
    if fault is not None:
        raise value_fault("rate", en=fault, de=_RATE_GERMAN)
    return rate


class RateBody(Body):
    """The CHF for one unit of a currency, from a time on."""

    currency: Annotated[str, AfterValidator(_foreign)]
    rate: Annotated[NonNegativeDecimal, AfterValidator(_sane)]
    valid_from: Timestamp


def _only(*names: str) -> Callable[[Request], None]:
    """A filter that is not known must not answer the whole list, nor a misspelt `validFrom` be taken for none."""

    def check(request: Request) -> None:
        for name in request.query_params:
            if name not in names:
                known = ", ".join(names)
                raise MalformedParameter(
                    name, en=f"not known here; known are {known}", de=f"hier nicht bekannt; bekannt sind {known}"
                )

    return check


def routes(context: ApiContext, tariffs: Tariffs) -> APIRouter:
    """What the operator charges by."""
    api = router()
    Who = Annotated[Caller, Depends(context.caller)]

    async def system_admin(caller: Who) -> None:
        caller.require_system_admin()

    admin_only = [Depends(system_admin)]

    @api.get("/api/billing/admin/prices", dependencies=[*admin_only, Depends(_only(*PRICE_FILTERS))])
    async def prices(
        provider: Annotated[str | None, Query()] = None,
        model: Annotated[str | None, Query()] = None,
        cursor: Annotated[str | None, Query()] = None,
        limit: Annotated[str | None, Query()] = None,
    ) -> dict[str, Any]:
        size = integer_parameter("limit", limit, default=100, least=1, most=1000)
        after = integer_parameter("cursor", cursor, default=0, least=0, most=999_999_999)
        async with context.database.bare() as connection:
            tariff = await current_tariff(connection, tariffs)
            return await list_prices(
                connection,
                tariff,
                provider=text_parameter("provider", provider),
                model=text_parameter("model", model),
                now=context.clock(),
                after=after,
                limit=size,
            )

    @api.post("/api/billing/admin/prices", dependencies=[*admin_only, Depends(_only(*IMPORT_PARAMETERS))])
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
            await take_long(request, connection)
            done = await import_prices(
                connection,
                file,
                tariffs=tariffs,
                apply=not preview,
                actor=caller.user_id,
            )
        if done.refused:
            raise PriceFileRefused(
                why=f"{len(done.unreadable)} entries are not readable, so nothing was changed",
                errors=[FieldFault(entry.entry, {"en": entry.why}) for entry in done.unreadable],
            )
        return done.json()

    @api.get("/api/billing/admin/rates", dependencies=[*admin_only, Depends(_only("currency"))])
    async def rates(currency: Annotated[str | None, Query()] = None) -> dict[str, Any]:
        async with context.database.bare() as connection:
            return {
                "items": await list_rates(
                    connection, currency=text_parameter("currency", currency), now=context.clock()
                )
            }

    @api.post("/api/billing/admin/rates", dependencies=admin_only)
    async def add_rate(caller: Who, body: RateBody) -> dict[str, Any]:
        async with context.database.bare() as connection, connection.transaction():
            number = await set_rate(
                connection, currency=body.currency, rate=body.rate, valid_from=body.valid_from, actor=caller.user_id
            )
            listed = await list_rates(connection, currency=body.currency, now=context.clock())
        return next(rate for rate in listed if rate["id"] == str(number))

    @api.get("/api/billing/admin/unpriced", dependencies=[*admin_only, Depends(_only(*UNPRICED_FILTERS))])
    async def unpriced(
        request: Request,
        cursor: Annotated[str | None, Query()] = None,
        limit: Annotated[str | None, Query()] = None,
    ) -> dict[str, Any]:
        size = integer_parameter("limit", limit, default=100, least=1, most=1000)
        only = {name: text_parameter(name, text) for name, text in request.query_params.items()}
        async with context.database.bare() as connection:
            return await list_unpriced(connection, only=only, cursor=cursor, limit=size)

    return api


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
