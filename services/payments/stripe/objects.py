"""Stripe's objects as plain values: the fields that we read, as Stripe has them now.

Amounts are exact, in units of their currency; currencies are in capitals.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

__all__ = ["CheckoutSession", "OpenedSession", "PaymentIntent"]


@dataclass(frozen=True, slots=True)
class PaymentIntent:
    """A payment. Statuses are open: Stripe adds some."""

    id: str
    status: str
    amount_received: Decimal
    currency: str
    paid_at: datetime


@dataclass(frozen=True, slots=True)
class CheckoutSession:
    """A Checkout session. One that asks for no money may have no currency: then that is empty, and the amount zero."""

    id: str
    status: str | None
    payment_status: str
    amount_total: Decimal
    currency: str
    client_reference_id: str | None
    created_at: datetime
    payment_intent: PaymentIntent | None


@dataclass(frozen=True, slots=True)
class OpenedSession:
    """A session that was just made, and where the payer is sent."""

    id: str
    url: str
