"""Load that is valid or authorised and hostile all the same: what it costs the others is bounded, and it is seen."""

import json
import time
from pathlib import Path
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer

from rappen_contracts.registry import TOPICS
from tests.support.bombs import publish_bomb
from tests.support.databases import connected
from tests.support.events import USAGE_PARTITIONS, new_mandate, publish, usage_record
from tests.support.ledger import Books
from tests.support.processes import SHORT_SESSION, ServiceProcess, run_command
from tests.support.stack import ServerPair
from tests.support.topics import delete_topic, make_topic
from tests.support.waiting import eventually

MEMORY_BYTES_MAX = 300 * 1024 * 1024
GOOD, OVERSIZED_OF = 12_000, 20
# The partition that a foreign transaction holds up; its neighbours must not notice.
HELD = 7


async def test_oversized_amounts_an_expanding_batch_and_an_open_transaction_cost_the_others_little_and_are_seen(
    servers: ServerPair, bootstrap_servers: str, books: Books, tmp_path: Path
) -> None:
    free, held, model = [partition for partition in range(USAGE_PARTITIONS) if partition != HELD], new_mandate(), "dear"
    mandates, hostile = [new_mandate() for _ in range(20)], new_mandate()
    _add_dear_price(servers, tmp_path, model)
    stranger = AIOKafkaProducer(
        bootstrap_servers=bootstrap_servers, transactional_id=str(uuid4()), transaction_timeout_ms=60_000
    )
    await stranger.start()
    await stranger.begin_transaction()
    await stranger.send_and_wait("usage.recorded", b"never committed", partition=HELD)
    await publish(bootstrap_servers, [usage_record(held, partition=HELD) for _ in range(50)])
    records = []
    for number in range(GOOD):
        place = free[number % len(free)]
        records.append(usage_record(mandates[number % len(mandates)], partition=place))
        if number % (OVERSIZED_OF - 1) == 0:
            tokens = {"input": 2**53 - 1}
            records.append(usage_record(hostile, partition=place, cost=None, model=model, tokens=tokens))
    await publish(bootstrap_servers, records[: len(records) // 2])
    await publish_bomb(
        bootstrap_servers, "zstd", partition=free[0], records=4_000, value_bytes=250_000, key=hostile.encode()
    )
    await publish(bootstrap_servers, records[len(records) // 2 :])
    worker = ServiceProcess(servers, "billing", "worker", tmp_path / "worker.log", more=SHORT_SESSION, anew=True)
    worker.start()
    largest = 0

    async def charged() -> bool:
        nonlocal largest
        assert worker.running, worker.log_tail()
        largest = max(largest, worker.memory_bytes())
        return await books.charged(mandates) == GOOD

    try:
        await eventually(charged, timeout_s=150, what="charges of everybody else")
        assert await books.charged([held]) == 0, "the transaction held nothing up"
        await eventually(lambda: _lag(worker), timeout_s=20, what="lag of what is held up")
        await stranger.abort_transaction()
        await books.wait_charged([held], 50)
    finally:
        await stranger.stop()
        worker.stop()
    oversized = len(records) - GOOD
    assert (await books.refused(hostile))["AMOUNT_TOO_LARGE"] == oversized
    # Each was refused in the pass that charged its neighbours: no batch failed, none was halved.
    assert '"batch failed"' not in worker.log_text()
    assert largest < MEMORY_BYTES_MAX, f"{largest / 1024 / 1024:.0f} MiB"
    assert await books.failing() == {}


async def test_a_batch_that_expands_to_many_records_keeps_no_other_partition_waiting(
    servers: ServerPair, bootstrap_servers: str, books: Books, tmp_path: Path
) -> None:
    mandate, count = new_mandate(), 50_000
    await publish_bomb(bootstrap_servers, "zstd", partition=0, records=count, value_bytes=0, key=b"flood")
    worker = ServiceProcess(servers, "billing", "worker", tmp_path / "worker.log", more=SHORT_SESSION, anew=True)
    worker.start()
    try:
        await eventually(lambda: books.refused("flood"), what="refusals of the flood")
        await publish(bootstrap_servers, [usage_record(mandate, partition=number) for number in range(1, 12)])
        await books.wait_charged([mandate], 11)
        assert sum((await books.refused("flood")).values()) < count, "the flood was over before"
    finally:
        worker.stop()
        # What is left of the flood, and its letters, would keep the tests after this one busy.
        await delete_topic(bootstrap_servers, "usage.recorded")
        await make_topic(bootstrap_servers, "usage.recorded")
        await _forget_letters(servers, b"flood")


@pytest.mark.parametrize("topic", [topic.name for topic in TOPICS])
async def test_the_time_of_a_record_is_the_brokers_so_that_no_clock_ends_its_retention(
    servers: ServerPair, topic: str
) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=servers.kafka.bootstrap_servers)
    await producer.start()
    try:
        sent = await producer.send_and_wait(topic, b"{", key=b"k", timestamp_ms=1_000)
    finally:
        await producer.stop()
    assert sent.timestamp > (time.time() - 60) * 1000


async def _forget_letters(servers: ServerPair, key: bytes) -> None:
    async with connected(servers.admin_dsn) as connection:
        await connection.execute("DELETE FROM billing.quarantine WHERE key = $1", key)


async def _lag(worker: ServiceProcess) -> bool:
    return await worker.metric("rappen_consumer_lag_records", topic="usage.recorded") >= 50


def _add_dear_price(servers: ServerPair, folder: Path, model: str) -> None:
    entry = {"provider": "anthropic", "model": model, "currency": "CHF", "valid_from": "2026-01-01T00:00:00Z"}
    prices = [{**entry, "lists": [{"prices": {"input": "1000"}}]}]
    file = folder / "prices.json"
    file.write_text(json.dumps({"format": "rappen.prices.v1", "prices": prices}))
    done = run_command(servers, "billing", "prices", "import", str(file), "--apply")
    assert done.returncode == 0, done.stderr
