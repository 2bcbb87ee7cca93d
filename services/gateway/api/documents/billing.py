"""Bodies of the billing service's public operations, as the OpenAPI document shows them."""

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import Field, WithJsonSchema

from rappen_contracts.types import Identifier, NonNegativeMoney
from services.gateway.api.documents.common import Amount, Currency, Document, Loose, MoneyObject, Time

__all__ = [
    "Account",
    "AccountChange",
    "Balance",
    "Check",
    "CheckAnswer",
    "Credit",
    "Markup",
    "MarkupQuery",
    "ModelChange",
    "ModelChanged",
    "PriceImport",
    "PricePreview",
    "ProvidersQuery",
    "RateBook",
    "RateChange",
    "Settings",
    "SettingsChange",
    "Terms",
    "Transaction",
    "TransactionsQuery",
    "Unknown",
    "UnpricedPage",
    "UnpricedQuery",
]

BillingModel = Literal["PREPAY_MANDATE", "PREPAY_USER", "CREDIT_POSTPAY", "UNLIMITED"]

# Numbers that billing reads: 11 digits before the point, six behind it; integers are those of the database.
_BOUND = 10**11
_SignedNumber = Annotated[
    Decimal, WithJsonSchema({"type": "number", "exclusiveMinimum": -_BOUND, "exclusiveMaximum": _BOUND})
]
_Number = Annotated[Decimal, WithJsonSchema({"type": "number", "minimum": 0, "exclusiveMaximum": _BOUND})]
_PositiveNumber = Annotated[
    Decimal, WithJsonSchema({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": _BOUND})
]
_Percent = Annotated[Decimal, WithJsonSchema({"type": "number", "minimum": 0, "maximum": 100})]
_WholeNumber = Annotated[int, Field(ge=0, le=2**31 - 1)]
_Email = Annotated[str, Field(max_length=254, pattern=r"^[^@\s]+@[^@\s]+$")]
_FilledLine = Annotated[str, Field(max_length=200, pattern=r"\S")]


class Balance(Document):
    """A balance as its mandate's member sees it."""

    mandate_id: str
    mandate_name: str
    billing_model: BillingModel
    balance: Amount
    currency: Currency
    warning_threshold: Amount
    is_warning: bool
    credit_limit: Amount | None


class Transaction(Document):
    """One row of the ledger."""

    id: str
    account_id: str
    transaction_type: Literal["CREDIT", "DEBIT", "ADJUSTMENT"]
    amount: Amount
    description: str
    reference_type: str
    reference_id: str | None
    workflow_id: str | None
    feature_code: str | None
    feature_instance_id: str | None
    aicore_provider: str | None
    aicore_model: str | None
    created_by_user_id: str | None
    created_at: Time
    recorded_at: Time
    mandate_id: str
    mandate_name: str
    balance_after: Amount | None
    processing_time: Amount | None
    bytes_sent: int | None
    bytes_received: int | None
    error_count: int | None
    input_tokens: int | None
    output_tokens: int | None


class TransactionsQuery(Document):
    """Which part of the list."""

    limit: Annotated[int, Field(ge=1, le=500)] = 50
    offset: Annotated[int, Field(ge=0)] = 0


class BillingAddress(Document):
    """Who an invoice is for."""

    company: _FilledLine
    street: _FilledLine
    zip: _FilledLine
    city: _FilledLine
    country: Annotated[str, Field(pattern=r"^[A-Z]{2}$")] = "CH"
    vat_number: Annotated[str, Field(max_length=200)] | None = None


class SettingsChange(Document):
    """Any subset of the settings; what is missing or null stays."""

    billing_model: BillingModel | None = None
    default_user_credit: _Number | None = None
    warning_threshold_percent: _Percent | None = None
    block_on_zero_balance: bool | None = None
    billing_address: BillingAddress | None = None
    notify_emails: Annotated[list[_Email], Field(max_length=50)] | None = None
    notify_on_warning: bool | None = None
    auto_recharge_enabled: bool | None = None
    recharge_amount: _PositiveNumber | None = Field(default=None, alias="rechargeAmountCHF")
    recharge_max_per_month: _WholeNumber | None = None
    markup_percent: _Number | None = None
    time_zone: str | None = None
    late_events: Literal["own", "next", "refuse"] | None = None
    late_event_days: _WholeNumber | None = None


class Settings(Document):
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
    late_events: Literal["own", "next", "refuse"]
    late_event_days: int


class Credit(Document):
    """Money given or taken by an administrator; `userId` is required where members have budgets of their own.

    At most what the platform allows at once, 100,000 CHF unless it is configured otherwise.
    """

    user_id: Identifier | None = None
    amount: _SignedNumber
    description: Annotated[str, Field(max_length=500, pattern=r"\S")] = "Manual credit"


class Account(Document):
    """The pool (userId null) or a member's account."""

    id: str
    mandate_id: str
    user_id: str | None
    balance: Amount
    warning_threshold: Amount
    enabled: bool
    account_type: str
    credit_limit: Amount | None
    held_amount: Amount


class AccountChange(Document):
    """Whether an account may be used."""

    enabled: bool


class Check(Document):
    """May this be spent? Exactly one of `estimatedCost` (final CHF) and `estimate` (a part of a usage event)."""

    mandate_id: Identifier
    user_id: Identifier
    estimated_cost: NonNegativeMoney | None = None
    estimate: Loose | None = None
    provider: str | None = None
    model: str | None = None
    feature_instance_id: Identifier | None = None


class CheckAnswer(Document):
    """Whether it may, and why not."""

    allowed: bool
    reason: str | None
    current_balance: MoneyObject
    held_amount: MoneyObject
    required_amount: MoneyObject
    shortfall: MoneyObject
    billing_model: BillingModel


class MarkupQuery(Document):
    """Whose markup."""

    mandate_id: Identifier


class Markup(Document):
    """The markup in force, in percent."""

    percent: Amount


class ProvidersQuery(Document):
    """For whom a program asks; a person asks for themselves."""

    mandate_id: Identifier | None = None
    user_id: Identifier | None = None


class PriceImport(Document):
    """How a price file is read, and whether it is only compared."""

    format: Literal["rappen", "litellm"] = "rappen"
    valid_from: Time | None = None
    preview: bool = False


PricePreview = Loose


class RateChange(Document):
    """CHF for one unit of a currency from a time on."""

    currency: Currency
    rate: str
    valid_from: Time


RateBook = Loose


class UnpricedEvent(Document):
    """Usage or a payment that no price or rate covers yet; what is no AI call may lack provider and model."""

    event_id: str
    mandate_id: str
    provider: str | None
    model: str | None
    currency: str | None
    reason: Literal["NO_PRICE", "NO_RATE"]
    occurred_at: Time


class UnpricedPage(Document):
    """Unpriced events by cursor."""

    items: list[UnpricedEvent]
    next_cursor: str | None


class UnpricedQuery(Document):
    """Which part of the list."""

    cursor: str | None = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 50


Unknown = Loose


class ModelChange(Document):
    """The billing model a mandate gets."""

    billing_model: BillingModel


class ModelChanged(Document):
    """What the change moved."""

    old_model: BillingModel
    new_model: BillingModel
    migrated_amount: MoneyObject
    user_count: int


class Terms(Document):
    """A mandate's own markup and credit limit; null is the plan's or global markup, and no limit.

    A limit is at most what the platform allows, 1,000,000 CHF unless it is configured otherwise.
    """

    markup_percent: _Number | None
    credit_limit: MoneyObject | None
