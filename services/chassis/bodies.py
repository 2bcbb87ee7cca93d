"""Base classes and field types of request and response models. Older paths have money as JSON numbers, newer ones as
{amount, currency}."""

import re
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, WithJsonSchema
from pydantic.alias_generators import to_camel

__all__ = [
    "IDENTIFIER",
    "IDENTIFIER_SCHEMA",
    "SIX_PLACES",
    "Amount",
    "AnswerBody",
    "Currency",
    "RequestBody",
    "Time",
    "money_json",
]

# An exact decimal in Python; the schema describes the JSON number on the wire.
Amount = Annotated[Decimal, WithJsonSchema({"type": "number"})]
Currency = Annotated[str, WithJsonSchema({"type": "string", "pattern": "^[A-Z]{3}$"})]
Time = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]

SIX_PLACES = Decimal("0.000001")

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


class RequestBody(BaseModel):
    """Base of request bodies: camelCase, strict types, unknown names ignored."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=False, strict=True, extra="ignore", frozen=True
    )


class AnswerBody(BaseModel):
    """Base of the models that document answers, which are written without them: camelCase."""

    model_config = ConfigDict(alias_generator=to_camel)
