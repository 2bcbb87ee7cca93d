"""What each type of Stripe's events is about: how the object that it names is fetched as Stripe has it now, and applied
to our books. What the event itself claims is never used."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from services.payments.checkouts.settle_checkout import ObservedSession
from services.payments.customers.observe_methods import ObservedDeletion, ObservedMethod
from services.payments.invoices.settle_invoice import ObservedMonthlyInvoice
from services.payments.observations import NextNumber
from services.payments.refunds.observe_payment import ObservedPayment, ObservedRefunds
from services.payments.stripe.gateway import StripeGateway
from services.payments.stripe.refunds import intent_of_charge, intent_of_dispute, intent_of_refund
from services.payments.subscriptions.observe_objects import (
    ObservedInvoice,
    ObservedSubscription,
    ObservedTrialEnd,
    observed_checkout,
)

__all__ = ["EVENT_TYPES", "Effect", "Fetch", "ObservedObject", "fetch_for"]


class Effect(Protocol):
    """What an object has done to our books."""

    @property
    def outcome(self) -> str:
        """The word that is stored with the event and counted."""

    def report(self) -> None:
        """Counts and logs it; called after the commit."""


class ObservedObject(Protocol):
    """An object as Stripe has it now."""

    async def apply(self, connection: AsyncConnection, *, cause: str, now: datetime) -> Effect | None:
        """Brings our books to it in the caller's transaction; None when it is not ours. Repeats change nothing."""


# Gets an object from Stripe, before any transaction, by its id; None when there is none of that id.
Fetch = Callable[[StripeGateway, str, NextNumber], Awaitable[ObservedObject | None]]


async def _session(stripe: StripeGateway, session_id: str, numbers: NextNumber) -> ObservedObject | None:
    observed = await ObservedSession.fetch(stripe, session_id, numbers)
    if observed is None or observed.session.mode != "subscription":
        return observed
    number = await numbers()
    # One that has ended stays as it is; only one that has not can have changed since before the number.
    session = observed.session if observed.session.status != "open" else await stripe.checkout_session(session_id)
    return await observed_checkout(stripe, session, number=number)


async def _intent(stripe: StripeGateway, intent_id: str, numbers: NextNumber) -> ObservedObject | None:
    return await ObservedPayment.fetch(stripe, intent_id, numbers)


async def _charge(stripe: StripeGateway, charge_id: str, numbers: NextNumber) -> ObservedObject | None:
    return await ObservedRefunds.fetch(stripe, await intent_of_charge(stripe, charge_id), number=await numbers())


async def _refund(stripe: StripeGateway, refund_id: str, numbers: NextNumber) -> ObservedObject | None:
    return await ObservedRefunds.fetch(stripe, await intent_of_refund(stripe, refund_id), number=await numbers())


async def _dispute(stripe: StripeGateway, dispute_id: str, numbers: NextNumber) -> ObservedObject | None:
    return await ObservedRefunds.fetch(stripe, await intent_of_dispute(stripe, dispute_id), number=await numbers())


async def _setup(stripe: StripeGateway, setup_intent_id: str, numbers: NextNumber) -> ObservedObject | None:
    return await ObservedMethod.of_setup(stripe, setup_intent_id, numbers)


async def _customer(stripe: StripeGateway, customer_id: str, numbers: NextNumber) -> ObservedObject | None:
    return await ObservedMethod.of_customer(stripe, customer_id, numbers)


async def _deletion(stripe: StripeGateway, customer_id: str, _: NextNumber) -> ObservedObject | None:
    return await ObservedDeletion.fetch(stripe, customer_id)


async def _method(stripe: StripeGateway, method_id: str, numbers: NextNumber) -> ObservedObject | None:
    return await ObservedMethod.taken_away(stripe, method_id, numbers)


async def _subscription(stripe: StripeGateway, subscription_id: str, numbers: NextNumber) -> ObservedObject | None:
    return await ObservedSubscription.fetch(stripe, subscription_id, number=await numbers())


async def _trial(stripe: StripeGateway, subscription_id: str, numbers: NextNumber) -> ObservedObject | None:
    return await ObservedTrialEnd.fetch(stripe, subscription_id, number=await numbers())


async def _invoice(stripe: StripeGateway, invoice_id: str, numbers: NextNumber) -> ObservedObject | None:
    observed = await ObservedInvoice.fetch(stripe, invoice_id, number=await numbers())
    if observed is not None and observed.invoice.subscription_id is None:
        return await ObservedMonthlyInvoice.of(stripe, observed.invoice)
    return observed


EVENT_TYPES: Mapping[str, Fetch] = {
    "checkout.session.completed": _session,
    "checkout.session.async_payment_succeeded": _session,
    "checkout.session.async_payment_failed": _session,
    "checkout.session.expired": _session,
    "payment_intent.succeeded": _intent,
    "payment_intent.processing": _intent,
    "payment_intent.payment_failed": _intent,
    "payment_intent.requires_action": _intent,
    "payment_intent.canceled": _intent,
    "charge.refunded": _charge,
    "refund.created": _refund,
    "refund.updated": _refund,
    "refund.failed": _refund,
    "charge.refund.updated": _refund,
    "charge.dispute.created": _dispute,
    "charge.dispute.updated": _dispute,
    "charge.dispute.closed": _dispute,
    "charge.dispute.funds_withdrawn": _dispute,
    "charge.dispute.funds_reinstated": _dispute,
    "setup_intent.succeeded": _setup,
    "customer.updated": _customer,
    "customer.deleted": _deletion,
    "payment_method.detached": _method,
    "customer.subscription.created": _subscription,
    "customer.subscription.updated": _subscription,
    "customer.subscription.paused": _subscription,
    "customer.subscription.resumed": _subscription,
    "customer.subscription.deleted": _subscription,
    "customer.subscription.pending_update_applied": _subscription,
    "customer.subscription.pending_update_expired": _subscription,
    "customer.subscription.trial_will_end": _trial,
    "invoice.finalized": _invoice,
    "invoice.paid": _invoice,
    "invoice.payment_succeeded": _invoice,
    "invoice.payment_failed": _invoice,
    "invoice.payment_action_required": _invoice,
    "invoice.voided": _invoice,
    "invoice.marked_uncollectible": _invoice,
}


def fetch_for(event_type: str) -> Fetch | None:
    """How the object of an event of that type is fetched; None where nothing listens to it. A thin event of an object
    of Stripe's first API has the same name behind `v1.`."""
    return EVENT_TYPES.get(event_type.removeprefix("v1."))
