"""Simulated usage against contract and price file: what should be charged can be, what is spoiled is refused."""

from collections import Counter
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from deploy.simulator.calls import CALLS, NEW_MODEL, Call
from deploy.simulator.tenants import TENANTS
from deploy.simulator.traffic import Traffic, rate_at
from rappen_contracts import ContractError, Event, Record, decode
from rappen_contracts.usage.v1 import UsageRecorded
from services.billing.pricing import Metered, PriceBook, Priced, Unpriced, read_rappen_file
from services.billing.pricing.rating import billable

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
PRICES = Path(__file__).parents[2] / "deploy" / "simulator" / "prices.json"


@pytest.fixture(scope="module")
def book() -> PriceBook:
    return PriceBook(read_rappen_file(PRICES.read_bytes(), NOW).versions)


def price(book: PriceBook, usage: UsageRecorded) -> Priced | Unpriced:
    metered = billable(usage, usage.tokens.counts() if usage.tokens else {})
    assert isinstance(metered, Metered)
    return book.price(metered, NOW)


def read(record: Record) -> Event | ContractError:
    try:
        return decode(record.headers, record.value, now=NOW)
    except ContractError as error:
        return error


@pytest.mark.parametrize("call", [call for calls in CALLS.values() for _, call in calls], ids=lambda call: call.model)
def test_every_simulated_call_has_a_price_or_brings_its_cost(call: Call, book: PriceBook) -> None:
    rng = Random(7)
    for _ in range(200):
        usage = UsageRecorded(mandate_id="m", user_id="u", provider=call.provider, model=call.model, **call.use(rng))
        assert usage.cost is not None or isinstance(price(book, usage), Priced)


def test_the_new_model_has_no_price(book: PriceBook) -> None:
    usage = UsageRecorded(
        mandate_id="m", user_id="u", provider=NEW_MODEL.provider, model=NEW_MODEL.model, **NEW_MODEL.use(Random(7))
    )
    assert isinstance(price(book, usage), Unpriced)


def test_nearly_all_records_are_usage_of_the_demo_tenants_and_a_few_are_refused_or_repeated() -> None:
    records = Traffic(Random(7)).records(20_000, NOW)
    results = [read(record) for record in records]
    events = [result for result in results if isinstance(result, Event)]
    refusals = Counter(result.code for result in results if isinstance(result, ContractError))
    usages = [event.data for event in events]
    assert {usage.mandate_id for usage in usages if isinstance(usage, UsageRecorded)} == {each.id for each in TENANTS}
    assert set(refusals) == {"NOT_JSON", "NOT_A_STRING", "TOTAL_MISMATCH", "UNKNOWN_CURRENCY"}
    assert 20 <= sum(refusals.values()) <= 100
    repeats = [(first, second) for first, second in pairwise(events) if first.id == second.id]
    assert 40 <= len(repeats) <= 160
    assert all(first.digest == second.digest for first, second in repeats)
    # An id is one event's alone, or the second would be a conflict.
    assert len({event.id for event in events}) == len(events) - len(repeats)


def test_who_has_to_wait_makes_no_usage() -> None:
    traffic = Traffic(Random(7))
    waiting = {(membership.tenant.id, membership.member.id) for membership in traffic.memberships[1:]}
    (working, *_) = traffic.memberships
    records = traffic.records(50, NOW, waiting=waiting)
    assert {record.key.decode() for record in records} == {working.tenant.id}
    assert traffic.records(50, NOW, waiting={*waiting, (working.tenant.id, working.member.id)}) == []


def test_the_rate_swells_and_ebbs_around_its_mean() -> None:
    rates = [rate_at(second, 40) for second in range(180)]
    assert sum(rates) / len(rates) == pytest.approx(40)
    assert min(rates) < 30
    assert max(rates) > 50
