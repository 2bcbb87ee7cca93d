"""payment.succeeded v1: money that Stripe says arrived."""

from typing import Literal

from rappen_contracts.types import Contract, Identifier, NonNegativeMoney, Text, Timestamp

__all__ = ["PaymentSucceeded"]


class PaymentSucceeded(Contract):
    """A payment that succeeded; `amount` is as paid, in the currency of the payment, never what was asked for.

    `reference` is the business identity of the payment (the Checkout session id of a top-up): one credit per
    reference, however often and in whichever way it is reported.
    """

    mandate_id: Identifier
    user_id: Identifier | None = None
    amount: NonNegativeMoney
    requested_amount: NonNegativeMoney | None = None
    reason: Literal["top_up", "recharge", "invoice", "subscription"]
    reference: Text
    stripe_payment_intent_id: Text | None = None
    paid_at: Timestamp
    created_by_user_id: Identifier | None = None
    description: Text | None = None
    cause: Text
