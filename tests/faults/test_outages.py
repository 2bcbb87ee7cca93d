"""Servers that go away: workers stay, nothing is refused for it, and everything is charged once when they are back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.databases import connected
from tests.support.events import RawRecord, new_mandate, publish, stream
from tests.support.ledger import Books
from tests.support.locks import held_accounts
from tests.support.processes import Crew
from tests.support.stack import ServerPair
from tests.support.waiting import eventually


async def test_postgresql_stopped_immediately_under_load_is_waited_for(
    servers: ServerPair, bootstrap_servers: str, books: Books, crew: Crew
) -> None:
    mandates = [new_mandate() for _ in range(10)]
    records, ids = stream(mandates, 6000)
    async with crew.at_work(2):
        await asyncio.gather(*(worker.ready() for worker in crew.workers))
        async with _under_load(bootstrap_servers, records):
            await books.wait_charged(mandates, 1)
            await asyncio.to_thread(servers.postgres.stop, mode="immediate")
            try:
                await eventually(crew.has_tried_again, what="a batch that is tried again")
            finally:
                await asyncio.to_thread(servers.postgres.start)
        await books.wait_charged(mandates, 6000)
        await books.settled(mandates, ids)
        assert crew.restarts == 0
    assert sum([sum((await books.refused(mandate)).values()) for mandate in mandates]) == 0


async def test_connections_cut_under_load_are_made_again(
    servers: ServerPair, bootstrap_servers: str, books: Books, crew: Crew
) -> None:
    mandates = [new_mandate() for _ in range(10)]
    records, ids = stream(mandates, 6000)
    cut = 0
    async with crew.at_work(2):
        await asyncio.gather(*(worker.ready() for worker in crew.workers))
        async with _under_load(bootstrap_servers, records):
            await books.wait_charged(mandates, 1)
            while cut < 10 or not await crew.has_tried_again():
                cut += await books.value(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                    " WHERE usename = 'billing_app' AND state IN ('active', 'idle in transaction')"
                )
                await asyncio.sleep(0.01)
        await books.wait_charged(mandates, 6000)
        await books.settled(mandates, ids)
        assert crew.restarts == 0
    assert cut >= 10
    assert sum([sum((await books.refused(mandate)).values()) for mandate in mandates]) == 0


async def test_a_lock_that_another_keeps_for_long_is_tried_again_and_refuses_no_event(
    servers: ServerPair, bootstrap_servers: str, books: Books, tmp_path: Path
) -> None:
    mandate = new_mandate()
    crew = Crew(servers, tmp_path, more={"BILLING_DATABASE__LOCK_TIMEOUT_S": "0.3"})
    first, first_ids = stream([mandate], 10)
    second, second_ids = stream([mandate], 50)
    async with crew.at_work(1):
        await publish(bootstrap_servers, first)
        await books.wait_charged([mandate], 10)
        async with held_accounts(servers.admin_dsn, mandate):
            await publish(bootstrap_servers, second)
            await eventually(crew.has_tried_again, what="a batch that is tried again")
        await books.wait_charged([mandate], 60)
        await books.settled([mandate], first_ids + second_ids)
        assert crew.restarts == 0
    assert await books.refused(mandate) == {}


async def test_a_right_that_is_missing_for_a_while_refuses_no_event(
    servers: ServerPair, bootstrap_servers: str, books: Books, crew: Crew
) -> None:
    mandate = new_mandate()
    records, ids = stream([mandate], 50)
    async with connected(servers.dsn("billing", owner=True)) as owner, crew.at_work(1):
        await crew.workers[0].ready()
        await owner.execute("REVOKE INSERT ON transactions FROM billing_app")
        try:
            await publish(bootstrap_servers, records)
            await eventually(crew.has_tried_again, what="a batch that is tried again")
        finally:
            await owner.execute("GRANT INSERT ON transactions TO billing_app")
        await books.wait_charged([mandate], 50)
        await books.settled([mandate], ids)
    assert await books.refused(mandate) == {}


async def test_a_broker_killed_and_started_again_gets_and_gives_everything_once(
    servers: ServerPair, bootstrap_servers: str, books: Books, crew: Crew
) -> None:
    mandates = [new_mandate() for _ in range(10)]
    records, ids = stream(mandates, 6000)
    async with crew.at_work(2):
        await asyncio.gather(*(worker.ready() for worker in crew.workers))
        old = servers.kafka.pid
        async with _under_load(bootstrap_servers, records):
            await books.wait_charged(mandates, 1)
            await asyncio.to_thread(servers.kafka.kill)
            await asyncio.to_thread(servers.kafka.start)
        assert servers.kafka.pid != old
        await books.wait_charged(mandates, 6000, timeout_s=90)
        await books.settled(mandates, ids)
        assert crew.restarts == 0


@asynccontextmanager
async def _under_load(bootstrap_servers: str, records: list[RawRecord]) -> AsyncIterator[None]:
    """Publishes the records little by little during the block, and the rest of them before its end."""
    publishing = asyncio.create_task(publish(bootstrap_servers, records, pause_s=0.15))
    yield
    await publishing
