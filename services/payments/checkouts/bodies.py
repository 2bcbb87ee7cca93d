"""Bodies and parameters, strictly typed; unknown names are ignored."""

from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, StringConstraints
from pydantic.alias_generators import to_camel

from services.chassis.validation import Form, value_fault

__all__ = ["ConfirmBody", "CreateBody", "IdempotencyKey"]

DECIMALS_MAX = 6
INTEGER_DIGITS_MAX = 14


def _exact_number(value: object) -> Decimal:
    """A JSON number as its exact decimal; `true` is a number to Python, not to us."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise value_fault("number", en="a JSON number is expected", de="eine JSON-Zahl wird erwartet")
    number = Decimal(value)
    if number and number.adjusted() >= INTEGER_DIGITS_MAX:
        raise value_fault("number", en="is too large", de="ist zu gross")
    if number != round(number, DECIMALS_MAX):
        raise value_fault("number", en="at most six decimals", de="höchstens sechs Nachkommastellen")
    return number


Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:@|-]{1,64}$")]
IdempotencyKey = Annotated[
    str,
    Form(
        r"^[\x21-\x7e]{1,255}$",
        "1 to 255 visible ASCII characters without spaces are expected",
        "1 bis 255 sichtbare ASCII-Zeichen ohne Leerzeichen werden erwartet",
    ),
]


class _Body(BaseModel):
    model_config = ConfigDict(
        strict=True, frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=False
    )


class CreateBody(_Body):
    """What checkout/create is asked. The return URL is judged later, with an error of its own."""

    user_id: Identifier | None = None
    amount: Annotated[Decimal, BeforeValidator(_exact_number)]
    return_url: str


class ConfirmBody(_Body):
    """What checkout/confirm is asked; what cannot be a session's id is an unknown session."""

    session_id: str
