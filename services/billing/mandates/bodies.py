"""Request and response models of the mandate routes."""

from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints, WithJsonSchema

from rappen_contracts.types import Money, NonNegativeBalance
from services.billing.http import NUMBER_END, ChfNumber, NonNegativeNumber, WholeNumber
from services.billing.ledger.domain import BillingModel
from services.billing.mandates.domain import LateEvents
from services.chassis.bodies import Amount, AnswerBody, RequestBody
from services.chassis.validation import Form, value_fault

__all__ = ["ModelChange", "ModelChanged", "Settings", "SettingsChange", "Terms", "TermsChange"]

LINE_LENGTH_MAX = 200


def _no_nul(text: str) -> str:
    if "\x00" in text:
        raise value_fault("text", en="text must not contain NUL", de="Text darf kein NUL enthalten")
    return text


def _not_blank(text: str) -> str:
    if not text.strip():
        raise value_fault("text", en="text that is not blank is expected", de="Text, der nicht leer ist, wird erwartet")
    return text


Line = Annotated[str, StringConstraints(max_length=LINE_LENGTH_MAX), AfterValidator(_no_nul)]
FilledLine = Annotated[
    Line,
    AfterValidator(_not_blank),
    WithJsonSchema({"type": "string", "maxLength": LINE_LENGTH_MAX, "pattern": r"\S"}),
]
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
Percent = Annotated[ChfNumber, Field(ge=0, le=100), WithJsonSchema({"type": "number", "minimum": 0, "maximum": 100})]
PositiveNumber = Annotated[
    ChfNumber, Field(gt=0), WithJsonSchema({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": NUMBER_END})
]


class BillingAddress(RequestBody):
    """Who an invoice is for, complete enough for one."""

    company: FilledLine
    street: FilledLine
    zip: FilledLine
    city: FilledLine
    country: Country = "CH"
    vat_number: Line | None = None


class SettingsChange(RequestBody):
    """Any subset of the settings; what is missing or null stays."""

    billing_model: BillingModel | None = None
    default_user_credit: NonNegativeNumber | None = None
    warning_threshold_percent: Percent | None = None
    block_on_zero_balance: bool | None = None
    billing_address: BillingAddress | None = None
    notify_emails: Annotated[list[Email], Field(max_length=50)] | None = None
    notify_on_warning: bool | None = None
    auto_recharge_enabled: bool | None = None
    recharge_amount: PositiveNumber | None = Field(default=None, alias="rechargeAmountCHF")
    recharge_max_per_month: WholeNumber | None = None
    markup_percent: NonNegativeNumber | None = None
    time_zone: str | None = None
    late_events: LateEvents | None = None
    late_event_days: WholeNumber | None = None


class Settings(AnswerBody):
    """A mandate's settings."""

    id: str
    mandate_id: str
    billing_model: BillingModel
    default_user_credit: Amount
    warning_threshold_percent: Amount
    block_on_zero_balance: bool
    billing_address: BillingAddress | None
    notify_emails: list[str]
    notify_on_warning: bool
    auto_recharge_enabled: bool
    recharge_amount: Amount = Field(alias="rechargeAmountCHF")
    recharge_max_per_month: int
    markup_percent: Amount | None
    time_zone: str
    time_zone_known: bool
    late_events: LateEvents
    late_event_days: int


class TermsChange(RequestBody):
    """Both are replaced; null is the plan's or global markup, and no credit limit.

    A limit is at most what the platform allows, 1,000,000 CHF unless it is configured otherwise.
    """

    markup_percent: NonNegativeNumber | None
    credit_limit: NonNegativeBalance | None


class Terms(AnswerBody):
    """A mandate's own markup and credit limit; null is the plan's or global markup, and no limit."""

    markup_percent: Amount | None
    credit_limit: Money | None


class ModelChange(RequestBody):
    """The billing model a mandate gets."""

    billing_model: BillingModel


class ModelChanged(AnswerBody):
    """What the change moved, and between how many members' accounts and the pool."""

    old_model: BillingModel
    new_model: BillingModel
    migrated_amount: Money
    user_count: int
