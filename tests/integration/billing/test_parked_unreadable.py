"""A stored event that cannot be read any more is set aside alone; its neighbours are charged, and nothing spins."""

import asyncio
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from services.billing.charging.charge_usage import Charges, Outcome
from services.billing.charging.settle_parked import SettleParked
from services.billing.corrections.reverse_charge import cancel_event
from services.billing.pricing.import_prices import set_rate
from services.chassis.clock import system_clock
from services.chassis.database import Database
from services.chassis.jobs import RepeatedJob
from tests.integration.billing.conftest import BillingApi
from tests.support.charging import charge, settling
from tests.support.events import usage_record, uuid7
from tests.support.ledger import Books
from tests.support.locks import held
from tests.support.parts import at_work
from tests.support.stack import ServerPair
from tests.support.waiting import eventually

EVERY_S = 0.5
BROKEN = ["{", "[]", '{"specversion": "1.0", "type": "ch.rappen.usage.recorded.v9"}', "9" * 5000]


@pytest.mark.parametrize("text", BROKEN)
async def test_an_unreadable_parked_event_is_set_aside_and_its_neighbours_are_charged(
    api: BillingApi, servers: ServerPair, database: Database, mandate: str, text: str
) -> None:
    books, broken = Books(servers.admin_dsn), uuid7()
    currency = ["ISK", "HUF", "CLP", "KES"][BROKEN.index(text)]
    records = [usage_record(mandate, currency=currency) for _ in range(40)]
    await charge(api.database, usage_record(mandate, event_id=broken, currency=currency), *records)
    await books.fetch("UPDATE unposted_events SET event = $2 WHERE event_id = $1", broken, text)
    async with database.transaction() as connection:
        await set_rate(
            connection,
            currency=currency,
            rate=Decimal("0.01"),
            valid_from=datetime.now(UTC) - timedelta(days=9),
            actor="admin",
        )
    runs = 0
    settle = SettleParked(database, default_markup=Decimal(0), clock=system_clock)

    async def counted() -> int:
        nonlocal runs
        runs += 1
        return await settle()

    async with at_work(RepeatedJob("settle parked", counted, every_s=EVERY_S, clock=system_clock)):
        await books.wait_charged([mandate], len(records))
        runs, started = 0, time.monotonic()
        await asyncio.sleep(2)
        most = (time.monotonic() - started) / EVERY_S + 2
    assert runs <= most
    rows = await books.fetch("SELECT reason, event FROM unposted_events WHERE event_id = $1", broken)
    assert [(row["reason"], row["event"]) for row in rows] == [("UNREADABLE", text)]
    assert await books.charged([mandate]) == len(records)
    assert await books.failing() == {}


@pytest.mark.parametrize("missing", [("dimensions", "BWP"), ("usage_descriptions", "TZS")])
async def test_what_a_run_that_was_rolled_back_has_made_is_made_again(
    api: BillingApi, books: Books, mandate: str, monkeypatch: pytest.MonkeyPatch, missing: tuple[str, str]
) -> None:
    failed, database, (table, currency) = 0, api.database, missing
    named = {"provider": "anthropic", "model": "claude-sonnet-4-5", "description": "Asked"}
    await charge(api.database, usage_record(mandate, currency=currency, **named))
    # As for usage that a release before these were there has parked.
    of_mandate = "mandate_no = (SELECT no FROM mandates WHERE id = $1)"
    await books.fetch(f"DELETE FROM {table} WHERE {of_mandate}", mandate)
    async with database.transaction() as connection:
        await set_rate(
            connection,
            currency=currency,
            rate=Decimal("0.01"),
            valid_from=datetime.now(UTC) - timedelta(days=9),
            actor="admin",
        )
    real = Charges.charge

    async def charge_in_vain_once(*arguments: Any, **more: Any) -> Outcome:
        nonlocal failed
        outcome = await real(*arguments, **more)
        if not failed:
            failed += 1
            raise ConnectionError("the connection is lost")
        return outcome

    monkeypatch.setattr(Charges, "charge", charge_in_vain_once)
    settle = SettleParked(database, default_markup=Decimal(0), clock=system_clock)

    async def settled() -> bool:
        try:
            await settle()
        except ConnectionError:
            return False
        return await books.charged([mandate]) == 1

    await eventually(settled, what="the parked usage charged")
    assert failed == 1
    lost = (
        "SELECT count(*) FROM transactions t WHERE NOT EXISTS (SELECT 1 FROM dimensions d WHERE d.no = t.dimension_no)"
    )
    assert await books.value(f"{lost} AND {of_mandate} AND dimension_no IS NOT NULL", mandate) == 0
    assert await books.failing() == {}


async def test_a_job_that_fails_is_told_and_tried_ever_more_rarely_and_ends_nothing() -> None:
    seen: Counter[str] = Counter()

    async def failing() -> int:
        seen["runs"] += 1
        raise KeyError("stored")

    stop = asyncio.Event()
    started = time.monotonic()
    running = asyncio.create_task(RepeatedJob("test", failing, every_s=0.01, clock=system_clock).run(stop))
    await eventually(lambda: seen["runs"] >= 5, what="a fifth run")
    assert not running.done()
    stop.set()
    await running
    # After 0.01, 0.2, 0.4 and 0.8 s, and only a sixth after 1.6 s more.
    assert time.monotonic() - started > 1.4


async def test_what_is_set_aside_is_written_under_the_lock_of_its_mandate(
    api: BillingApi, servers: ServerPair, mandate: str
) -> None:
    """A cancellation that has the lock finds the row that was there or the one that is put in its place. Else it could
    find neither, and the usage would be cancelled and wait for a price all the same."""
    books, broken, model = Books(servers.admin_dsn), uuid7(), f"model-{uuid7()}"
    await charge(api.database, usage_record(mandate, event_id=broken, cost=None, model=model, tokens={"input": 1}))
    await books.fetch("UPDATE unposted_events SET event = '{' WHERE event_id = $1", broken)
    await api.price(model, "0.01")
    # What other tests have left parked was looked at already, as far as the job knows.
    await books.fetch(
        "UPDATE unposted_events SET price_revision = (SELECT revision FROM price_book) WHERE event_id <> $1", broken
    )
    async with held(servers.admin_dsn, "SELECT 1 FROM billing.mandates WHERE id = $1 FOR UPDATE", mandate) as lock:
        await lock.begin(settling(api.database)())
        assert lock.waited == 1
        assert await books.fetch("SELECT reason FROM unposted_events WHERE event_id = $1", broken) == [("NO_PRICE",)]
        await lock.release()
    assert await books.fetch("SELECT reason FROM unposted_events WHERE event_id = $1", broken) == [("UNREADABLE",)]
    await cancel_event(api.database, mandate, broken, "by hand", clock=system_clock)
    assert await books.parked([mandate]) == 0
    assert await books.failing() == {}
