"""Re-ratings beside charges that were priced before the prices changed and are not written yet."""

import asyncio
from collections.abc import Awaitable
from itertools import count
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.billing.charging.charge_usage import Charges, PricingContext
from services.billing.corrections.rerate import start_rerating
from services.billing.corrections.reratings import PARTS
from services.billing.mandates.repository import wait_for_holders
from services.chassis.clock import system_clock
from tests.integration.billing.conftest import BillingApi
from tests.support.charging import charge, settling
from tests.support.events import RawRecord, new_mandate, usage_record
from tests.support.ledger import Books
from tests.support.locks import PlacedLock, held, held_accounts
from tests.support.rerating import carry_out, of_model, rerate, running
from tests.support.stack import ServerPair

LOCK_MANDATE = "SELECT 1 FROM billing.mandates WHERE id = $1 FOR NO KEY UPDATE"


@pytest.fixture
def model() -> str:
    return f"model-{uuid4()}"


def usage(mandate: str, model: str) -> RawRecord:
    return usage_record(mandate, cost=None, model=model, tokens={"input": 1000})


def _prices_change_at_each_reading(api: BillingApi, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where they are imported one after the other, and reading all of them takes longer than that."""
    read, thousandths = Charges.pricing_context, count(2)

    async def then_changed(*given: Any, **named: Any) -> PricingContext:
        context = await read(*given, **named)
        await api.price(model, f"0.{next(thousandths):03d}")
        return context

    monkeypatch.setattr(Charges, "pricing_context", then_changed)


async def _waits(lock: PlacedLock, work: Awaitable[Any]) -> None:
    before = lock.waited
    await lock.begin(work)
    assert lock.waited == before + 1


async def test_usage_that_waited_for_its_mandate_is_charged_at_the_prices_that_stand_then(
    servers: ServerPair, api: BillingApi, books: Books, mandate: str, model: str
) -> None:
    await api.price(model, "0.001")
    await charge(api.database, usage(mandate, model))
    async with held(servers.admin_dsn, LOCK_MANDATE, mandate) as lock:
        await _waits(lock, charge(api.database, usage(mandate, model)))
        await api.price(model, "0.002")
        assert await lock.release() == [None]
    assert [row["amount"] for row in await books.rows(mandate)] == [1_500_000, 3_000_000]
    assert await books.failing() == {}


async def test_usage_that_has_got_a_price_while_it_waited_for_its_mandate_is_charged(
    servers: ServerPair, api: BillingApi, books: Books, mandate: str, model: str
) -> None:
    await charge(api.database, usage(mandate, model))
    assert await books.parked([mandate]) == 1
    async with held(servers.admin_dsn, LOCK_MANDATE, mandate) as lock:
        await _waits(lock, charge(api.database, usage(mandate, model)))
        await api.price(model, "0.002")
        assert await lock.release() == [None]
    assert await books.parked([mandate]) == 1
    assert [row["amount"] for row in await books.rows(mandate)] == [3_000_000]
    assert await books.failing() == {}


async def test_usage_is_charged_however_often_prices_change(
    api: BillingApi, books: Books, mandate: str, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await api.price(model, "0.001")
    with monkeypatch.context() as meanwhile:
        _prices_change_at_each_reading(api, model, meanwhile)
        await charge(api.database, usage(mandate, model))
    await api.price(model, "0.1")
    done = await rerate(api.database, of_model(model))
    assert (done["state"], done["charges"], done["differing"]) == ("DONE", 1, 1)
    assert await books.pool(mandate) == -150_000_000
    assert await books.failing() == {}


async def test_usage_that_waited_for_a_price_is_charged_however_often_prices_change(
    api: BillingApi, books: Books, mandate: str, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await charge(api.database, usage(mandate, model))
    await api.price(model, "0.001")
    with monkeypatch.context() as meanwhile:
        _prices_change_at_each_reading(api, model, meanwhile)
        await settling(api.database)()
    assert len(await books.rows(mandate)) == 1
    await api.price(model, "0.1")
    await rerate(api.database, of_model(model))
    assert await books.pool(mandate) == -150_000_000
    assert await books.failing() == {}


async def test_a_re_rating_waits_for_charges_that_are_being_written(
    servers: ServerPair, api: BillingApi, books: Books, mandate: str, model: str
) -> None:
    await api.price(model, "0.001")
    await charge(api.database, usage(mandate, model))
    async with held_accounts(servers.admin_dsn, mandate) as lock:
        # It has its mandate's lock and has seen that its prices stand.
        await _waits(lock, charge(api.database, usage(mandate, model)))
        await api.price(model, "0.002")
        await _waits(lock, rerate(api.database, of_model(model)))
        charged, done = await lock.release()
    assert charged is None
    assert (done["state"], done["charges"], done["differing"]) == ("DONE", 2, 2)
    assert await books.pool(mandate) == -6_000_000
    assert await books.failing() == {}


async def test_a_re_rating_that_waits_for_a_mandate_keeps_none_of_the_others_waiting(
    servers: ServerPair, api: BillingApi, books: Books, model: str
) -> None:
    mandates = [new_mandate() for _ in range(2 * PARTS)]
    await api.price(model, "0.001")
    for each in mandates:
        await charge(api.database, usage(each, model))
    await api.price(model, "0.002")
    numbers = {each: await books.value("SELECT no FROM mandates WHERE id = $1", each) for each in mandates}
    first = mandates[0]
    beside = [each for each in mandates if each != first and numbers[each] % PARTS == numbers[first] % PARTS]
    assert beside
    ordered = await start_rerating(api.database, of_model(model), user_id=None, clock=system_clock)
    async with held(servers.admin_dsn, LOCK_MANDATE, first) as lock:
        await _waits(lock, carry_out(api.database, ordered["id"]))
        async with asyncio.timeout(3):
            for each in beside:
                await charge(api.database, usage(each, model))
        await lock.release()
    # Where the machine was slow, it gave up waiting meanwhile.
    done = await carry_out(api.database, ordered["id"])
    assert (done["state"], done["differing"]) == ("DONE", len(mandates))
    assert await books.failing() == {}


async def test_a_page_that_waits_for_a_mandate_keeps_none_of_the_others_waiting(
    servers: ServerPair, api: BillingApi, books: Books, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.billing.corrections.price_charges.PAGE", 2)
    mandates = [new_mandate() for _ in range(PARTS + 1)]
    await api.price(model, "0.001")
    for each in mandates:
        await charge(api.database, *(usage(each, model) for _ in range(3)))
    await api.price(model, "0.002")
    first, *_, last = mandates
    numbers = [await books.value("SELECT no FROM mandates WHERE id = $1", each) for each in (first, last)]
    assert numbers[0] % PARTS == numbers[1] % PARTS
    ordered = await start_rerating(api.database, of_model(model), user_id=None, clock=system_clock)
    rerating, run = UUID(ordered["id"]), running(api.database)
    # Two of the three charges of the first mandate are a page; the third is on one with a charge of the last.
    while len(await books.rows(first)) == 3:
        await run(rerating)
    assert len(await books.rows(first)) == 5
    async with held(servers.admin_dsn, LOCK_MANDATE, last) as lock:
        await _waits(lock, run(rerating))
        async with asyncio.timeout(3):
            await charge(api.database, usage(first, model))
        await lock.release()
    done = await carry_out(api.database, ordered["id"])
    assert done["differing"] == 3 * len(mandates)
    assert await books.failing() == {}


async def test_who_waits_for_the_holders_of_mandates_keeps_no_lock(
    servers: ServerPair, api: BillingApi, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.billing.mandates.repository._LOOKED_AT_ONCE", 2)
    mandates = [new_mandate() for _ in range(5)]
    for each in mandates:
        await charge(api.database, usage_record(each))
    numbers = [await books.value("SELECT no FROM mandates WHERE id = $1", each) for each in mandates]
    async with api.database.transaction() as connection:
        async with held(servers.admin_dsn, LOCK_MANDATE, mandates[2]) as lock:
            await _waits(lock, wait_for_holders(connection, numbers))
            assert await lock.release() == [None]
        async with asyncio.timeout(3):
            await charge(api.database, *(usage_record(each) for each in mandates))
