"""Limits of one mandate, checked, held and used up at a time of the test's own."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from rappen_contracts.types import NonNegativeMoney
from services.billing.charging.cancellation_event import CancellationEvent
from services.billing.charging.usage_events import Usage
from services.billing.checks.authorize_holds import AuthorizeHolds, HoldRequest
from services.billing.checks.check_funds import CheckFunds, Question
from services.billing.checks.errors import HoldRefused
from services.billing.checks.limits import LimitKind, LimitPeriod
from services.billing.checks.set_limits import GivenLimit, set_limits
from services.billing.checks.together import Together
from services.billing.pricing.repository import Tariffs
from services.billing.settings import BillingSettings
from services.chassis.database import Database
from services.chassis.faults import FaultPoints
from tests.support.callers import admin_of
from tests.support.charging import charging, received
from tests.support.events import RawRecord, usage_record

__all__ = ["Limiting"]


class Limiting:
    """Limits of one mandate; `now` is the time for all that is asked and done. Amounts are final CHF."""

    def __init__(self, database: Database, mandate: str, now: datetime) -> None:
        self.database = database
        self.mandate = mandate
        self.now = now
        tariffs = Tariffs()
        self._check = CheckFunds(database, tariffs, BillingSettings.model_construct(), self._clock)
        self._authorize = AuthorizeHolds(
            database, Together(), self._check, tariffs, clock=self._clock, faults=FaultPoints(None)
        )

    def _clock(self) -> datetime:
        return self.now

    async def set(self, *limits: tuple[LimitKind, str, LimitPeriod, str]) -> None:
        """Replaces the limits."""
        given = [
            GivenLimit(kind, key, period, NonNegativeMoney(amount=Decimal(amount), currency="CHF"))
            for kind, key, period, amount in limits
        ]
        await set_limits(
            self.database,
            self.mandate,
            given,
            caller=admin_of(self.mandate),
            allow_long_answer=_no_longer,
            clock=self._clock,
        )

    async def spend(self, amount: str, user: str = "user-1", **data: Any) -> RawRecord:
        """Usage that is charged at its cost, now unless another time is given; the record."""
        record = usage_record(self.mandate, user, amount=amount, **{"at": self.now, **data})
        await self.take(record)
        return record

    async def take(self, *records: RawRecord) -> None:
        """Works records of usage and cancellations off as one batch, without markup."""
        batch: list[Usage | CancellationEvent] = received(records, now=self.now)
        await charging(self.database, clock=self._clock, default_markup=Decimal(0))(batch, [])

    async def check(self, amount: str, user: str = "user-1", **named: str) -> str | None:
        """The reason against so much more; None where it is allowed."""
        return (await self._check(self._question(amount, user, **named))).decision.reason

    async def hold(self, amount: str, user: str = "user-1", *, ttl_s: int = 300, **named: str) -> str | None:
        """The reason against a hold; None where it is made."""
        try:
            await self._authorize(HoldRequest(self._question(amount, user, **named), ttl_s, "service:tests", None, ""))
        except HoldRefused as refused:
            return refused.actual_code
        return None

    def _question(self, amount: str, user: str, *, provider: str | None = None, **named: str) -> Question:
        return Question(self.mandate, user, Decimal(amount), None, provider, **named)


async def _no_longer(_: object) -> None:
    """All is short in a test."""
