"""A payment of a subscription's invoice: recorded when something of it goes back, so that the budget of the period that
it paid for goes back with it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Self
from uuid import UUID, uuid5

from sqlalchemy.ext.asyncio import AsyncConnection

from services.payments.checkouts.domain import Payment, received_of_intent
from services.payments.checkouts.record_payment import record_payment
from services.payments.stripe.gateway import StripeGateway
from services.payments.stripe.invoices import invoice_of_intent, read_invoice
from services.payments.stripe.objects import Invoice, PaymentIntent, Subscription
from services.payments.stripe.subscriptions import read_subscription
from services.payments.subscriptions.domain import Fetched, UnknownAtStripe, budget_period_start
from services.payments.subscriptions.publish_observation import lock_own_record

__all__ = ["ObservedSubscriptionPayment", "SubscriptionPaid"]

_NAMESPACE = UUID("a61f0c93-7d28-5b4e-9e0a-28c7f5d1b364")


@dataclass(frozen=True, slots=True)
class SubscriptionPaid:
    """The payment is recorded; what it pays for, the subscription tells."""

    outcome: str = "OBSERVED"

    def report(self) -> None:
        """There is nothing to tell."""


@dataclass(frozen=True, slots=True)
class ObservedSubscriptionPayment:
    """A payment of an invoice of a subscription, with both."""

    intent: PaymentIntent
    invoice: Invoice
    subscription: Subscription

    @classmethod
    async def of(cls, stripe: StripeGateway, intent: PaymentIntent) -> Self | None:
        """With what it is of; None where that is no subscription."""
        invoice_id = await invoice_of_intent(stripe, intent.id)
        invoice = None if invoice_id is None else await read_invoice(stripe, invoice_id)
        if invoice is None or invoice.subscription_id is None:
            return None
        return cls(intent, invoice, await read_subscription(stripe, invoice.subscription_id))

    async def apply(self, connection: AsyncConnection, *, cause: str, now: datetime) -> SubscriptionPaid | None:
        """Records it in the caller's transaction, and tells nobody; None when it is not ours, or was never paid."""
        received = received_of_intent(self.intent)
        try:
            # It may be told of before the subscription itself is.
            record = await lock_own_record(connection, Fetched(0, subscription=self.subscription), now)
        except UnknownAtStripe:
            return None
        if record is None or received is None or received.amount <= 0:
            return None
        payment = Payment(
            event_id=uuid5(_NAMESPACE, self.intent.id),
            reason="subscription",
            mandate_id=record.mandate_id,
            user_id=None,
            created_by_user_id=None,
            amount=received.amount,
            currency=received.currency,
            requested_amount=None,
            requested_currency=None,
            mismatch=False,
            checkout_id=None,
            stripe_session_id=None,
            stripe_payment_intent_id=self.intent.id,
            cause=cause,
            # Stripe's clock may be ahead of ours; no reader takes an event from the future.
            paid_at=min(received.paid_at, now),
            recorded_at=now,
            reference=self.invoice.id,
            published=False,
            subscription_id=record.subscription_id,
            period_start=budget_period_start(self.invoice, self.subscription),
        )
        await record_payment(connection, payment)
        return SubscriptionPaid()
