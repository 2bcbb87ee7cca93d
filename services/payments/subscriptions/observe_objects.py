"""Stripe's objects of subscriptions as the inbox sees them: fetched as Stripe has them now, then told of."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Self

from sqlalchemy.ext.asyncio import AsyncConnection

from services.payments.stripe.errors import StripeObjectUnknown
from services.payments.stripe.gateway import StripeGateway
from services.payments.stripe.invoices import intent_of_invoice, read_invoice
from services.payments.stripe.objects import CheckoutSession, Invoice
from services.payments.stripe.payment_intents import read_intent
from services.payments.stripe.subscriptions import read_subscription
from services.payments.subscriptions.domain import Fetched
from services.payments.subscriptions.publish_observation import Observed, publish_observation

__all__ = ["ObservedInvoice", "ObservedSubscription", "ObservedTrialEnd", "observed_checkout"]


@dataclass(frozen=True, slots=True)
class ObservedSubscription:
    """A subscription."""

    fetched: Fetched

    @classmethod
    async def fetch(cls, stripe: StripeGateway, object_id: str, *, number: int) -> Self | None:
        """Gets it from Stripe; None when there is none of that id."""
        try:
            return cls(Fetched(number, subscription=await read_subscription(stripe, object_id)))
        except StripeObjectUnknown:
            return None

    async def apply(self, connection: AsyncConnection, *, cause: str, now: datetime) -> Observed | None:
        """Tells of it, in the caller's transaction; None when it is not ours."""
        return await publish_observation(connection, self.fetched, cause=cause, now=now)


@dataclass(frozen=True, slots=True)
class ObservedTrialEnd(ObservedSubscription):
    """A subscription whose trial ends soon, says Stripe: told of as long as it is in its trial."""

    async def apply(self, connection: AsyncConnection, *, cause: str, now: datetime) -> Observed | None:
        """Tells of it, with the reminder."""
        subscription = self.fetched.subscription
        on_trial = subscription is not None and subscription.status == "trialing"
        fetched = replace(self.fetched, trial_will_end=on_trial)
        return await publish_observation(connection, fetched, cause=cause, now=now)


@dataclass(frozen=True, slots=True)
class ObservedInvoice:
    """An invoice of a subscription, with that subscription as it is now."""

    fetched: Fetched
    invoice: Invoice

    @classmethod
    async def fetch(cls, stripe: StripeGateway, object_id: str, *, number: int) -> Self | None:
        """Gets both from Stripe; None when there is no invoice of that id."""
        try:
            invoice = await read_invoice(stripe, object_id)
            subscription, needs_action = None, False
            if invoice.subscription_id is not None:
                subscription = await read_subscription(stripe, invoice.subscription_id)
                needs_action = invoice.status == "open" and await _needs_action(stripe, invoice.id)
        except StripeObjectUnknown:
            return None
        return cls(Fetched(number, subscription=subscription, invoice=invoice, needs_action=needs_action), invoice)

    async def apply(self, connection: AsyncConnection, *, cause: str, now: datetime) -> Observed | None:
        """Tells of it, in the caller's transaction; None when it is not ours."""
        if self.fetched.subscription is None:
            return None
        return await publish_observation(connection, self.fetched, cause=cause, now=now)


async def _needs_action(stripe: StripeGateway, invoice_id: str) -> bool:
    """Whether the payment of an open invoice waits for its payer to confirm it."""
    intent_id = await intent_of_invoice(stripe, invoice_id, status="open")
    return intent_id is not None and (await read_intent(stripe, intent_id)).status == "requires_action"


async def observed_checkout(stripe: StripeGateway, session: CheckoutSession, *, number: int) -> ObservedSubscription:
    """A session in which a subscription is begun, with that once there is one."""
    subscription = None
    if session.subscription_id is not None:
        subscription = await read_subscription(stripe, session.subscription_id)
    return ObservedSubscription(Fetched(number, checkout=session, subscription=subscription))
