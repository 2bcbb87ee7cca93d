"""Requests to do something at Stripe, and what identifies each of them."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from rappen_contracts.billing.v1 import InvoiceIssued, RechargeRequested
from rappen_contracts.stripe.v1 import QuantityRequested, StripeRequested
from rappen_contracts.types import Contract

__all__ = ["NewRequest", "StoredRequest", "request_of"]


@dataclass(frozen=True, slots=True)
class NewRequest:
    """A request as it arrived: its identity, and the lane in which it waits for those before it."""

    request_id: UUID
    mandate_id: str
    lane: str
    version: int | None
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class StoredRequest:
    """A request that a worker has taken."""

    no: int
    topic: str
    request_id: UUID
    mandate_id: str
    lane: str
    version: int | None
    data: str
    received_at: datetime
    expires_at: datetime | None
    begun_at: datetime | None
    attempts: int
    stripe_attempt: int

    def key(self, purpose: str) -> str:
        """The idempotency key of a call for it; the same for every try that may have reached Stripe."""
        return f"{purpose}:{self.request_id}:{self.stripe_attempt}"

    def is_over(self, now: datetime) -> bool:
        """Whether who asked has stopped waiting."""
        return self.expires_at is not None and self.expires_at <= now


def request_of(data: Contract) -> NewRequest:
    """The request that an event makes; TypeError for an event that asks for nothing."""
    match data:
        case StripeRequested():
            lane = f"subscription/{data.subscription_id}"
            return NewRequest(data.request_id, data.mandate_id, lane, None, data.expires_at)
        case QuantityRequested():
            lane = f"subscription/{data.subscription_id}"
            return NewRequest(data.request_id, data.mandate_id, lane, data.version, data.expires_at)
        case RechargeRequested():
            # One charge of a mandate's card at a time.
            return NewRequest(data.recharge_id, data.mandate_id, f"recharge/{data.mandate_id}", None, data.expires_at)
        case InvoiceIssued():
            return NewRequest(data.invoice_id, data.mandate_id, f"invoice/{data.invoice_id}", None, None)
        case _:
            raise TypeError(f"{type(data).__name__} asks for nothing at Stripe")
