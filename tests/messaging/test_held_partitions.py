"""What stops a partition from outside is told: a transaction that its producer leaves open, a topic that is no more."""

import asyncio
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from deploy.ops.overview import look, table
from tests.support.events import new_mandate, publish, usage_record
from tests.support.ledger import Books
from tests.support.processes import ServiceProcess
from tests.support.waiting import eventually

PARTITION = 5


async def test_a_foreign_open_transaction_is_seen_in_lag_readiness_metric_and_status_and_ends_in_bounded_time(
    bootstrap_servers: str, worker: ServiceProcess, books: Books
) -> None:
    mandate = new_mandate()
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap_servers, transactional_id=str(uuid4()), transaction_timeout_ms=30_000
    )
    await producer.start()
    open_one = usage_record(mandate)
    await producer.begin_transaction()
    await producer.send_and_wait(
        "usage.recorded", open_one.value, key=open_one.key, headers=open_one.headers, partition=PARTITION
    )
    try:
        await publish(bootstrap_servers, [usage_record(mandate, partition=PARTITION) for _ in range(20)])
        await publish(bootstrap_servers, [usage_record(mandate, partition=PARTITION - 1) for _ in range(20)])
        # The neighbours in other partitions go on.
        await books.wait_charged([mandate], 20)
        await eventually(lambda: _lag(worker, 21), what="lag to the end of the log")
        await eventually(lambda: worker.is_held_up(f"usage.recorded[{PARTITION}]@"), what="a red light")
        held = await worker.metric("rappen_partition_held_seconds", topic="usage.recorded", partition=str(PARTITION))
        assert held >= 10
        process = {
            "name": "billing-1", "role": "worker", "port": worker.port, "pid": worker.pid, "restarts": 0,
            "health": f"{worker.url}/readyz",
        }  # fmt: skip
        (row,) = rows = await look({"kafka": bootstrap_servers, "processes": [process]})
        assert not row.ready
        assert row.lag is not None
        assert row.lag >= 21
        assert "held up by an open transaction for" in row.why
        assert table(rows).columns[-1].header == "why"
        # Its producer never ends it; the broker does.
        await books.wait_charged([mandate], 40, timeout_s=70)
        await worker.ready()
        assert await worker.metric("rappen_partition_held_seconds", topic="usage.recorded") == 0
        assert await books.charged([mandate]) == 40
    finally:
        # It was fenced meanwhile.
        await asyncio.wait_for(producer.stop(), timeout=60)


async def test_the_broker_grants_no_transaction_more_than_a_minute(bootstrap_servers: str) -> None:
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap_servers, transactional_id=str(uuid4()), transaction_timeout_ms=61_000
    )
    try:
        with pytest.raises(KafkaError):
            await producer.start()
    finally:
        await producer.stop()


async def _lag(worker: ServiceProcess, least: int) -> bool:
    return await worker.metric("rappen_consumer_lag_records", topic="usage.recorded") >= least
