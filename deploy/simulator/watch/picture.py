"""What the live view shows, kept up to date by the observers."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from deploy.simulator.pay_page import PayPage
from deploy.simulator.tenants import TENANTS, Tenant

__all__ = ["POOL", "Account", "Audit", "Happening", "Notice", "Picture", "Standing", "Totals", "Worker"]

# The owner of a balance that all members of a tenant spend from.
POOL = "pool"

_NO_PAGE = PayPage("", "")

# The charges per second are those of this time back.
_RATE_OVER_S = 5.0
# How long a notice is shown.
_NOTICE_S = 60.0
_HAPPENINGS_KEPT = 50


@dataclass(frozen=True, slots=True)
class Account:
    """A balance as it is charged; `highest` is the most that the view has seen, `waits` why nothing may be spent."""

    tenant: str
    owner: str
    balance: Decimal
    highest: Decimal
    warning: bool
    waits: str | None


@dataclass(frozen=True, slots=True)
class Standing:
    """How a tenant stands: plan and state of its subscription in words, all it has in CHF, whether that is low, why its
    people have to wait, and how money last moved but for usage."""

    tenant: str
    plan: str
    state: str
    balance: Decimal
    warning: bool
    waits: str | None
    movement: str


@dataclass(frozen=True, slots=True)
class Happening:
    """What happened to a customer, or `failed` to happen."""

    at: datetime
    who: str
    text: str
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Worker:
    """How far behind a worker is; None when it does not answer."""

    name: str
    lag: int | None


@dataclass(frozen=True, slots=True)
class Totals:
    """Everything charged so far, refused records by code, and the events that wait for a price or rate."""

    charges: int
    amount: Decimal
    dead_letters: Mapping[str, int]
    unpriced: int


@dataclass(frozen=True, slots=True)
class Audit:
    """What `rappen audit` last found: its checks, the accounts they looked at, the differences."""

    at: datetime
    checks: int
    accounts: int
    differences: int


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that happened, and when by the monotonic clock."""

    at: float
    text: str


@dataclass
class Picture:
    """The state of the view."""

    gateway: str
    mail: str
    top_up: str
    pay_page: PayPage = _NO_PAGE
    totals: Totals | None = None
    accounts: list[Account] = field(default_factory=list)
    # Tenants beside those of the demo, of whom the scenario tells.
    cast: Sequence[Tenant] = ()
    standings: list[Standing] = field(default_factory=list)
    # The newest first.
    happenings: deque[Happening] = field(default_factory=lambda: deque(maxlen=_HAPPENINGS_KEPT))
    # By how many seconds the platform's time is ahead of the machine's.
    ahead_s: int = 0
    transactions: list[dict[str, Any]] = field(default_factory=list)
    workers: list[Worker] = field(default_factory=list)
    audit: Audit | None = None
    # By observer what keeps it from seeing anything now.
    troubles: dict[str, str] = field(default_factory=dict)
    notices: deque[Notice] = field(default_factory=lambda: deque(maxlen=3))
    _counts: deque[tuple[float, int]] = field(default_factory=deque)

    @property
    def tenants(self) -> tuple[Tenant, ...]:
        """Everybody who is shown."""
        return (*TENANTS, *self.cast)

    def tell(self, happening: Happening) -> None:
        """Take what has happened."""
        self.happenings.appendleft(happening)

    def count(self, totals: Totals, now: float) -> None:
        """Take the newest totals."""
        self.totals = totals
        self._counts.append((now, totals.charges))
        while len(self._counts) > 2 and self._counts[1][0] < now - _RATE_OVER_S:
            self._counts.popleft()

    def recent_notices(self, now: float) -> list[str]:
        """What happened lately."""
        return [notice.text for notice in self.notices if notice.at > now - _NOTICE_S]

    @property
    def charges_per_s(self) -> float:
        """How many charges the ledger got per second, lately."""
        if len(self._counts) < 2:
            return 0.0
        (first_at, first), (last_at, last) = self._counts[0], self._counts[-1]
        return (last - first) / max(last_at - first_at, 0.001)

    @property
    def lag(self) -> int | None:
        """The records that wait, over all workers that answer."""
        known = [worker.lag for worker in self.workers if worker.lag is not None]
        return sum(known) if known else None
