"""Ids, text, decimals, money and times as every event uses them.

Refusals raise `PydanticCustomError`, whose type becomes the stable code of the `ContractError` that a reader sees.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Context, Decimal, Inexact, InvalidOperation, Overflow, Rounded
from typing import Annotated, Any
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SerializationInfo,
    StringConstraints,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

__all__ = [
    "AMOUNT_END",
    "CURRENCIES",
    "EXACT",
    "TIME_END",
    "TIME_START",
    "Amount",
    "Contract",
    "Count",
    "Description",
    "EventId",
    "Identifier",
    "Metadata",
    "Money",
    "Name",
    "NonNegativeBalance",
    "NonNegativeDecimal",
    "NonNegativeMoney",
    "Quantities",
    "Reason",
    "SignedDecimal",
    "Strings",
    "Text",
    "Timestamp",
    "parse_decimal",
    "parse_instant",
    "parse_time",
    "parse_uuid",
    "since_epoch",
]

# Large enough for every sum, product and remainder of contract decimals; what does not fit raises instead of rounding.
EXACT = Context(prec=200, traps=[Inexact, Rounded, InvalidOperation, Overflow])

INTEGER_MAX = 2**53 - 1
DECIMAL_PLACES_MAX = 24
DECIMAL_LENGTH_MAX = 64
INTEGER_DIGITS_MAX = 14
# What is charged or paid at once is less than a billion. Sums of it, such as balances, have up to 14 digits.
AMOUNT_END = Decimal(10**9)
_ZERO = Decimal(0)
# The times that anything of ours can have: [start, end). Zero times of other languages (the years 1, 1601, 1900, 1970)
# and "for ever" as year 9999 are no times, and databases and languages treat some of them specially.
TIME_START = datetime(2000, 1, 1, tzinfo=UTC)
TIME_END = datetime(2200, 1, 1, tzinfo=UTC)
# The currencies of ISO 4217 that are in use, without funds, metals and testing codes.
CURRENCIES = frozenset(
    """
    AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CLP CNY
    COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL HTG HUF IDR ILS
    INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP
    MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR
    SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD UYU UZS VED VES VND
    VUV WST XAF XCD XCG XOF XPF YER ZAR ZMW ZWG
    """.split()  # noqa: SIM905 - a table reads better than a hundred and sixty quoted strings.
)

_DECIMAL = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,4})?", re.ASCII)
_NOT_FINITE = frozenset(["nan", "snan", "inf", "infinity"])
_DECIMAL_PATTERN = r"^[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,4})?$"
_UUID_CANONICAL = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_UUID = re.compile(
    r"(?:urn:uuid:)?\{?([0-9a-f]{8})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{12})\}?",
    re.ASCII | re.IGNORECASE,
)
# The hour is 00 to 23, whatever a newer Python reads beside that.
_TIME = re.compile(
    r"\d{4}-\d{2}-\d{2}[Tt ](?:[01]\d|2[0-3]):\d{2}:\d{2}(?:\.\d{1,9})?(?:[Zz]|[+-]\d{2}:[0-5]\d)?", re.ASCII
)


def parse_decimal(value: object) -> Decimal:
    """Reads a decimal from its string; a JSON number is refused because a parser may already have rounded it."""
    if isinstance(value, str):
        if len(value) > DECIMAL_LENGTH_MAX or not _DECIMAL.fullmatch(value):
            raise _bad_decimal(value)
        number = Decimal(value)
    # A subclass marks a number that a parser made of a JSON number.
    elif type(value) is Decimal:
        number = value
    else:
        raise PydanticCustomError("NOT_A_STRING", "a decimal travels as a JSON string")
    sign, digits, exponent = number.as_tuple()
    if not isinstance(exponent, int):
        raise PydanticCustomError("NOT_FINITE", "a decimal must be finite")
    if not number:
        return Decimal((0, (0,), max(min(exponent, 0), -DECIMAL_PLACES_MAX)))
    if number.adjusted() >= INTEGER_DIGITS_MAX:
        raise PydanticCustomError("TOO_LARGE", "at most 14 digits before the point")
    if exponent >= -DECIMAL_PLACES_MAX:
        return number
    # Zeros past the last place change nothing, so they are cut off instead of refused.
    excess = exponent + DECIMAL_PLACES_MAX
    if any(digits[excess:]):
        raise PydanticCustomError("TOO_MANY_DECIMALS", "at most 24 decimals")
    return Decimal((sign, digits[:excess], -DECIMAL_PLACES_MAX))


def _bad_decimal(text: str) -> PydanticCustomError:
    if text.strip(" +-").lower() in _NOT_FINITE:
        return PydanticCustomError("NOT_FINITE", "a decimal must be finite")
    return PydanticCustomError("BAD_DECIMAL", "a decimal is ASCII digits with optional sign, point, exponent")


def _not_negative(number: Decimal) -> Decimal:
    if number < 0:
        raise PydanticCustomError("NEGATIVE", "must not be negative")
    return number


def _amount(number: Decimal) -> Decimal:
    if AMOUNT_END > number >= _ZERO:
        return number
    if number < 0:
        raise PydanticCustomError("NEGATIVE", "must not be negative")
    raise PydanticCustomError("TOO_LARGE", "an amount has at most 9 digits before the point")


def _decimal_text(number: Decimal, info: SerializationInfo) -> str:
    """Plain notation; the canonical form (for digests) also drops trailing zeros, so 1.0 and 1.00 are one value."""
    if info.context is not None and info.context.get("canonical"):
        number = number.normalize(EXACT)
    return format(number, "f")


def parse_uuid(value: object) -> UUID:
    """Reads a UUID in any usual textual form (hyphens, braces, urn:uuid:, either case)."""
    if isinstance(value, str):
        if _UUID_CANONICAL.fullmatch(value):
            return UUID(int=int(value.replace("-", ""), 16))
        found = _UUID.fullmatch(value)
        if found:
            return UUID(int=int("".join(found.groups()), 16))
    elif isinstance(value, UUID):
        return value
    raise PydanticCustomError("BAD_UUID", "not a UUID")


def parse_time(value: object) -> datetime:
    """Reads an RFC 3339 time as `parse_instant` does; before 2000 and after 2199 it is refused."""
    time = parse_instant(value)
    if not TIME_START <= time < TIME_END:
        raise PydanticCustomError("TIME_OUT_OF_RANGE", "a time is in the years 2000 to 2199")
    return time


def parse_instant(value: object) -> datetime:
    """Reads an RFC 3339 time with an offset; nanoseconds are cut to microseconds, the result is UTC.

    A leap second (`:60`) is refused: no clock of ours can hold it, and moving it would change what was said.
    """
    if isinstance(value, datetime):
        time = value
    elif isinstance(value, str) and _TIME.fullmatch(value):
        try:
            time = datetime.fromisoformat(value.upper())
        except ValueError:
            raise PydanticCustomError("BAD_TIME", "no such time") from None
    else:
        raise PydanticCustomError("BAD_TIME", "a time is RFC 3339 with an offset")
    if time.tzinfo is None:
        raise PydanticCustomError("NAIVE_TIME", "a time needs an offset")
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise PydanticCustomError("BAD_TIME", "no such time in UTC") from None


def since_epoch(time: datetime) -> int:
    """A time as PostgreSQL counts it: microseconds since `TIME_START`, the year 2000."""
    passed = time - TIME_START
    return (passed.days * 86_400 + passed.seconds) * 1_000_000 + passed.microseconds


def _time_text(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _no_nul(text: str) -> str:
    if "\x00" in text:
        raise PydanticCustomError("BAD_TEXT", "text must not contain NUL")
    return text


def _known_currency(code: str) -> str:
    if code not in CURRENCIES:
        raise PydanticCustomError(
            "UNKNOWN_CURRENCY", "a currency is a code of ISO 4217 in three capital letters, such as CHF or USD"
        )
    return code


def _sorted(entries: Mapping[str, Any]) -> dict[str, Any]:
    """One order, so that the digest of equal objects is equal."""
    return dict(sorted(entries.items()))


Identifier = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._:@|\-]+$")]
Text = Annotated[str, AfterValidator(_no_nul)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=120), AfterValidator(_no_nul)]
Description = Annotated[str, StringConstraints(max_length=500), AfterValidator(_no_nul)]
Reason = Annotated[str, StringConstraints(min_length=1, max_length=500), AfterValidator(_no_nul)]
Count = Annotated[int, Field(ge=0, le=INTEGER_MAX)]
EventId = Annotated[UUID, BeforeValidator(parse_uuid), WithJsonSchema({"type": "string", "format": "uuid"})]
Timestamp = Annotated[
    datetime,
    BeforeValidator(parse_time),
    PlainSerializer(_time_text, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
_decimal_schema = WithJsonSchema({"type": "string", "pattern": _DECIMAL_PATTERN, "maxLength": 64})
SignedDecimal = Annotated[
    Decimal, BeforeValidator(parse_decimal), PlainSerializer(_decimal_text, when_used="json"), _decimal_schema
]
NonNegativeDecimal = Annotated[
    Decimal,
    BeforeValidator(parse_decimal),
    AfterValidator(_not_negative),
    PlainSerializer(_decimal_text, when_used="json"),
    _decimal_schema,
]
Amount = Annotated[
    Decimal,
    BeforeValidator(parse_decimal),
    AfterValidator(_amount),
    PlainSerializer(_decimal_text, when_used="json"),
    _decimal_schema,
]
Currency = Annotated[
    str, AfterValidator(_known_currency), WithJsonSchema({"type": "string", "enum": sorted(CURRENCIES)})
]
Strings = Annotated[dict[Text, Text], AfterValidator(_sorted)]
Metadata = Annotated[dict[Text, Text], Field(max_length=20), AfterValidator(_sorted)]
Quantities = Annotated[dict[Name, NonNegativeDecimal], AfterValidator(_sorted)]


class Contract(BaseModel):
    """Base of everything on the wire: strict types, unknown fields ignored, immutable."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", allow_inf_nan=False, ser_json_inf_nan="strings")


class Money(Contract):
    """An exact amount in a currency; on the wire the amount is a decimal string."""

    amount: SignedDecimal
    currency: Currency


class NonNegativeMoney(Contract):
    """An exact amount of zero or more, less than a billion."""

    amount: Amount
    currency: Currency


class NonNegativeBalance(Contract):
    """A sum of amounts, zero or more."""

    amount: NonNegativeDecimal
    currency: Currency
