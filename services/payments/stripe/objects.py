"""Stripe's objects as plain values: the fields that we read, as Stripe has them now."""

from dataclasses import dataclass
from datetime import datetime

__all__ = ["CheckoutSession", "OpenedSession", "PaymentIntent"]


@dataclass(frozen=True, slots=True)
class PaymentIntent:
    """A payment; `amount_received` is in minor units of `currency`. Statuses are open: Stripe adds some."""

    id: str
    status: str
    amount_received: int
    currency: str
    paid_at: datetime


@dataclass(frozen=True, slots=True)
class CheckoutSession:
    """A Checkout session."""

    id: str
    status: str | None
    payment_status: str
    amount_total: int | None
    currency: str | None
    client_reference_id: str | None
    created_at: datetime
    payment_intent: PaymentIntent | None


@dataclass(frozen=True, slots=True)
class OpenedSession:
    """A session that was just made, and where the payer is sent."""

    id: str
    url: str
