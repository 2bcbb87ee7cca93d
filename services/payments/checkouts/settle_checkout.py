"""Settles a Checkout session in our books and publishes its payment: the one way for the webhook and for confirm."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal, Self, cast
from uuid import UUID, uuid5

from prometheus_client import Counter
from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts.payment.v1 import PaymentSucceeded
from rappen_contracts.registry import PAYMENT_SUCCEEDED_V1
from rappen_contracts.types import NonNegativeMoney
from services.chassis.logging import get_logger
from services.chassis.outbox import OutboxRow, append_outbox, outbox_row
from services.chassis.validation import say
from services.payments.checkouts.domain import (
    PAYMENT_TEXT,
    Checkout,
    CheckoutState,
    Payment,
    ReceivedPayment,
    advanced,
    observed_state,
    received_payment,
    session_id_is_valid,
)
from services.payments.checkouts.errors import PaymentNotPlaceable
from services.payments.checkouts.repository import add_payment, lock_checkout, save_state
from services.payments.stripe.errors import StripeObjectUnknown
from services.payments.stripe.gateway import StripeGateway
from services.payments.stripe.objects import CheckoutSession

__all__ = ["ObservedSession", "Settlement"]

# Event ids are derived from the session's id, so that a payment has one id whether webhook or confirm settles it.
_NAMESPACE = UUID("6f0d1c36-52d5-5c0b-9f5e-6d3f6f6e0a11")

# Labels are from bounded sets, never a tenant.
PAYMENTS_CREDITED = Counter("rappen_payments_credited_total", "Payments published.", ["reason"])
AMOUNT_MISMATCHES = Counter("rappen_payments_amount_mismatches_total", "Payments of another amount than asked for.")

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Settlement:
    """What became of a session of ours; `payment` is the one in the books, None while nothing was paid."""

    checkout: Checkout
    state: CheckoutState
    credited: bool
    payment: Payment | None

    @property
    def outcome(self) -> str:
        """In one word: what became of the money, else the state."""
        if self.payment is not None:
            return "CREDITED" if self.credited else "ALREADY_CREDITED"
        return "NOTHING_PAID" if self.state is CheckoutState.PAID else self.state.value

    def report(self) -> None:
        """Counts and logs what was credited; called after the commit."""
        payment = self.payment
        if payment is None or not self.credited:
            return
        PAYMENTS_CREDITED.labels(payment.reason).inc()
        if payment.mismatch:
            AMOUNT_MISMATCHES.inc()
            _log.error(
                "payment differs from what was asked for",
                session_id=payment.stripe_session_id,
                paid=str(payment.amount),
                paid_currency=payment.currency,
                requested=str(payment.requested_amount),
                requested_currency=payment.requested_currency,
            )


@dataclass(frozen=True, slots=True)
class ObservedSession:
    """A Checkout session as Stripe has it now."""

    session: CheckoutSession

    @classmethod
    async def fetch(cls, stripe: StripeGateway, session_id: str) -> Self | None:
        """Gets the session from Stripe; None when there is none of that id."""
        if not session_id_is_valid(session_id):
            return None
        try:
            return cls(await stripe.checkout_session(session_id))
        except StripeObjectUnknown:
            return None

    async def apply(self, connection: AsyncConnection, *, cause: str, now: datetime) -> Settlement | None:
        """Settles the session in the caller's transaction; None when it is not ours. Repeats change nothing.

        The checkout's row is held meanwhile, so that webhook and confirm take turns; the unique keys of payments would
        keep a second credit out without it.
        """
        session = self.session
        checkout = await lock_checkout(connection, session.id, session.client_reference_id)
        if checkout is None:
            return None
        received = received_payment(session)
        payment, credited = None, False
        if received is not None and received.amount > 0:
            new = _payment(checkout, session, received, cause=cause, now=now)
            recorded = await add_payment(connection, new)
            payment, credited = recorded or new, recorded is None
            if credited:
                description = say(PAYMENT_TEXT, checkout.language)
                event = _payment_succeeded(new, reference=session.id, description=description)
                await append_outbox(connection, [event])
        state = advanced(CheckoutState(checkout.state), observed_state(session))
        if state != checkout.state or checkout.stripe_session_id is None:
            await save_state(connection, checkout.id, state=state, session_id=session.id, now=now)
        return Settlement(checkout, state, credited, payment)


def _payment(
    checkout: Checkout, session: CheckoutSession, received: ReceivedPayment, *, cause: str, now: datetime
) -> Payment:
    if not received.can_be_published:
        raise PaymentNotPlaceable
    asked: tuple[Decimal, str] = (checkout.amount, checkout.currency)
    return Payment(
        event_id=uuid5(_NAMESPACE, session.id),
        reason=checkout.purpose,
        mandate_id=checkout.mandate_id,
        user_id=checkout.user_id,
        created_by_user_id=checkout.created_by_user_id,
        amount=received.amount,
        currency=received.currency,
        requested_amount=checkout.amount,
        requested_currency=checkout.currency,
        mismatch=(received.amount, received.currency) != asked,
        checkout_id=checkout.id,
        stripe_session_id=session.id,
        stripe_payment_intent_id=received.intent_id,
        cause=cause,
        # Stripe's clock may be ahead of ours; no reader takes an event from the future.
        paid_at=min(received.paid_at, now),
        recorded_at=now,
    )


def _payment_succeeded(payment: Payment, *, reference: str, description: str) -> OutboxRow:
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
