"""What every route is given, and how parameters are read."""

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any

import asyncpg
from fastapi import APIRouter, Header, Request
from pydantic import BaseModel, BeforeValidator, ConfigDict, StringConstraints, WithJsonSchema
from pydantic.alias_generators import to_camel

from services.billing.errors import MalformedParameter
from services.billing.money import MICRO_PLACES
from services.billing.settings import BillingSettings
from services.chassis.caller import CallerVerifier
from services.chassis.clock import Clock
from services.chassis.database import Database, take_time
from services.chassis.deadlines import LONG_ANSWER_S, deadline_of
from services.chassis.exact_json import ExactJsonResponse, ExactJsonRoute
from services.chassis.validation import value_fault

__all__ = [
    "ApiContext",
    "Body",
    "ChfNumber",
    "IdempotencyKey",
    "Identifier",
    "id_parameter",
    "integer_parameter",
    "mandate_parameter",
    "router",
    "take_long",
    "text_parameter",
]

# Amounts of one request: far more than anybody pays, far less than the ledger's integers hold.
AMOUNT_DIGITS_MAX = 11

_IDENTIFIER = re.compile(r"[A-Za-z0-9._:@|\-]{1,64}", re.ASCII)

Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:@|\-]{1,64}$")]


IdempotencyKey = Annotated[str | None, Header(alias="Idempotency-Key", max_length=255)]


@dataclass(frozen=True, slots=True)
class ApiContext:
    """What the routes work with."""

    settings: BillingSettings
    database: Database
    caller: CallerVerifier
    clock: Clock


async def take_long(request: Request, connection: asyncpg.Connection) -> None:
    """Gives work that grows with a mandate or a file its longer time, once the database has answered."""
    await take_time(connection, LONG_ANSWER_S)
    deadline_of(request).restart(LONG_ANSWER_S)


class Body(BaseModel):
    """Base of request bodies: camelCase, strict types, unknown names ignored."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=False, strict=True, extra="ignore", frozen=True
    )


def _exact_number(value: Any) -> Decimal:
    """A JSON number with at most six decimals, as the exact decimal of its literal."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise value_fault("number", en="a JSON number is expected", de="eine JSON-Zahl wird erwartet")
    number = Decimal(value)
    exponent = number.normalize().as_tuple().exponent if number.is_finite() and len(str(value)) <= 64 else None
    if not isinstance(exponent, int) or exponent < -MICRO_PLACES or number.adjusted() >= AMOUNT_DIGITS_MAX:
        raise value_fault(
            "number",
            en="at most 11 digits before the point and six decimals",
            de="höchstens 11 Stellen vor dem Punkt und sechs danach",
        )
    return number


ChfNumber = Annotated[Decimal, BeforeValidator(_exact_number), WithJsonSchema({"type": "number"})]


def router() -> APIRouter:
    """A router whose numbers never pass through a float."""
    return APIRouter(route_class=ExactJsonRoute, default_response_class=ExactJsonResponse)


def mandate_parameter(mandate_id: str) -> str:
    """A mandate id out of a path or query; what cannot be one names nobody's mandate."""
    return id_parameter("mandateId", mandate_id)


def id_parameter(name: str, text: str) -> str:
    """An id out of a path or query."""
    if not _IDENTIFIER.fullmatch(text):
        raise MalformedParameter(name, en="this cannot be an id", de="das kann keine Id sein")
    return text


def integer_parameter(name: str, text: str | None, *, default: int, least: int, most: int) -> int:
    """A whole number out of the query, or its default."""
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and least <= int(text) <= most):
        raise MalformedParameter(
            name,
            en=f"a whole number from {least} to {most} is expected",
            de=f"eine ganze Zahl von {least} bis {most} wird erwartet",
        )
    return int(text)


def text_parameter(name: str, text: str | None) -> str | None:
    """Text out of the query, as the database can compare it; an empty one is none."""
    if text is not None and "\x00" in text:
        raise MalformedParameter(name, en="text must not contain NUL", de="Text darf kein NUL enthalten")
    return text or None
