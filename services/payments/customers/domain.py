"""A mandate as a customer at Stripe."""

from dataclasses import dataclass

__all__ = ["Customer"]


@dataclass(frozen=True, slots=True)
class Customer:
    """What is known of one; `stripe_customer_id` is None until the mandate's first payment needs it."""

    mandate_id: str
    stripe_customer_id: str | None
    stripe_attempt: int
    payment_method_id: str | None
    wants_method: bool
