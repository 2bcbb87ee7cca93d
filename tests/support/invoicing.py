"""A mandate in CREDIT_POSTPAY that is used, corrected and invoiced by a clock of the test, without Kafka."""

from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import orjson

from rappen_contracts.billing.v1 import InvoiceIssued
from services.billing.charging.cancellation_event import CancellationEvent
from services.billing.corrections.reverse_charge import reverse_charge
from services.billing.credits.give_credit import give_credit
from services.billing.credits.payment_events import CreditPayments, RefundPayments
from services.billing.credits.post_manual_credit import ManualCredit
from services.billing.invoices.close_month import close_month
from services.billing.invoices.postpay_spans import PostpaySpans
from services.billing.invoices.queries import InvoiceScope, list_invoices, show_invoice
from services.billing.ledger.domain import BillingModel, transaction_id
from services.billing.mandates.apply_directory import ApplyDirectory
from services.billing.mandates.change_settings import change_settings
from services.billing.mandates.switch_model import switch_model
from services.billing.settings import InvoiceSettings, Seller
from services.chassis.consumer import Received
from services.chassis.database import Database
from services.chassis.faults import FaultPoints
from tests.support.callers import system_admin
from tests.support.charging import charging, received
from tests.support.databases import on_driver
from tests.support.directory import directory_events
from tests.support.events import new_mandate, usage_record, uuid7
from tests.support.facts import paid, refunded

__all__ = ["ADDRESS", "INVOICES", "SELLER", "SPANS", "Postpaid"]

SELLER = Seller(
    name="Muster Plattform AG",
    street="Limmatquai 12",
    zip="8001",
    city="Zürich",
    vat_number="CHE-123.456.788 MWST",
    iban="CH9300762011623852957",
)
INVOICES = InvoiceSettings(seller=SELLER)
SPANS = PostpaySpans(INVOICES)
ADDRESS = {
    "company": "Acme AG",
    "street": "Bahnhofstrasse 1",
    "zip": "8001",
    "city": "Zürich",
    "country": "CH",
    "vatNumber": "CHE-987.654.321 MWST",
}


@dataclass
class Postpaid:
    """A mandate with two members, in CREDIT_POSTPAY from `now` on, which only the test moves."""

    database: Database
    now: datetime
    settings: InvoiceSettings = INVOICES
    id: str = field(default_factory=new_mandate)

    def clock(self) -> datetime:
        """The time of the test."""
        return self.now

    async def begin(self, *, model: BillingModel = "CREDIT_POSTPAY", **settings: Any) -> "Postpaid":
        """Tells billing of it, with an address and other settings, and switches it."""
        apply = ApplyDirectory(self.database, clock=self.clock)
        await apply(directory_events(self.id, {"admin-1": ["admin"], "user-1": ["member"]}), [])
        await self.set(**{"billingAddress": ADDRESS, "markupPercent": Decimal(0), **settings})
        if model != "PREPAY_MANDATE":
            await self.switch(model)
        return self

    async def set(self, **values: Any) -> None:
        """Changes settings."""
        most = Decimal(100_000)
        await change_settings(self.database, self.id, values, caller=system_admin(), amount_max=most, clock=self.clock)

    async def no(self) -> int:
        """Its number."""
        async with on_driver(self.database) as connection:
            return int(await connection.fetchval("SELECT no FROM mandates WHERE id = $1", self.id))

    async def switch(self, model: BillingModel) -> None:
        """Switches the billing model."""
        spans = PostpaySpans(self.settings)
        async with self.database.transaction() as connection:
            await switch_model(connection, await self.no(), model, spans=spans, caller=system_admin(), now=self.now)

    async def use(
        self, price: str | Decimal, *, at: datetime | None = None, event_id: UUID | None = None, **data: Any
    ) -> UUID:
        """Usage that costs so many CHF; gives the id of its event."""
        identity = event_id or uuid7()
        record = usage_record(self.id, event_id=identity, amount=str(price), at=at or self.now, **data)
        await self.charge(*received([record], now=self.now))
        return identity

    async def charge(self, *events: Any) -> None:
        """Charges events as one batch."""
        batch: list[Any | CancellationEvent] = list(events)
        await charging(self.database, clock=self.clock)(batch, [])

    async def reverse(self, event_id: UUID) -> None:
        """Takes a charge back."""
        async with on_driver(self.database) as connection:
            row = await connection.fetchrow(
                "SELECT posted_account_no, seq FROM transactions WHERE event_id = $1 AND NOT own", event_id
            )
        named = str(transaction_id(row["posted_account_no"], row["seq"]))
        await reverse_charge(self.database, named, "for tests", caller=system_admin(), clock=self.clock)

    async def close(self, year: int, month: int, *, faults: FaultPoints | None = None) -> bool:
        """Closes a month, as the job does."""
        return await close_month(
            self.database,
            await self.no(),
            date(year, month, 1),
            settings=self.settings,
            clock=self.clock,
            faults=faults or FaultPoints(None),
        )

    async def deduct(self, amount: str | Decimal) -> None:
        """Takes so many CHF from the pool by hand; gives them where they are below zero."""
        credit = ManualCredit(None, -Decimal(amount), "By hand", None)
        most, caller = Decimal(100_000), system_admin()
        await give_credit(self.database, self.id, credit, amount_max=most, caller=caller, clock=self.clock)

    async def pay(self, invoice: str, amount: str, **more: Any) -> list[str]:
        """Tells of a payment of an invoice; gives the codes of what was refused."""
        more = {"stripe_payment_intent_id": f"pi_{uuid4().hex}", **more}
        event: Received = paid(self.id, amount, reason="invoice", reference=invoice, **more)  # type: ignore[arg-type]
        return [each.code for each in await CreditPayments(self.database, clock=self.clock)([event], [])]

    async def refund(self, invoice: str, amount: str) -> None:
        """Tells of a refund of a payment of an invoice."""
        event = refunded(self.id, amount, reason="invoice", reference=invoice)
        await RefundPayments(self.database, clock=self.clock)([event], [])

    async def invoices(self) -> list[dict[str, Any]]:
        """Its invoices with their lines, the oldest first, as they are answered."""
        scope = InvoiceScope.of(system_admin(), self.id)
        page = await list_invoices(self.database, scope, cursor=None, limit=1000)
        return [await show_invoice(self.database, scope, UUID(each["id"])) for each in reversed(page["items"])]

    async def issued(self) -> list[InvoiceIssued]:
        """The events of its invoices."""
        async with on_driver(self.database) as connection:
            rows = await connection.fetch(
                "SELECT data FROM outbox WHERE topic = 'invoice.issued' AND key = $1 ORDER BY id", self.id
            )
        return [InvoiceIssued.model_validate_json(orjson.dumps(orjson.loads(row["data"]))) for row in rows]

    def later(self, **by: float) -> None:
        """Moves the clock."""
        self.now += timedelta(**by)
