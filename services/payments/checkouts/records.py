"""The rows that use cases work with, as plain values."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

__all__ = ["Checkout", "Payment"]


@dataclass(frozen=True, slots=True)
class Checkout:
    """A row of checkouts, less what only the database needs."""

    id: UUID
    purpose: str
    mandate_id: str
    user_id: str | None
    created_by_user_id: str
    language: str
    amount: Decimal
    currency: str
    success_url: str
    cancel_url: str
    idempotency_key: str | None
    request_digest: bytes
    stripe_attempt: int
    stripe_session_id: str | None
    redirect_url: str | None
    state: str
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Payment:
    """A row of payments."""

    event_id: UUID
    reason: str
    mandate_id: str
    user_id: str | None
    created_by_user_id: str | None
    amount: Decimal
    currency: str
    requested_amount: Decimal | None
    requested_currency: str | None
    mismatch: bool
    checkout_id: UUID | None
    stripe_session_id: str | None
    stripe_payment_intent_id: str | None
    cause: str
    paid_at: datetime
    recorded_at: datetime
