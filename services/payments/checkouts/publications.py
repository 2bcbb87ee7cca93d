"""Facts of payments as outbox rows."""

from typing import Literal, cast

from rappen_contracts.payment.v1 import PaymentSucceeded
from rappen_contracts.registry import PAYMENT_SUCCEEDED_V1
from rappen_contracts.types import NonNegativeMoney
from services.chassis.outbox import OutboxRow, outbox_row
from services.payments.checkouts.domain import Payment

__all__ = ["payment_succeeded"]


def payment_succeeded(payment: Payment, *, reference: str, description: str) -> OutboxRow:
    """The outbox row of money that arrived; one payment always has one event id."""
    requested = None
    if payment.requested_amount is not None and payment.requested_currency is not None:
        requested = NonNegativeMoney(amount=payment.requested_amount, currency=payment.requested_currency)
    data = PaymentSucceeded(
        mandate_id=payment.mandate_id,
        user_id=payment.user_id,
        amount=NonNegativeMoney(amount=payment.amount, currency=payment.currency),
        requested_amount=requested,
        reason=cast(Literal["top_up", "recharge", "invoice", "subscription"], payment.reason),
        reference=reference,
        stripe_payment_intent_id=payment.stripe_payment_intent_id,
        paid_at=payment.paid_at,
        created_by_user_id=payment.created_by_user_id,
        description=description,
        cause=payment.cause,
    )
    return outbox_row(
        PAYMENT_SUCCEEDED_V1, data, event_id=payment.event_id, occurred_at=payment.paid_at, key=payment.mandate_id
    )
