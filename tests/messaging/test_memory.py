"""A worker's memory is bounded, however much waits and whatever it decompresses to."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from aiokafka.record.util import encode_varint

from tests.support.bombs import PACK, publish_batch, publish_bomb
from tests.support.events import USAGE_PARTITIONS, RawRecord, new_mandate, publish, usage_record, uuid7
from tests.support.ledger import Books
from tests.support.processes import SHORT_SESSION, ServiceProcess
from tests.support.stack import ServerPair
from tests.support.waiting import eventually

MEMORY_BYTES_MAX = 300 * 1024 * 1024
BACKLOG = 200_000
BOMB_BYTES = 10 * 1024 * 1024


async def test_a_backlog_with_bombs_in_it_is_charged_in_bounded_memory(
    servers: ServerPair, bootstrap_servers: str, books: Books, tmp_path_factory: pytest.TempPathFactory
) -> None:
    mandates, bombed = [new_mandate() for _ in range(100)], new_mandate()
    bomb = usage_record(bombed, padding="x" * BOMB_BYTES)
    bombs = [replace(bomb, partition=number % USAGE_PARTITIONS) for number in range(60)]
    half = BACKLOG // 2
    await publish(bootstrap_servers, _many(mandates, half), compression="lz4")
    await publish(bootstrap_servers, bombs, compression="zstd")
    await publish(bootstrap_servers, bombs, compression="lz4")
    await publish(bootstrap_servers, _many(mandates, half), compression="lz4")
    log = tmp_path_factory.mktemp("log") / "worker.log"
    worker = ServiceProcess(servers, "billing", "worker", log, more=SHORT_SESSION, anew=True)
    worker.start()
    try:
        largest = 0
        while await books.charged(mandates) < BACKLOG:
            for _ in range(10):
                assert worker.running, worker.log_tail()
                largest = max(largest, worker.memory_bytes())
                await asyncio.sleep(0.1)
    finally:
        worker.stop()
    assert await books.refused(bombed) == {"RECORD_TOO_LARGE": 120}
    assert await books.value("SELECT max(length) FROM quarantine WHERE key = $1", bombed.encode()) > BOMB_BYTES
    assert await books.charged(mandates) == BACKLOG
    assert largest < MEMORY_BYTES_MAX, f"{largest / 1024 / 1024:.0f} MiB"


async def test_batches_that_expand_to_gigabytes_are_refused_in_bounded_memory_and_their_neighbours_charged(
    servers: ServerPair, bootstrap_servers: str, books: Books, tmp_path_factory: pytest.TempPathFactory
) -> None:
    mandate, bombed, started = new_mandate(), new_mandate(), datetime.now(UTC)
    zeros, key = 250_000, bombed.encode()
    # What was not unpacked has no key; others may have left such letters before.
    ours = "(key = $1 OR length = -1 AND quarantined_at >= $2)"
    # More than the worker may take each, or what fits into the largest message the broker takes.
    bombs = {"zstd": 1_400, "gzip": 1_400, "lz4": 900, "snappy": 80}
    beside = [usage_record(mandate, partition=number % USAGE_PARTITIONS) for number in range(1_200)]
    await publish(bootstrap_servers, beside[:600])
    for place, (codec, count) in enumerate(bombs.items()):
        await publish_bomb(bootstrap_servers, codec, partition=place % 2, records=count, value_bytes=zeros, key=key)
        await publish_bomb(bootstrap_servers, "zstd", partition=place % 2, records=1, value_bytes=2**30, key=key)
    await publish(bootstrap_servers, beside[600:])
    log = tmp_path_factory.mktemp("log") / "worker.log"
    worker = ServiceProcess(servers, "billing", "worker", log, more=SHORT_SESSION, anew=True)
    worker.start()
    largest = 0

    async def done() -> bool:
        nonlocal largest
        assert worker.running, worker.log_tail()
        largest = max(largest, worker.memory_bytes())
        letters = await books.value(f"SELECT count(*) FROM quarantine WHERE {ours}", key, started)
        return await books.charged([mandate]) == len(beside) and int(letters) >= sum(bombs.values()) + len(bombs)

    try:
        await eventually(done, timeout_s=300, what="charges of all neighbours and a letter for each record")
    finally:
        worker.stop()
    codes = await books.fetch(f"SELECT DISTINCT error_code FROM quarantine WHERE {ours}", key, started)
    # What was unpacked whole is judged by itself: zeros are no JSON.
    assert {row[0] for row in codes} == {"NOT_JSON", "RECORD_TOO_LARGE"}
    kept = await books.fetch("SELECT octet_length(value) AS size, sha256 FROM quarantine WHERE length = $1", 2**30)
    assert [(row["size"], row["sha256"]) for row in kept] == [(64 * 1024, b"")] * len(bombs)
    assert await books.failing() == {}
    assert largest < MEMORY_BYTES_MAX, f"{largest / 1024 / 1024:.0f} MiB"


async def test_records_of_millions_of_headers_are_refused_in_bounded_memory(
    servers: ServerPair, bootstrap_servers: str, books: Books, tmp_path_factory: pytest.TempPathFactory
) -> None:
    mandate, count, bombed = new_mandate(), 10_000_000, range(4)
    key = new_mandate()
    # Key and value, then the headers, each without name and value.
    body = b"\x00\x00\x00" + _varint(len(key)) + key.encode() + b"\x02v" + _varint(count) + b"\x00\x01" * count
    packed = PACK["zstd"](iter([_varint(len(body)) + body]))
    for partition in bombed:
        await publish_batch(bootstrap_servers, packed, codec="zstd", partition=partition, records=1)
        await publish(bootstrap_servers, [usage_record(mandate, partition=partition)])
    log = tmp_path_factory.mktemp("log") / "worker.log"
    worker = ServiceProcess(servers, "billing", "worker", log, more=SHORT_SESSION, anew=True)
    worker.start()
    largest = 0

    async def done() -> bool:
        nonlocal largest
        assert worker.running, worker.log_tail()
        largest = max(largest, worker.memory_bytes())
        return await books.charged([mandate]) == len(bombed)

    try:
        await eventually(done, timeout_s=120, what="charges of all neighbours")
    finally:
        worker.stop()
    assert largest < MEMORY_BYTES_MAX, f"{largest / 1024 / 1024:.0f} MiB"
    assert await books.refused(key) == {"DAMAGED_BATCH": len(bombed)}


def _varint(number: int) -> bytes:
    raw = bytearray()
    encode_varint(number, raw.append)
    return bytes(raw)


def _many(mandates: list[str], count: int) -> list[RawRecord]:
    """Events that differ in their ids alone, because making them must not take longer than charging them."""
    templates = [usage_record(mandate) for mandate in mandates]
    records = []
    for number in range(count):
        template = templates[number % len(templates)]
        headers = [(name, str(uuid7()).encode() if name == "ce_id" else raw) for name, raw in template.headers]
        records.append(RawRecord(template.value, headers, template.key))
    return records
