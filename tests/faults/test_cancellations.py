"""Cancellations where workers die, compete with each other and with an administrator: every one has its effect once."""

import asyncio
import random
from collections.abc import Sequence
from uuid import UUID

import pytest

from services.billing.corrections.reverse_charge import cancel_event
from services.chassis.clock import system_clock
from tests.support.databases import opened
from tests.support.events import RawRecord, new_mandate, publish, scattered, stream, voided_record
from tests.support.ledger import Books
from tests.support.processes import Crew, FaultFolder
from tests.support.stack import ServerPair
from tests.support.waiting import eventually

USAGE = "rappen_events_consumed_total"


def cancelling(records: Sequence[RawRecord], reason: str = "sent twice") -> list[RawRecord]:
    """A cancellation of each usage event, in its mandate."""
    return [voided_record((record.key or b"").decode(), record.event_id, reason) for record in records]


def shuffled(records: Sequence[RawRecord]) -> list[RawRecord]:
    return random.sample(list(records), len(records))


async def _cancelled(books: Books, mandates: Sequence[str], count: int) -> bool:
    return len(await books.cancelled(mandates)) == count


async def _reversed(books: Books, mandates: Sequence[str]) -> int:
    return int(
        await books.value(
            "SELECT count(*) FROM transactions t JOIN mandates m ON m.no = t.mandate_no"
            " WHERE m.id = ANY($1) AND t.own AND t.contra_account = 'REVENUE'",
            list(mandates),
        )
    )


async def _left(books: Books, mandates: Sequence[str], kept: Sequence[UUID]) -> None:
    """Asserts that what was charged and stays is the usage that nobody cancelled, to the last micro-franc."""
    rows = await books.fetch(
        "SELECT m.id, sum(t.amount) AS cost, count(*) AS count FROM transactions t"
        " JOIN mandates m ON m.no = t.mandate_no WHERE m.id = ANY($1) AND t.event_id = ANY($2) AND NOT t.own"
        " GROUP BY 1",
        list(mandates),
        list(kept),
    )
    costs = {row["id"]: row["cost"] for row in rows}
    for mandate in mandates:
        assert await books.pool(mandate) == -costs.get(mandate, 0), mandate
    counted = await books.value(
        "SELECT coalesce(sum(r.count), 0) FROM rollups r JOIN mandates m ON m.no = r.mandate_no WHERE m.id = ANY($1)",
        list(mandates),
    )
    assert counted == sum(row["count"] for row in rows) == len(kept)


@pytest.mark.parametrize("point", ["before_commit", "after_commit"])
async def test_a_worker_killed_around_its_commit_takes_every_cancelled_charge_back_once(
    bootstrap_servers: str, books: Books, faults: FaultFolder, crew: Crew, point: str
) -> None:
    mandates = [new_mandate() for _ in range(5)]
    usage, ids = stream(mandates, 1500)
    voids = cancelling(usage[:1000])
    async with crew.at_work(2):
        await crew.sharing()
        faults.arm(point, times=2)
        # A third of the cancellations comes before its usage, a third after it, a third at the same time.
        await publish(bootstrap_servers, shuffled([*usage[:600], *voids[300:1000]]))
        await eventually(lambda: faults.hits(point) >= 2, what="two kills")
        await publish(bootstrap_servers, shuffled([*usage[600:], *voids[:300]]))
        await books.wait_charged(mandates, 1500)
        await eventually(lambda: _cancelled(books, mandates, 1000), what="a thousand cancellations")
        await books.settled(mandates, ids)
    assert faults.hits(point) == 2
    assert crew.restarts >= 2
    assert await books.cancelled(mandates) == set(ids[:1000])
    assert await _reversed(books, mandates) == 1000
    await _left(books, mandates, ids[1000:])
    assert [await books.refused(mandate) for mandate in mandates] == [{}] * 5


async def test_two_workers_and_an_administrator_cancel_the_same_usage_while_it_arrives(
    servers: ServerPair, bootstrap_servers: str, books: Books, crew: Crew
) -> None:
    mandate = new_mandate()
    usage, ids = stream([mandate], 2000)
    # Usage and its cancellations, two of each, are on all partitions, contrary to the contract.
    records = scattered(shuffled([*usage, *cancelling(usage), *cancelling(usage, "once more")]))
    async with crew.at_work(2), opened(servers.dsn("billing"), pool_size=4) as database:
        await crew.sharing()
        publishing = asyncio.create_task(publish(bootstrap_servers, records, pause_s=0.2))
        await books.wait_charged([mandate], 1)
        done = [
            await cancel_event(database, mandate, event_id, "by hand", clock=system_clock)
            for event_id in random.sample(ids, 300)
        ]
        await publishing
        await books.wait_charged([mandate], 2000)
        await eventually(lambda: _cancelled(books, [mandate], 2000), what="two thousand cancellations")
        shares = [await worker.metric(USAGE, topic="usage.recorded", outcome="cancelled") for worker in crew.workers]
        assert min(shares) > 0, "only one of the workers cancelled something"
        assert any(each.new for each in done), "the administrator was never first"
        assert any(not each.new for each in done), "the administrator was always first"
        assert sum(shares) + sum(each.new for each in done) == 2000
        await books.settled([mandate], ids)
        assert crew.restarts == 0
    assert await _reversed(books, [mandate]) == 2000
    await _left(books, [mandate], [])
