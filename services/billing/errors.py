"""Refusals over HTTP that several subjects share; those of one subject are in its `errors.py`."""

from decimal import Decimal

from services.chassis.problems import InvalidBody, Problem
from services.chassis.validation import FieldFault, both

__all__ = [
    "AmountAboveCeiling",
    "InvalidField",
    "MalformedParameter",
]


class MalformedParameter(Problem):
    """A query parameter or path segment is malformed."""

    status = 400
    code = "MALFORMED_PARAMETER"
    title = "Malformed parameter"
    texts = both("{name} is malformed: {why}.", "{name} ist fehlerhaft: {why}.")

    def __init__(self, name: str, *, en: str, de: str) -> None:
        super().__init__(name=name, why={"en": en, "de": de})


class InvalidField(InvalidBody):
    """One field of the body is wrong in a way that its type cannot express."""

    def __init__(self, field: str, *, en: str, de: str, code: str = "VALIDATION") -> None:
        super().__init__([FieldFault(field, {"en": en, "de": de})], code=code)


class AmountAboveCeiling(InvalidField):
    """More money than one request may name on this platform."""

    def __init__(self, field: str, ceiling: Decimal) -> None:
        most = format(ceiling, "f")
        super().__init__(
            field,
            en=f"at most {most} CHF, which is the ceiling of this platform",
            de=f"höchstens {most} CHF, die Obergrenze dieser Plattform",
            code="AMOUNT_ABOVE_CEILING",
        )
