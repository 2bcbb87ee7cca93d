"""Amounts that an account cannot hold are refused alone, by their code, and hold nobody else up."""

from uuid import uuid4

from rappen_contracts.subscription.v1 import Plan
from services.billing.credits.apply_subscription import ApplySubscription
from services.billing.credits.payment_events import CreditPayments
from services.billing.credits.settle_payments import SettlePayments
from services.chassis.clock import system_clock
from tests.integration.billing.conftest import BillingApi
from tests.support.callers import system_admin
from tests.support.charging import charge, settling
from tests.support.events import new_mandate, usage_record
from tests.support.facts import money, paid, subscription
from tests.support.ledger import Books

COUNT_MAX = 2**53 - 1


async def test_an_amount_out_of_range_is_refused_and_its_neighbours_are_charged_in_the_same_batch(
    api: BillingApi, books: Books, mandate: str
) -> None:
    model = f"model-{uuid4()}"
    await api.price(model, "1000")
    huge = usage_record(mandate, cost=None, model=model, tokens={"input": COUNT_MAX})
    before, after = ([usage_record(mandate) for _ in range(5)] for _ in range(2))
    await charge(api.database, *before, huge, *after)
    assert await books.charged([mandate]) == 10
    assert await books.refused(mandate) == {"AMOUNT_TOO_LARGE": 1}
    assert await books.failing() == {}


async def test_an_account_whose_only_usage_was_refused_has_nothing_to_tell(api: BillingApi, books: Books) -> None:
    mandate, model = new_mandate(), f"model-{uuid4()}"
    await api.price(model, "1000")
    await charge(api.database, usage_record(mandate, cost=None, model=model, tokens={"input": COUNT_MAX}))
    assert await books.refused(mandate) == {"AMOUNT_TOO_LARGE": 1}
    marked = "SELECT count(*) FROM unpublished_balances u JOIN mandates m ON m.no = u.mandate_no WHERE m.id = $1"
    assert await books.value(marked, mandate) == 0


async def test_amounts_that_add_up_beyond_the_range_are_refused_from_there_on(
    api: BillingApi, books: Books, mandate: str
) -> None:
    # Almost a billion francs and the markup of a half: two thousand of them reach the end of the range.
    largest = [usage_record(mandate, amount="999999999") for _ in range(2003)]
    await charge(api.database, *largest, usage_record(mandate))
    # What is small enough still fits.
    assert await books.charged([mandate]) == 2001
    assert await books.refused(mandate) == {"AMOUNT_TOO_LARGE": 3}
    assert await books.failing() == {}


async def test_a_parked_event_whose_price_is_out_of_range_stays_parked_alone(
    api: BillingApi, books: Books, mandate: str
) -> None:
    model = f"model-{uuid4()}"
    usages = [usage_record(mandate, cost=None, model=model, tokens={"input": n}) for n in (1, COUNT_MAX, 2)]
    await charge(api.database, *usages)
    assert await books.parked([mandate]) == 3
    await api.price(model, "1000")
    settle = settling(api.database)
    while await settle():
        pass
    assert await books.charged([mandate]) == 2
    rows = await books.fetch(
        "SELECT e.reason FROM unposted_events e JOIN mandates m ON m.no = e.mandate_no WHERE m.id = $1", mandate
    )
    assert [row["reason"] for row in rows] == ["AMOUNT_TOO_LARGE"]
    assert await books.failing() == {}


async def test_a_payment_out_of_range_is_refused_alone(api: BillingApi, books: Books, mandate: str) -> None:
    await _rate(api, "BHD", "100000")
    beyond, good = paid(mandate, 999_999_999, currency="BHD"), paid(mandate, 10)
    await CreditPayments(api.database, clock=system_clock)([beyond, good], [])
    assert await books.refused(mandate) == {"AMOUNT_TOO_LARGE": 1}
    assert await books.pool(mandate) == 10_000_000
    assert await books.failing() == {}


async def test_a_parked_payment_out_of_range_stays_parked_alone(api: BillingApi, books: Books, mandate: str) -> None:
    payments = [paid(mandate, 999_999_999, currency="OMR"), paid(mandate, 10, currency="JOD")]
    await CreditPayments(api.database, clock=system_clock)(payments, [])
    assert await books.parked([mandate]) == 2
    await _rate(api, "OMR", "100000")
    await _rate(api, "JOD", "1")
    settle = SettlePayments(api.database, clock=system_clock)
    for _ in range(30):
        await settle()
    rows = await books.fetch(
        "SELECT e.reason FROM unposted_events e JOIN mandates m ON m.no = e.mandate_no WHERE m.id = $1", mandate
    )
    assert [row["reason"] for row in rows] == ["AMOUNT_TOO_LARGE"]
    assert await books.pool(mandate) == 10_000_000
    assert await books.failing() == {}


async def test_a_budget_out_of_range_is_refused_alone(api: BillingApi, books: Books, mandate: str) -> None:
    await _rate(api, "BHD", "100000")
    await CreditPayments(api.database, clock=system_clock)([paid(mandate, 29_999_999, currency="BHD")], [])
    pool = await books.pool(mandate)
    due = subscription(mandate, uuid4(), 1, "ACTIVE", budget_due=True, plan=_dear_plan())
    other = new_mandate()
    beside = subscription(other, uuid4(), 1, "ACTIVE", budget_due=True)
    await ApplySubscription(api.database, clock=system_clock)([due, beside], [])
    assert await books.refused(mandate) == {"AMOUNT_TOO_LARGE": 1}
    assert (await books.pool(mandate), await books.pool(other)) == (pool, 20_000_000)


def _dear_plan() -> Plan:
    return Plan(key="DEAR", budget=money(999_999_999))


async def _rate(api: BillingApi, currency: str, rate: str) -> None:
    body = {"currency": currency, "rate": rate, "validFrom": "2026-01-01T00:00:00Z"}
    answer = await api.call(system_admin(), "POST", "/api/billing/admin/rates", json=body)
    assert answer.status_code == 200, answer.text
