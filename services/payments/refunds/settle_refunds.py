"""Tells billing of money that went back: each refund and lost dispute of a payment once, as Stripe has them now."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import cast
from uuid import UUID, uuid5

from prometheus_client import Counter
from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts.payment.v1 import PaymentReason, PaymentRefunded, PaymentSucceeded
from rappen_contracts.registry import PAYMENT_REFUNDED_V1, PAYMENT_SUCCEEDED_V1
from rappen_contracts.types import NonNegativeMoney
from services.chassis.logging import get_logger
from services.chassis.outbox import OutboxRow, append_outbox, outbox_row
from services.payments.checkouts.domain import Payment
from services.payments.observations import FetchedTooEarly
from services.payments.refunds.domain import Movement, RefundState, movements
from services.payments.refunds.repository import lock_payment, note_look, read_refunds, save_movement
from services.payments.stripe.objects import MoneyBack

__all__ = ["RefundSettlement", "refund_event", "settle_refunds"]

_NAMESPACE = UUID("d40b7c1a-5e82-5a9d-9c36-f1a2b8e67d05")

# What is said of money that was taken back and came to us again.
_CAME_BACK = {"REFUND": "Failed refund", "DISPUTE": "Won dispute"}

REFUNDS = Counter("rappen_payments_refunds_total", "Refunds and disputes told of.", ["outcome"])

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RefundSettlement:
    """What of a payment's refunds and disputes was new."""

    moved: Sequence[Movement]

    @property
    def outcome(self) -> str:
        """In a word: what became of the newest, else that there was nothing new."""
        if not self.moved:
            return "NOTHING_REFUNDED"
        last = self.moved[-1]
        failed = last.state is RefundState.NOT_TAKEN and last.back.kind == "REFUND"
        return "REFUND_FAILED" if failed or last.state is RefundState.GIVEN_BACK else last.outcome.upper()

    def report(self) -> None:
        """Counts them, and logs where more went back than was paid; called after the commit."""
        for each in self.moved:
            REFUNDS.labels(each.state.value.lower()).inc()
            if each.state is RefundState.TAKEN and each.total != each.back.amount:
                _log.error(
                    "more went back than was paid",
                    refund_id=each.back.id,
                    amount=str(each.back.amount),
                    taken=str(each.total),
                )


async def settle_refunds(
    connection: AsyncConnection, intent_id: str, backs: Sequence[MoneyBack], *, number: int, cause: str, now: datetime
) -> RefundSettlement | None:
    """Settles all refunds and disputes of a payment in the caller's transaction; None where it is no payment of ours,
    or was never paid. Repeats change nothing. Raises FetchedTooEarly where they were looked at since their fetch was
    begun, under that number."""
    payment = await lock_payment(connection, intent_id)
    if payment is None:
        return None
    known = await read_refunds(connection, payment.event_id)
    if any(each.version > number for each in known.values()):
        raise FetchedTooEarly
    moved = [each for each in movements(payment.amount, known, backs) if each.back.currency == payment.currency]
    for each in moved:
        await save_movement(connection, payment, each, now)
    if known or moved:
        await note_look(connection, payment)
    told = [each for each in moved if each.amount > 0]
    await append_outbox(connection, [refund_event(payment, each, cause=cause, now=now) for each in told])
    return RefundSettlement(moved)


def refund_event(payment: Payment, movement: Movement, *, cause: str, now: datetime) -> OutboxRow:
    """The outbox row of a movement, which always has the same event id."""
    event_id = uuid5(_NAMESPACE, f"{movement.told_id}/{movement.state}")
    # Stripe's clock may be ahead of ours; no reader takes an event from the future.
    at = min(movement.back.created_at, now)
    amount = NonNegativeMoney(amount=movement.amount, currency=payment.currency)
    if movement.state is RefundState.GIVEN_BACK:
        back = _given_back(payment, movement, amount, cause=cause)
        return outbox_row(PAYMENT_SUCCEEDED_V1, back, event_id=event_id, occurred_at=now, key=payment.mandate_id)
    data = PaymentRefunded(
        mandate_id=payment.mandate_id,
        user_id=payment.user_id,
        amount=amount,
        reason=cast("PaymentReason", payment.reason),
        outcome=movement.outcome,
        reference=payment.reference,
        refund_id=movement.told_id,
        stripe_payment_intent_id=payment.stripe_payment_intent_id,
        paid_at=payment.paid_at,
        refunded_at=at,
        created_by_user_id=payment.created_by_user_id,
        description=payment.description,
        recharge_id=payment.recharge_id,
        subscription_id=payment.subscription_id,
        period_start=payment.period_start,
        paid_amount=_paid(payment) if payment.subscription_id is not None else None,
        cause=cause,
    )
    return outbox_row(PAYMENT_REFUNDED_V1, data, event_id=event_id, occurred_at=at, key=payment.mandate_id)


def _paid(payment: Payment) -> NonNegativeMoney:
    return NonNegativeMoney(amount=payment.amount, currency=payment.currency)


def _given_back(payment: Payment, movement: Movement, amount: NonNegativeMoney, *, cause: str) -> PaymentSucceeded:
    """What was taken back comes to us again: a payment of its own, because a refund takes once and stays. Of an invoice
    it is one more part, which settles it again, and what tells parts apart is what they were paid by."""
    is_invoice = payment.reason == "invoice"
    return PaymentSucceeded(
        mandate_id=payment.mandate_id,
        user_id=payment.user_id,
        amount=amount,
        reason=cast("PaymentReason", payment.reason),
        reference=payment.reference if is_invoice else movement.told_id,
        stripe_payment_intent_id=movement.told_id if is_invoice else payment.stripe_payment_intent_id,
        paid_at=payment.paid_at,
        created_by_user_id=payment.created_by_user_id,
        # It has the day and the rate of the payment, so only this tells the two apart in a list.
        description=f"{_CAME_BACK[movement.back.kind]}: {payment.description or payment.reference}",
        cause=cause,
    )
