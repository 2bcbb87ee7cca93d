"""Grants in a few lines: what remains of each, and of paid credit, when money is given for a time, spent, taken back,
priced anew and moved. It keeps them as the documentation says it, with nothing of the product's code.

Amounts are micro-CHF, exact prices fractions of a franc.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from fractions import Fraction
from uuid import UUID
from zoneinfo import ZoneInfo

from services.billing.ledger.domain import BillingModel

__all__ = ["MARKUP", "USERS", "ZONE", "Budget", "Charge", "Grant", "GrantsModel", "Purse", "Used"]

USERS = ("user-0", "user-1", "user-2")
MARKUP = Fraction("33.3333")
ZONE = ZoneInfo("Europe/Zurich")
OPENING_CREDIT = 10_000_000
MICRO = 10**6
# A mandate's number, and a member or `pool` or `internal`.
Place = tuple[int, str]


@dataclass(frozen=True)
class Used:
    """What a usage event says: a cost, or tokens of a model, whose price may change; and when it happened."""

    mandate: int
    user: str
    at: datetime
    cost: Fraction | None
    model: str = "none"
    tokens: int = 0


@dataclass(frozen=True)
class Budget:
    """Something given: to whom, how much, and until when; `terms` tells gifts with the same end apart."""

    mandate: int
    amount: int
    expires_at: datetime | None
    terms: str


@dataclass(eq=False)
class Grant:
    """A part of a balance; `no` is the order in which they were made."""

    no: int
    amount: int
    left: int
    expires_at: datetime | None
    terms: str

    @property
    def order(self) -> tuple[bool, float, int]:
        """Which is spent first: the one that expires soonest, then those that never do."""
        at = self.expires_at
        return at is None, at.timestamp() if at else 0.0, self.no


@dataclass
class Purse:
    """Paid credit, which may be a debt, and grants."""

    paid: int = 0
    grants: list[Grant] = field(default_factory=list)
    remainder: Fraction = Fraction(0)

    @property
    def balance(self) -> int:
        """All of it."""
        return self.paid + sum(grant.left for grant in self.grants)

    def in_order(self) -> list[Grant]:
        """Its grants of which something is left, in the order in which they are spent."""
        return sorted((grant for grant in self.grants if grant.left), key=lambda grant: grant.order)

    def put(self, by: int, given: dict[Grant, int], *, now: datetime, spends: bool) -> dict[Grant, int]:
        """Moves the balance by so much, of which so much is part of grants; gives what was spent of which grants. What
        is over is neither spent nor covers a debt, it is about to expire."""
        before = {grant: grant.left for grant in self.grants}
        for grant, part in given.items():
            grant.left += part
        self.paid += by - sum(given.values())
        self._take(-by if spends else 0, now)
        self._take(-self.paid, now)
        return {grant: was - grant.left for grant, was in before.items() if was != grant.left}

    def _take(self, amount: int, now: datetime) -> None:
        """Pays for what is paid from grants, as far as there are any."""
        for grant in self.in_order():
            over = grant.expires_at is not None and grant.expires_at <= now
            part = 0 if over else max(0, min(amount, grant.left))
            grant.left -= part
            self.paid += part
            amount -= part


@dataclass
class Charge:
    """What usage was charged: to whom, on which day, at which exact price it stands, what was paid for it in all, and
    which part of that from which grants."""

    used: Used
    place: Place
    day: date
    standing: Fraction
    amount: int
    spent: dict[Grant, int]
    reversed: bool = False

    def given_back(self, amount: int) -> dict[Grant, int]:
        """What of an amount that is given back belongs to its grants: what was spent last comes back first, and that is
        paid credit. Never more than the amount."""
        left = amount - max(0, self.amount - sum(self.spent.values()))
        parts = {}
        for grant in sorted(self.spent, key=lambda grant: grant.order, reverse=True):
            part = min(left, self.spent[grant])
            if part > 0:
                parts[grant] = part
                left -= part
        return parts

    def count(self, amount: int, spent: dict[Grant, int]) -> None:
        """A correction that cost so much more, of which so much was spent of grants."""
        self.amount += amount
        for grant, part in spent.items():
            self.spent[grant] = self.spent.get(grant, 0) + part


@dataclass
class _Returned:
    paid: int = 0
    parts: dict[Grant, int] = field(default_factory=dict)

    def add(self, amount: int, parts: dict[Grant, int]) -> None:
        self.paid += amount - sum(parts.values())
        for grant, part in parts.items():
            self.parts[grant] = self.parts.get(grant, 0) + part


class GrantsModel:
    """Mandates with their purses at a time, `now`."""

    def __init__(self, mandates: int, now: datetime) -> None:
        self.now = now
        self.models: list[BillingModel] = ["PREPAY_MANDATE"] * mandates
        self.late: list[str] = ["own"] * mandates
        self.purses: defaultdict[Place, Purse] = defaultdict(Purse)
        self.owner: dict[Grant, Place] = {}
        self.prices: dict[str, Fraction] = {}
        self.events: dict[UUID, Used] = {}
        self.charges: dict[UUID, Charge] = {}
        self.cancelled: dict[UUID, str] = {}
        # By mandate, member and day: cost and count.
        self.rollups: defaultdict[tuple[int, str, date], list[int]] = defaultdict(lambda: [0, 0])
        self.seen: Counter[str] = Counter()
        self._opened: set[int] = set()

    def give(self, budget: Budget) -> None:
        """A budget or a promotion: to the pool, or to the members in equal parts."""
        own = self.models[budget.mandate] == "PREPAY_USER"
        places = [(budget.mandate, name) for name in (USERS if own else ("pool",))]
        parts = [(place, part) for place, part in zip(places, _shared(budget.amount, len(places)), strict=True) if part]
        with self._writing(place for place, _ in parts):
            for place, part in parts:
                debt = self.purses[place].paid < 0
                grant = self._made(place, part, budget.expires_at, budget.terms)
                self.purses[place].put(part, {grant: part}, now=self.now, spends=False)
                self.seen["debt covered"] += debt

    def credit(self, mandate: int, user: str, amount: int) -> None:
        """A manual credit or deduction."""
        place = mandate, user if self.models[mandate] == "PREPAY_USER" else "pool"
        with self._writing([place]):
            spent = self.purses[place].put(amount, {}, now=self.now, spends=amount < 0)
            self.seen["grant deducted"] += bool(spent)

    def charge(self, used: Iterable[tuple[UUID, Used]]) -> None:
        """A batch of usage; what was cancelled before it came is taken back at once."""
        fresh = {}
        for event_id, each in used:
            if event_id not in self.events:
                self.events[event_id] = fresh[event_id] = each
        priced = {id_: (each, self._price(each)) for id_, each in fresh.items()}
        priced = {id_: each for id_, each in priced.items() if each[1]}
        with self._writing(self._paying(each) for each, _ in priced.values()):
            for event_id, (each, price) in priced.items():
                place = self._paying(each)
                amount = self._round(place, price)
                spent = self.purses[place].put(-amount, {}, now=self.now, spends=True)
                charge = Charge(each, place, self._day(each), price, amount, spent)
                self.charges[event_id] = charge
                self._count(charge, amount, 1)
                self.seen["spent of a grant"] += bool(spent)
                self.seen["spent of two grants"] += len(spent) > 1
        self._take_back([id_ for id_ in fresh if id_ in self.cancelled])

    def cancel(self, asked: Iterable[tuple[UUID, str]]) -> None:
        """Cancellations that come at once; only the first of an event counts."""
        fresh = []
        for event_id, reason in asked:
            if event_id not in self.cancelled:
                self.cancelled[event_id] = reason
                fresh.append(event_id)
        self._take_back(fresh)

    def _take_back(self, event_ids: Iterable[UUID]) -> None:
        charges = [self.charges[id_] for id_ in event_ids if id_ in self.charges]
        for charge in charges:
            charge.reversed = True
            self._count(charge, -charge.amount, -1)
        self._give_back([(charge, charge.amount) for charge in charges])

    def rerate(self, model: str | None, begin: datetime, end: datetime) -> int:
        """Brings the charges of a model, or of both, to what they would cost now; gives how many changed."""
        count = 0
        for mandate in range(len(self.models)):
            due = []
            for event_id, charge in sorted(self.charges.items(), key=lambda each: (each[1].used.at, each[0])):
                used = charge.used
                wanted = used.mandate == mandate and model in (None, used.model) and begin <= used.at < end
                if wanted and not charge.reversed and self._price(used) != charge.standing:
                    due.append((event_id, charge))
            returned = []
            with self._writing(charge.place for _, charge in due):
                for _, charge in due:
                    by = self._price(charge.used) - charge.standing
                    charge.standing += by
                    amount = self._round(charge.place, by)
                    self._count(charge, amount, 0)
                    parts = charge.given_back(-amount) if by < 0 else {}
                    if self._is_used(charge.place):
                        spent = self.purses[charge.place].put(-amount, parts, now=self.now, spends=amount > 0)
                        self.seen["correction of a grant"] += bool(spent)
                        covered = any(spent.get(grant, 0) != -part for grant, part in parts.items())
                        self.seen["correction that covered a debt"] += covered
                        # What came back to a grant stays given back, whatever it covered.
                        spent = {grant: -part for grant, part in parts.items()} if by < 0 else spent
                    else:
                        returned.append((charge, -amount, parts))
                        spent = {grant: -part for grant, part in parts.items()}
                        self.seen["correction passed on"] += 1
                        self.seen["correction of a grant passed on"] += bool(parts)
                    charge.count(amount, spent)
                self._pass_on(returned)
            count += len(due)
        return count

    def _give_back(self, charges: Sequence[tuple[Charge, int]]) -> None:
        returned = []
        with self._writing(charge.place for charge, _ in charges):
            for charge, amount in charges:
                parts = charge.given_back(amount)
                over = any(grant.expires_at and grant.expires_at <= self.now for grant in parts)
                self.seen["given back to a grant"] += bool(parts)
                self.seen["given back to an expired grant"] += over
                if self._is_used(charge.place):
                    self.purses[charge.place].put(amount, parts, now=self.now, spends=amount < 0)
                else:
                    returned.append((charge, amount, parts))
                    self.seen["grant passed on"] += bool(parts)
            self._pass_on(returned)

    def _pass_on(self, returned: Sequence[tuple[Charge, int, dict[Grant, int]]]) -> None:
        """Money for accounts that the billing model does not use goes where a switch would have moved it, and nothing
        is spent or covered on the way. What is taken is taken first, and spends what there is at its target."""
        for mandate in {charge.place[0] for charge, _, _ in returned}:
            sums: dict[tuple[Place, bool], _Returned] = defaultdict(_Returned)
            for charge, amount, parts in sorted(returned, key=lambda each: each[1] > 0):
                if charge.place[0] == mandate and amount:
                    sums[charge.place, amount > 0].add(amount, parts)
            self._move(
                [(leg, each.paid, each.parts) for (place, _), each in sums.items() for leg in [self._targets(place)]],
            )

    def _targets(self, source: Place) -> list[Place]:
        return [(source[0], user) for user in USERS] if source[1] == "pool" else [(source[0], "pool")]

    def _move(self, moves: Iterable[tuple[list[Place], int, dict[Grant, int]]]) -> None:
        """Money for targets in equal parts, each grant on its own; those of the same terms become one there."""
        legs: list[tuple[Place, int, list[tuple[Grant, int]]]] = []
        for targets, paid, parts in moves:
            shares = {grant: _shared(part, len(targets)) for grant, part in parts.items()}
            for number, place in enumerate(targets):
                own = [(grant, share[number]) for grant, share in shares.items() if share[number]]
                legs.append((place, _shared(paid, len(targets))[number] + sum(part for _, part in own), own))
        made: dict[tuple[Place, datetime | None, str], Grant] = {}
        given: list[dict[Grant, int]] = []
        for place, _, own in legs:
            given.append({})
            for grant, part in own:
                terms = place, grant.expires_at, grant.terms
                if terms not in made:
                    made[terms] = self._made(place, 0, grant.expires_at, grant.terms)
                made[terms].amount += part
                given[-1][made[terms]] = given[-1].get(made[terms], 0) + part
        with self._writing([place for place, amount, own in legs if amount or own]):
            for (place, amount, own), parts in zip(legs, given, strict=True):
                if amount or own:
                    self.purses[place].put(amount, parts, now=self.now, spends=amount < 0 and not parts)

    def switch(self, mandate: int, model: BillingModel) -> None:
        """Another billing model: what has expired goes, the rest moves to where it is looked for."""
        old, self.models[mandate] = self.models[mandate], model
        own = [(mandate, name) for name in ("pool", *USERS)]
        self.expire(own)
        moves = []
        if model == "PREPAY_USER" or old == "PREPAY_USER":
            for source in own[:1] if model == "PREPAY_USER" else own[1:]:
                purse = self.purses[source]
                moves.append((self._targets(source), purse.paid, {each: each.left for each in purse.in_order()}))
                purse.paid = 0
                self.seen["grants switched"] += bool(purse.in_order())
                for grant in purse.grants:
                    grant.left = 0
        self._move(moves)
        if model == "PREPAY_USER" and mandate not in self._opened:
            self._opened.add(mandate)
            for user in USERS:
                self.purses[mandate, user].put(OPENING_CREDIT, {}, now=self.now, spends=False)

    def expire(self, places: Iterable[Place] | None = None) -> int:
        """Takes what is over; gives how much that was."""
        gone = 0
        for place in self.purses.keys() if places is None else set(places):
            for grant in self.purses[place].in_order():
                if grant.expires_at is not None and grant.expires_at <= self.now:
                    gone += grant.left
                    grant.left = 0
        return gone

    def due(self, place: Place) -> int:
        """What is over and was not taken yet."""
        over = [each for each in self.purses[place].in_order() if each.expires_at and each.expires_at <= self.now]
        return sum(grant.left for grant in over)

    @contextmanager
    def _writing(self, places: Iterable[Place]) -> Iterator[None]:
        """A movement of accounts: before it, what is over goes, and after it what it gave back to that."""
        touched = list(places)
        self.seen["expired by a movement"] += self.expire(touched) > 0
        yield
        self.expire(touched)

    def _made(self, place: Place, amount: int, expires_at: datetime | None, terms: str) -> Grant:
        grant = Grant(len(self.owner), amount, 0, expires_at, terms)
        self.owner[grant] = place
        self.purses[place].grants.append(grant)
        return grant

    def _price(self, used: Used) -> Fraction:
        cost = used.tokens * self.prices[used.model] if used.cost is None else used.cost
        return cost * (100 + MARKUP) / 100

    def _round(self, place: Place, price: Fraction) -> int:
        purse = self.purses[place]
        total = price + purse.remainder
        amount = round(total * MICRO)
        purse.remainder = total - Fraction(amount, MICRO)
        return amount

    def _day(self, used: Used) -> date:
        """The day on which usage counts: that of its time, or today where its month was over and the mandate wants it
        so."""
        day, today = used.at.astimezone(ZONE).date(), self.now.astimezone(ZONE).date()
        if self.late[used.mandate] == "next" and (day.year, day.month) < (today.year, today.month):
            self.seen["counted in the open month"] += 1
            return today
        return day

    def _count(self, charge: Charge, cost: int, count: int) -> None:
        sums = self.rollups[charge.used.mandate, charge.used.user, charge.day]
        sums[0] += cost
        sums[1] += count

    def _paying(self, used: Used) -> Place:
        own = {"PREPAY_USER": used.user, "UNLIMITED": "internal"}
        return used.mandate, own.get(self.models[used.mandate], "pool")

    def _is_used(self, place: Place) -> bool:
        return place[1] == "internal" or (place[1] in USERS) == (self.models[place[0]] == "PREPAY_USER")


def _shared(total: int, count: int) -> list[int]:
    """Equal parts, the first ones a millionth more."""
    sign = 1 if total >= 0 else -1
    return [sign * ((abs(total) + count - 1 - number) // count) for number in range(count)]
