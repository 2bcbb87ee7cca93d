"""What follows from the facts of Stripe: each status, predecessors and successors, graces, budgets; and that the order,
repeats and delays in which facts are told change nothing of the outcome."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice, permutations, product
from typing import Any
from uuid import UUID

import pytest

from rappen_contracts.stripe.v1 import StripeCheckout, StripeObserved, StripeSubscriptionStatus
from services.subscriptions.lifecycle.domain import Change, Subscription, begin, open_record
from services.subscriptions.lifecycle.periods import Period, period_of_plan
from services.subscriptions.lifecycle.settlement import Book, StripeCall, settle, starts_after
from services.subscriptions.plans.domain import Plan
from services.subscriptions.stripe.domain import Facts, PaidPeriod, added, paid_period
from tests.support.stripe_facts import SubscriptionAtStripe

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
    records: dict[UUID, Subscription] = field(default_factory=dict)
    facts: dict[UUID, Facts] = field(default_factory=dict)
    paid: dict[UUID, list[PaidPeriod]] = field(default_factory=dict)
    credited: dict[UUID, list[datetime]] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    calls: list[StripeCall] = field(default_factory=list)

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
            record = observed.subscription_id
            known = self.facts.get(record, Facts(subscription_id=record, mandate_id="m"))
            self.facts[record] = added(known, observed)
            paid = paid_period(observed)
            periods = self.paid.setdefault(record, [])
            if paid is not None and paid.start not in [each.start for each in periods]:
                periods.append(paid)
            self.settle()

    def settle(self) -> None:
        book = Book(dict(self.records), self.facts, self.paid, self.credited)
        settlement = settle(book, now=self.now, grace=GRACE, terms=terms)
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


def pays(stripe: SubscriptionAtStripe) -> StripeObserved | None:
    if stripe.status not in ("past_due", "unpaid"):
        return None
    stripe.status = "active"
    stripe.at += DAY
    return stripe.fetch(invoice=stripe.invoice())


def gives_up(stripe: SubscriptionAtStripe) -> StripeObserved | None:
    if stripe.status != "past_due":
        return None
    stripe.status = "unpaid"
    stripe.at += DAY
    return stripe.fetch()


def pauses(stripe: SubscriptionAtStripe) -> StripeObserved | None:
    if stripe.status not in ("active", "paused"):
        return None
    stripe.status = "paused" if stripe.status == "active" else "active"
    return stripe.fetch()


def is_cancelled(stripe: SubscriptionAtStripe) -> StripeObserved | None:
    if stripe.ends_at is not None:
        return None
    stripe.ends_at = stripe.period.end
    return stripe.fetch()


def is_taken_back(stripe: SubscriptionAtStripe) -> StripeObserved | None:
    if stripe.ends_at is None:
        return None
    stripe.ends_at = None
    return stripe.fetch()


def adds_a_member(stripe: SubscriptionAtStripe) -> StripeObserved | None:
    return stripe.fetch(invoice=stripe.invoice("subscription_update")) if stripe.status == "active" else None


def is_deleted(stripe: SubscriptionAtStripe) -> StripeObserved | None:
    stripe.status, stripe.ended_at = "canceled", stripe.at
    return stripe.fetch()


EVENTS = (renews, fails, pays, gives_up, pauses, is_cancelled, is_taken_back, adds_a_member, is_deleted)


def lives(length: int) -> Iterator[list[StripeObserved]]:
    """Every life of so many events after its beginning that Stripe could tell."""
    for events in product(EVENTS, repeat=length):
        stripe = at_stripe()
        told = [begins(stripe)]
        for event in events:
            if stripe.status == "canceled" or (observed := event(stripe)) is None:
                break
            told.append(observed)
        else:
            yield told


def outcome(told: Iterable[StripeObserved], *, now: datetime) -> tuple[object, ...]:
    mandate = Mandate()
    mandate.start()
    mandate.now = now
    mandate.observe(*told)
    record = mandate.records[FIRST]
    return mandate.states(), mandate.budgets(), record.period, record.plan.key, record.operative_at(now)


def in_order(told: Sequence[StripeObserved]) -> tuple[object, ...]:
    """Each told when it happened."""
    mandate = Mandate()
    mandate.start()
    for observed in told:
        mandate.now = observed.observed_at
        mandate.observe(observed)
    record = mandate.records[FIRST]
    return mandate.states(), mandate.budgets(), record.period, record.plan.key, record.operative_at(mandate.now)


@pytest.mark.parametrize("length", [1, 2, 3])
def test_the_order_repeats_and_delays_of_what_is_told_change_nothing(length: int) -> None:
    count = 0
    for told in lives(length):
        expected = in_order(told)
        for order in permutations(told):
            assert outcome(order, now=told[-1].observed_at) == expected
            count += 1
        doubled = [each for each in told for _ in range(2)]
        assert outcome(doubled + told[::-1], now=told[-1].observed_at) == expected
    assert count > 10


def test_lives_of_four_events_told_in_many_orders_and_twice_come_out_the_same() -> None:
    seen: Counter[str] = Counter()
    for told in lives(4):
        expected = in_order(told)
        now = told[-1].observed_at
        # Every seventh of the 120 orders, so that each event is told in each place.
        for order in islice(permutations(told), 0, None, 7):
            assert outcome([*order, *order[::-1]], now=now) == expected
        seen[str(expected[0][FIRST][0])] += 1  # type: ignore[index]
    assert set(seen) == {"ACTIVE", "PAST_DUE", "CANCELED", "EXPIRED"}
    assert sum(seen.values()) > 250


@pytest.mark.parametrize(
    ("status", "ends", "state", "recurring"),
    [
        ("incomplete", False, "PENDING", True),
        ("incomplete_expired", False, "EXPIRED", False),
        ("trialing", False, "TRIALING", True),
        ("trialing", True, "TRIALING", False),
        ("active", False, "ACTIVE", True),
        ("active", True, "CANCELED", False),
        ("past_due", False, "PAST_DUE", True),
        ("past_due", True, "PAST_DUE", False),
        ("unpaid", False, "PAST_DUE", True),
        ("paused", True, "PAST_DUE", False),
        ("canceled", True, "EXPIRED", False),
    ],
)
def test_each_status_of_stripe_is_a_state_of_ours(
    status: StripeSubscriptionStatus, ends: bool, state: str, recurring: bool
) -> None:
    mandate = Mandate()
    mandate.start()
    stripe = at_stripe(status=status, ends_at=month(0).end if ends else None, trial_ends_at=month(0).end)
    mandate.observe(stripe.fetch())
    assert mandate.states() == {FIRST: (state, recurring)}


def test_past_due_is_usable_for_its_grace_and_then_ends_also_at_stripe() -> None:
    mandate, stripe = Mandate(), at_stripe()
    mandate.start()
    mandate.observe(begins(stripe))
    mandate.now = month(1).start
    mandate.observe(fails(stripe))  # type: ignore[arg-type]
    record = mandate.records[FIRST]
    assert (record.state, record.grace_ends_at) == ("PAST_DUE", mandate.now + GRACE)
    mandate.now += GRACE - timedelta(seconds=1)
    mandate.settle()
    assert mandate.state() == "PAST_DUE"
    assert mandate.records[FIRST].operative_at(mandate.now)
    mandate.now += timedelta(seconds=1)
    mandate.settle()
    assert mandate.state() == "EXPIRED"
    assert mandate.asked() == {(FIRST, "cancel")}


def test_stripes_clock_may_be_ahead_of_ours() -> None:
    mandate, stripe = Mandate(), at_stripe()
    mandate.start()
    mandate.observe(begins(stripe))
    # The renewal fails by Stripe's clock, and ours still says that it is in the future.
    stripe.status, stripe.period = "past_due", month(1)
    mandate.observe(stripe.fetch())
    assert mandate.records[FIRST].grace_ends_at == month(1).start + GRACE
    stripe.status, stripe.ended_at = "canceled", month(1).start + DAY
    mandate.observe(stripe.fetch())
    assert mandate.records[FIRST].period == Period(month(1).start, month(1).start + DAY)
    assert all(change.occurred_at <= mandate.now for change in mandate.changes)


@pytest.mark.parametrize("status", ["unpaid", "paused"])
def test_unpaid_and_paused_are_not_usable_and_wait_for_stripe(status: StripeSubscriptionStatus) -> None:
    mandate, stripe = Mandate(), at_stripe()
    mandate.start()
    mandate.observe(begins(stripe))
    stripe.status = status
    mandate.observe(stripe.fetch())
    assert not mandate.records[FIRST].operative_at(mandate.now)
    mandate.now += 300 * DAY
    mandate.settle()
    assert mandate.state() == "PAST_DUE"
    # An old invoice that is paid says nothing while Stripe still says unpaid.
    mandate.observe(stripe.fetch(invoice=stripe.invoice("subscription_cycle")))
    assert mandate.state() == "PAST_DUE"
    stripe.status = "active"
    mandate.observe(stripe.fetch())
    assert mandate.state() == "ACTIVE"


def test_only_invoices_of_a_periods_beginning_give_a_budget_and_each_period_one() -> None:
    mandate, stripe = Mandate(), at_stripe()
    mandate.start()
    mandate.observe(begins(stripe), begins(stripe), stripe.fetch(invoice=stripe.invoice("subscription_update")))
    mandate.observe(stripe.fetch(invoice=stripe.invoice("manual")))
    assert mandate.budgets() == [month(0).start]
    for _ in range(3):
        mandate.observe(renews(stripe) or stripe.fetch(), stripe.fetch(invoice=stripe.invoice()))
    assert mandate.budgets() == [month(number).start for number in range(4)]
    assert mandate.records[FIRST].period == month(3)


def test_an_invoice_that_names_no_period_pays_for_that_of_the_items() -> None:
    mandate, stripe = Mandate(), at_stripe()
    mandate.start()
    empty = Period(NOW, NOW)
    mandate.observe(stripe.fetch(invoice=stripe.invoice("subscription_create", period=empty), completed=True))
    stripe.period = month(1)
    unnamed = stripe.invoice().model_copy(update={"period_start": None, "period_end": None})
    mandate.observe(stripe.fetch(invoice=unnamed))
    assert mandate.budgets() == [month(0).start, month(1).start]


def test_an_invoice_of_before_that_is_told_late_gives_its_own_periods_budget() -> None:
    mandate, stripe = Mandate(), at_stripe()
    mandate.start()
    mandate.observe(begins(stripe))
    stripe.period, stripe.status = month(2), "past_due"
    mandate.observe(stripe.fetch(invoice=stripe.invoice(period=month(1))))
    assert mandate.budgets() == [month(0).start, month(1).start]
    assert mandate.records[FIRST].period == month(2)


def test_a_trial_of_a_paid_plan_has_its_budget_at_its_start_and_its_empty_invoice_gives_none() -> None:
    trial = Period(NOW, NOW + 14 * DAY)
    stripe = at_stripe(status="trialing", period=trial, trial_ends_at=trial.end)
    mandate = Mandate()
    mandate.start()
    mandate.observe(stripe.fetch(completed=True), stripe.fetch(invoice=stripe.invoice("subscription_create")))
    assert (mandate.state(), mandate.budgets()) == ("TRIALING", [NOW])
    assert mandate.records[FIRST].trial_ends_at == trial.end
    stripe.status, stripe.period = "active", month(0, trial.end)
    mandate.now = trial.end
    mandate.observe(stripe.fetch(invoice=stripe.invoice()))
    assert (mandate.state(), mandate.budgets()) == ("ACTIVE", [NOW, trial.end])


def test_a_trial_that_is_canceled_is_over_at_once() -> None:
    stripe = at_stripe(status="trialing", period=Period(NOW, NOW + 14 * DAY), trial_ends_at=NOW + 14 * DAY)
    mandate = Mandate()
    mandate.start()
    mandate.observe(stripe.fetch(completed=True))
    stripe.status, stripe.ended_at = "canceled", NOW + DAY
    mandate.now += 2 * DAY
    mandate.observe(stripe.fetch())
    record = mandate.records[FIRST]
    assert (record.state, record.period) == ("EXPIRED", Period(NOW, NOW + DAY))


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


def test_a_switch_waits_for_the_predecessors_period_end_and_nothing_is_credited_before() -> None:
    mandate, old = with_predecessor()
    mandate.now += DAY
    mandate.start(SECOND, after=FIRST)
    new = waiting_for(old.period)
    mandate.observe(new.fetch(completed=True, invoice=new.invoice("subscription_create")))
    assert mandate.states() == {FIRST: ("ACTIVE", True), SECOND: ("SCHEDULED", True)}
    assert mandate.asked() == {(FIRST, "end_at_period_end")}
    old.ends_at = old.period.end
    mandate.observe(old.fetch())
    assert mandate.state() == "CANCELED"
    # Stripe's word comes too early: it stays beside its predecessor.
    new.status = "active"
    mandate.observe(new.fetch())
    assert (mandate.state(SECOND), mandate.budgets(SECOND)) == ("SCHEDULED", [])

    mandate.now = old.period.end
    new.period = month(1)
    mandate.observe(new.fetch(invoice=new.invoice()))
    assert mandate.states() == {FIRST: ("EXPIRED", False), SECOND: ("ACTIVE", True)}
    assert mandate.budgets(SECOND) == [month(1).start]
    assert mandate.records[SECOND].effective_from == old.period.end


def test_a_scheduled_plan_begins_by_the_clock_and_when_its_predecessor_ends_before() -> None:
    for ends_before in (False, True):
        mandate, old = with_predecessor()
        mandate.start(SECOND, after=FIRST)
        new = waiting_for(old.period)
        mandate.observe(new.fetch(completed=True))
        if ends_before:
            mandate.now += 3 * DAY
            mandate.observe(is_deleted(old))  # type: ignore[arg-type]
        else:
            mandate.now = old.period.end
            mandate.settle()
            assert (FIRST, "cancel") in mandate.asked()
        assert mandate.states() == {FIRST: ("EXPIRED", False), SECOND: ("ACTIVE", True)}
        assert mandate.budgets(SECOND) == []


def test_a_switch_comes_out_the_same_in_whatever_order_it_is_told() -> None:
    def told() -> list[StripeObserved]:
        old, new = at_stripe(plan_key="STARTER"), waiting_for(month(0))
        observations = [new.fetch(completed=True, invoice=new.invoice("subscription_create"))]
        old.fetches = 1
        old.ends_at = old.period.end
        observations.append(old.fetch())
        old.status, old.ended_at, old.at = "canceled", month(0).end, month(0).end
        observations.append(old.fetch())
        new.status, new.period, new.at = "active", month(1), month(1).start
        observations.append(new.fetch(invoice=new.invoice()))
        return observations

    outcomes = set()
    for order in permutations(told()):
        mandate, _ = with_predecessor()
        mandate.now = month(0).end - DAY
        mandate.start(SECOND, after=FIRST)
        mandate.now = month(1).start
        mandate.observe(*order)
        mandate.observe(*order[::-1])
        outcomes.add((str(mandate.states()), str(mandate.budgets()), str(mandate.budgets(SECOND))))
    assert len(outcomes) == 1
    (only,) = outcomes
    assert "EXPIRED" in only[0]
    assert "ACTIVE" in only[0]


def test_what_waits_may_be_set_to_end_and_taken_back_and_waits_on() -> None:
    mandate, old = with_predecessor()
    mandate.start(SECOND, after=FIRST)
    new = waiting_for(old.period)
    mandate.observe(new.fetch(completed=True))
    for ends_at in (old.period.end, None):
        new.ends_at = ends_at
        mandate.observe(new.fetch())
        assert mandate.states()[SECOND] == ("SCHEDULED", ends_at is None)


def test_of_two_checkouts_that_are_both_paid_the_later_waits_for_the_earlier() -> None:
    mandate = Mandate()
    mandate.start()
    mandate.start(SECOND)
    mandate.observe(begins(at_stripe()))
    # Nothing ran when it was opened, so Stripe charges it at once.
    later = at_stripe(SECOND)
    mandate.observe(begins(later))
    assert mandate.states() == {FIRST: ("ACTIVE", True), SECOND: ("SCHEDULED", True)}
    assert mandate.asked() == {(FIRST, "end_at_period_end")}
    mandate.now = month(0).end
    later.period = month(1)
    mandate.observe(later.fetch(invoice=later.invoice()))
    assert mandate.states() == {FIRST: ("EXPIRED", False), SECOND: ("ACTIVE", True)}
    assert mandate.budgets(SECOND) == [month(1).start]


def test_a_trial_of_ours_ends_at_once_for_a_paid_plan() -> None:
    mandate = Mandate()
    mandate.records[FIRST] = begin(TRIAL, subscription_id=FIRST, mandate_id="m", user_id="u", now=NOW).after
    mandate.now += DAY
    mandate.start(SECOND, after=FIRST)
    assert mandate.records[SECOND].starts_at is None
    stripe = at_stripe(SECOND)
    mandate.observe(begins(stripe))
    assert mandate.states() == {FIRST: ("EXPIRED", False), SECOND: ("ACTIVE", True)}
    assert mandate.calls == []


def test_what_is_not_paid_any_more_ends_at_once_for_another_plan() -> None:
    mandate, old = with_predecessor()
    old.status = "unpaid"
    mandate.observe(old.fetch())
    mandate.start(SECOND, after=FIRST)
    mandate.observe(begins(at_stripe(SECOND)))
    assert mandate.states() == {FIRST: ("EXPIRED", False), SECOND: ("ACTIVE", True)}
    assert mandate.asked() == {(FIRST, "cancel")}


def test_a_plan_without_stripe_is_cancelled_for_its_successor() -> None:
    mandate = Mandate()
    mandate.records[FIRST] = begin(INTERNAL, subscription_id=FIRST, mandate_id="m", user_id="u", now=NOW).after
    mandate.start(SECOND, after=FIRST)
    new = waiting_for(month(0))
    mandate.observe(new.fetch(completed=True))
    assert mandate.states() == {FIRST: ("CANCELED", False), SECOND: ("SCHEDULED", True)}
    assert mandate.calls == []


def test_a_newer_switch_withdraws_the_one_that_waits() -> None:
    mandate, old = with_predecessor()
    third = UUID(int=3)
    mandate.start(SECOND, after=FIRST)
    mandate.observe(waiting_for(old.period).fetch(completed=True))
    mandate.start(third, after=FIRST)
    mandate.observe(replace(waiting_for(old.period), record=third).fetch(completed=True))
    assert (mandate.state(SECOND), mandate.state(third)) == ("EXPIRED", "SCHEDULED")
    assert (SECOND, "cancel") in mandate.asked()


def test_a_checkout_that_is_closed_or_given_up_expires_and_one_that_is_paid_after_that_is_cancelled() -> None:
    closed = Mandate()
    closed.start()
    session = StripeCheckout(session_id="cs_1", state="closed")
    closed.observe(at_stripe().fetch().model_copy(update={"subscription": None, "checkout": session}))
    assert closed.state() == "EXPIRED"

    given_up = Mandate()
    given_up.start()
    given_up.now += 8 * DAY
    given_up.settle()
    assert (given_up.state(), given_up.asked()) == ("EXPIRED", {(FIRST, "cancel")})
    given_up.calls.clear()
    given_up.observe(begins(at_stripe()))
    assert given_up.asked() == {(FIRST, "cancel")}


def test_items_in_different_periods_move_the_state_and_guess_no_period() -> None:
    mandate, stripe = Mandate(), at_stripe()
    mandate.start()
    mandate.observe(begins(stripe))
    observed = stripe.fetch()
    assert observed.subscription is not None
    first, second = observed.subscription.items
    moved = second.model_copy(update={"period_start": month(1).start, "period_end": month(1).end})
    parted = observed.subscription.model_copy(update={"items": [first, moved], "status": "past_due"})
    mandate.observe(observed.model_copy(update={"subscription": parted}))
    record = mandate.records[FIRST]
    assert (record.state, record.period) == ("PAST_DUE", month(0))


def test_a_plan_switched_at_stripe_brings_its_terms_and_an_unknown_one_none() -> None:
    mandate, stripe = Mandate(), at_stripe()
    mandate.start()
    mandate.observe(begins(stripe))
    stripe.plan_key = "STARTER"
    mandate.observe(stripe.fetch())
    assert mandate.records[FIRST].plan == STARTER
    stripe.plan_key = "GOLD"
    mandate.observe(stripe.fetch())
    assert mandate.records[FIRST].plan == STARTER


def test_what_is_told_of_a_record_that_is_not_there_is_kept_until_it_is() -> None:
    late = Mandate()
    record = Mandate()
    record.start()
    late.observe(begins(at_stripe()))
    assert late.records == {}
    late.records.update(record.records)
    late.settle()
    assert (late.state(), late.budgets()) == ("ACTIVE", [month(0).start])


def test_two_equal_observations_are_one_change() -> None:
    mandate, stripe = Mandate(), at_stripe()
    mandate.start()
    mandate.observe(begins(stripe))
    stripe.ends_at = stripe.period.end
    mandate.observe(stripe.fetch(), stripe.fetch())
    assert [change.name for change in mandate.changes] == ["activated", "set_to_end"]
