"""What is known of a subscription at Stripe: a sum of what was fetched, in whichever order it is told.

What is told is state, not movement, and each observation has the number of its fetch. So of everything that can change
the newest fetch holds, and of what cannot be undone (a paid invoice) the fact that it was seen. Adding an observation
twice, late or in another order gives the same sum, and with it the same subscription.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID, uuid5

from rappen_contracts.stripe.v1 import (
    StripeCheckout,
    StripeInvoice,
    StripeObserved,
    StripeSubscription,
    StripeSubscriptionStatus,
)

__all__ = [
    "ENDED",
    "LIVE",
    "Facts",
    "PaidPeriod",
    "added",
    "begins_period",
    "checkout_request",
    "paid_period",
    "period_of_items",
    "request_of",
]

# Ended for good; charged now or later.
ENDED: Final[tuple[StripeSubscriptionStatus, ...]] = ("canceled", "incomplete_expired")
LIVE: Final[tuple[StripeSubscriptionStatus, ...]] = ("trialing", "active", "past_due", "unpaid", "paused")
# An invoice begins a period for these reasons; one for a change of quantities, or made by hand, does not.
_BEGINNINGS: Final = ("subscription_create", "subscription_cycle")
# How many fetches of one dunning are kept; of more, the first ones say since when it lasts.
_FAILURES_MAX: Final = 50


class PaidPeriod(NamedTuple):
    """A period [start, end) whose invoice is paid."""

    start: datetime
    end: datetime
    stripe_invoice_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The newest fetch of a record's checkout and of its subscription, with their numbers, and since when it fails.

    `past_due` are the fetches that found it past due, newer than `paid_up_version`, the newest that did not.
    """

    subscription_id: UUID
    mandate_id: str
    checkout_version: int = -1
    checkout: StripeCheckout | None = None
    version: int = -1
    subscription: StripeSubscription | None = None
    observed_at: datetime | None = None
    paid_up_version: int = -1
    past_due: tuple[tuple[int, datetime], ...] = ()

    @property
    def status(self) -> StripeSubscriptionStatus | None:
        """Stripe's own word; None while there is no subscription."""
        return None if self.subscription is None else self.subscription.status

    @property
    def is_live(self) -> bool:
        """Whether it is charged, or will be."""
        return self.status in LIVE

    @property
    def past_due_since(self) -> datetime | None:
        """When it was first found past due, since it last was not."""
        return min((at for _, at in self.past_due), default=None)


def added(facts: Facts, observed: StripeObserved) -> Facts:
    """The facts with one more observation."""
    if observed.checkout is not None and observed.version > facts.checkout_version:
        facts = replace(facts, checkout=observed.checkout, checkout_version=observed.version)
    found = observed.subscription
    if found is None:
        return facts
    facts = _with_failures(facts, observed.version, _failed_at(observed, found), found.status)
    if observed.version > facts.version:
        facts = replace(facts, subscription=found, version=observed.version, observed_at=observed.observed_at)
    return facts


def _failed_at(observed: StripeObserved, found: StripeSubscription) -> datetime:
    """When a payment had failed, as far as an observation tells: when it was made, and not before the period for which
    it was to be paid, of which Stripe's clock may tell a little earlier than ours."""
    return max([observed.observed_at, *(item.period_start for item in found.items)])


def _with_failures(facts: Facts, version: int, at: datetime, status: StripeSubscriptionStatus) -> Facts:
    paid_up, failures = facts.paid_up_version, set(facts.past_due)
    if status == "past_due":
        failures.add((version, at))
    else:
        paid_up = max(paid_up, version)
    kept = sorted(failure for failure in failures if failure[0] > paid_up)
    return replace(facts, paid_up_version=paid_up, past_due=tuple(kept[:_FAILURES_MAX]))


def request_of(subscription_id: UUID, what: str) -> UUID:
    """The id of a request to Stripe, which follows from what is asked."""
    return uuid5(subscription_id, what)


def checkout_request(subscription_id: UUID, number: int) -> UUID:
    """The id of the request for a record's checkout, of which the first has the number 1."""
    return request_of(subscription_id, f"checkout/{number}")


def period_of_items(subscription: StripeSubscription) -> tuple[datetime, datetime] | None:
    """The period that all items are in; None where they are in different ones, or where there is none.

    An item that was added within a period begins later than the others, and ends with them.
    """
    starts = {item.period_start for item in subscription.items}
    ends = {item.period_end for item in subscription.items}
    return (min(starts), ends.pop()) if len(ends) == 1 else None


def begins_period(invoice: StripeInvoice, subscription: StripeSubscription | None) -> bool:
    """Whether it is a paid invoice of a period's beginning: also one for a change, where that is the end of the trial
    in which the subscription waited."""
    if invoice.status != "paid":
        return False
    trial_ends_at = None if subscription is None else subscription.trial_ends_at
    ends_trial = invoice.billing_reason == "subscription_update" and trial_ends_at is not None
    return invoice.billing_reason in _BEGINNINGS or (ends_trial and invoice.period_start == trial_ends_at)


def paid_period(observed: StripeObserved) -> PaidPeriod | None:
    """The period that the observed invoice has paid for; None where it paid for none, or does not say for which.

    Where the invoice does not say it, the period in which the items were found with it counts.
    """
    invoice = observed.invoice
    if invoice is None or not begins_period(invoice, observed.subscription):
        return None
    items = None if observed.subscription is None else period_of_items(observed.subscription)
    start, end = invoice.period_start, invoice.period_end
    if start is None or end is None or start >= end:
        return None if items is None else PaidPeriod(*items, invoice.stripe_invoice_id)
    return PaidPeriod(start, end, invoice.stripe_invoice_id)
