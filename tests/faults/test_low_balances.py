"""Workers killed around the commit of a crossing and while they publish it: one warning and one recharge for each."""

from collections import defaultdict

import orjson

from services.chassis.clock import system_clock
from tests.support.databases import opened
from tests.support.events import publish, usage_record, uuid7
from tests.support.ledger import Books
from tests.support.processes import Crew, FaultFolder
from tests.support.recharging import Recharged
from tests.support.stack import ServerPair
from tests.support.topics import read_topic
from tests.support.waiting import eventually

POINTS = ("before_commit", "after_commit", "relay_produced")


async def test_workers_killed_on_the_way_tell_each_crossing_and_request_each_recharge_once(
    servers: ServerPair, bootstrap_servers: str, books: Books, faults: FaultFolder, crew: Crew
) -> None:
    mandates = []
    async with opened(servers.dsn("billing"), pool_size=2) as database:
        for _ in range(8):
            mandates.append(Recharged(database, system_clock()))
            await mandates[-1].begin()
            await mandates[-1].credit(10)
            await mandates[-1].recharging()
    names = [mandate.id for mandate in mandates]
    ids = [uuid7() for _ in range(20 * len(names))]
    records = [usage_record(names[n % len(names)], amount="0.5", event_id=each) for n, each in enumerate(ids)]
    async with crew.at_work(2):
        await crew.sharing()
        for point in POINTS:
            faults.arm(point)
        await publish(bootstrap_servers, records)
        await books.wait_charged(names, len(records))

        async def requested() -> bool:
            return len(await _recharges(books, names)) >= len(names)

        await eventually(requested, what="a recharge for each mandate")
        await eventually(lambda: all(faults.hits(point) for point in POINTS), what="three kills")
        await books.settled(names, ids)
    assert await _recharges(books, names) == sorted(names)
    for topic in ("balance.low", "recharge.requested"):
        told = await _told(bootstrap_servers, topic)
        assert {name: len(told[name]) for name in names} == dict.fromkeys(names, 1), topic


async def _recharges(books: Books, mandates: list[str]) -> list[str]:
    """The mandate of each recharge."""
    rows = await books.fetch(
        "SELECT m.id FROM recharges r JOIN mandates m ON m.no = r.mandate_no WHERE m.id = ANY($1)", mandates
    )
    return sorted(row["id"] for row in rows)


async def _told(bootstrap_servers: str, topic: str) -> dict[str, set[str]]:
    """The ids of the events of each mandate; one that was published twice has one id."""
    told: dict[str, set[str]] = defaultdict(set)
    for record in await read_topic(bootstrap_servers, topic):
        told[orjson.loads(record.value)["mandate_id"]].add(dict(record.headers)["ce_id"].decode())
    return told
