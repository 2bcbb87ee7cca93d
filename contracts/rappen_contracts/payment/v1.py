"""What became of payments at Stripe: money that arrived, payments that failed, and money that went back."""

from typing import Literal

from rappen_contracts.types import Contract, EventId, Identifier, Name, NonNegativeMoney, Text, Timestamp

__all__ = ["PaymentFailed", "PaymentReason", "PaymentRefunded", "PaymentSucceeded"]

PaymentReason = Literal["top_up", "recharge", "invoice", "subscription"]


class PaymentSucceeded(Contract):
    """A payment that succeeded; `amount` is as paid, in the currency of the payment, never what was asked for.

    `reference` is the business identity of the payment (the Checkout session id of a top-up): one credit per
    reference, however often and in whichever way it is reported. `recharge_id` names the recharge that was requested.

    Of a refund that failed or a dispute that was won after it was told of, `reference` is the newest `refund_id` of it,
    and `amount` all that it has taken by then and was not paid back before.
    """

    mandate_id: Identifier
    user_id: Identifier | None = None
    amount: NonNegativeMoney
    requested_amount: NonNegativeMoney | None = None
    reason: PaymentReason
    reference: Text
    stripe_payment_intent_id: Text | None = None
    paid_at: Timestamp
    created_by_user_id: Identifier | None = None
    description: Text | None = None
    recharge_id: EventId | None = None
    cause: Text


class PaymentFailed(Contract):
    """A payment that did not succeed: it was `declined`, or somebody has to confirm it first (`action_required`, at
    `action_url`), after which it may still succeed.

    `amount` is what was asked for, `reference` the business identity of the payment, as in `payment.succeeded`, and
    `decline_code` why, in the words of Stripe. `recharge_id` names the recharge that was requested.
    """

    mandate_id: Identifier
    user_id: Identifier | None = None
    amount: NonNegativeMoney
    reason: PaymentReason
    outcome: Literal["declined", "action_required"]
    reference: Text
    recharge_id: EventId | None = None
    stripe_payment_intent_id: Text | None = None
    decline_code: Text | None = None
    action_url: Text | None = None
    failed_at: Timestamp
    cause: Text


class PaymentRefunded(Contract):
    """Money of a payment that went back: by a `refund`, in whole or in part, or by a `dispute_lost`. A `dispute_won`
    says that it did not.

    `amount` is what went back, in the currency of the payment, of which `reference` is the business identity and
    `paid_at` the time, as in `payment.succeeded`. `refund_id` is the identity of the refund or dispute: it takes back
    once, however often it is reported. One that takes more than once has a number from the second time on (`du_1/2`).
    `recharge_id` names the recharge whose payment it was.

    Of a subscription's payment, `subscription_id` and `period_start` name the period whose budget it paid for, none
    where it paid for no budget, and `paid_amount` is the payment as a whole, of which `amount` is a part.
    """

    mandate_id: Identifier
    user_id: Identifier | None = None
    amount: NonNegativeMoney
    reason: PaymentReason
    outcome: Literal["refund", "dispute_lost", "dispute_won"]
    reference: Text
    refund_id: Name
    stripe_payment_intent_id: Text | None = None
    paid_at: Timestamp
    refunded_at: Timestamp
    created_by_user_id: Identifier | None = None
    description: Text | None = None
    recharge_id: EventId | None = None
    subscription_id: EventId | None = None
    period_start: Timestamp | None = None
    paid_amount: NonNegativeMoney | None = None
    cause: Text
