"""Stripe's objects as plain values: the fields that we read, as Stripe has them now.

Amounts are exact, in units of their currency; currencies are in capitals.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

__all__ = [
    "CheckoutSession",
    "Invoice",
    "MoneyBack",
    "OpenedSession",
    "PaymentIntent",
    "Subscription",
    "SubscriptionItem",
]


@dataclass(frozen=True, slots=True)
class PaymentIntent:
    """A payment. Statuses are open: Stripe adds some."""

    id: str
    status: str
    amount_received: Decimal
    currency: str
    paid_at: datetime
    customer_id: str | None = None
    method_id: str | None = None
    # Whether its method was saved for payments without the payer.
    saves_method: bool = False
    decline_code: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CheckoutSession:
    """A Checkout session. One that asks for no money may have no currency: then that is empty, and the amount zero.

    `subscription_id` is there once one of mode subscription is completed, `setup_method_id` once one of mode setup is.
    """

    id: str
    status: str | None
    payment_status: str
    amount_total: Decimal
    currency: str
    client_reference_id: str | None
    created_at: datetime
    payment_intent: PaymentIntent | None
    mode: str = "payment"
    customer_id: str | None = None
    subscription_id: str | None = None
    setup_method_id: str | None = None
    # The language of Stripe's page, where one was asked for.
    locale: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OpenedSession:
    """A session that was just made, and where the payer is sent."""

    id: str
    url: str


@dataclass(frozen=True, slots=True)
class SubscriptionItem:
    """An item of a subscription with the period it is in. `kind` is the word that our prices carry: members or
    feature_instances; None for a price that is not ours."""

    id: str
    kind: str | None
    quantity: int
    period_start: datetime | None
    period_end: datetime | None


@dataclass(frozen=True, slots=True)
class Subscription:
    """A subscription. `ends_at` is there where it is set to end, by whichever of Stripe's two ways."""

    id: str
    customer_id: str | None
    status: str
    metadata: Mapping[str, str]
    items: Sequence[SubscriptionItem]
    trial_ends_at: datetime | None
    ends_at: datetime | None
    ended_at: datetime | None

    def item(self, kind: str) -> SubscriptionItem | None:
        """Its item of that kind."""
        return next((each for each in self.items if each.kind == kind), None)

    @property
    def has_ended(self) -> bool:
        """Whether nothing can be changed about it any more."""
        return self.status in ("canceled", "incomplete_expired")


@dataclass(frozen=True, slots=True)
class Invoice:
    """An invoice. `subscription_id` is found wherever this or an older version of Stripe's API puts it; the period is
    the one that its lines charge for, null where they do not agree. `credit_used` is what of it the customer's balance
    at Stripe paid, which is no part of `amount_paid`."""

    id: str
    customer_id: str | None
    status: str | None
    billing_reason: str | None
    subscription_id: str | None
    metadata: Mapping[str, str]
    total: Decimal
    amount_paid: Decimal
    credit_used: Decimal
    currency: str
    period_start: datetime | None
    period_end: datetime | None
    paid_at: datetime | None
    attempts: int
    hosted_url: str | None


@dataclass(frozen=True, slots=True)
class MoneyBack:
    """A refund (`REFUND`) or dispute (`DISPUTE`) of a payment, with Stripe's word for where it stands; `taken_before`
    where the system before this one has taken it back."""

    id: str
    kind: str
    status: str
    amount: Decimal
    currency: str
    intent_id: str | None
    created_at: datetime
    taken_before: bool = False
