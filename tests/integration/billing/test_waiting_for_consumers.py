"""Waiting until others have read a change: nobody else waits for it."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from deploy.local.ports import free_port
from services.chassis.consumer_progress import WAIT_S_MAX, ConsumerProgress
from services.chassis.database import Database
from services.chassis.settings import KafkaSettings
from tests.support.databases import on_driver, opened
from tests.support.stack import ServerPair

POOL_SIZE = 2


@pytest.fixture
async def narrow(servers: ServerPair) -> AsyncIterator[Database]:
    """A pool that a few waiting callers would use up."""
    async with opened(servers.dsn("billing"), pool_size=POOL_SIZE) as database:
        yield database


@pytest.fixture
async def unrelayed(narrow: Database) -> AsyncIterator[None]:
    """A row that no relay takes away."""
    async with on_driver(narrow) as connection:
        number = await connection.fetchval(
            "INSERT INTO outbox (event_id, topic, key, type, occurred_at, data, created_at)"
            " VALUES (gen_random_uuid(), 'balance.changed', 'm', 't', now(), '{}', now()) RETURNING id"
        )
    yield
    async with on_driver(narrow) as connection:
        await connection.execute("DELETE FROM outbox WHERE id = $1", number)


@pytest.mark.usefixtures("unrelayed")
async def test_while_callers_wait_for_a_broker_that_is_away_others_are_answered(narrow: Database) -> None:
    broker_away = KafkaSettings(bootstrap_servers=f"127.0.0.1:{free_port()}")
    consumer_progress = ConsumerProgress(broker_away, narrow, client_id="test")
    waiting = [asyncio.create_task(consumer_progress.caught_up("payment.succeeded")) for _ in range(POOL_SIZE * 5)]
    await asyncio.sleep(0.3)
    slowest = 0.0
    while not all(task.done() for task in waiting):
        started = time.monotonic()
        assert await narrow.ping()
        slowest = max(slowest, time.monotonic() - started)
        await asyncio.sleep(0.05)
    assert slowest < WAIT_S_MAX * 0.8
    assert not any(await asyncio.gather(*waiting))
    await consumer_progress.stop()
