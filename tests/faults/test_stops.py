"""Stopping in good order: the batch in flight ends as a whole, and the next worker goes on within seconds."""

import asyncio
import time

import pytest

from tests.support.events import new_mandate, publish, stream
from tests.support.ledger import Books
from tests.support.locks import held_accounts
from tests.support.processes import Crew
from tests.support.stack import ServerPair
from tests.support.waiting import eventually

STOP_S = 25.0


async def test_sigterm_in_mid_batch_finishes_it_and_nothing_is_delivered_again(
    servers: ServerPair, bootstrap_servers: str, books: Books, crew: Crew
) -> None:
    mandate = new_mandate()
    worker = crew.hire()
    await worker.ready()
    first, first_ids = stream([mandate], 10)
    await publish(bootstrap_servers, first)
    await books.wait_charged([mandate], 10)
    # The lock of another on the pool holds the batch inside its transaction: that is the proof of mid-batch.
    async with held_accounts(servers.admin_dsn, mandate):
        second, second_ids = stream([mandate], 200)
        await publish(bootstrap_servers, second)
        await eventually(lambda: _somebody_waits(books), what="a batch that waits for the lock")
        worker.terminate()
        await asyncio.sleep(0.5)
        assert worker.running, "it did not finish its batch"
    started = time.monotonic()
    assert await asyncio.to_thread(worker.wait) == 0
    assert time.monotonic() - started < STOP_S
    charged = await books.charged([mandate])
    assert charged > 10
    third, third_ids = stream([mandate], 10)
    started = time.monotonic()
    async with crew.at_work(1):
        await publish(bootstrap_servers, third)
        await books.wait_charged([mandate], 220)
        assert await crew.metric("rappen_events_consumed_total", topic="usage.recorded", outcome="repeated") == 0
        await books.settled([mandate], first_ids + second_ids + third_ids)
    assert time.monotonic() - started < 60


async def test_sigterm_while_the_database_is_away_ends_in_seconds_and_loses_nothing(
    servers: ServerPair, bootstrap_servers: str, books: Books, crew: Crew
) -> None:
    mandate = new_mandate()
    worker = crew.hire()
    await worker.ready()
    servers.postgres.stop(mode="immediate")
    try:
        records, ids = stream([mandate], 100)
        await publish(bootstrap_servers, records)
        await eventually(crew.has_tried_again, what="a batch that is tried again")
        started = time.monotonic()
        worker.terminate()
        await asyncio.to_thread(worker.wait)
        assert time.monotonic() - started < STOP_S
    finally:
        await asyncio.to_thread(servers.postgres.start)
    async with crew.at_work(1):
        await books.wait_charged([mandate], 100)
        await books.settled([mandate], ids)
    assert await books.refused(mandate) == {}


@pytest.mark.parametrize("signals", [1, 2])
async def test_sigterm_while_a_batch_waits_for_a_lock_gives_it_up_in_time_and_loses_nothing(
    servers: ServerPair, bootstrap_servers: str, books: Books, crew: Crew, signals: int
) -> None:
    mandate = new_mandate()
    worker = crew.hire()
    await worker.ready()
    first, first_ids = stream([mandate], 10)
    await publish(bootstrap_servers, first)
    await books.wait_charged([mandate], 10)
    async with held_accounts(servers.admin_dsn, mandate):
        second, second_ids = stream([mandate], 500)
        await publish(bootstrap_servers, second)
        await eventually(lambda: _somebody_waits(books), what="a batch that waits for the lock")
        started = time.monotonic()
        for _ in range(signals):
            worker.terminate()
            await asyncio.sleep(0.2)
        await asyncio.to_thread(worker.wait, 60)
        # The grace of a batch, and a few seconds.
        assert time.monotonic() - started < 50
        assert "work given up" in worker.log_text()
    async with crew.at_work(1):
        await books.wait_charged([mandate], 510)
        await books.settled([mandate], first_ids + second_ids)


async def _somebody_waits(books: Books) -> bool:
    return bool(await books.value("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"))
