"""Settings, terms and billing model of a mandate: /api/billing/admin/settings, /terms, /model."""

from decimal import Decimal
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import AfterValidator, Field, StringConstraints

from rappen_contracts.types import NonNegativeBalance
from services.billing.errors import AmountAboveCeiling, InvalidField
from services.billing.http import (
    ApiContext,
    Body,
    ChfNumber,
    IdempotencyKey,
    mandate_parameter,
    router,
    take_long,
)
from services.billing.ledger.domain import BillingModel
from services.billing.ledger.keys import AccountKey, ensure_accounts
from services.billing.mandates.answers import KeyedRequest, answer_once
from services.billing.mandates.change_settings import change_settings, change_terms, settings_json
from services.billing.mandates.queries import ensure_known, read_settings
from services.billing.mandates.repository import lock_mandate
from services.billing.mandates.switch_model import switch_model
from services.billing.money import from_micro, to_micro
from services.chassis.caller import Caller
from services.chassis.validation import Form, value_fault

__all__ = ["routes"]

# What a column of type integer holds.
INTEGER_MAX = 2**31 - 1


def _no_nul(text: str) -> str:
    if "\x00" in text:
        raise value_fault("text", en="text must not contain NUL", de="Text darf kein NUL enthalten")
    return text


def _not_blank(text: str) -> str:
    if not text.strip():
        raise value_fault("text", en="text that is not blank is expected", de="Text, der nicht leer ist, wird erwartet")
    return text


Line = Annotated[str, StringConstraints(max_length=200), AfterValidator(_no_nul)]
FilledLine = Annotated[Line, AfterValidator(_not_blank)]
Email = Annotated[
    str,
    StringConstraints(max_length=254),
    Form(r"^[^@\s\x00]+@[^@\s\x00]+$", "an e-mail address is expected", "eine E-Mail-Adresse wird erwartet"),
]
Country = Annotated[
    str,
    Form(
        r"^[A-Z]{2}$",
        "a country of two capital letters is expected, such as CH",
        "ein Land aus zwei Grossbuchstaben wird erwartet, zum Beispiel CH",
    ),
]
Percent = Annotated[ChfNumber, Field(ge=0, le=100)]
MarkupPercent = Annotated[ChfNumber, Field(ge=0)]
Amount = Annotated[ChfNumber, Field(ge=0)]
WholeNumber = Annotated[int, Field(ge=0, le=INTEGER_MAX)]


class AddressBody(Body):
    """A billing address, complete enough for an invoice."""

    company: FilledLine
    street: FilledLine
    zip: FilledLine
    city: FilledLine
    country: Country = "CH"
    vat_number: Line | None = None


class SettingsBody(Body):
    """Any subset of the settings; a missing or null name leaves its value."""

    billing_model: BillingModel | None = None
    default_user_credit: Amount | None = None
    warning_threshold_percent: Percent | None = None
    block_on_zero_balance: bool | None = None
    billing_address: AddressBody | None = None
    notify_emails: Annotated[list[Email], Field(max_length=50)] | None = None
    notify_on_warning: bool | None = None
    auto_recharge_enabled: bool | None = None
    recharge_amount: Annotated[ChfNumber, Field(gt=0)] | None = Field(default=None, alias="rechargeAmountCHF")
    recharge_max_per_month: WholeNumber | None = None
    markup_percent: MarkupPercent | None = None
    time_zone: str | None = None
    late_events: Literal["own", "next", "refuse"] | None = None
    late_event_days: WholeNumber | None = None


class TermsBody(Body):
    """Both are replaced; null is the plan's or global markup, and no credit limit."""

    markup_percent: MarkupPercent | None
    credit_limit: NonNegativeBalance | None


class ModelBody(Body):
    """The model to switch to."""

    billing_model: BillingModel


def routes(context: ApiContext) -> APIRouter:
    """What administrators set."""
    api = router()
    Who = Annotated[Caller, Depends(context.caller)]

    @api.get("/api/billing/admin/settings/{mandate_id}")
    async def read(caller: Who, mandate_id: str) -> dict[str, Any]:
        caller.require_admin(mandate_parameter(mandate_id))
        async with context.database.bare() as connection:
            number = await ensure_known(connection, mandate_id)
            return settings_json(await read_settings(connection, number))

    @api.post("/api/billing/admin/settings/{mandate_id}", dependencies=[Depends(_admin(context))])
    async def change(caller: Who, mandate_id: str, body: SettingsBody | None = None) -> dict[str, Any]:
        given = {} if body is None else body.model_dump(by_alias=True)
        async with context.database.bare() as connection, connection.transaction():
            number = await ensure_known(connection, mandate_id)
            ceiling = context.settings.amount_max_chf
            return await change_settings(
                connection, number, given, caller=caller, amount_max=ceiling, now=context.clock()
            )

    @api.put("/api/billing/admin/terms/{mandate_id}", dependencies=[Depends(_system_admin(context))])
    async def terms(caller: Who, mandate_id: str, body: TermsBody) -> dict[str, Any]:
        limit = None
        if body.credit_limit is not None:
            if body.credit_limit.currency != "CHF":
                raise InvalidField(
                    "creditLimit.currency", en="a credit limit is in CHF", de="ein Kreditlimit ist in CHF"
                )
            limit = _micros("creditLimit.amount", body.credit_limit.amount, context.settings.credit_limit_max_chf)
        async with context.database.bare() as connection, connection.transaction():
            number = await ensure_known(connection, mandate_id)
            await lock_mandate(connection, number)
            pool = AccountKey(number, "MANDATE")
            pool_no = (await ensure_accounts(connection, [pool]))[pool]
            await change_terms(
                connection,
                number,
                markup_percent=body.markup_percent,
                credit_limit=limit,
                pool_no=pool_no,
                caller=caller,
                now=context.clock(),
            )
        money = None if limit is None else {"amount": format(from_micro(limit), "f"), "currency": "CHF"}
        return {"markupPercent": body.markup_percent, "creditLimit": money}

    @api.post("/api/billing/admin/model/{mandate_id}", dependencies=[Depends(_system_admin(context))])
    async def model(
        caller: Who, mandate_id: str, body: ModelBody, request: Request, key: IdempotencyKey = None
    ) -> dict[str, Any]:
        async with context.database.bare() as connection, connection.transaction():
            await take_long(request, connection)
            number = await ensure_known(connection, mandate_id)

            async def switch() -> dict[str, Any]:
                done = await switch_model(connection, number, body.billing_model, caller=caller, now=context.clock())
                return {
                    "oldModel": done.old_model,
                    "newModel": done.new_model,
                    "migratedAmount": {"amount": format(from_micro(done.migrated), "f"), "currency": "CHF"},
                    "userCount": done.user_count,
                }

            asked = KeyedRequest("model", number, caller.user_id, key, body.model_dump_json())
            return await answer_once(connection, asked, switch, now=context.clock())

    return api


def _micros(field: str, amount: Decimal, ceiling: Decimal) -> int:
    """An amount of the ledger, which has six decimals, up to a ceiling."""
    try:
        micros = to_micro(amount)
    except ValueError:
        raise InvalidField(field, en="at most six decimals", de="höchstens sechs Nachkommastellen") from None
    if amount > ceiling:
        raise AmountAboveCeiling(field, ceiling)
    return micros


def _admin(context: ApiContext) -> Any:
    """Access is decided before the body is looked at."""

    async def require(caller: Annotated[Caller, Depends(context.caller)], mandate_id: str) -> None:
        caller.require_admin(mandate_parameter(mandate_id))

    return require


def _system_admin(context: ApiContext) -> Any:
    """Access is decided before the body is looked at."""

    async def require(caller: Annotated[Caller, Depends(context.caller)], mandate_id: str) -> None:
        caller.require_system_admin()
        mandate_parameter(mandate_id)

    return require
