"""Records money that arrived and publishes it: once each, whatever it was for and whoever noticed it first."""

from typing import cast

from prometheus_client import Counter
from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts.payment.v1 import PaymentReason, PaymentSucceeded
from rappen_contracts.registry import PAYMENT_SUCCEEDED_V1
from rappen_contracts.types import NonNegativeMoney
from services.chassis.logging import get_logger
from services.chassis.outbox import OutboxRow, append_outbox, outbox_row
from services.payments.checkouts.domain import Payment, ReceivedPayment
from services.payments.checkouts.errors import PaymentNotPlaceable
from services.payments.checkouts.repository import add_payment, publish_payment

__all__ = ["payment_succeeded", "record_payment", "report_payment"]

# Labels are from bounded sets, never a tenant.
PAYMENTS_CREDITED = Counter("rappen_payments_credited_total", "Payments published.", ["reason"])
AMOUNT_MISMATCHES = Counter("rappen_payments_amount_mismatches_total", "Payments of another amount than asked for.")

_log = get_logger(__name__)


async def record_payment(
    connection: AsyncConnection, payment: Payment, *, told_since: bool = False
) -> tuple[Payment, bool]:
    """Adds a payment with its event, where that is published, in the caller's transaction; gives the one in the books,
    and whether it is new. So is one that counted as credited by the system before this one, and that Stripe has told
    of since (`told_since`), which it may do later than it shows it.

    Raises PaymentNotPlaceable for one that no event can carry.
    """
    received = ReceivedPayment(payment.amount, payment.currency, payment.stripe_payment_intent_id, payment.paid_at)
    if not received.can_be_published:
        raise PaymentNotPlaceable
    recorded = await add_payment(connection, payment)
    is_new = recorded is None
    if recorded is not None and told_since and not recorded.published:
        is_new = await publish_payment(connection, recorded)
    if is_new and payment.published:
        await append_outbox(connection, [payment_succeeded(recorded or payment)])
    return recorded or payment, is_new


def report_payment(payment: Payment) -> None:
    """Counts and logs a payment that was recorded; called after the commit."""
    PAYMENTS_CREDITED.labels(payment.reason).inc()
    if payment.mismatch:
        AMOUNT_MISMATCHES.inc()
        _log.error(
            "payment differs from what was asked for",
            reference=payment.reference,
            paid=str(payment.amount),
            paid_currency=payment.currency,
            requested=str(payment.requested_amount),
            requested_currency=payment.requested_currency,
        )


def payment_succeeded(payment: Payment) -> OutboxRow:
    """The outbox row of money that arrived; one payment always has one event id."""
    requested = None
    if payment.requested_amount is not None and payment.requested_currency is not None:
        requested = NonNegativeMoney(amount=payment.requested_amount, currency=payment.requested_currency)
    data = PaymentSucceeded(
        mandate_id=payment.mandate_id,
        user_id=payment.user_id,
        amount=NonNegativeMoney(amount=payment.amount, currency=payment.currency),
        requested_amount=requested,
        reason=cast("PaymentReason", payment.reason),
        reference=payment.reference,
        stripe_payment_intent_id=payment.stripe_payment_intent_id,
        paid_at=payment.paid_at,
        created_by_user_id=payment.created_by_user_id,
        description=payment.description,
        recharge_id=payment.recharge_id,
        cause=payment.cause,
    )
    return outbox_row(
        PAYMENT_SUCCEEDED_V1, data, event_id=payment.event_id, occurred_at=payment.paid_at, key=payment.mandate_id
    )
