"""Checkouts and payments, and what a session of Stripe's means for them: whether it is paid, how much, its state.

The type of the event that reported it plays no part, so the order in which events arrive cannot matter.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Final
from uuid import UUID

from rappen_contracts.types import AMOUNT_END, CURRENCIES, TIME_START
from services.payments.stripe.objects import CheckoutSession, PaymentIntent

__all__ = [
    "PAYMENT_TEXT",
    "RECHARGE",
    "SETUP",
    "TOP_UP",
    "TOP_UP_TEXT",
    "Checkout",
    "CheckoutState",
    "Payment",
    "ReceivedPayment",
    "advanced",
    "observed_state",
    "received_of_intent",
    "received_payment",
    "session_id_is_valid",
]

# What the credit is called in the ledger and at Stripe, in the language of the admin who started the checkout.
PAYMENT_TEXT: Mapping[str, str] = {"en": "Stripe payment", "de": "Stripe-Zahlung"}
# What is bought, on Stripe's page.
TOP_UP_TEXT: Mapping[str, str] = {"en": "Credit top-up", "de": "Guthaben-Aufladung"}

# The purposes of checkouts.
TOP_UP: Final = "top_up"
RECHARGE: Final = "recharge"
SETUP: Final = "setup"

PAID = "paid"
_SUCCEEDED = "succeeded"
# An intent of a completed session that stands here will not be paid any more: the bank has said no.
_FAILED_INTENTS = frozenset(("requires_payment_method", "canceled"))

_SESSION_ID = re.compile(r"cs_(?:test|live)_[A-Za-z0-9]{1,500}", re.ASCII)


class CheckoutState(StrEnum):
    """Where a checkout of ours stands, in the only direction it can go."""

    OPEN = "OPEN"
    # Completed, and the money is on its way (TWINT, bank debits).
    WAITING = "WAITING"
    EXPIRED = "EXPIRED"
    FAILED = "FAILED"
    PAID = "PAID"


_RANK = {
    CheckoutState.OPEN: 0,
    CheckoutState.WAITING: 1,
    CheckoutState.EXPIRED: 2,
    CheckoutState.FAILED: 2,
    CheckoutState.PAID: 3,
}


@dataclass(frozen=True, slots=True)
class Checkout:
    """A row of checkouts, less what only the database needs."""

    id: UUID
    purpose: str
    mandate_id: str
    user_id: str | None
    # None where the system before this one opened it.
    created_by_user_id: str | None
    language: str
    amount: Decimal
    currency: str
    success_url: str
    cancel_url: str
    idempotency_key: str | None
    request_digest: bytes
    stripe_attempt: int
    stripe_session_id: str | None
    redirect_url: str | None
    state: str
    created_at: datetime
    updated_at: datetime
    # Of a recharge that somebody has to confirm in person.
    recharge_id: UUID | None = None
    save_method: bool = False
    stripe_customer_id: str | None = None

    @property
    def is_taken_over(self) -> bool:
        """Whether the system before this one opened it."""
        return self.created_by_user_id is None


@dataclass(frozen=True, slots=True)
class Payment:
    """A row of payments; `reference` is the business identity by which others know it. `published` says whether it was
    told of as a credit: not where the system before this one gave that, nor of a subscription, whose period it pays.
    """

    event_id: UUID
    reason: str
    mandate_id: str
    user_id: str | None
    created_by_user_id: str | None
    amount: Decimal
    currency: str
    requested_amount: Decimal | None
    requested_currency: str | None
    mismatch: bool
    checkout_id: UUID | None
    stripe_session_id: str | None
    stripe_payment_intent_id: str | None
    cause: str
    paid_at: datetime
    recorded_at: datetime
    reference: str = ""
    description: str | None = None
    recharge_id: UUID | None = None
    published: bool = True
    subscription_id: UUID | None = None
    period_start: datetime | None = None


@dataclass(frozen=True, slots=True)
class ReceivedPayment:
    """Money that Stripe says it has: the amount as paid, the currency in capitals."""

    amount: Decimal
    currency: str
    intent_id: str | None
    paid_at: datetime

    @property
    def can_be_published(self) -> bool:
        """Whether an event can carry it: a known currency, less than a billion, not before 2000."""
        return self.currency in CURRENCIES and self.amount < AMOUNT_END and self.paid_at >= TIME_START


def session_id_is_valid(session_id: str) -> bool:
    """Whether this can be the id of a session at all; nothing else may become a part of a URL of Stripe's."""
    return _SESSION_ID.fullmatch(session_id) is not None


def received_payment(session: CheckoutSession) -> ReceivedPayment | None:
    """The money of a session, or None while it is not paid; the amount is zero when nothing was to be paid."""
    if session.payment_status != PAID:
        return None
    intent = session.payment_intent
    if intent is None:
        return ReceivedPayment(session.amount_total, session.currency, None, session.created_at)
    return received_of_intent(intent)


def received_of_intent(intent: PaymentIntent) -> ReceivedPayment | None:
    """The money of a payment intent, or None while there is none."""
    if intent.status != _SUCCEEDED:
        return None
    return ReceivedPayment(intent.amount_received, intent.currency, intent.id, intent.paid_at)


def observed_state(session: CheckoutSession) -> CheckoutState:
    """The state that the session shows."""
    # A session that asks for no money says so from its beginning on.
    nothing_to_pay = session.payment_status == "no_payment_required" and session.status == "complete"
    if received_payment(session) is not None or nothing_to_pay:
        return CheckoutState.PAID
    if session.status == "expired":
        return CheckoutState.EXPIRED
    if session.status == "complete":
        intent = session.payment_intent
        failed = intent is not None and intent.status in _FAILED_INTENTS
        return CheckoutState.FAILED if failed else CheckoutState.WAITING
    return CheckoutState.OPEN


def advanced(current: CheckoutState, observed: CheckoutState) -> CheckoutState:
    """The later of two states: what was read from Stripe earlier and is written later takes nothing back."""
    return observed if _RANK[observed] > _RANK[current] else current
