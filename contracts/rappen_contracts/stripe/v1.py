"""What subscriptions ask payments to do at Stripe, what became of it, and what payments has seen there.

Payments alone speaks to Stripe. A request names the record it is about by `subscription_id`, our own; what answers it
names the request, so asking twice does it once.
"""

from typing import Annotated, Literal

from pydantic import Field

from rappen_contracts.types import (
    Contract,
    Count,
    EventId,
    Identifier,
    Name,
    NonNegativeMoney,
    Text,
    Timestamp,
)

__all__ = [
    "Quantities",
    "QuantityRequested",
    "QuantitySettled",
    "StripeCheckout",
    "StripeInvoice",
    "StripeItem",
    "StripeObserved",
    "StripePlan",
    "StripeRequested",
    "StripeSettled",
    "StripeSubscription",
    "StripeSubscriptionStatus",
]

# Stripe's own words: https://docs.stripe.com/api/subscriptions/object
StripeSubscriptionStatus = Literal[
    "incomplete", "incomplete_expired", "trialing", "active", "past_due", "unpaid", "paused", "canceled"
]


class Quantities(Contract):
    """What a subscription is charged for in each period: members, and feature instances."""

    members: Count
    feature_instances: Count


class StripePlan(Contract):
    """The prices of a plan, from which its products and prices at Stripe are made where they are not there yet."""

    key: Name
    label_de: Name
    label_en: Name
    price_per_user: NonNegativeMoney
    price_per_feature_instance: NonNegativeMoney
    billing_period: Literal["month", "year"]


class StripeRequested(Contract):
    """Something to be done with a subscription at Stripe, once for `request_id`.

    `checkout` opens a Checkout session for `plan` with `quantities`; where `start_at` is given, nothing is charged
    before it. `begin` has what waits for that charged from now on. `end_at_period_end` sets the subscription to end,
    `resume` takes that back, `cancel` ends it at once. What has not been begun at `expires_at` is not done any more,
    because who asked has stopped waiting; null never expires.
    """

    mandate_id: Identifier
    subscription_id: EventId
    request_id: EventId
    action: Literal["checkout", "end_at_period_end", "resume", "cancel", "begin"]
    plan: StripePlan | None = None
    quantities: Quantities | None = None
    start_at: Timestamp | None = None
    success_url: Text | None = None
    cancel_url: Text | None = None
    language: Literal["de", "en"] = "de"
    requested_by: Identifier | None = None
    requested_at: Timestamp
    expires_at: Timestamp | None = None
    cause: Text


class StripeSettled(Contract):
    """What became of a request: `done`, `refused` by Stripe or by its state there, or `expired` before it was begun.

    `code` says why it was refused, in a stable word of ours. `redirect_url` leads to an opened checkout.
    """

    mandate_id: Identifier
    subscription_id: EventId
    request_id: EventId
    outcome: Literal["done", "refused", "expired"]
    code: Name | None = None
    redirect_url: Text | None = None
    checkout_session_id: Name | None = None
    settled_at: Timestamp
    cause: Text


class QuantityRequested(Contract):
    """The quantities that a subscription is to have at Stripe, absolute, charged in proportion to the period's rest.

    `version` counts the requests of one subscription: only the newest counts. With `paid_at_once` the change is refused
    where its payment fails, until `expires_at`; without, it is tried until Stripe has it.
    """

    mandate_id: Identifier
    subscription_id: EventId
    request_id: EventId
    version: Count
    quantities: Quantities
    paid_at_once: bool = False
    requested_at: Timestamp
    expires_at: Timestamp | None = None
    cause: Text


class QuantitySettled(Contract):
    """What became of requested quantities: `settled`; `declined`, where they had to be paid at once; `unavailable`,
    where Stripe could not be reached until `expires_at`; `superseded` by a newer request.

    `quantities` is what Stripe has now, null where that is not known.
    """

    mandate_id: Identifier
    subscription_id: EventId
    request_id: EventId
    version: Count
    outcome: Literal["settled", "declined", "unavailable", "superseded"]
    code: Name | None = None
    quantities: Quantities | None = None
    settled_at: Timestamp
    cause: Text


class StripeCheckout(Contract):
    """A Checkout session of a subscription: once `completed` it has a `stripe_subscription_id`; once `closed` it never
    completes."""

    session_id: Name
    state: Literal["open", "completed", "closed"]
    stripe_subscription_id: Name | None = None


class StripeItem(Contract):
    """An item of a subscription, with the period it is in; periods are the items' own at Stripe."""

    item_id: Name
    kind: Literal["members", "feature_instances"]
    quantity: Count
    period_start: Timestamp
    period_end: Timestamp


class StripeSubscription(Contract):
    """A subscription as Stripe had it when it was fetched.

    `ends_at` is there where it is set to end, also in the customer portal; `ended_at` where it has ended.
    """

    stripe_subscription_id: Name
    status: StripeSubscriptionStatus
    plan_key: Name | None = None
    items: Annotated[list[StripeItem], Field(max_length=20)]
    trial_ends_at: Timestamp | None = None
    ends_at: Timestamp | None = None
    ended_at: Timestamp | None = None


class StripeInvoice(Contract):
    """An invoice of a subscription as Stripe had it when it was fetched; the period is the one that its lines charge
    for, null where they do not say one.

    `billing_reason` is Stripe's word; only `subscription_create` and `subscription_cycle` begin a period.
    """

    stripe_invoice_id: Name
    status: Literal["draft", "open", "paid", "uncollectible", "void"]
    billing_reason: Name
    period_start: Timestamp | None = None
    period_end: Timestamp | None = None
    paid_at: Timestamp | None = None
    attempts: Count = 0
    action_url: Text | None = None


class StripeObserved(Contract):
    """A subscription, its checkout or its invoice as fetched from Stripe because an event told of it, never the event.

    `version` counts what was fetched of one record: of two, the higher was fetched later. `trial_will_end` says that
    Stripe reminds of the end of a trial. `cause` is the id of Stripe's event.
    """

    mandate_id: Identifier
    subscription_id: EventId
    version: Count
    checkout: StripeCheckout | None = None
    subscription: StripeSubscription | None = None
    invoice: StripeInvoice | None = None
    trial_will_end: bool = False
    observed_at: Timestamp
    cause: Text
