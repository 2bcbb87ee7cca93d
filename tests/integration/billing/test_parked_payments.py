"""Payments that wait for a rate are settled by themselves: each alone, beside parked usage, by the one job."""

from datetime import UTC, datetime
from decimal import Decimal
from uuid import uuid4

from services.billing import jobs
from services.billing.credits.payment_events import CreditPayments
from services.billing.credits.settle_payments import SettlePayments
from services.billing.pricing.import_prices import set_rate
from services.billing.settings import BillingSettings
from services.chassis.clock import system_clock
from services.chassis.faults import FaultPoints
from tests.integration.billing.conftest import BillingApi
from tests.support.charging import charge
from tests.support.events import usage_record
from tests.support.facts import paid
from tests.support.ledger import Books
from tests.support.parts import at_work
from tests.support.waiting import eventually


async def test_an_unreadable_parked_payment_is_set_aside_and_its_neighbours_are_credited(
    api: BillingApi, books: Books, mandate: str
) -> None:
    broken = uuid4()
    payments = [paid(mandate, 10, currency="ZMW"), paid(mandate, 20, currency="ZMW")]
    await CreditPayments(api.database, clock=system_clock)(
        [payments[0], paid(mandate, 500, event_id=broken, currency="ZMW"), payments[1]], []
    )
    assert await books.parked([mandate]) == 3
    await books.fetch("UPDATE unposted_events SET event = '{' WHERE event_id = $1", broken)
    await _rate(api, "ZMW")
    settle = SettlePayments(api.database, clock=system_clock)
    while await settle():
        pass
    rows = await books.fetch(
        "SELECT e.event_id, e.reason FROM unposted_events e JOIN mandates m ON m.no = e.mandate_no WHERE m.id = $1",
        mandate,
    )
    assert [(row["event_id"], row["reason"]) for row in rows] == [(broken, "UNREADABLE")]
    assert await books.pool(mandate) == 15_000_000
    assert await books.failing() == {}


async def test_the_job_settles_parked_usage_and_parked_payments(api: BillingApi, books: Books, mandate: str) -> None:
    await charge(api.database, *[usage_record(mandate, currency="UGX") for _ in range(3)])
    await CreditPayments(api.database, clock=system_clock)([paid(mandate, 10, currency="UGX")], [])
    assert await books.parked([mandate]) == 4
    await _rate(api, "UGX")
    settings, faults = BillingSettings.model_construct(), FaultPoints(None)
    built = jobs.build(settings, database=api.database, clock=system_clock, faults=faults)
    (job,) = [each for each in built if each.name == "settle parked"]

    async def nothing_waits() -> bool:
        return await books.parked([mandate]) == 0

    async with at_work(job):
        await books.wait_charged([mandate], 3, timeout_s=20)
        await eventually(nothing_waits, timeout_s=20, what="everything settled")
    credited = await books.value(
        "SELECT sum(amount)::bigint FROM transactions t JOIN mandates m ON m.no = t.mandate_no"
        " WHERE m.id = $1 AND t.reference_type = 'PAYMENT'",
        mandate,
    )
    assert credited == 5_000_000
    assert await books.failing() == {}


async def _rate(api: BillingApi, currency: str) -> None:
    async with api.database.transaction() as connection:
        await set_rate(
            connection,
            currency=currency,
            rate=Decimal("0.5"),
            valid_from=datetime(2026, 1, 1, tzinfo=UTC),
            actor="admin",
        )
