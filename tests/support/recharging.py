"""A mandate whose balances become low, and the recharges that follow, without Kafka and by a clock of the test."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import asyncpg

from services.billing.credits.payment_events import CreditPayments
from services.billing.credits.post_manual_credit import ManualCredit, post_manual_credit
from services.billing.ledger.domain import BillingModel
from services.billing.mandates.apply_directory import ApplyDirectory
from services.billing.mandates.change_settings import change_settings
from services.billing.mandates.switch_model import switch_model
from services.billing.recharges.fail_recharges import FailRecharges
from services.billing.recharges.request_recharges import RechargeLimits, RequestRecharges
from services.chassis.consumer import Received
from services.chassis.database import Database
from services.chassis.quarantine import Refused
from tests.support.callers import system_admin
from tests.support.charging import charging, received
from tests.support.databases import on_driver
from tests.support.directory import directory_events
from tests.support.events import new_mandate, usage_record
from tests.support.invoicing import SPANS

__all__ = ["MAX", "Recharged"]

MAX = Decimal(100_000)
_OF_MANDATE = "FROM outbox WHERE topic = $1 AND key = $2 ORDER BY id"


@dataclass
class Recharged:
    """A mandate, with members, in a prepaid model, at a time that only the test moves."""

    database: Database
    now: datetime
    id: str = ""
    timeout: timedelta = timedelta(days=1)
    retry_after: timedelta = timedelta(days=1)

    def clock(self) -> datetime:
        """The time of the test."""
        return self.now

    async def begin(self, *, members: Sequence[str] = ("user-1", "user-2"), **more: Any) -> None:
        """Tells billing of the mandate; more is of its directory."""
        self.id = self.id or new_mandate()
        await self.directory(members, **more)

    async def directory(self, members: Sequence[str] = ("user-1", "user-2"), **more: Any) -> None:
        """What the directory says of it by now."""
        apply = ApplyDirectory(self.database, clock=self.clock)
        await apply(directory_events(self.id, {member: ["member"] for member in members}, **more), [])

    async def set(self, **values: Any) -> None:
        """Changes settings."""
        await change_settings(self.database, self.id, values, caller=system_admin(), amount_max=MAX, clock=self.clock)

    async def recharging(self, *, amount: int = 10, most: int = 3) -> None:
        """Turns automatic recharges on."""
        await self.set(autoRechargeEnabled=True, rechargeAmountCHF=Decimal(amount), rechargeMaxPerMonth=most)

    async def switch(self, model: BillingModel) -> None:
        """Switches the billing model."""
        await self.set(billingAddress={"company": "x", "country": "CH"})
        async with self.database.transaction() as connection:
            await switch_model(connection, await self.no(), model, spans=SPANS, caller=system_admin(), now=self.now)

    async def credit(self, amount: int | Decimal, user: str | None = None) -> None:
        """A manual credit or deduction."""
        credit = ManualCredit(user, Decimal(amount), "for tests", None)
        async with self.database.transaction() as connection:
            await post_manual_credit(connection, await self.no(), credit, caller=system_admin(), now=self.now)

    async def use(self, *amounts: str, user: str = "user-1") -> None:
        """Usage in one batch, of so much in CHF with the markup of 50 percent on top."""
        records = [usage_record(self.id, user, amount=amount, at=self.now) for amount in amounts]
        await charging(self.database, clock=self.clock)(received(records, now=self.now), [])

    def job(self) -> RequestRecharges:
        """The job of a worker."""
        limits = RechargeLimits(MAX, timeout=self.timeout, retry_after=self.retry_after)
        return RequestRecharges(self.database, limits=limits, clock=self.clock)

    async def request(self) -> list[dict[str, Any]]:
        """Runs the job until it finds nothing, and gives the recharges that were requested by it."""
        before = len(await self.told("recharge.requested"))
        while await self.job()():
            pass
        return (await self.told("recharge.requested"))[before:]

    async def pay(self, *payments: Received) -> Sequence[Refused]:
        """Payments that succeeded."""
        return await CreditPayments(self.database, clock=self.clock)(payments, [])

    async def decline(self, *failures: Received) -> None:
        """Payments that failed."""
        await FailRecharges(self.database, clock=self.clock)(failures, [])

    async def told(self, topic: str) -> list[dict[str, Any]]:
        """The data of its events that wait for the relay, oldest first."""
        async with on_driver(self.database) as driver:
            return [json.loads(row["data"]) for row in await driver.fetch(f"SELECT data {_OF_MANDATE}", topic, self.id)]

    async def recharges(self) -> list[asyncpg.Record]:
        """Its recharges, oldest first."""
        async with on_driver(self.database) as driver:
            rows: list[asyncpg.Record] = await driver.fetch(
                "SELECT * FROM recharges WHERE mandate_no = $1 ORDER BY requested_at, account_no", await self.no()
            )
            return rows

    async def states(self) -> list[str]:
        """The states of its recharges, oldest first."""
        return [row["state"] for row in await self.recharges()]

    async def no(self) -> int:
        """Its number."""
        async with on_driver(self.database) as driver:
            number: int = await driver.fetchval("SELECT no FROM mandates WHERE id = $1", self.id)
            return number
