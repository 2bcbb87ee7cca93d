"""Response models of the routes of balances, accounts and transactions."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, WithJsonSchema

from services.billing.ledger.domain import AccountType, BillingModel, ContraAccount, ReferenceType, TransactionType
from services.chassis.bodies import Amount, AnswerBody, Currency, Time
from services.chassis.lists.bodies import PageInfo

__all__ = [
    "Account",
    "Balance",
    "Explanation",
    "MandateBalance",
    "Markup",
    "MemberBalance",
    "MovementPage",
    "MovementRow",
    "MovementSlice",
    "UserMovementRow",
]

# An exact decimal with all its digits, never with an exponent.
DecimalText = Annotated[str, WithJsonSchema({"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]+)?$"})]


class Balance(AnswerBody):
    """A balance as its mandate's member sees it."""

    mandate_id: str
    mandate_name: str
    billing_model: BillingModel
    balance: Amount
    currency: Currency
    warning_threshold: Amount
    is_warning: bool
    credit_limit: Amount | None


class Account(AnswerBody):
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


class Markup(AnswerBody):
    """The markup in force, in percent."""

    percent: Amount


class MovementRow(AnswerBody):
    """One row of the ledger."""

    id: str
    account_id: str
    transaction_type: TransactionType
    amount: Amount
    description: str
    reference_type: ReferenceType
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


class UserMovementRow(MovementRow):
    """A row of the ledger and whose it is; without anybody userName is empty."""

    user_id: str | None
    user_name: str


class MovementPage(AnswerBody):
    """A page of rows. Without a page that was asked for, or without any mandate, `pagination` is null."""

    items: list[UserMovementRow]
    pagination: PageInfo | None


class MovementSlice(AnswerBody):
    """Rows behind a cursor; `nextCursor` is null at the end."""

    items: list[UserMovementRow]
    next_cursor: str | None


class MandateBalance(AnswerBody):
    """What a mandate has: its members' budgets or its pool, and the settings that decide on them."""

    mandate_id: str
    mandate_name: str
    total_balance: Amount
    user_count: int
    warning_threshold_percent: Amount
    billing_model: BillingModel
    default_user_credit: Amount
    block_on_zero_balance: bool


class MemberBalance(AnswerBody):
    """A member's account; where the pool pays, its balance is 0."""

    account_id: str
    mandate_id: str
    mandate_name: str
    user_id: str
    user_name: str
    balance: Amount
    warning_threshold: Amount
    is_warning: bool
    enabled: bool


class ExplainedCost(BaseModel):
    """What the provider charged, in whichever currency."""

    amount: DecimalText
    currency: Currency


class ExplainedEvent(BaseModel):
    """The usage event as the ledger keeps it, under its own names."""

    id: str
    time: Time
    kind: Literal["ai", "storage"]
    user_id: str | None
    provider: str | None
    model: str | None
    cost: ExplainedCost | None
    tokens: dict[str, int] | None
    quantities: dict[str, DecimalText] | None
    service_tier: str | None
    conditions: dict[str, str] | None
    response_id: str | None
    feature_code: str | None
    feature_instance_id: str | None
    workflow_id: str | None
    hold_id: str | None
    metadata: dict[str, str] | None


class ExplainedLine(AnswerBody):
    """A kind of tokens or a unit: count times unit price times factor is its cost. `pricedAs` says what it was priced
    as, where it has no price of its own."""

    component: str
    count: DecimalText
    unit_price: DecimalText
    factor: DecimalText
    cost: DecimalText
    priced_as: str | None


class OpenWindow(AnswerBody):
    """A clock window of the price version that was open."""

    hours: str
    weekdays: list[int]
    zone: str


class Selection(AnswerBody):
    """What decided which prices of the version hold: the tier, the prompt's length and the band that it is in, the
    event's value of each condition that the version names, and the open windows."""

    service_tier: str
    prompt_tokens: int
    above: int | None
    up_to: int | None
    conditions: dict[str, str | None]
    windows: list[OpenWindow]


class PricePart(BaseModel):
    """A list of prices or a factor, in the form of price files."""

    model_config = ConfigDict(extra="allow")


class ExplainedPrice(AnswerBody):
    """A version of the price book."""

    id: str
    provider: str
    model: str
    currency: Currency
    valid_from: Time
    source: str | None
    lists: list[PricePart]
    factors: list[PricePart]


class ExplainedRate(AnswerBody):
    """CHF for one unit of the currency, from a time on."""

    id: str
    currency: Currency
    rate: DecimalText
    valid_from: Time


class Rounding(AnswerBody):
    """The exact price and the remainder before it, rounded once."""

    mode: Literal["half-even"]
    places: int
    unrounded: DecimalText
    rounded: DecimalText


class ExplainedPosting(AnswerBody):
    """By how much the row changes the balance of an account, and the other side. What is left of the balance is told to
    those who see it in the transaction."""

    account_id: str
    account_type: AccountType
    user_id: str | None
    contra_account: ContraAccount
    amount: DecimalText
    balance_after: DecimalText | None


class Correction(AnswerBody):
    """A row that takes a charge back or prices it anew, or the charge that such a row is about."""

    transaction_id: str
    transaction_type: TransactionType
    amount: DecimalText
    description: str | None
    created_at: Time
    recorded_at: Time


class ChangedGrant(AnswerBody):
    """A budget or promotion that a row changes: what was spent of it is negative."""

    grant_id: str
    kind: Literal["BUDGET", "PROMOTION"]
    amount: DecimalText
    description: str
    reference_id: str | None
    expires_at: Time | None


class SettledHold(AnswerBody):
    """The hold that a charge settled."""

    hold_id: str
    amount: DecimalText
    created_at: Time
    settled_at: Time


class ExplainedRefund(AnswerBody):
    """A refund or lost dispute, by its id at the payment provider, and the whole of it."""

    refund_id: str
    amount: DecimalText
    refunded_at: Time


class ExplainedRecharge(AnswerBody):
    """The automatic recharge that a payment was for."""

    recharge_id: str
    amount: DecimalText
    requested_at: Time
    settled_at: Time | None


class ExplainedPayment(AnswerBody):
    """The payment behind a credit, or behind a refund or what came back of one: its reference at the payment provider,
    and the whole of what was credited for it, null for a payment that has not arrived."""

    reference: str
    amount: DecimalText | None
    credited_at: Time | None
    refund: ExplainedRefund | None
    recharge: ExplainedRecharge | None


class ExplainedStorage(AnswerBody):
    """What the storage of a subscription's period costs: bytes of the peak above what is included, in GB of
    1,000,000,000, times price times months. Without a limit nothing is above; `sharedBy` is how many accounts pay it in
    equal parts, null where that was not recorded."""

    subscription_id: str
    period_start: Time
    period_end: Time
    peak_bytes: int
    included_mb: int | None
    charged_bytes: int
    price_per_gb_month: DecimalText
    months: DecimalText
    exact_price: DecimalText
    shared_by: int | None


class CorrectedPrice(AnswerBody):
    """Which of the corrections of its charge a row is, the exact prices of the charge before and after, and their
    difference, which is rounded with the remainder."""

    number: int
    rerating_id: str
    old_exact_price: DecimalText
    new_exact_price: DecimalText
    difference: DecimalText


class ExplainedInvoiceLine(AnswerBody):
    """The line of an invoice that asks for a charge with others of its kind: their exact cost, and its amount. It is
    told to those who see the invoice."""

    invoice_id: str
    number: str
    position: int
    kind: Literal["USAGE", "STORAGE", "CORRECTION"]
    cost: DecimalText
    amount: DecimalText


class Explanation(AnswerBody):
    """What a transaction came from. Of what has nothing to do with usage, event and price are null. A correction has
    the event of its charge, and the price that it leads to by now; what takes a charge back has the event alone, and
    a charge of storage the exact part of its period's price. `fault` says why a row does not lead to its amount, where
    it or what it names was changed."""

    transaction: MovementRow
    event: ExplainedEvent | None
    base_cost: ExplainedCost | None
    lines: list[ExplainedLine]
    selection: Selection | None
    price_versions: list[ExplainedPrice]
    rate: DecimalText | None
    stored_rate: ExplainedRate | None
    markup_percent: DecimalText | None
    exact_price: DecimalText | None
    carry_before: DecimalText | None
    carry_after: DecimalText | None
    storage: ExplainedStorage | None
    correction: CorrectedPrice | None
    amount: DecimalText
    rounding: Rounding | None
    grants: list[ChangedGrant]
    postings: list[ExplainedPosting]
    corrections: list[Correction]
    corrects: Correction | None
    hold: SettledHold | None
    payment: ExplainedPayment | None
    invoice_line: ExplainedInvoiceLine | None
    fault: str | None
