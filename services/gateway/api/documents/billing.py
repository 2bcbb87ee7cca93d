"""Bodies of the billing service's public operations, as the OpenAPI document shows them."""

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel

from rappen_contracts.types import Identifier, Name, NonNegativeMoney, Quantities, Strings
from rappen_contracts.usage.v1 import Tokens
from services.gateway.api.documents.common import Amount, Currency, Document, MoneyObject, Time

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
    "PriceBook",
    "PriceFile",
    "PriceImport",
    "PricePreview",
    "PricesQuery",
    "ProvidersQuery",
    "Rate",
    "RateBook",
    "RateChange",
    "RatesQuery",
    "Settings",
    "SettingsChange",
    "Terms",
    "Transaction",
    "TransactionsQuery",
    "Unknown",
    "UnpricedPage",
    "UnpricedQuery",
]

Reason = Literal[
    "NOT_A_MEMBER",
    "ACCOUNT_DISABLED",
    "PROVIDER_NOT_ALLOWED",
    "NO_ACTIVE_SUBSCRIPTION",
    "SUB_LIMIT_EXCEEDED",
    "INSUFFICIENT_BALANCE",
    "CREDIT_LIMIT_EXCEEDED",
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
DecimalText = Annotated[str, WithJsonSchema({"type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?$"})]
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
    reference_type: Literal["WORKFLOW", "PAYMENT", "ADMIN", "SYSTEM", "SUBSCRIPTION", "STORAGE"]
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
    time_zone_known: bool
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
    account_type: Literal["MANDATE", "USER"]
    credit_limit: Amount | None
    held_amount: Amount


class AccountChange(Document):
    """Whether an account may be used."""

    enabled: bool


class Estimate(BaseModel):
    """A part of a usage event with its own names: `cost`, or what a price is found by."""

    cost: NonNegativeMoney | None = None
    provider: Name | None = None
    model: Name | None = None
    tokens: Tokens | None = None
    quantities: Quantities | None = None
    service_tier: Name | None = None
    conditions: Strings | None = None


class Check(Document):
    """May this be spent? Exactly one of `estimatedCost` (final CHF) and `estimate` (a part of a usage event)."""

    mandate_id: Identifier
    user_id: Identifier
    estimated_cost: NonNegativeMoney | None = None
    estimate: Estimate | None = None
    provider: Name | None = None
    model: Name | None = None
    feature_instance_id: Identifier | None = None


class CheckAnswer(Document):
    """Whether it may, and why not."""

    allowed: bool
    reason: Reason | None
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


class SettledGroup(Document):
    """Parked events of one model that a file gives a price."""

    model_config = ConfigDict(extra="allow", alias_generator=to_camel)

    provider: str
    model: str
    events: int


class PriceImport(Document):
    """How a price file is read, and whether it is only compared."""

    format: Literal["rappen", "litellm"] = "rappen"
    valid_from: Time | None = None
    preview: bool = False


class PriceEntry(BaseModel):
    """A model's prices from a time on, in the form of our own price files."""

    model_config = ConfigDict(extra="allow")

    provider: str
    model: str
    currency: Currency
    valid_from: Time | None = None
    source: str | None = None


class RappenPrices(BaseModel):
    """A price file of ours."""

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
    created_at: Time = Field(alias="createdAt")


class PriceBook(Document):
    """The price book by cursor, in the order in which it was recorded."""

    items: list[BookedPrice]
    next_cursor: str | None


class NamedPrice(Document):
    """Whose price, in which currency, from when on."""

    model_config = ConfigDict(extra="allow", alias_generator=to_camel)

    provider: str
    model: str
    currency: Currency
    valid_from: Time


class ChangedUnit(Document):
    """One price before and after; `tenfold` marks a change by more than a factor of ten."""

    price: str
    where: str
    before: DecimalText | None
    after: DecimalText | None
    tenfold: bool


class ChangedPrice(NamedPrice):
    """What a file changes of a model's prices."""

    currency_before: Currency
    tenfold: bool
    prices: list[ChangedUnit]


class UnreadEntry(Document):
    """What was not taken of a file, and why."""

    entry: str
    why: str


class PricePreview(Document):
    """What a file changes, what of it was not read, and the parked events that it settles."""

    model_config = ConfigDict(extra="allow", alias_generator=to_camel)

    applied: bool
    new: list[NamedPrice]
    changed: list[ChangedPrice]
    unchanged: int
    unreadable: list[UnreadEntry]
    partly_read: list[UnreadEntry]
    settles: list[SettledGroup]


class RateChange(Document):
    """CHF for one unit of a currency from a time on."""

    currency: Currency
    rate: DecimalText
    valid_from: Time


class Rate(Document):
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
    created_at: Time


class RateBook(Document):
    """Every rate, by currency, the newest first."""

    items: list[Rate]


class PricesQuery(Document):
    """Which prices; a filter that is not known is refused."""

    provider: str | None = None
    model: str | None = None
    cursor: str | None = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 100


class RatesQuery(Document):
    """Which rates."""

    currency: Currency | None = None


class UnpricedEvent(Document):
    """Usage or a payment that no price or rate covers yet; what is no AI call may lack provider and model. `missing`
    says which price or rate has to be added."""

    event_id: str
    mandate_id: str
    provider: str | None
    model: str | None
    currency: str | None
    reason: Literal["NO_PRICE", "NO_RATE", "AMOUNT_TOO_LARGE", "CONFLICT", "UNPROCESSABLE", "UNREADABLE"]
    missing: str
    occurred_at: Time


class UnpricedPage(Document):
    """Unpriced events by cursor."""

    items: list[UnpricedEvent]
    next_cursor: str | None


class UnpricedQuery(Document):
    """Which part of the list."""

    mandate_id: Identifier | None = None
    provider: str | None = None
    model: str | None = None
    reason: Literal["NO_PRICE", "NO_RATE"] | None = None
    cursor: str | None = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 50


class UnknownUsage(Document):
    """A member with usage whom the directory does not know, or whose mandate it does not know."""

    mandate_id: str
    user_id: str
    mandate_unknown: bool
    usage_count: int


class Unknown(Document):
    """What usage has named and the directory does not know."""

    items: list[UnknownUsage]


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
