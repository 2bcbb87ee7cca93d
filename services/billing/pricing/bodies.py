"""Request and response models of the routes of prices, rates and unpriced usage."""

from decimal import Decimal
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema

from rappen_contracts.types import CURRENCIES, NonNegativeDecimal, Timestamp
from services.billing.pricing import rate_fault
from services.chassis.bodies import AnswerBody, Currency, RequestBody, Time
from services.chassis.validation import value_fault

__all__ = ["PARKED_REASONS", "PriceBook", "PriceFile", "PricePreview", "Rate", "RateBook", "RateChange", "UnpricedPage"]

_RATE_GERMAN = "ein Kurs ist grösser als null, mit höchstens 6 Stellen vor und 24 nach dem Punkt"

# Why usage or a payment waits; see `parked` and `rating`.
Reason = Literal["NO_PRICE", "NO_RATE", "AMOUNT_TOO_LARGE", "CONFLICT", "UNPROCESSABLE", "UNREADABLE"]
PARKED_REASONS: tuple[str, ...] = get_args(Reason)
DecimalText = Annotated[str, WithJsonSchema({"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?$"})]


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


ForeignCurrency = Annotated[
    str, AfterValidator(_foreign), WithJsonSchema({"type": "string", "enum": sorted(CURRENCIES - {"CHF"})})
]


class RateChange(RequestBody):
    """CHF for one unit of a currency, from a time on."""

    currency: ForeignCurrency
    rate: Annotated[NonNegativeDecimal, AfterValidator(_sane)]
    valid_from: Timestamp


class Rate(AnswerBody):
    """CHF for one unit of a currency from a time on; of each currency at most one is in force. One that cannot be used
    says why, and has what is stored in place of rate and time."""

    id: str
    currency: str
    rate: str
    valid_from: str
    in_force: bool
    replaced_by: str | None
    unusable: str | None
    created_by: str | None
    created_at: Time | None


class RateBook(AnswerBody):
    """Every rate, by currency, the newest first."""

    items: list[Rate]


class PriceEntry(BaseModel):
    """A model's prices from a time on, in the form of our own price files."""

    model_config = ConfigDict(extra="allow")

    provider: str
    model: str
    currency: Currency
    valid_from: Time | None = None
    source: str | None = None


class RappenPrices(BaseModel):
    """A price file in Rappen's own format."""

    format: Literal["rappen.prices.v1"]
    prices: list[PriceEntry]


class LiteLLMEntry(BaseModel):
    """A model of a LiteLLM price map; its fields are LiteLLM's."""

    model_config = ConfigDict(extra="allow")

    litellm_provider: str | None = None
    mode: str | None = None


PriceFile = RappenPrices | dict[str, LiteLLMEntry]


class BookedPrice(BaseModel):
    """A price of the book: when it was recorded and by whom, and whether it holds now. One that cannot be used says
    why, and shows what is `stored` in its place."""

    model_config = ConfigDict(extra="allow")

    id: str
    provider: str
    model: str
    currency: Currency | None = None
    valid_from: Time | None = None
    stored: str | None = None
    in_force: bool = Field(alias="inForce")
    unusable: str | None
    created_by_user_id: str | None = Field(alias="createdByUserId")
    created_at: Time | None = Field(alias="createdAt")


class PriceBook(AnswerBody):
    """The price book by cursor, in the order in which it was recorded."""

    items: list[BookedPrice]
    next_cursor: str | None


class NamedPrice(AnswerBody):
    """Whose price, in which currency, from when on."""

    provider: str
    model: str
    currency: Currency
    valid_from: Time


class ChangedUnit(AnswerBody):
    """One price before and after; `tenfold` marks a change by more than a factor of ten."""

    price: str
    where: str
    before: DecimalText | None
    after: DecimalText | None
    tenfold: bool


class NewPrice(NamedPrice):
    """The prices of a model that has none at that time; none of them has a `before`."""

    prices: list[ChangedUnit]


class ChangedPrice(NamedPrice):
    """What a file changes of a model's prices."""

    currency_before: Currency
    tenfold: bool
    prices: list[ChangedUnit]


class UnreadEntry(AnswerBody):
    """What was not taken of a file, and why."""

    entry: str
    why: str


class SettledGroup(AnswerBody):
    """Parked events of one model that a file gives a price, and those that wait on for something else."""

    provider: str
    model: str
    events: int
    still_parked: int


class PricePreview(AnswerBody):
    """What a file changes, what of it was not read, and the parked events that it settles."""

    applied: bool
    new: list[NewPrice]
    changed: list[ChangedPrice]
    unchanged: list[NamedPrice]
    unreadable: list[UnreadEntry]
    partly_read: list[UnreadEntry]
    settles: list[SettledGroup]


class UnpricedEvent(AnswerBody):
    """Usage or a payment that no price or rate covers yet; what is no AI call may lack provider and model. `missing`
    says which price or rate has to be added."""

    event_id: str
    mandate_id: str
    provider: str | None
    model: str | None
    currency: str | None
    reason: Reason
    missing: str
    occurred_at: Time | None


class UnpricedPage(AnswerBody):
    """Unpriced events by cursor."""

    items: list[UnpricedEvent]
    next_cursor: str | None
