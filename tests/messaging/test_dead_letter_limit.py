"""A consumer of which almost everything is refused stops, stays stopped, and goes on when an operator says so."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import asyncpg
import httpx
import pytest

import services.chassis.dead_letter_limit as limit_module
import services.chassis.kafka as kafka_module
import services.chassis.watchdog as watch_module
from services.chassis.clock import system_clock
from services.chassis.consumer import Received
from services.chassis.database import Database
from services.chassis.dead_letter_limit import DeadLetterLimit, resume
from services.chassis.health import Health
from services.chassis.kafka import KafkaRecord
from services.chassis.quarantine import Refused
from services.chassis.records import RecordReader
from services.chassis.settings import KafkaSettings
from tests.support.databases import connected, on_driver
from tests.support.events import USAGE_PARTITIONS, RawRecord, envelope, new_mandate, publish, usage_record
from tests.support.ledger import Books
from tests.support.parts import usage_consumer
from tests.support.processes import SHORT_SESSION, ServiceProcess, run_command
from tests.support.stack import ServerPair
from tests.support.waiting import eventually

# Each of the ten keys of bad records has as many as a key may count for.
LENGTH, KEYS, BATCH, BAD = 60, 2, 20, 300
LIMITED = {
    **SHORT_SESSION,
    "BILLING_KAFKA__DEAD_LETTER_RUN": str(LENGTH),
    "BILLING_KAFKA__DEAD_LETTER_KEYS": str(KEYS),
    "BILLING_KAFKA__BATCH_RECORDS_MAX": str(BATCH),
}
# A consumer looks for a stop or its end this often, and a little more.
SEEN_S = 7
IDLE_S_MAX = 3.0


@asynccontextmanager
async def _at_work(worker: ServiceProcess, servers: ServerPair) -> AsyncIterator[None]:
    """Stops the worker at the end, and leaves no stop to the tests after it."""
    worker.start()
    try:
        yield
    finally:
        worker.stop()
        run_command(servers, "billing", "dlq", "resume", "usage.recorded")


async def test_a_topic_of_which_everything_is_refused_is_stopped_until_it_is_resumed_and_nothing_is_lost(
    servers: ServerPair, bootstrap_servers: str, books: Books, tmp_path: Path
) -> None:
    mark, good = uuid4().hex, new_mandate()
    # The few good ones begin a run anew only where they are half of what was read.
    limited = {**LIMITED, "BILLING_KAFKA__DEAD_LETTER_SHARE": "0.5"}
    worker = ServiceProcess(servers, "billing", "worker", tmp_path / "worker.log", more=limited)

    async def is_stopped() -> bool:
        return any("rappen dlq --service billing resume usage.recorded" in each for each in await _failing(worker))

    async def refused() -> int:
        return await _refused(books, mark)

    async with _at_work(worker, servers):
        await worker.ready()
        await publish(bootstrap_servers, _bad(mark, BAD))
        await eventually(is_stopped, what="the stop")
        first = await refused()
        assert LENGTH <= first < LENGTH + BATCH
        assert await worker.metric("rappen_consumer_stopped", topic="usage.recorded") == 1
        assert '"consumer stopped"' in worker.log_text()
        await publish(bootstrap_servers, [usage_record(good, partition=number) for number in range(USAGE_PARTITIONS)])
        await asyncio.sleep(SEEN_S)
        assert (await refused(), await books.charged([good])) == (first, 0)
        # What waits is still told, and the other topics are read.
        assert await worker.metric("rappen_consumer_lag_records", topic="usage.recorded") >= BAD - first
        assert [each for each in await _failing(worker) if "usage.recorded" not in each] == []

        worker.kill()
        worker.start()
        await eventually(is_stopped, what="the stop after a restart")
        await asyncio.sleep(SEEN_S)
        assert (await refused(), await books.charged([good])) == (first, 0)

        listed = run_command(servers, "billing", "dlq", "list", "--limit", "1").stdout.splitlines()[-1]
        assert listed.startswith("usage.recorded is stopped since ")
        assert "refused, most of them as NOT_JSON" in listed
        unknown = run_command(servers, "billing", "dlq", "resume", "payment.succeeded")
        assert (unknown.returncode, unknown.stderr) == (1, "payment.succeeded is not stopped; nothing was done\n")
        assert run_command(servers, "billing", "dlq", "resume", "usage.recorded").returncode == 0

        async def went_on() -> bool:
            return await refused() > first

        # Without a restart; and for as long as the next run, because the cause is still there.
        await eventually(went_on, what="further records")
        await eventually(is_stopped, what="the second stop")
        second = await refused()
        assert first + LENGTH <= second < first + LENGTH + BATCH + USAGE_PARTITIONS

    # With other limits, as in a release that is mended.
    mended = ServiceProcess(servers, "billing", "worker", tmp_path / "mended.log", more=SHORT_SESSION)
    async with _at_work(mended, servers):
        await books.wait_charged([good], USAGE_PARTITIONS)

        async def all_refused() -> bool:
            return await refused() == BAD

        await eventually(all_refused, what="the rest of the refusals")
        await mended.ready()
    assert await books.charged([good]) == USAGE_PARTITIONS
    places = 'SELECT count(DISTINCT (partition, "offset")) FROM quarantine WHERE position($1::bytea in key) > 0'
    assert await books.value(places, mark.encode()) == await refused() == BAD
    assert await books.failing() == {}


async def test_a_flood_of_one_publisher_and_one_among_good_records_stop_nobody(
    servers: ServerPair, bootstrap_servers: str, books: Books, tmp_path: Path
) -> None:
    mark, good, later = uuid4().hex, new_mandate(), new_mandate()
    flood = [RawRecord(b"{", envelope(), f"{mark}/flood".encode()) for _ in range(BAD)]
    mixed = []
    for partition in range(USAGE_PARTITIONS):
        for _ in range(5):
            mixed.append(usage_record(good, partition=partition))
            mixed += [RawRecord(each.value, each.headers, each.key, partition) for each in _bad(mark, 9)]
    worker = ServiceProcess(servers, "billing", "worker", tmp_path / "worker.log", more=LIMITED)
    async with _at_work(worker, servers):
        await worker.ready()
        for records in (flood, mixed):
            await publish(bootstrap_servers, records)
        await books.wait_charged([good], USAGE_PARTITIONS * 5)
        # And alone, while everybody else is quiet.
        await publish(bootstrap_servers, flood)
        await publish(bootstrap_servers, [usage_record(later)])
        await books.wait_charged([later], 1)

        async def all_refused() -> bool:
            return await _refused(books, mark) == 2 * BAD + USAGE_PARTITIONS * 5 * 9

        await eventually(all_refused, what="all refusals")
        assert await _failing(worker) == []
        assert await worker.metric("rappen_consumer_stopped", topic="usage.recorded") == 0
    assert '"consumer stopped"' not in worker.log_text()


async def test_events_refused_for_what_they_say_stop_nobody_of_however_many_mandates_they_are(
    servers: ServerPair, bootstrap_servers: str, books: Books, tmp_path: Path
) -> None:
    # One service account could send all of these through the gateway, which lets it name any mandate.
    mandates, ids, later = [new_mandate() for _ in range(KEYS * 2)], [uuid4() for _ in range(KEYS * 2)], new_mandate()
    keys = [mandate.encode() for mandate in mandates]
    firsts = [usage_record(mandate, event_id=id_) for mandate, id_ in zip(mandates, ids, strict=True)]
    contradicting = [
        usage_record(mandate, event_id=id_, amount=f"0.{number + 2:02}")
        for number in range(LENGTH // KEYS)
        for mandate, id_ in zip(mandates, ids, strict=True)
    ]
    worker = ServiceProcess(servers, "billing", "worker", tmp_path / "worker.log", more=LIMITED)
    async with _at_work(worker, servers):
        await worker.ready()
        await publish(bootstrap_servers, firsts)
        await books.wait_charged(mandates, len(mandates))
        await publish(bootstrap_servers, contradicting)
        await publish(bootstrap_servers, [usage_record(later)])
        await books.wait_charged([later], 1)

        async def all_refused() -> bool:
            return await books.value("SELECT count(*) FROM quarantine WHERE key = ANY ($1)", keys) == len(contradicting)

        await eventually(all_refused, what="all refusals")
        assert await _failing(worker) == []
    assert '"consumer stopped"' not in worker.log_text()


async def test_a_stopped_consumer_keeps_its_place_and_counts_as_alive_however_long_it_takes(
    bootstrap_servers: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_module, "INTERVAL_S", 0.5)
    monkeypatch.setattr(watch_module, "STUCK_AFTER_S", IDLE_S_MAX)
    monkeypatch.setattr(kafka_module, "MAX_POLL_INTERVAL_MS", int(IDLE_S_MAX * 1000))
    real, given_up, settled = RecordReader.revoke, 0, 0

    def revoke(reader: RecordReader) -> None:
        nonlocal given_up
        given_up += 1
        real(reader)

    monkeypatch.setattr(RecordReader, "revoke", revoke)

    async def handler(events: Sequence[Received], refused: Sequence[Refused]) -> Sequence[Refused]:
        nonlocal settled
        settled += len(events) + len(refused)
        return [*refused, *(Refused(received.record, "UNPROCESSABLE", "") for received in events)]

    health, stop = Health(), asyncio.Event()
    consumer = usage_consumer(
        bootstrap_servers,
        database,
        handler,
        health=health,
        session_timeout_ms=30_000,
        batch_records_max=BATCH,
        dead_letter_run=LENGTH,
        dead_letter_keys=KEYS,
    )
    await publish(bootstrap_servers, [usage_record(f"of-{number % 10}") for number in range(BAD)])
    running = asyncio.create_task(consumer.run(stop))

    async def is_stopped() -> bool:
        return any("stopped, because" in each for each in await health.failing())

    try:
        await eventually(is_stopped, what="the stop")
        before, places = settled, given_up
        await asyncio.sleep(IDLE_S_MAX * 2)
        assert not running.done(), running.exception()
        assert (settled, given_up) == (before, places)
        async with on_driver(database) as connection:
            assert await resume(connection, "usage.recorded", by="a test", now=datetime.now(UTC))

        async def went_on() -> bool:
            return settled > before

        await eventually(went_on, what="further records")
        await eventually(is_stopped, what="the second stop")
    finally:
        stop.set()
        await running
        async with on_driver(database) as connection:
            await resume(connection, "usage.recorded", by="a test", now=datetime.now(UTC))


async def test_every_worker_of_a_group_follows_a_stop_and_its_end_and_then_counts_anew(database: Database) -> None:
    group = f"tests-{uuid4()}"
    one, other = _limit(database, group), _limit(database, group)
    assert not one.reading.is_set(), "it reads before it knows whether it may"
    for limit in (one, other):
        await limit.look()
        await limit.add(LENGTH // 2, _refusals(LENGTH // 2))
    assert one.reading.is_set()
    await one.add(LENGTH // 2, _refusals(LENGTH // 2))
    assert not one.reading.is_set()
    assert other.reading.is_set()
    await other.look()
    assert not other.reading.is_set()
    assert one.stopped == other.stopped

    await _resume(database, group)
    for limit in (one, other):
        await limit.look()
        assert limit.reading.is_set()
        assert limit.stopped is None
        await limit.add(LENGTH - 1, _refusals(LENGTH - 1))
        assert limit.reading.is_set(), "it counted what was before"


async def test_a_resuming_between_two_looks_begins_a_new_run_too(database: Database) -> None:
    group = f"tests-{uuid4()}"
    one, other = _limit(database, group), _limit(database, group)
    await other.look()
    await other.add(LENGTH - 1, _refusals(LENGTH - 1))
    await one.look()
    await one.add(LENGTH, _refusals(LENGTH))
    await _resume(database, group)
    await other.look()
    await other.add(LENGTH - 1, _refusals(LENGTH - 1))
    assert other.reading.is_set()


async def test_a_stop_is_written_later_when_the_database_is_away(
    servers: ServerPair, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limit_module, "LOOK_TIMEOUT_S", 0.5)
    group = f"tests-{uuid4()}"
    limit = _limit(database, group)
    await limit.look()
    async with connected(servers.dsn("billing", owner=True)) as owner, owner.transaction():
        await owner.execute("LOCK TABLE stopped_consumers")
        await limit.add(LENGTH, _refusals(LENGTH))
        assert not limit.reading.is_set()
        await limit.look()
        assert not limit.reading.is_set()
        assert await owner.fetchval("SELECT count(*) FROM stopped_consumers WHERE group_id = $1", group) == 0
    await limit.look()
    assert not limit.reading.is_set()
    again = _limit(database, group)
    await again.look()
    assert again.stopped is not None
    await _resume(database, group)


async def test_a_look_that_gets_no_answer_ends_in_its_time_and_changes_nothing(
    servers: ServerPair, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limit_module, "LOOK_TIMEOUT_S", 0.5)
    new, reading = _limit(database, f"tests-{uuid4()}"), _limit(database, f"tests-{uuid4()}")
    await reading.look()
    owner = await asyncpg.connect(servers.dsn("billing", owner=True))
    try:
        async with owner.transaction():
            await owner.execute("LOCK TABLE stopped_consumers")
            async with asyncio.timeout(60):
                await asyncio.gather(new.look(), reading.look())
    finally:
        await owner.close()
    assert (new.reading.is_set(), reading.reading.is_set()) == (False, True)
    await new.look()
    assert new.reading.is_set()


async def test_a_second_stop_keeps_the_reason_of_the_first(database: Database) -> None:
    group = f"tests-{uuid4()}"
    one, other = _limit(database, group), _limit(database, group)
    for limit, code in ((one, "FIRST"), (other, "SECOND")):
        await limit.look()
        await limit.add(LENGTH - 1, _refusals(LENGTH - 1, code))
    for limit in (one, other):
        await limit.add(1, _refusals(1))
    async with on_driver(database) as connection:
        reason = await connection.fetchval("SELECT reason FROM stopped_consumers WHERE group_id = $1", group)
    assert reason.endswith("most of them as FIRST")
    await _resume(database, group)


async def test_without_the_table_nothing_is_read(servers: ServerPair) -> None:
    database = Database(servers.admin_dsn)
    await database.start()
    limit = _limit(database, "tests")
    try:
        with pytest.raises(asyncpg.UndefinedTableError):
            await limit.look()
        assert not limit.reading.is_set()
    finally:
        await database.stop()


def _limit(database: Database, group: str) -> DeadLetterLimit:
    settings = KafkaSettings(bootstrap_servers="-", dead_letter_run=LENGTH, dead_letter_keys=KEYS)
    return DeadLetterLimit(settings, database, group=group, topic=f"topic of {group}", clock=system_clock)


async def _resume(database: Database, group: str) -> None:
    async with on_driver(database) as connection:
        assert await resume(connection, f"topic of {group}", by="a test", now=datetime.now(UTC))


def _refusals(count: int, code: str = "NOT_JSON") -> list[Refused]:
    return [Refused(KafkaRecord("t", 0, 0, 0, f"{number % 10}".encode(), b"{"), code, "") for number in range(count)]


def _bad(mark: str, count: int) -> Sequence[RawRecord]:
    return [RawRecord(b"{", envelope(), f"{mark}/{number % 10}".encode()) for number in range(count)]


async def _refused(books: Books, mark: str) -> int:
    count: int = await books.value(
        "SELECT count(*) FROM quarantine WHERE position($1::bytea in key) > 0", mark.encode()
    )
    return count


async def _failing(worker: ServiceProcess) -> list[str]:
    """What `/readyz` says keeps it."""
    async with httpx.AsyncClient(trust_env=False) as client:
        try:
            answer = await client.get(f"{worker.url}/readyz", timeout=30)
        except httpx.TransportError:
            return ["it only begins"]
    failing: list[str] = answer.json()["failing"]
    return failing
