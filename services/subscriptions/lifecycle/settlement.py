"""What follows for a mandate's subscriptions from what is known of Stripe and from the time; pure.

Each record is brought to the state that the facts ask for, by legal changes alone, until nothing changes any more. So
it does not matter which event told of a fact, how often, or in which order facts came: the result is that of the facts.
"""

from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final, Literal, NamedTuple
from uuid import UUID

from rappen_contracts.subscription.v1 import SubscriptionState
from services.subscriptions.lifecycle.domain import TOLD_WITHIN, Change, Subscription, changed, end, first_period
from services.subscriptions.lifecycle.periods import Period
from services.subscriptions.lifecycle.states import OCCUPYING
from services.subscriptions.plans.domain import Plan
from services.subscriptions.stripe.domain import ENDED, Facts, PaidPeriod, period_of_items

__all__ = ["Book", "Settlement", "StripeCall", "settle", "starts_after"]

# A settlement that goes on for so long would go on for ever.
_PASSES_MAX: Final = 20


class StripeCall(NamedTuple):
    """Something that has to be done at Stripe with a record."""

    subscription: Subscription
    action: Literal["end_at_period_end", "cancel", "begin"]


@dataclass(slots=True)
class Book:
    """A mandate's records that are not over, and those that were told of; what is known of each; what was credited."""

    records: dict[UUID, Subscription]
    facts: Mapping[UUID, Facts]
    paid: Mapping[UUID, Iterable[PaidPeriod]] = field(default_factory=dict)
    # The starts of the periods whose budget is given.
    credited: Mapping[UUID, Iterable[datetime]] = field(default_factory=dict)
    # Records of which Stripe was asked to cancel what there is, and has not said that there was nothing.
    withdrawn: Container[UUID] = ()


@dataclass(slots=True)
class Settlement:
    """What has changed, in the order in which it has to be written, and what is to be done at Stripe.

    `unplaced` are records whose items at Stripe are in different periods or of a plan that the catalogue does not have:
    what can be told of them is, and that is all.
    """

    changes: list[Change] = field(default_factory=list)
    calls: list[StripeCall] = field(default_factory=list)
    unplaced: set[UUID] = field(default_factory=set)


# The terms of a record's next period, or of the plan with that key to which it was changed at Stripe; None where that
# is unknown.
Terms = Callable[[Plan, str | None], Plan | None]


def settle(book: Book, *, now: datetime, grace: timedelta, terms: Terms) -> Settlement:
    """Brings the records of a mandate to where the facts and the time have them."""
    return _Settling(book, now, grace, terms).run()


def starts_after(running: Subscription | None, *, now: datetime) -> datetime | None:
    """When another plan may begin to be charged; None for at once.

    It follows what is paid for and has an end. A trial ends at once for it, and so does what is not paid, also within
    its grace: else the other one would be free until the end of a period that nobody has paid for. The start is a whole
    second, as Stripe's times are, and not before the end.
    """
    if running is None or running.state in ("TRIALING", "PAST_DUE"):
        return None
    if running.period is None or not running.operative_at(now):
        return None
    ends = running.period.end
    return ends if not ends.microsecond else ends.replace(microsecond=0) + timedelta(seconds=1)


class _Settling:
    def __init__(self, book: Book, now: datetime, grace: timedelta, terms: Terms) -> None:
        self._records = dict(book.records)
        self._facts = book.facts
        self._paid = {key: sorted(periods) for key, periods in book.paid.items()}
        self._credited = {key: set(starts) for key, starts in book.credited.items()}
        self._withdrawn = book.withdrawn
        self._now, self._grace, self._terms = now, grace, terms
        self._result = Settlement()

    def run(self) -> Settlement:
        """Every record in turn, until a whole turn has changed nothing."""
        order = sorted(self._records, key=lambda key: (self._records[key].created_at, key))
        for _ in range(_PASSES_MAX):
            before = len(self._result.changes)
            for key in order:
                self._step(self._records[key])
            if len(self._result.changes) == before:
                return self._result
        raise RuntimeError(f"the subscriptions of {self._records[order[0]].mandate_id} never settle")

    def _step(self, record: Subscription) -> None:
        facts = self._facts.get(record.id)
        if facts is not None and facts.status in ENDED and record.state != "EXPIRED":
            self._end_as_observed(record, facts)
        elif record.state == "EXPIRED":
            self._credit(record)
            if facts is not None and facts.is_live:
                self._call(record, "cancel")
        elif record.state == "PENDING":
            self._step_pending(record, facts)
        elif record.state == "SCHEDULED":
            self._step_scheduled(record, facts)
        else:
            if facts is not None and facts.is_live:
                self._follow(record, facts)
                self._have_charged(record, facts)
            self._credit(self._records[record.id])
            self._step_by_clock(self._records[record.id])

    def _end_as_observed(self, record: Subscription, facts: Facts) -> None:
        """Ends it in the last period that Stripe tells of, whichever of them was seen before."""
        at = _ended_at(facts, self._now)
        if record.state == "PENDING" and facts.status == "canceled":
            self._begin_as_observed(record, facts, ended_at=at)
            record = self._records[record.id]
        if record.state in OCCUPYING:
            # What was paid for is credited before, so that its storage is charged with the end.
            self._credit(record)
            record = self._records[record.id]
        last = record
        if facts.status == "canceled" and record.starts_at is None:
            period = self._period(record, facts)
            last = replace(record, period=period, effective_from=self._begun(record, period))
        self._append(end(last, at=at)._replace(before=record))

    def _begin_as_observed(self, record: Subscription, facts: Facts, *, ended_at: datetime) -> None:
        """Tells first that it has begun, where all that is known is that it is over: who acts on changes learns of
        both, as when each is told in its time. Where another one runs by now, it is only over."""
        observed = facts.subscription
        if observed is None or self._running(record) is not None:
            return
        if record.starts_at is not None and ended_at < record.starts_at:
            return
        in_trial = observed.trial_ends_at is not None and ended_at <= observed.trial_ends_at
        lived = observed.model_copy(update={"status": "trialing" if in_trial else "active", "ends_at": None})
        self._enter(record, replace(facts, subscription=lived), at=min(record.starts_at or ended_at, ended_at))

    # A checkout that has not led to a subscription yet. One that was paid although it is being cancelled is paid back,
    # so it takes nobody's place meanwhile.
    def _step_pending(self, record: Subscription, facts: Facts | None) -> None:
        if facts is not None and facts.is_live and record.id not in self._withdrawn:
            self._complete(record, facts)
        elif facts is not None and facts.checkout is not None and facts.checkout.state == "closed":
            self._expire(record, at=self._now)
        elif record.settle_at is not None and record.settle_at <= self._now:
            self._call(record, "cancel")
            self._expire(record, at=self._now)

    def _complete(self, record: Subscription, facts: Facts) -> None:
        """The checkout has led to a subscription: it begins, or waits for what runs and has an end."""
        for other in list(self._records.values()):
            if other.state == "SCHEDULED" and other.id != record.id:
                self._end_at_once(other)
        running = self._running(record)
        waits_until = record.starts_at or starts_after(running, now=self._now)
        keeps_place = starts_after(running, now=self._now) is not None
        if running is None or not keeps_place or waits_until is None or waits_until <= self._now:
            self._enter(record, facts, at=self._now)
            return
        scheduled = replace(record, starts_at=waits_until, effective_from=waits_until)
        self._write(record, scheduled, "SCHEDULED", at=self._now)
        self._set_to_end(running)

    def _set_to_end(self, running: Subscription) -> None:
        if not running.recurring:
            return
        if running.plan.requires_stripe:
            self._call(running, "end_at_period_end")
        elif running.state == "ACTIVE":
            self._write(running, replace(running, recurring=False), "CANCELED", at=self._now)

    # What waits begins at its start, or when its predecessor has ended; never because Stripe says "active" before.
    def _step_scheduled(self, record: Subscription, facts: Facts | None) -> None:
        starts_at = record.starts_at or self._now
        running = self._running(record)
        if starts_at > self._now and running is not None:
            # Also where that was refused, or taken back in the portal: else it would be charged for one more period.
            self._set_to_end(running)
            observed = None if facts is None else facts.subscription
            if observed is not None and (observed.ends_at is None) != record.recurring:
                followed = replace(record, recurring=observed.ends_at is None)
                self._write(record, followed, "SCHEDULED", at=self._now)
            return
        at = min(starts_at, self._now)
        if not record.plan.requires_stripe:
            self._make_room(record, at)
            period = first_period(record.plan, at)
            begun = replace(record, effective_from=at, period=period, recurring=True)
            self._write(record, begun, "ACTIVE", at=at, budget_due=True)
        elif facts is not None and facts.is_live:
            observed = facts.subscription
            if starts_at > self._now and observed is not None and observed.ends_at is not None:
                # Set to end before it is ever charged, so it is not used either.
                self._end_at_once(record)
                return
            self._enter(record, facts, at=at)

    def _enter(self, record: Subscription, facts: Facts, *, at: datetime) -> None:
        """Takes the mandate's place."""
        self._make_room(record, at)
        after, state = self._as_observed(record, facts)
        begun = self._begun(after, after.period) or at
        if record.starts_at is None:
            after = replace(after, effective_from=min(begun, self._now))
        else:
            after = replace(after, effective_from=at, starts_at=at)
        # A trial's budget is given at its start; its invoice of nothing comes or does not.
        self._write(record, after, state, at=at, budget_due=state == "TRIALING" and after.period is not None)

    def _make_room(self, record: Subscription, at: datetime) -> None:
        running = self._running(record)
        if running is not None:
            self._end_at_once(running, at=at)

    def _follow(self, record: Subscription, facts: Facts) -> None:
        after, state = self._as_observed(record, facts)
        if replace(after, state=state) != record:
            self._write(record, after, state, at=self._now)

    def _have_charged(self, record: Subscription, facts: Facts) -> None:
        """What is in its place is charged from then on, also where Stripe would wait for the predecessor's planned end,
        or for the end of the shortest trial that it begins. A trial that is about to end, it ends by itself."""
        observed = facts.subscription
        if record.starts_at is None or observed is None or observed.status != "trialing" or observed.ends_at:
            return
        if observed.trial_ends_at is not None and observed.trial_ends_at > self._now + TOLD_WITHIN:
            self._call(record, "begin")

    def _as_observed(self, record: Subscription, facts: Facts) -> tuple[Subscription, SubscriptionState]:
        """The record with what Stripe has now, and the state that it asks for."""
        observed = facts.subscription
        if observed is None:
            raise ValueError(f"nothing is known of {record.id} at Stripe")
        recurring = observed.ends_at is None
        grace_ends_at = None
        state: SubscriptionState
        if observed.status == "past_due":
            state = "PAST_DUE"
            since = facts.past_due_since
            grace_ends_at = None if since is None else since + self._grace
        elif observed.status in ("unpaid", "paused"):
            state = "PAST_DUE"
        elif observed.status == "trialing" and record.starts_at is None and record.state in ("PENDING", "TRIALING"):
            state = "TRIALING"
        else:
            state = "ACTIVE" if recurring else "CANCELED"
        period = self._period(record, facts)
        # Also of a trial of which we hear when it is over. That in which it waits for a predecessor is none.
        trial_ends_at = (observed.trial_ends_at if record.starts_at is None else None) or record.trial_ends_at
        plan = self._plan(record, observed.plan_key, period)
        followed = replace(
            record,
            plan=plan,
            period=period,
            recurring=recurring,
            grace_ends_at=grace_ends_at,
            trial_ends_at=trial_ends_at,
        )
        return followed, state

    def _period(self, record: Subscription, facts: Facts) -> Period | None:
        """The latest of what was seen: a paid invoice may tell of a period before the subscription does."""
        items = None if facts.subscription is None else period_of_items(facts.subscription)
        if items is None:
            self._result.unplaced.add(record.id)
        known = [] if record.period is None else [record.period]
        known += [Period(paid.start, paid.end) for paid in self._counting(record)]
        # Last, because it counts where others begin with it.
        known += [] if items is None else [Period(*items)]
        latest = max((period.start for period in known), default=None)
        return next((period for period in reversed(known) if period.start == latest), None)

    def _begun(self, record: Subscription, period: Period | None) -> datetime | None:
        """When it began to count, as far as is known: the earliest period that was seen or paid for."""
        starts = [each.start for each in self._counting(record)]
        starts += [] if period is None else [period.start]
        starts += [] if record.effective_from is None else [record.effective_from]
        return min(starts, default=None)

    def _plan(self, record: Subscription, plan_key: str | None, period: Period | None) -> Plan:
        if plan_key is not None and plan_key != record.plan.key:
            switched = self._terms(record.plan, plan_key)
            if switched is None:
                self._result.unplaced.add(record.id)
            return switched or record.plan
        if record.period is None or period is None or period.start <= record.period.start:
            return record.plan
        return self._terms(record.plan, None) or record.plan

    def _step_by_clock(self, record: Subscription) -> None:
        """Ends what may not be used any more, also at Stripe, so that nobody is charged for it."""
        due = record.settle_at
        if record.state == "EXPIRED" or due is None or due > self._now:
            return
        facts = self._facts.get(record.id)
        observed = None if facts is None else facts.subscription
        if record.state == "CANCELED" and observed is not None and (observed.ends_at or self._now) > self._now:
            # It ends on a later day than its period does; until then Stripe renews it, and tells of that when it can.
            return
        ends = record.grace_ends_at if record.state == "PAST_DUE" else record.period and record.period.end
        self._end_at_once(record, at=ends or self._now)

    def _end_at_once(self, record: Subscription, *, at: datetime | None = None) -> None:
        facts = self._facts.get(record.id)
        if record.plan.requires_stripe and (facts is None or facts.status not in ENDED):
            self._call(record, "cancel")
        self._expire(record, at=at or self._now)

    def _expire(self, record: Subscription, *, at: datetime) -> None:
        if record.state in OCCUPYING:
            # What was paid for is credited before, so that its storage is charged with the end.
            self._credit(record)
            record = self._records[record.id]
        self._append(end(record, at=at))

    def _credit(self, record: Subscription) -> None:
        """The budget of every period that was paid for and began, once each, however late that is told."""
        for paid in self._counting(record):
            if paid.start in self._credited.get(record.id, ()):
                continue
            record = self._records[record.id]
            period, now_in = Period(paid.start, paid.end), record.period
            if now_in is not None and now_in.start == period.start:
                self._write(record, record, record.state, at=self._now, budget_due=True)
            elif record.state != "EXPIRED" and (now_in is None or now_in.start < period.start):
                self._write(record, replace(record, period=period), record.state, at=self._now, budget_due=True)
            else:
                # An earlier one: it is told with its own period, and after it where the subscription stands.
                self._write(record, replace(record, period=period), record.state, at=self._now, budget_due=True)
                told = self._records[record.id]
                self._write(told, replace(told, period=now_in), told.state, at=self._now)

    def _counting(self, record: Subscription) -> list[PaidPeriod]:
        """Paid periods that give a budget: of what had to wait, not the one before its start."""
        paid = self._paid.get(record.id, [])
        if record.starts_at is None:
            return paid
        # What it waits in at Stripe is a trial, whose invoice is of nothing. It may last a little longer than the wait,
        # because Stripe does not begin shorter ones.
        facts = self._facts.get(record.id)
        waited = None if facts is None or facts.subscription is None else facts.subscription.trial_ends_at
        if waited is not None:
            return [each for each in paid if each.start >= waited]
        return [each for each in paid if each.end > record.starts_at]

    def _running(self, besides: Subscription) -> Subscription | None:
        for record in self._records.values():
            if record.state in OCCUPYING and record.id != besides.id:
                return record
        return None

    def _write(
        self,
        before: Subscription,
        after: Subscription,
        state: SubscriptionState,
        *,
        at: datetime,
        budget_due: bool = False,
    ) -> None:
        period = after.period
        if after.starts_at is None and after.effective_from is not None:
            # An invoice of an earlier period may be told of later.
            after = replace(after, effective_from=self._begun(after, period))
        if period is not None and state in OCCUPYING:
            starts = {each.start for each in self._counting(before)} - self._credited.get(before.id, set())
            budget_due = budget_due or period.start in starts
        budget_due = budget_due and period is not None and period.start not in self._credited.get(before.id, set())
        self._append(changed(before, after, state, at=at, now=self._now, budget_due=budget_due))

    def _append(self, change: Change) -> None:
        # Stripe's clock may be ahead of ours, and no reader takes an event from the future.
        change = change._replace(occurred_at=min(change.occurred_at, self._now))
        after = change.after
        self._records[after.id] = after
        if change.budget_due and after.period is not None:
            self._credited.setdefault(after.id, set()).add(after.period.start)
        self._result.changes.append(change)

    def _call(self, record: Subscription, action: Literal["end_at_period_end", "cancel", "begin"]) -> None:
        self._result.calls.append(StripeCall(record, action))


def _ended_at(facts: Facts, now: datetime) -> datetime:
    observed = facts.subscription.ended_at if facts.subscription is not None else None
    return observed or facts.observed_at or now
