"""A subscription and what can happen to it; pure, so every rule about states and periods can be tested without I/O.

A change is made from a subscription as it is and yields it as it will be, one version later. Who wrote it down, and
why, is added where it is recorded.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

from rappen_contracts.subscription.v1 import SubscriptionState
from services.subscriptions.lifecycle.periods import Period, period_of_days, period_of_plan
from services.subscriptions.lifecycle.states import LEGAL, is_operative, transition_name
from services.subscriptions.plans.domain import Plan

__all__ = [
    "TOLD_WITHIN",
    "Change",
    "Subscription",
    "advance",
    "begin",
    "changed",
    "end",
    "first_period",
    "open_record",
    "settles_at",
]

# A checkout of which nothing was told counts as given up then; Stripe closes its own after a day.
ABANDONED_AFTER: Final = timedelta(days=7)
# How long Stripe has to tell that a cancelled subscription has ended, and what has changed since where we hear late of
# what would end it. It is not operative meanwhile.
TOLD_WITHIN: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """A mandate's subscription with the terms of the period it is in, whatever the catalogue says by now.

    What waits (for a checkout, for its predecessor) has no period yet. `effective_from` is when it began to count; its
    day of the month is the day on which periods change. `starts_at` is there where it followed another one, before
    whose end it is not charged: the planned start, and then the one that it had. `settle_at` is when the time alone
    does something beside what `due_at` says: to what waits, to what is not paid, and to what Stripe should have ended.
    """

    id: UUID
    mandate_id: str
    plan: Plan
    state: SubscriptionState
    version: int
    effective_from: datetime | None
    period: Period | None
    trial_ends_at: datetime | None
    grace_ends_at: datetime | None
    recurring: bool
    starts_at: datetime | None = None
    settle_at: datetime | None = None
    created_by: str
    created_at: datetime

    def operative_at(self, now: datetime) -> bool:
        """Whether it may be used at that time."""
        period_end = self.period.end if self.period else None
        return is_operative(self.state, period_end=period_end, grace_ends_at=self.grace_ends_at, now=now)

    @property
    def due_at(self) -> datetime | None:
        """When our own clock has something to do with it; null while only Stripe or a person moves it."""
        if (
            self.plan.requires_stripe
            or self.period is None
            or self.state
            not in (
                "TRIALING",
                "ACTIVE",
                "CANCELED",
            )
        ):
            return None
        return self.period.end


class Change(NamedTuple):
    """A transition or a renewal; `before` is null for a new subscription.

    `budget_due` is set where a period began whose budget is to be credited.
    """

    before: Subscription | None
    after: Subscription
    name: str
    occurred_at: datetime
    budget_due: bool = False


def begin(plan: Plan, *, subscription_id: UUID, mandate_id: str, user_id: str, now: datetime) -> Change:
    """Starts a plan that needs no payment: a trial for its days, any other for its first period."""
    if plan.requires_stripe:
        raise ValueError(f"{plan.key} needs a checkout")
    period = first_period(plan, now)
    state: SubscriptionState = "TRIALING" if plan.is_trial else "ACTIVE"
    started = Subscription(
        id=subscription_id,
        mandate_id=mandate_id,
        plan=plan,
        state=state,
        version=1,
        effective_from=period.start,
        period=period,
        trial_ends_at=period.end if plan.is_trial else None,
        grace_ends_at=None,
        recurring=not plan.is_trial,
        created_by=user_id,
        created_at=now,
    )
    return Change(None, started, transition_name(None, state), period.start, budget_due=True)


def first_period(plan: Plan, start: datetime) -> Period:
    """The first period of a plan that our own clock moves."""
    if plan.is_trial:
        return period_of_days(start, plan.trial_days)
    return period_of_plan(start, plan.billing_period, anchor=start)


def open_record(
    plan: Plan,
    *,
    subscription_id: UUID,
    mandate_id: str,
    user_id: str,
    starts_at: datetime | None,
    now: datetime,
) -> Change:
    """A record that waits for its checkout; with `starts_at` it is to follow what runs."""
    pending = Subscription(
        id=subscription_id,
        mandate_id=mandate_id,
        plan=plan,
        state="PENDING",
        version=1,
        effective_from=None,
        period=None,
        trial_ends_at=None,
        grace_ends_at=None,
        recurring=True,
        starts_at=starts_at,
        settle_at=now + ABANDONED_AFTER,
        created_by=user_id,
        created_at=now,
    )
    return Change(None, pending, transition_name(None, "PENDING"), now)


def changed(
    before: Subscription,
    after: Subscription,
    state: SubscriptionState,
    *,
    at: datetime,
    now: datetime,
    budget_due: bool = False,
) -> Change:
    """The change to `after` in that state, one version later; a change within a state needs no name of the table."""
    after = replace(after, state=state, version=before.version + 1, settle_at=settles_at(before, after, state, now))
    if before.state != state:
        name = transition_name(before.state, state)
    elif before.period == after.period:
        name = "period_paid" if budget_due else "updated"
    else:
        name = LEGAL.get((state, state), "updated")
    return Change(before, after, name, at, budget_due)


def settles_at(before: Subscription, after: Subscription, state: SubscriptionState, now: datetime) -> datetime | None:
    """When the time alone ends a wait of `after` in that state.

    What would be over already was heard of late, so something newer may be on its way.
    """
    due = None
    if state == "PENDING":
        return before.settle_at
    if state == "SCHEDULED":
        return after.starts_at
    if state == "PAST_DUE":
        due = after.grace_ends_at
    elif state == "CANCELED" and after.plan.requires_stripe and after.period is not None:
        due = after.period.end + TOLD_WITHIN
    if due is None or due > now:
        return due
    return before.settle_at if before.state == state and before.settle_at is not None else now + TOLD_WITHIN


def end(subscription: Subscription, *, at: datetime) -> Change:
    """Expires it, within its period; a period that is cut short ends then."""
    name = transition_name(subscription.state, "EXPIRED")
    period = subscription.period
    if period is not None:
        # Another machine's clock may be a little ahead of the one that started it.
        at = max(period.start, min(at, period.end))
        period = Period(period.start, at)
    expired = replace(
        subscription,
        state="EXPIRED",
        version=subscription.version + 1,
        period=period,
        grace_ends_at=None,
        recurring=False,
        settle_at=None,
    )
    return Change(subscription, expired, name, at)


def advance(subscription: Subscription, plan: Plan) -> Change:
    """Does the one thing that is due: a trial expires, and so does what was cancelled; any other plan gets its next
    period on the terms given."""
    period = subscription.period
    if period is None or subscription.due_at is None:
        raise ValueError(f"nothing is ever due with {subscription.id} by itself")
    if subscription.state in ("TRIALING", "CANCELED"):
        return end(subscription, at=period.end)
    name = transition_name(subscription.state, "ACTIVE")
    following = period_of_plan(period.end, plan.billing_period, anchor=subscription.effective_from or period.start)
    renewed = replace(subscription, plan=plan, version=subscription.version + 1, period=following)
    return Change(subscription, renewed, name, following.start, budget_due=True)
