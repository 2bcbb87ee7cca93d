"""Many workers on the same accounts, and partitions that never stay where they are."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from aiokafka import AIOKafkaConsumer

from tests.support.events import new_mandate, publish, scattered, stream
from tests.support.ledger import Books
from tests.support.processes import Crew
from tests.support.waiting import eventually

USAGE = "rappen_events_consumed_total"
CHANGES = 10


async def test_two_workers_on_one_hot_account_whose_events_are_on_all_partitions(
    bootstrap_servers: str, books: Books, crew: Crew
) -> None:
    mandate = new_mandate()
    records, ids = stream([mandate], 10_000)
    async with crew.at_work(2):
        await crew.sharing()
        await publish(bootstrap_servers, scattered(records))
        await books.wait_charged([mandate], 10_000)
        shares = [await worker.metric(USAGE, topic="usage.recorded", outcome="charged") for worker in crew.workers]
        assert min(shares) > 0, "only one of them worked"
        await books.settled([mandate], ids)
        assert crew.restarts == 0
    accounts = await books.value(
        "SELECT count(*) FROM accounts a JOIN mandates m ON m.no = a.mandate_no WHERE m.id = $1 AND a.balance <> 0",
        mandate,
    )
    assert accounts == 1, "the account was not hot"


async def test_a_rebalance_storm_loses_nothing_and_charges_nothing_twice(
    bootstrap_servers: str, books: Books, crew: Crew, tmp_path: Path
) -> None:
    mandates = [new_mandate() for _ in range(10)]
    records, ids = stream(mandates, 12_000)
    async with crew.at_work(2):
        await asyncio.gather(*(worker.ready() for worker in crew.workers))
        publishing = asyncio.create_task(publish(bootstrap_servers, records, pause_s=0.6))
        for change in range(CHANGES // 2):
            await _join_and_leave(bootstrap_servers)
            if change % 3 == 2:
                # A worker of ours too: it stops in good order, and its supervisor starts it again.
                crew.workers[change % 2].terminate()
        await publishing
        await books.wait_charged(mandates, 12_000)
        await books.settled(mandates, ids)
    assignments = sum(_count(tmp_path, "partitions assigned", '"usage.recorded-'))
    assert assignments >= CHANGES


async def _join_and_leave(bootstrap_servers: str) -> None:
    """A member that takes partitions away, holds them for a moment and commits nothing."""
    guest = AIOKafkaConsumer(
        "usage.recorded",
        bootstrap_servers=bootstrap_servers,
        group_id="billing",
        enable_auto_commit=False,
        session_timeout_ms=6000,
        rebalance_timeout_ms=60_000,
    )
    await guest.start()
    try:
        await eventually(guest.assignment, what="partitions at the guest")
        await asyncio.sleep(0.2)
    finally:
        await guest.stop()


def _count(folder: Path, *texts: str) -> list[int]:
    """By log, the lines that hold all of the texts."""
    fits: Callable[[str], bool] = lambda line: all(text in line for text in texts)  # noqa: E731
    return [sum(map(fits, log.read_text().splitlines())) for log in folder.glob("*.log")]
