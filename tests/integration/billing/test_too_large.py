"""Amounts that an account cannot hold are refused alone, by their code, and hold nobody else up."""

import json
from decimal import Decimal
from uuid import uuid4

from services.billing.use_cases.settle_parked import SettleParked
from services.chassis.clock import system_clock
from tests.integration.billing.conftest import BillingApi
from tests.support.callers import system_admin
from tests.support.charging import charge
from tests.support.events import usage_record
from tests.support.ledger import Books

COUNT_MAX = 2**53 - 1


async def _price(api: BillingApi, model: str, input_price: str) -> None:
    prices = [{"prices": {"input": input_price}}]
    entry = {"provider": "anthropic", "model": model, "currency": "CHF", "valid_from": "2026-01-01T00:00:00Z"}
    file = {"format": "rappen.prices.v1", "prices": [{**entry, "lists": prices}]}
    answer = await api.call(
        system_admin(), "POST", "/api/billing/admin/prices", content=json.dumps(file), params={"format": "rappen"}
    )
    assert answer.status_code == 200, answer.text


async def test_an_amount_out_of_range_is_refused_and_its_neighbours_are_charged_in_the_same_batch(
    api: BillingApi, books: Books, mandate: str
) -> None:
    model = f"model-{uuid4()}"
    await _price(api, model, "1000")
    huge = usage_record(mandate, cost=None, model=model, tokens={"input": COUNT_MAX})
    before, after = ([usage_record(mandate) for _ in range(5)] for _ in range(2))
    await charge(api.database, *before, huge, *after)
    assert await books.charged([mandate]) == 10
    assert await books.refused(mandate) == {"AMOUNT_TOO_LARGE": 1}
    assert await books.failing() == {}


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
    await _price(api, model, "1000")
    settle = SettleParked(api.database, default_markup=Decimal(50), clock=system_clock)
    while await settle():
        pass
    assert await books.charged([mandate]) == 2
    rows = await books.fetch(
        "SELECT e.reason FROM uncharged_events e JOIN mandates m ON m.no = e.mandate_no WHERE m.id = $1", mandate
    )
    assert [row["reason"] for row in rows] == ["AMOUNT_TOO_LARGE"]
    assert await books.failing() == {}
