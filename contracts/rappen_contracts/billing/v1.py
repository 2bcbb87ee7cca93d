"""What billing says of balances, of the automatic recharges that follow, of monthly invoices, and of publishers that
fell silent."""

from typing import Annotated, Literal

from pydantic import Field

from rappen_contracts.types import (
    Contract,
    Count,
    EventId,
    Identifier,
    Money,
    Name,
    NonNegativeBalance,
    NonNegativeDecimal,
    NonNegativeMoney,
    Text,
    Timestamp,
)

__all__ = [
    "BalanceChanged",
    "BalanceLow",
    "InvoiceIssued",
    "InvoiceLine",
    "InvoiceRecipient",
    "PublisherSilent",
    "RechargeDisabled",
    "RechargeRequested",
]


class BalanceChanged(Contract):
    """State, not a movement: an account after change number `version` of its balance or of what is held on it; what is
    older than the newest may be missing.

    `balance` is final CHF, markup included; what may be spent is balance less `held` (plus `credit_limit`). `held` is
    given back at the latest when the holds on it end, which is published too. `rows` is the number of transactions that
    led to the balance.
    """

    mandate_id: Identifier
    account_id: Name
    account_type: Literal["MANDATE", "USER"]
    user_id: Identifier | None = None
    balance: Money
    held: NonNegativeBalance
    version: Count
    rows: Count | None = None


class BalanceLow(Contract):
    """A balance has fallen to or under the threshold of its mandate: published once, until it has risen above it again.

    The account as it was then: `version` is that of `balance.changed`, `crossing` counts how often this account has
    become low. In `CREDIT_POSTPAY`, what is compared with `threshold` is `credit_limit` plus balance. `notify` says
    whether the mandate wants to be warned, `mail` whether a mail is due now: a mail about an account is sent only now
    and then, however often its balance becomes low.
    """

    mandate_id: Identifier
    account_id: Name
    account_type: Literal["MANDATE", "USER"]
    user_id: Identifier | None = None
    billing_model: Literal["PREPAY_MANDATE", "PREPAY_USER", "CREDIT_POSTPAY"]
    balance: Money
    held: NonNegativeBalance
    threshold: Money
    credit_limit: NonNegativeBalance | None = None
    notify: bool
    mail: bool
    crossing: Count
    version: Count


class RechargeRequested(Contract):
    """A prepaid account is to be filled by charging the stored payment method of its mandate, once for `recharge_id`.

    `user_id` is the member whose budget it is, null for the pool. What becomes of it is published by payments, with
    `recharge_id`, as `payment.succeeded` or `payment.failed`. From `expires_at` on the method is not charged any more:
    another recharge may have been requested by then.
    """

    mandate_id: Identifier
    recharge_id: EventId
    account_id: Name
    user_id: Identifier | None = None
    amount: NonNegativeMoney
    requested_at: Timestamp
    expires_at: Timestamp
    cause: Text


class RechargeDisabled(Contract):
    """Automatic recharges of a mandate were turned off, because so many were declined in a row; `recharge_id` is the
    last of them."""

    mandate_id: Identifier
    recharge_id: EventId
    failures: Count
    cause: Text


class InvoiceRecipient(Contract):
    """To whom an invoice is addressed, as on it."""

    company: Text
    street: Text
    zip: Text
    city: Text
    country: Name
    vat_number: Text | None = None


class InvoiceLine(Contract):
    """A line of an invoice; `net` is negative where an earlier period is corrected."""

    description: Name
    net: Money


class InvoiceIssued(Contract):
    """The monthly invoice of a `CREDIT_POSTPAY` mandate, which never changes any more.

    Lines and VAT add up to `total`, the amount to be paid by `due_at`; `payment.succeeded` with the reason `invoice`
    and `invoice_id` as its reference settles it. The period is [start, end).
    """

    mandate_id: Identifier
    invoice_id: EventId
    number: Name
    period_start: Timestamp
    period_end: Timestamp
    issued_at: Timestamp
    due_at: Timestamp
    recipient: InvoiceRecipient
    lines: Annotated[list[InvoiceLine], Field(max_length=500)]
    net: NonNegativeBalance
    vat_percent: NonNegativeDecimal
    vat: NonNegativeBalance
    total: NonNegativeBalance
    language: Literal["de", "en"]
    cause: Text


class PublisherSilent(Contract):
    """A mandate whose usage used to arrive has sent none for much longer than usual: published once for each silence.

    `usual_gap_s` is the longest time without usage that was usual before, in seconds; `silence` counts the silences of
    this mandate.
    """

    mandate_id: Identifier
    last_usage_at: Timestamp
    usual_gap_s: Count
    noticed_at: Timestamp
    silence: Count
    cause: Text
