"""A subscription of ours and what Stripe calls it; what of Stripe's objects is told to others."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, cast, get_args
from uuid import UUID

from rappen_contracts.stripe.v1 import (
    Quantities,
    StripeCheckout,
    StripeInvoice,
    StripeItem,
    StripeSubscription,
    StripeSubscriptionStatus,
)
from services.payments.plans.domain import FEATURE_INSTANCES, MEMBERS
from services.payments.stripe.objects import CheckoutSession, Invoice, Subscription, SubscriptionItem

__all__ = [
    "Fetched",
    "Record",
    "UnknownAtStripe",
    "budget_period_start",
    "checkout_form",
    "failed_attempts",
    "invoice_form",
    "quantities_of",
    "subscription_form",
    "subscription_id_in",
    "why_taken_back",
]

_STATUSES: Final = frozenset(get_args(StripeSubscriptionStatus))
_INVOICE_STATUSES: Final = frozenset(("draft", "open", "paid", "uncollectible", "void"))
# No schedule of retries has more.
ATTEMPTS_MAX: Final = 100
_CHECKOUTS: Final = {"complete": "completed", "expired": "closed"}


class UnknownAtStripe(Exception):  # noqa: N818 - named for what was found.
    """A status that Stripe has added since, or a second subscription of one of ours: what it means is not guessed."""


@dataclass(frozen=True, slots=True)
class Record:
    """A row of stripe_subscriptions, less its times."""

    subscription_id: UUID
    mandate_id: str
    plan_key: str | None
    members_price_id: str | None
    instances_price_id: str | None
    checkout_session_id: str | None
    stripe_subscription_id: str | None
    status: str | None
    version: int
    quantity_version: int
    begun_told_at: datetime | None
    taken_back_at: datetime | None

    def told_since(self, time: datetime) -> bool:
        """Whether it was first told since then that Stripe has it, so that who asked for something then knew of its
        checkout alone."""
        return self.begun_told_at is not None and self.begun_told_at > time


@dataclass(frozen=True, slots=True)
class Fetched:
    """What was fetched because an event told of it, after its number was taken."""

    number: int
    checkout: CheckoutSession | None = None
    subscription: Subscription | None = None
    invoice: Invoice | None = None
    trial_will_end: bool = False
    # Of the invoice: its payment waits for the payer.
    needs_action: bool = False

    @property
    def object_id(self) -> str:
        """The id of what the event told of."""
        known = self.invoice or self.subscription or self.checkout
        return "" if known is None else known.id


def why_taken_back(fetched: Fetched) -> Literal["paid", "goes_on"] | None:
    """Why a subscription that was taken back is to be taken back once more: it was paid for, or goes on."""
    subscription, invoice, session = fetched.subscription, fetched.invoice, fetched.checkout
    invoice_paid = invoice is not None and invoice.status == "paid" and invoice.amount_paid > 0
    if invoice_paid or (session is not None and session.payment_status == "paid"):
        return "paid"
    return "goes_on" if subscription is not None and not subscription.has_ended else None


def subscription_id_in(metadata: Mapping[str, str]) -> UUID | None:
    """Our id of a subscription, as its objects at Stripe carry it; None where there is none."""
    try:
        return UUID(metadata["subscriptionRecordId"])
    except (KeyError, ValueError):
        return None


def quantities_of(subscription: Subscription) -> Quantities:
    """How many members and feature instances it is charged for."""
    counts = {kind: sum(each.quantity for each in subscription.items if each.kind == kind) for kind in _KINDS}
    return Quantities(members=counts[MEMBERS], feature_instances=counts[FEATURE_INSTANCES])


_KINDS: Final = (MEMBERS, FEATURE_INSTANCES)


def checkout_form(session: CheckoutSession) -> StripeCheckout:
    """The session as others are told of it."""
    state = _CHECKOUTS.get(session.status or "", "open")
    return StripeCheckout.model_validate(
        {"session_id": session.id, "state": state, "stripe_subscription_id": session.subscription_id}
    )


def subscription_form(subscription: Subscription, plan_key: str | None) -> StripeSubscription:
    """The subscription as others are told of it; items whose price is not ours, or without a period, are left out."""
    if subscription.status not in _STATUSES:
        raise UnknownAtStripe
    items = [_item_form(each) for each in subscription.items if each.kind in _KINDS]
    return StripeSubscription(
        stripe_subscription_id=subscription.id,
        status=cast("StripeSubscriptionStatus", subscription.status),
        plan_key=subscription.metadata.get("planKey") or plan_key,
        items=[each for each in items if each is not None][:20],
        trial_ends_at=subscription.trial_ends_at,
        ends_at=subscription.ends_at,
        ended_at=subscription.ended_at,
    )


def _item_form(item: SubscriptionItem) -> StripeItem | None:
    if item.period_start is None or item.period_end is None:
        return None
    return StripeItem.model_validate(
        {
            "item_id": item.id,
            "kind": item.kind,
            "quantity": item.quantity,
            "period_start": item.period_start,
            "period_end": item.period_end,
        }
    )


def budget_period_start(invoice: Invoice, subscription: Subscription) -> datetime | None:
    """The start of the period whose budget a paid invoice gives; None for one that gives none, as of a change of
    quantities. Where the invoice does not say its period, that of the items counts, as the subscriptions service has
    it."""
    ends_trial = invoice.billing_reason == "subscription_update" and subscription.trial_ends_at is not None
    if invoice.billing_reason not in _BEGINNINGS and not (
        ends_trial and invoice.period_start == subscription.trial_ends_at
    ):
        return None
    if invoice.period_start is not None:
        return invoice.period_start
    starts = [each.period_start for each in subscription.items if each.period_start is not None]
    return min(starts) if starts and len({each.period_end for each in subscription.items}) == 1 else None


# Stripe's words for an invoice that begins a period.
_BEGINNINGS: Final = ("subscription_create", "subscription_cycle")


def failed_attempts(invoice: Invoice, needs_action: bool) -> int:
    """How many attempts to pay an invoice have failed by now; one that waits for the payer counts. Of a paid one all
    but the last, so that what is told does not depend on when it was fetched."""
    if invoice.status == "draft":
        return 0
    attempts = invoice.attempts - 1 if invoice.status == "paid" else max(invoice.attempts, int(needs_action))
    return max(0, min(attempts, ATTEMPTS_MAX))


def invoice_form(invoice: Invoice, now: datetime) -> StripeInvoice:
    """The invoice as others are told of it; `action_url` leads to it while it waits to be paid."""
    if invoice.status not in _INVOICE_STATUSES:
        raise UnknownAtStripe
    paid_at = invoice.paid_at
    return StripeInvoice.model_validate(
        {
            "stripe_invoice_id": invoice.id,
            "status": invoice.status,
            "billing_reason": invoice.billing_reason or "manual",
            "period_start": invoice.period_start,
            "period_end": invoice.period_end,
            # Stripe's clock may be ahead of ours.
            "paid_at": None if paid_at is None else min(paid_at, now),
            "attempts": invoice.attempts,
            "action_url": invoice.hosted_url if invoice.status == "open" else None,
        }
    )
