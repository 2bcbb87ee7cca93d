"""The ledger in a few lines of `decimal`: what the service must agree with, to the last digit."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Decimal
from uuid import UUID

from services.billing.ledger.domain import BillingModel

__all__ = ["MARKUP", "MICRO", "MODELS", "RATES", "TOKEN_PRICE", "USERS", "ModelLedger", "Used"]

USERS = ("user-0", "user-1", "user-2")
MODELS: tuple[BillingModel, ...] = ("PREPAY_MANDATE", "PREPAY_USER", "CREDIT_POSTPAY", "UNLIMITED")
MARKUP = Decimal("33.3333")
RATES = {"CHF": Decimal(1), "USD": Decimal("0.8123456")}
OPENING_CREDIT = Decimal(10)
# Whole micro-francs with the markup, so that the order in which parked events are charged cannot matter.
TOKEN_PRICE = Decimal(3)
MICRO = Decimal("0.000001")


@dataclass(frozen=True)
class Used:
    """What an event says: an amount in a currency, or tokens of a model that has no price at first."""

    mandate: int
    user: str
    amount: Decimal | None
    currency: str = "CHF"
    model: str = "known"
    tokens: int = 0


@dataclass
class ModelLedger:
    """The ledger in a few lines: one mandate of each billing model, accounts by (mandate, user or pool or internal)."""

    models: list[BillingModel] = field(default_factory=lambda: ["PREPAY_MANDATE"] * len(MODELS))
    balances: defaultdict[tuple[int, str], Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    remainders: defaultdict[tuple[int, str], Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    costs: defaultdict[tuple[int, str], Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    events: dict[UUID, Used] = field(default_factory=dict)
    parked: set[UUID] = field(default_factory=set)
    free: set[UUID] = field(default_factory=set)
    priced: set[str] = field(default_factory=set)
    opened: set[int] = field(default_factory=set)
    # What each charge came to and the account that paid it; usage that was cancelled, and of that what was taken back,
    # and what had no price and never gets one.
    posted: dict[UUID, tuple[Decimal, tuple[int, str]]] = field(default_factory=dict)
    cancelled: dict[tuple[int, UUID], str] = field(default_factory=dict)
    reversed: set[UUID] = field(default_factory=set)
    never_priced: set[UUID] = field(default_factory=set)
    conflicts: int = 0

    def deliver(self, event_id: UUID, used: Used) -> None:
        known = self.events.get(event_id)
        if known is None:
            self.events[event_id] = used
            self._charge(event_id, used)
            if (used.mandate, event_id) in self.cancelled:
                self._take_back([event_id])
        elif known != used:
            self.conflicts += 1

    def _charge(self, event_id: UUID, used: Used) -> None:
        if used.amount is None and used.model not in self.priced:
            self.parked.add(event_id)
            return
        cost = used.tokens * TOKEN_PRICE if used.amount is None else used.amount
        exact = cost * RATES[used.currency] * (100 + MARKUP) / 100
        if not exact:
            self.free.add(event_id)
            return
        account = self._paying(used)
        total = exact + self.remainders[account]
        posted = total.quantize(MICRO, ROUND_HALF_EVEN)
        self.remainders[account] = total - posted
        self.balances[account] -= posted
        self.costs[used.mandate, used.user] += posted
        self.posted[event_id] = posted, account

    def _paying(self, used: Used) -> tuple[int, str]:
        own = {"PREPAY_USER": used.user, "UNLIMITED": "internal"}
        return used.mandate, own.get(self.models[used.mandate], "pool")

    def cancel(self, cancelled: Iterable[tuple[int, UUID, str]]) -> None:
        """Cancellations that come at once, after all usage that comes with them; only the first of an event counts."""
        fresh = []
        for mandate, event_id, reason in cancelled:
            if (mandate, event_id) not in self.cancelled:
                self.cancelled[mandate, event_id] = reason
                used = self.events.get(event_id)
                if used is not None and used.mandate == mandate:
                    fresh.append(event_id)
        self._take_back(fresh)

    def _take_back(self, event_ids: Iterable[UUID]) -> None:
        """Each whole amount goes to the account that paid, remainders stay as they are. What is on an account that the
        billing model does not use any more goes where a switch would have moved it, in one sum for the mandate."""
        shared: defaultdict[int, Decimal] = defaultdict(Decimal)
        for event_id in event_ids:
            used = self.events[event_id]
            if event_id in self.parked:
                self.parked.remove(event_id)
                self.never_priced.add(event_id)
            if event_id not in self.posted:
                continue
            amount, account = self.posted[event_id]
            self.reversed.add(event_id)
            self.costs[used.mandate, used.user] -= amount
            own_model = self.models[used.mandate] == "PREPAY_USER"
            if account[1] == "pool" and own_model:
                shared[used.mandate] += amount
            elif account[1] in USERS and not own_model:
                self.balances[used.mandate, "pool"] += amount
            else:
                self.balances[account] += amount
        for mandate, amount in shared.items():
            self._share(mandate, amount)

    def add_price(self, model: str) -> None:
        self.priced.add(model)
        for event_id in [entry for entry in self.parked if self.events[entry].model == model]:
            self.parked.remove(event_id)
            self._charge(event_id, self.events[event_id])

    def credit(self, mandate: int, user: str, amount: Decimal) -> None:
        self.balances[mandate, user if self.models[mandate] == "PREPAY_USER" else "pool"] += amount

    def switch(self, mandate: int, model: BillingModel) -> None:
        old, self.models[mandate] = self.models[mandate], model
        if model == "PREPAY_USER":
            pool = self.balances[mandate, "pool"]
            self.balances[mandate, "pool"] = Decimal(0)
            self._share(mandate, pool)
            for user in USERS:
                if mandate not in self.opened:
                    self.balances[mandate, user] += OPENING_CREDIT
            self.opened.add(mandate)
        elif old == "PREPAY_USER":
            for user in USERS:
                self._move(mandate, user, "pool", self.balances[mandate, user])

    def _share(self, mandate: int, amount: Decimal) -> None:
        """Gives the members equal parts, the first of them what is left over."""
        micros, sign = int(abs(amount) / MICRO), 1 if amount >= 0 else -1
        for number, user in enumerate(USERS):
            part = micros // len(USERS) + (number < micros % len(USERS))
            self.balances[mandate, user] += sign * part * MICRO

    def _move(self, mandate: int, source: str, target: str, amount: Decimal) -> None:
        self.balances[mandate, source] -= amount
        self.balances[mandate, target] += amount
