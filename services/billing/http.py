"""What all routes share: their context, the access checks that come first, and the types of numbers and text in
bodies."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated

from fastapi import APIRouter, Header, Request
from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, WithJsonSchema
from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts.types import NonNegativeBalance, NonNegativeMoney
from services.billing.errors import InvalidField
from services.billing.money import to_micro
from services.billing.parameters import MandateId
from services.billing.settings import BillingSettings
from services.chassis.bodies import exact_number
from services.chassis.caller import CurrentCaller
from services.chassis.clock import Clock
from services.chassis.database import Database, extend_timeouts
from services.chassis.exact_json import ExactJsonResponse, ExactJsonRoute
from services.chassis.requests import LONG_ANSWER_S, deadline_of
from services.chassis.state import of_state
from services.chassis.validation import Texts, value_fault

__all__ = [
    "NUMBER_END",
    "SAID",
    "ApiContext",
    "ChfNumber",
    "Context",
    "Description",
    "IdempotencyKey",
    "Identifier",
    "NonNegativeNumber",
    "TakeTime",
    "WholeNumber",
    "long_time",
    "micro_chf",
    "require_mandate_admin",
    "require_mandate_member",
    "router",
]

# Amounts of one request: far more than anybody pays, far less than the ledger's integers hold.
AMOUNT_DIGITS_MAX = 11
NUMBER_END = 10**AMOUNT_DIGITS_MAX
DESCRIPTION_LENGTH_MAX = 500
# What a column of type integer holds.
INTEGER_MAX = 2**31 - 1

Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:@|\-]{1,64}$")]

# Called in the transaction whose work may take long.
TakeTime = Callable[[AsyncConnection], Awaitable[None]]

# The gateway sends it with every change that can be repeated, and documents it there.
IdempotencyKey = Annotated[str | None, Header(alias="Idempotency-Key", max_length=255, include_in_schema=False)]


@dataclass(frozen=True, slots=True)
class ApiContext:
    """The objects that the routes use; the application has them as `state.context`."""

    settings: BillingSettings
    database: Database
    clock: Clock


Context = Annotated[ApiContext, of_state("context")]


def router() -> APIRouter:
    """A router whose numbers never pass through a float."""
    return APIRouter(route_class=ExactJsonRoute, default_response_class=ExactJsonResponse)


async def require_mandate_member(caller: CurrentCaller, mandate_id: MandateId) -> None:
    """FastAPI dependency of routes for a mandate's members: checked before anything else of the request is read."""
    caller.require_member(mandate_id)


async def require_mandate_admin(caller: CurrentCaller, mandate_id: MandateId) -> None:
    """FastAPI dependency of routes for a mandate's administrators: checked before anything else of the request is
    read."""
    caller.require_admin(mandate_id)


def long_time(request: Request) -> TakeTime:
    """Gives work that grows with a mandate or a file its longer time limit, once the database has answered."""

    async def take(connection: AsyncConnection) -> None:
        await extend_timeouts(connection, LONG_ANSWER_S)
        deadline_of(request).restart(LONG_ANSWER_S)

    return take


ChfNumber = Annotated[
    Decimal,
    BeforeValidator(exact_number(AMOUNT_DIGITS_MAX)),
    WithJsonSchema({"type": "number", "exclusiveMinimum": -NUMBER_END, "exclusiveMaximum": NUMBER_END}),
]
NonNegativeNumber = Annotated[
    ChfNumber, Field(ge=0), WithJsonSchema({"type": "number", "minimum": 0, "exclusiveMaximum": NUMBER_END})
]
WholeNumber = Annotated[int, Field(ge=0, le=INTEGER_MAX)]


def micro_chf(money: NonNegativeMoney | NonNegativeBalance, field: str, *, currency: Texts) -> int:
    """An amount of a body, which stands in `field`, in micro-CHF; `currency` says what is wrong with another one."""
    if money.currency != "CHF":
        raise InvalidField(f"{field}.currency", **currency)
    try:
        return to_micro(money.amount)
    except ValueError:
        raise InvalidField(
            f"{field}.amount", en="at most six decimals", de="höchstens sechs Nachkommastellen"
        ) from None


def _said(text: str) -> str:
    if "\x00" in text or not text.strip():
        raise value_fault(
            "text",
            en="text that is not blank and has no NUL is expected",
            de="Text ohne NUL, der nicht leer ist, wird erwartet",
        )
    return text


# Text that says something.
SAID = AfterValidator(_said)
Description = Annotated[
    str,
    StringConstraints(max_length=DESCRIPTION_LENGTH_MAX),
    SAID,
    WithJsonSchema({"type": "string", "maxLength": DESCRIPTION_LENGTH_MAX, "pattern": r"\S"}),
]
