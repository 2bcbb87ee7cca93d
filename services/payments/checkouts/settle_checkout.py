"""Settles a Checkout session in our books and publishes its payment: the one way for the webhook and for confirm."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal, Self, cast
from uuid import UUID, uuid5

from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts.payment.v1 import PaymentFailed
from rappen_contracts.registry import PAYMENT_FAILED_V1
from rappen_contracts.types import NonNegativeMoney
from services.chassis.outbox import OutboxRow, append_outbox, outbox_row
from services.chassis.validation import say
from services.payments.checkouts.domain import (
    PAYMENT_TEXT,
    SETUP,
    Checkout,
    CheckoutState,
    Payment,
    ReceivedPayment,
    advanced,
    observed_state,
    received_payment,
    session_id_is_valid,
)
from services.payments.checkouts.record_payment import record_payment, report_payment
from services.payments.checkouts.repository import lock_checkout, save_state
from services.payments.customers.repository import save_method
from services.payments.stripe.errors import StripeObjectUnknown
from services.payments.stripe.gateway import StripeGateway
from services.payments.stripe.objects import CheckoutSession

__all__ = ["ObservedSession", "Settlement"]

# Event ids are derived from the session's id, so that a payment has one id whether webhook or confirm settles it.
_NAMESPACE = UUID("6f0d1c36-52d5-5c0b-9f5e-6d3f6f6e0a11")


@dataclass(frozen=True, slots=True)
class Settlement:
    """What became of a session of ours; `payment` is the one in the books, None while nothing was paid."""

    checkout: Checkout
    state: CheckoutState
    credited: bool
    payment: Payment | None
    method_saved: bool = False

    @property
    def outcome(self) -> str:
        """In one word: what became of the money, else the state."""
        if self.method_saved and self.payment is None:
            return "METHOD_SAVED"
        if self.payment is not None:
            return "CREDITED" if self.credited else "ALREADY_CREDITED"
        return "NOTHING_PAID" if self.state is CheckoutState.PAID else self.state.value

    def report(self) -> None:
        """Counts and logs what was credited; called after the commit."""
        if self.payment is not None and self.credited:
            report_payment(self.payment)


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
            payment, credited = await record_payment(connection, new)
        state = advanced(CheckoutState(checkout.state), observed_state(session))
        if state != checkout.state or checkout.stripe_session_id is None:
            await save_state(connection, checkout.id, state=state, session_id=session.id, now=now)
        if state is CheckoutState.FAILED and state != checkout.state and checkout.purpose != SETUP:
            await append_outbox(connection, [_payment_failed(checkout, session, cause=cause, now=now)])
        saved = await _save_method(connection, session, now)
        return Settlement(checkout, state, credited, payment, method_saved=saved)


async def _save_method(connection: AsyncConnection, session: CheckoutSession, now: datetime) -> bool:
    """Keeps the method of a session that was to save one, once it is the customer's."""
    intent, method_id = session.payment_intent, session.setup_method_id
    if intent is not None and intent.saves_method and received_payment(session) is not None:
        method_id = intent.method_id
    if session.customer_id is None or method_id is None:
        return False
    return await save_method(connection, session.customer_id, method_id, now)


def _payment(
    checkout: Checkout, session: CheckoutSession, received: ReceivedPayment, *, cause: str, now: datetime
) -> Payment:
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
        reference=session.id,
        description=say(PAYMENT_TEXT, checkout.language),
        recharge_id=checkout.recharge_id,
    )


def _payment_failed(checkout: Checkout, session: CheckoutSession, *, cause: str, now: datetime) -> OutboxRow:
    """The outbox row of a payment that was on its way and did not arrive."""
    intent = session.payment_intent
    data = PaymentFailed(
        mandate_id=checkout.mandate_id,
        user_id=checkout.user_id,
        amount=NonNegativeMoney(amount=checkout.amount, currency=checkout.currency),
        reason=cast(Literal["top_up", "recharge"], checkout.purpose),
        outcome="declined",
        reference=session.id,
        recharge_id=checkout.recharge_id,
        stripe_payment_intent_id=None if intent is None else intent.id,
        decline_code=None if intent is None else intent.decline_code,
        failed_at=now,
        cause=cause,
    )
    event_id = uuid5(_NAMESPACE, f"{session.id}/failed")
    return outbox_row(PAYMENT_FAILED_V1, data, event_id=event_id, occurred_at=now, key=checkout.mandate_id)
