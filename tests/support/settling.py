"""A mandate's subscriptions and what is known of Stripe, settled without I/O; what can happen to one of them there."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from rappen_contracts.stripe.v1 import StripeObserved
from services.subscriptions.lifecycle.domain import Change, Subscription, open_record
from services.subscriptions.lifecycle.periods import Period, period_of_plan
from services.subscriptions.lifecycle.settlement import Book, StripeCall, settle, starts_after
from services.subscriptions.plans.domain import Plan
from services.subscriptions.stripe.domain import Facts, PaidPeriod, added, paid_period
from tests.support.stripe_facts import SubscriptionAtStripe

__all__ = [
    "DAY",
    "FIRST",
    "FIRST_MONTH",
    "GRACE",
    "INTERNAL",
    "NOW",
    "SECOND",
    "STARTER",
    "TEAM",
    "TRIAL",
    "Mandate",
    "at_stripe",
    "begins",
    "fails",
    "following",
    "is_deleted",
    "is_taken_back",
    "month",
    "renews",
    "terms",
    "waiting_for",
    "with_predecessor",
]

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
DAY = timedelta(days=1)
GRACE = 7 * DAY
TEAM = Plan(
    key="TEAM",
    label_de="Team",
    label_en="Team",
    price_per_user=Decimal(29),
    price_per_feature_instance=Decimal(7),
    storage_price_per_gb_month=Decimal(0),
    billing_period="month",
    max_users=None,
    max_feature_instances=None,
    max_data_volume_mb=None,
    budget_ai=Decimal(50),
    budget_per="mandate",
    rollover=False,
    trial_days=0,
    requires_stripe=True,
    markup_percent=None,
    operator_only=False,
)
STARTER = replace(TEAM, key="STARTER", budget_ai=Decimal(10))
INTERNAL = replace(TEAM, key="INTERNAL", requires_stripe=False)
TRIAL = replace(INTERNAL, key="TRIAL_7D", trial_days=7)
CATALOGUE = {plan.key: plan for plan in (TEAM, STARTER)}
FIRST, SECOND = UUID(int=1), UUID(int=2)


def terms(plan: Plan, switched_to: str | None) -> Plan | None:
    return CATALOGUE.get(switched_to or plan.key)


def month(number: int, start: datetime = NOW) -> Period:
    """The period of that number since the start."""
    period = period_of_plan(start, "month", anchor=start)
    for _ in range(number):
        period = period_of_plan(period.end, "month", anchor=start)
    return period


FIRST_MONTH = month(0)


def following(period: Period) -> Period:
    """The period after one of those that began at the start."""
    return period_of_plan(period.end, "month", anchor=NOW)


@dataclass
class Mandate:
    """The records of a mandate, what is known of each, and all that came of it."""

    now: datetime = NOW
    grace: timedelta = GRACE
    records: dict[UUID, Subscription] = field(default_factory=dict)
    facts: dict[UUID, Facts] = field(default_factory=dict)
    paid: dict[UUID, list[PaidPeriod]] = field(default_factory=dict)
    credited: dict[UUID, list[datetime]] = field(default_factory=dict)
    # Of which Stripe was asked to cancel what there is.
    withdrawn: set[UUID] = field(default_factory=set)
    changes: list[Change] = field(default_factory=list)
    calls: list[StripeCall] = field(default_factory=list)
    unplaced: set[UUID] = field(default_factory=set)

    def start(self, record: UUID = FIRST, plan: Plan = TEAM, *, after: UUID | None = None) -> None:
        running = None if after is None else self.records[after]
        change = open_record(
            plan,
            subscription_id=record,
            mandate_id="m",
            user_id="u",
            starts_at=starts_after(running, now=self.now),
            now=self.now,
        )
        self.records[record] = change.after

    def observe(self, *observations: StripeObserved) -> None:
        for observed in observations:
            self.learn(observed)
            self.settle()

    def learn(self, observed: StripeObserved) -> None:
        """Adds it to what is known, and settles nothing."""
        record = observed.subscription_id
        known = self.facts.get(record, Facts(subscription_id=record, mandate_id="m"))
        self.facts[record] = added(known, observed)
        paid = paid_period(observed)
        periods = self.paid.setdefault(record, [])
        if paid is not None and paid.start not in [each.start for each in periods]:
            periods.append(paid)

    def settle(self) -> None:
        book = Book(dict(self.records), self.facts, self.paid, self.credited, self.withdrawn)
        settlement = settle(book, now=self.now, grace=self.grace, terms=terms)
        for change in settlement.changes:
            before = self.records[change.after.id]
            assert change.before == before
            assert change.after.version == before.version + 1
            self.records[change.after.id] = change.after
            if change.budget_due:
                assert change.after.period is not None
                starts = self.credited.setdefault(change.after.id, [])
                assert change.after.period.start not in starts, "a budget twice"
                starts.append(change.after.period.start)
            occupying = [
                each for each in self.records.values() if each.state in ("TRIALING", "ACTIVE", "PAST_DUE", "CANCELED")
            ]
            assert len(occupying) <= 1, "two operative subscriptions"
        self.changes += settlement.changes
        self.calls += settlement.calls
        self.unplaced |= settlement.unplaced

    def states(self) -> dict[UUID, tuple[str, bool]]:
        return {key: (record.state, record.recurring) for key, record in self.records.items()}

    def state(self, record: UUID = FIRST) -> str:
        return self.records[record].state

    def budgets(self, record: UUID = FIRST) -> list[datetime]:
        return sorted(self.credited.get(record, []))

    def asked(self) -> set[tuple[UUID, str]]:
        return {(call.subscription.id, call.action) for call in self.calls}


def at_stripe(
    record: UUID = FIRST, *, period: Period = FIRST_MONTH, at: datetime = NOW, **more: Any
) -> SubscriptionAtStripe:
    return SubscriptionAtStripe(record=record, period=period, at=at, **more)


# The life of a subscription, event by event: each changes Stripe's object and is told by one fetch of it.


def begins(stripe: SubscriptionAtStripe) -> StripeObserved:
    return stripe.fetch(invoice=stripe.invoice("subscription_create"), completed=True)


def renews(stripe: SubscriptionAtStripe) -> StripeObserved | None:
    if stripe.status != "active" or stripe.ends_at is not None:
        return None
    stripe.period = following(stripe.period)
    stripe.at = stripe.period.start
    return stripe.fetch(invoice=stripe.invoice())


def fails(stripe: SubscriptionAtStripe) -> StripeObserved | None:
    if stripe.status != "active" or stripe.ends_at is not None:
        return None
    stripe.status, stripe.period = "past_due", following(stripe.period)
    stripe.at = stripe.period.start
    return stripe.fetch(invoice=stripe.invoice(status="open"))


def is_taken_back(stripe: SubscriptionAtStripe) -> StripeObserved | None:
    if stripe.ends_at is None:
        return None
    stripe.ends_at = None
    return stripe.fetch()


def is_deleted(stripe: SubscriptionAtStripe) -> StripeObserved | None:
    stripe.status, stripe.ended_at = "canceled", stripe.at
    return stripe.fetch()


def with_predecessor(plan: Plan = STARTER) -> tuple[Mandate, SubscriptionAtStripe]:
    mandate, stripe = Mandate(), at_stripe(plan_key=plan.key)
    mandate.start(FIRST, plan)
    mandate.observe(begins(stripe))
    assert mandate.state() == "ACTIVE"
    return mandate, stripe


def waiting_for(period: Period, **more: Any) -> SubscriptionAtStripe:
    """The successor in Stripe: in a trial until its start."""
    return at_stripe(
        SECOND,
        status="trialing",
        period=Period(NOW + DAY, period.end),
        trial_ends_at=period.end,
        **more,
    )
