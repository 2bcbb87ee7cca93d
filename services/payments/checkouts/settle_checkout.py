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
from services.payments.checkouts.repository import save_state
from services.payments.checkouts.take_over_session import Arrival, arrival_of, lock_own_checkout
from services.payments.customers.observe_methods import ObservedMethod
from services.payments.observations import NextNumber
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
    """A Checkout session as Stripe has it now, with the method that it was to save; `arrival` says who credits it, if
    the system before this one has opened it."""

    session: CheckoutSession
    method: ObservedMethod | None = None
    arrival: Arrival = "ours"

    @classmethod
    async def fetch(cls, stripe: StripeGateway, session_id: str, numbers: NextNumber) -> Self | None:
        """Gets the session from Stripe; None when there is none of that id."""
        if not session_id_is_valid(session_id):
            return None
        try:
            session = await stripe.checkout_session(session_id)
        except StripeObjectUnknown:
            return None
        method_id = _saved_method(session)
        method = None if method_id is None else await ObservedMethod.fetch(stripe, method_id, numbers)
        return cls(session, method, await arrival_of(stripe, session))

    async def apply(self, connection: AsyncConnection, *, cause: str, now: datetime) -> Settlement | None:
        """Settles the session in the caller's transaction; None when it is not ours. Repeats change nothing. Raises
        FetchedTooEarly where its method was looked at since.

        The checkout's row is held meanwhile, so that webhook and confirm take turns; the unique keys of payments would
        keep a second credit out without it.
        """
        session = self.session
        checkout = await lock_own_checkout(connection, session, now)
        if checkout is None:
            return None
        received = received_payment(session)
        payment, credited = None, False
        if received is not None and received.amount > 0:
            published = not (checkout.is_taken_over and self.arrival == "before")
            new = _payment(checkout, session, received, cause=cause, now=now, published=published)
            payment, is_new = await record_payment(connection, new, told_since=self.arrival == "told_since")
            credited = is_new and published
        state = advanced(CheckoutState(checkout.state), observed_state(session))
        if state != checkout.state or checkout.stripe_session_id is None:
            await save_state(connection, checkout.id, state=state, session_id=session.id, now=now)
        if state is CheckoutState.FAILED and state != checkout.state and checkout.purpose != SETUP:
            await append_outbox(connection, [_payment_failed(checkout, session, cause=cause, now=now)])
        noted = None if self.method is None else await self.method.apply(connection, cause=cause, now=now)
        return Settlement(
            checkout, state, credited, payment, method_saved=noted is not None and noted.outcome == "METHOD_SAVED"
        )


def _saved_method(session: CheckoutSession) -> str | None:
    """The method of a session that was to save one, once it has."""
    intent, method_id = session.payment_intent, session.setup_method_id
    if intent is not None and intent.saves_method and received_payment(session) is not None:
        method_id = intent.method_id
    return None if session.customer_id is None else method_id


def _payment(
    checkout: Checkout,
    session: CheckoutSession,
    received: ReceivedPayment,
    *,
    cause: str,
    now: datetime,
    published: bool,
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
        published=published,
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
