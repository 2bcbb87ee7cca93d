"""Servers that go away: workers stay, nothing is refused for it, and everything is charged once when they are back."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import pytest
from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import GroupCoordinatorNotAvailableError
from aiokafka.producer.sender import Sender

from services.chassis.clock import system_clock
from services.chassis.consumer import BEGIN_TRIES, Received
from services.chassis.faults import FaultPoints
from services.chassis.quarantine import Refused
from services.chassis.records import RecordReader
from services.chassis.relay import Relay
from services.chassis.settings import KafkaSettings
from tests.support.databases import connected, opened
from tests.support.events import RawRecord, new_mandate, publish, stream, usage_record
from tests.support.ledger import Books
from tests.support.locks import held_accounts
from tests.support.parts import at_work, no_batch, usage_consumer
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


async def test_a_broker_that_goes_away_before_it_says_where_to_begin_is_waited_for(
    servers: ServerPair, bootstrap_servers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, asked = RecordReader.begin, 0

    async def begin(reader: RecordReader, partitions: Iterable[TopicPartition]) -> None:
        nonlocal asked
        asked += 1
        if asked == 1:
            await asyncio.to_thread(servers.kafka.kill)
        await real(reader, partitions)

    monkeypatch.setattr(RecordReader, "begin", begin)
    records = [usage_record(new_mandate()) for _ in range(100)]
    await publish(bootstrap_servers, records)
    wanted, seen = {record.event_id for record in records}, set[UUID]()

    async def handler(events: Sequence[Received], refused: Sequence[Refused]) -> Sequence[Refused]:
        seen.update(received.event.id for received in events)
        return refused

    async with (
        opened(servers.dsn("billing"), pool_size=2) as database,
        at_work(usage_consumer(bootstrap_servers, database, handler, session_timeout_ms=6_000)),
    ):
        try:
            await eventually(lambda: asked > 2 * BEGIN_TRIES, what="more tries than an unexpected error gets")
            assert not seen
        finally:
            await asyncio.to_thread(servers.kafka.start)
        await eventually(lambda: wanted <= seen, timeout_s=90, what="every record")


async def test_who_waits_for_a_broker_in_order_to_begin_ends_when_told_to(
    servers: ServerPair, bootstrap_servers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"group": 0, "producer": 0}

    async def no_coordinator(*_: object) -> int:
        asked["group"] += 1
        raise GroupCoordinatorNotAvailableError

    async def no_producer_id(*_: object) -> bool:
        asked["producer"] += 1
        return False

    monkeypatch.setattr(AIOKafkaClient, "coordinator_lookup", no_coordinator)
    monkeypatch.setattr(Sender, "_do_init_pid", no_producer_id)
    async with opened(servers.dsn("billing"), pool_size=2) as database:
        kafka = KafkaSettings(bootstrap_servers=bootstrap_servers)
        relay = Relay(database, kafka, client_id="tests", source="/", clock=system_clock, faults=FaultPoints(None))
        async with asyncio.timeout(20), at_work(usage_consumer(bootstrap_servers, database, no_batch), relay):
            await eventually(lambda: min(asked.values()) > 2, what="both of them asking")


@asynccontextmanager
async def _under_load(bootstrap_servers: str, records: list[RawRecord]) -> AsyncIterator[None]:
    """Publishes the records little by little during the block, and the rest of them before its end."""
    publishing = asyncio.create_task(publish(bootstrap_servers, records, pause_s=0.15))
    yield
    await publishing
