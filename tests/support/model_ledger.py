"""The ledger in a few lines of `decimal`: what the service must agree with, to the last digit."""

from collections import defaultdict
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
    # What each charge came to, and those that were taken back.
    posted: dict[UUID, Decimal] = field(default_factory=dict)
    reversed: set[UUID] = field(default_factory=set)
    conflicts: int = 0

    def deliver(self, event_id: UUID, used: Used) -> None:
        known = self.events.get(event_id)
        if known is None:
            self.events[event_id] = used
            self._charge(event_id, used)
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
        self.posted[event_id] = posted

    def _paying(self, used: Used) -> tuple[int, str]:
        own = {"PREPAY_USER": used.user, "UNLIMITED": "internal"}
        return used.mandate, own.get(self.models[used.mandate], "pool")

    def reverse(self, event_id: UUID) -> None:
        """The whole amount goes to the account that pays by now; remainders stay as they are."""
        used = self.events[event_id]
        self.balances[self._paying(used)] += self.posted[event_id]
        self.costs[used.mandate, used.user] -= self.posted[event_id]
        self.reversed.add(event_id)

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
            micros = int(abs(self.balances[mandate, "pool"]) / MICRO)
            sign = 1 if self.balances[mandate, "pool"] >= 0 else -1
            for number, user in enumerate(USERS):
                part = micros // len(USERS) + (number < micros % len(USERS))
                self._move(mandate, "pool", user, sign * part * MICRO)
                if mandate not in self.opened:
                    self.balances[mandate, user] += OPENING_CREDIT
            self.opened.add(mandate)
        elif old == "PREPAY_USER":
            for user in USERS:
                self._move(mandate, user, "pool", self.balances[mandate, user])

    def _move(self, mandate: int, source: str, target: str, amount: Decimal) -> None:
        self.balances[mandate, source] -= amount
        self.balances[mandate, target] += amount
