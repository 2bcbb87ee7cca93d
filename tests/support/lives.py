"""Lives of a subscription at Stripe, event by event, and every outcome that telling them can have: in any order, as
often and as late as can be."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import product
from typing import NamedTuple

from rappen_contracts.stripe.v1 import StripeInvoice, StripeObserved
from rappen_contracts.subscription.v1 import SubscriptionState
from services.subscriptions.lifecycle.domain import Subscription
from services.subscriptions.lifecycle.periods import Period
from services.subscriptions.lifecycle.states import OCCUPYING
from tests.support.settling import DAY, FIRST, NOW, Mandate, at_stripe, following
from tests.support.stripe_facts import SubscriptionAtStripe

__all__ = [
    "CREATED",
    "EVENTS",
    "GRACE",
    "Ending",
    "Mail",
    "Outcomes",
    "ending_in_order",
    "is_over",
    "lives",
    "mails_of",
]

HOUR = timedelta(hours=1)
TRIAL = Period(NOW, NOW + 14 * DAY)
# Longer than any delay here: what is not paid, as far as is known, ends nothing.
GRACE = 1000 * DAY
REMINDED_BEFORE = 3 * DAY

# What is said, and of which period or end where it can be said more than once.
Mail = tuple[str, datetime | None]


@dataclass
class Life:
    """A subscription as its events have left it at Stripe; `paid` says so of the period that it is in."""

    stripe: SubscriptionAtStripe = field(default_factory=at_stripe)
    paid: bool = True

    @property
    def status(self) -> str:
        return self.stripe.status

    def later(self, at: datetime | None = None) -> None:
        self.stripe.at = max(self.stripe.at + HOUR, at or NOW)

    def invoice(self, *, paid: bool) -> StripeInvoice:
        reason = "subscription_create" if self.stripe.period.start == NOW else "subscription_cycle"
        return self.stripe.invoice(reason, status="paid" if paid else "open")

    def next_period(self) -> None:
        period = self.stripe.period
        self.stripe.period = following(period) if period != TRIAL else Period(TRIAL.end, TRIAL.end + 31 * DAY)
        self.later(self.stripe.period.start)


Event = Callable[[Life], StripeObserved | None]


# How it can be created: paid at once, not paid yet, in a trial.
def begins(life: Life) -> StripeObserved:
    return life.stripe.begins()


def is_not_paid_yet(life: Life) -> StripeObserved:
    life.stripe.status, life.paid = "incomplete", False
    return life.stripe.fetch(invoice=life.invoice(paid=False))


def is_tried(life: Life) -> StripeObserved:
    life.stripe.status, life.stripe.period, life.stripe.trial_ends_at = "trialing", TRIAL, TRIAL.end
    return life.stripe.begins()


CREATED = (begins, is_not_paid_yet, is_tried)


# What can happen after that; None where it cannot.
def renews(life: Life) -> StripeObserved | None:
    if life.status not in ("active", "trialing") or life.stripe.ends_at is not None:
        return None
    life.next_period()
    life.stripe.status, life.paid = "active", True
    return life.stripe.fetch(invoice=life.invoice(paid=True))


def moves_on(life: Life) -> StripeObserved | None:
    """The next period, whose invoice is not paid yet."""
    if life.status != "active" or life.stripe.ends_at is not None:
        return None
    life.next_period()
    life.paid = False
    return life.stripe.fetch()


def fails(life: Life) -> StripeObserved | None:
    if life.status not in ("active", "trialing") or (life.paid and life.stripe.ends_at is not None):
        return None
    if life.paid:
        life.next_period()
    life.stripe.status, life.paid = "past_due", False
    return life.stripe.fetch(invoice=life.invoice(paid=False))


def fails_again(life: Life) -> StripeObserved | None:
    return life.stripe.fetch(invoice=life.invoice(paid=False)) if life.status in ("past_due", "incomplete") else None


def pays(life: Life) -> StripeObserved | None:
    if life.paid or life.status not in ("incomplete", "active", "past_due", "unpaid"):
        return None
    completed = life.status == "incomplete"
    life.stripe.status, life.paid = "active", True
    return life.stripe.fetch(invoice=life.invoice(paid=True), completed=completed)


def gives_up(life: Life) -> StripeObserved | None:
    """Stripe tries no more."""
    if life.status not in ("past_due", "incomplete"):
        return None
    life.stripe.status = "unpaid" if life.status == "past_due" else "incomplete_expired"
    return life.stripe.fetch()


def pauses(life: Life) -> StripeObserved | None:
    if life.status not in ("active", "trialing"):
        return None
    life.stripe.status = "paused"
    return life.stripe.fetch()


def goes_on(life: Life) -> StripeObserved | None:
    if life.status != "paused":
        return None
    life.stripe.status = "active"
    return life.stripe.fetch()


def is_cancelled(life: Life) -> StripeObserved | None:
    """In the portal, with its period."""
    if life.stripe.ends_at is not None or life.status == "incomplete":
        return None
    life.stripe.ends_at = life.stripe.period.end
    return life.stripe.fetch()


def is_taken_back(life: Life) -> StripeObserved | None:
    if life.stripe.ends_at is None:
        return None
    life.stripe.ends_at = None
    return life.stripe.fetch()


def adds_a_member(life: Life) -> StripeObserved | None:
    return life.stripe.fetch(invoice=life.stripe.invoice("subscription_update")) if life.status == "active" else None


def nears_the_end(life: Life) -> StripeObserved | None:
    """Stripe says so of a trial."""
    if life.status != "trialing" or life.stripe.at > TRIAL.end - REMINDED_BEFORE:
        return None
    life.stripe.at = TRIAL.end - REMINDED_BEFORE
    return life.stripe.fetch()


def is_deleted(life: Life) -> StripeObserved | None:
    if life.status == "incomplete":
        return None
    life.stripe.status, life.stripe.ended_at = "canceled", life.stripe.at
    return life.stripe.fetch()


EVENTS: tuple[Event, ...] = (
    renews,
    moves_on,
    fails,
    fails_again,
    pays,
    gives_up,
    pauses,
    goes_on,
    is_cancelled,
    is_taken_back,
    adds_a_member,
    nears_the_end,
    is_deleted,
)


def lives(length: int) -> Iterator[list[StripeObserved]]:
    """Every life of so many events, its creation with them, that Stripe could tell."""
    for created, *events in product(CREATED, *[EVENTS] * (length - 1)):
        life = Life()
        told = [created(life)]
        for event in events:
            if life.status in ("canceled", "incomplete_expired"):
                break
            life.later()
            observed = event(life)
            if observed is None:
                break
            told.append(observed)
        else:
            yield told


def mails_of(before: SubscriptionState | None, after: SubscriptionState, *, period_end: datetime | None) -> set[Mail]:
    """What who mails has to say because of a change, by what `subscription.changed` has of it."""
    occupied, occupies = before in OCCUPYING, after in OCCUPYING
    mails: set[Mail] = set()
    if occupies and not occupied:
        mails.add(("activated", None))
    if after == "SCHEDULED" != before:
        mails.add(("scheduled", None))
    if after == "CANCELED" != before:
        mails.add(("cancelled", period_end))
    if after == "EXPIRED" and occupied:
        mails.add(("expired", None))
    return mails


def is_over(mail: Mail, record: Subscription) -> bool:
    """Whether what a mail says of the moment is no longer so, so that who hears of it late has nothing to say."""
    kind, when = mail
    if kind == "cancelled":
        return record.state != "CANCELED" or record.period is None or record.period.end != when
    return kind == "trial ending" and record.state != "TRIALING"


class Ending(NamedTuple):
    """What has become of a life: the record, the periods of which a budget was given, what Stripe was asked, mails."""

    record: Subscription
    budgets: tuple[datetime, ...]
    asked: frozenset[str]
    mails: frozenset[Mail]

    def shown(self) -> tuple[object, ...]:
        """All that has to be the same, whenever the observations came: everything but how often it was written."""
        return replace(self.record, version=0, settle_at=None), self.budgets, self.asked


def _told(ending: Ending, mandate: Mandate, observed: StripeObserved | None, now: datetime) -> Ending:
    """The ending after one more observation, or after a look at the clock alone; `mandate` has the facts before it."""
    mandate.now = now
    mandate.records = {FIRST: ending.record}
    mandate.credited = {FIRST: list(ending.budgets)}
    mandate.changes, mandate.calls = [], []
    if observed is None:
        mandate.settle()
    else:
        mandate.observe(observed)
    mails = set(ending.mails)
    for change in mandate.changes:
        after = change.after
        period_end = None if after.period is None else after.period.end
        mails |= mails_of(change.before and change.before.state, after.state, period_end=period_end)
    record = mandate.records[FIRST]
    ends = record.trial_ends_at
    if record.state == "TRIALING" and ends is not None and ends - REMINDED_BEFORE <= now < ends:
        mails.add(("trial ending", ends))
    asked = ending.asked | {call.action for call in mandate.calls}
    # Nothing is decided by the number of the version, so outcomes that differ in it alone are one.
    return Ending(replace(record, version=1), tuple(mandate.budgets()), asked, frozenset(mails))


def _opened() -> Ending:
    mandate = Mandate()
    mandate.start()
    # Nobody gives up this checkout, however late it is heard of.
    opened = replace(mandate.records[FIRST], settle_at=None)
    return Ending(opened, (), frozenset(), frozenset())


def ending_in_order(told: Sequence[StripeObserved]) -> Ending:
    """Each told when it happened, once."""
    ending, mandate = _opened(), Mandate(grace=GRACE)
    for observed in told:
        ending = _told(ending, mandate, None, observed.observed_at)
        ending = _told(ending, mandate, observed, observed.observed_at)
    return ending


class Outcomes:
    """Every ending of a life, whatever the order, the repeats and the delays in which it is told.

    Observations happen one after the other, and each is told at the time of its own happening or of a later one, once
    or again. What was told so far, and the endings that this can have had, are all that the next one depends on; so
    each set of observations is looked at once for each time, and not each of its orders by itself.
    """

    def __init__(self, told: Sequence[StripeObserved]) -> None:
        self._told = told
        # What is known of Stripe when these were told, which does not depend on their order either.
        self._known: dict[frozenset[int], Mandate] = {}

    def endings(self) -> set[Ending]:
        """All of them, after everything was told."""
        reached: dict[frozenset[int], set[Ending]] = {frozenset(): {_opened()}}
        for happened, latest in enumerate(self._told, start=1):
            now = latest.observed_at
            reached = {
                known: {self._step(ending, known, None, now) for ending in endings}
                for known, endings in reached.items()
            }
            # From the smaller sets to the larger ones, so that each is complete when it is left.
            for size in range(happened + 1):
                for known in [each for each in reached if len(each) == size]:
                    self._tell(reached, known, happened, now)
        return reached[frozenset(range(len(self._told)))]

    def _tell(
        self, reached: dict[frozenset[int], set[Ending]], known: frozenset[int], happened: int, now: datetime
    ) -> None:
        left = list(reached[known])
        while left:
            ending = left.pop()
            for number in range(happened):
                after = self._step(ending, known, number, now)
                found = reached.setdefault(known | {number}, set())
                if number in known and after not in found:
                    left.append(after)
                found.add(after)

    def _step(self, ending: Ending, known: frozenset[int], number: int | None, now: datetime) -> Ending:
        if known not in self._known:
            self._known[known] = Mandate(grace=GRACE)
            for each in sorted(known):
                self._known[known].learn(self._told[each])
        of_known = self._known[known]
        mandate = Mandate(
            grace=GRACE, facts=dict(of_known.facts), paid={key: list(paid) for key, paid in of_known.paid.items()}
        )
        return _told(ending, mandate, None if number is None else self._told[number], now)
