"""Base classes and field types of request and response models. Older paths have money as JSON numbers, newer ones as
{amount, currency}."""

import re
from collections.abc import Callable
from decimal import Context, Decimal
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, WithJsonSchema
from pydantic.alias_generators import to_camel

from services.chassis.validation import value_fault

__all__ = [
    "IDENTIFIER",
    "IDENTIFIER_SCHEMA",
    "SIX_PLACES",
    "Amount",
    "AnswerBody",
    "Currency",
    "RequestBody",
    "Time",
    "exact_number",
    "money_json",
]

# An exact decimal in Python; the schema describes the JSON number on the wire.
Amount = Annotated[Decimal, WithJsonSchema({"type": "number"})]
Currency = Annotated[str, WithJsonSchema({"type": "string", "pattern": "^[A-Z]{3}$"})]
Time = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]

SIX_PLACES = Decimal("0.000001")
PLACES_MAX = 6
# Of a literal; whatever is in it, in this context no digit is lost.
NUMBER_LENGTH_MAX = 64
_WHOLE = Context(prec=NUMBER_LENGTH_MAX)

# The form of an id.
IDENTIFIER = re.compile(r"[A-Za-z0-9._:@|\-]{1,64}", re.ASCII)
# An id in a path or query. The schema only documents it: the reader of the parameter checks the value.
IDENTIFIER_SCHEMA: dict[str, Any] = {
    "type": "string",
    "minLength": 1,
    "maxLength": 64,
    "pattern": r"^[A-Za-z0-9._:@|\-]+$",
}


def money_json(amount: Decimal, currency: str = "CHF") -> dict[str, str]:
    """An amount with six decimals, as newer paths answer money."""
    return {"amount": format(amount.quantize(SIX_PLACES), "f"), "currency": currency}


def exact_number(digits_max: int) -> Callable[[object], Decimal]:
    """What reads a JSON number with at most six decimals, and so many digits before the point, as the exact decimal of
    its literal; `true` is a number to Python, not to us."""

    def read(value: object) -> Decimal:
        if isinstance(value, bool) or not isinstance(value, int | Decimal):
            raise value_fault("number", en="a JSON number is expected", de="eine JSON-Zahl wird erwartet")
        number = Decimal(value)
        written = number.normalize(_WHOLE) if number.is_finite() and len(str(value)) <= NUMBER_LENGTH_MAX else None
        if written is None or written.adjusted() >= digits_max or written != round(written, PLACES_MAX):
            raise value_fault(
                "number",
                en=f"at most {digits_max} digits before the point and six decimals",
                de=f"höchstens {digits_max} Stellen vor dem Punkt und sechs danach",
            )
        return number

    return read


class RequestBody(BaseModel):
    """Base of request bodies: camelCase, strict types, unknown names ignored."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=False, strict=True, extra="ignore", frozen=True
    )


class AnswerBody(BaseModel):
    """Base of the models that document answers, which are written without them: camelCase."""

    model_config = ConfigDict(alias_generator=to_camel)
