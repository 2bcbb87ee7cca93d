"""A relay that lost its lock between reading and sending does not tell an older state after a newer one."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import asyncpg
from aiokafka import AIOKafkaConsumer

from services.chassis.clock import system_clock
from services.chassis.database import Database
from services.chassis.faults import FaultPoints
from services.chassis.outbox import OutboxRow
from services.chassis.relay import Relay
from services.chassis.settings import KafkaSettings
from tests.support.ledger import eventually
from tests.support.stack import ServerPair

TOPIC = "balance.changed"


class Balance:
    """One state that two relays tell; its version is what is told."""

    def __init__(self) -> None:
        self.key = f"relayed/{uuid4()}"
        self.version = self.told = 0


class Telling:
    """How one of the relays reads the state, with something that happens right after."""

    def __init__(self, balance: Balance, then: Callable[[asyncpg.Connection], Awaitable[None]] | None = None) -> None:
        self._balance = balance
        self._then = then

    async def read(self, connection: asyncpg.Connection, limit: int) -> Sequence[tuple[OutboxRow, Any]]:
        version = self._balance.version
        if self._balance.told >= version:
            return []
        if self._then is not None:
            await self._then(connection)
        row = OutboxRow(TOPIC, self._balance.key, "ch.rappen.test.v1", uuid4(), datetime.now(UTC), str(version))
        return [(row, version)]

    async def forget(self, connection: asyncpg.Connection, told: Sequence[Any]) -> None:
        self._balance.told = max(self._balance.told, *told)


async def test_a_relay_whose_lock_connection_died_sends_nothing_it_had_read(
    servers: ServerPair, bootstrap_servers: str
) -> None:
    balance, stop = Balance(), asyncio.Event()
    databases = [Database(servers.dsn("billing"), pool_size=2) for _ in range(2)]
    for database in databases:
        await database.start()
    lost = asyncio.Event()

    async def lose_the_lock(connection: asyncpg.Connection) -> None:
        if lost.is_set():
            return
        lost.set()
        pid = connection.get_server_pid()
        admin = await asyncpg.connect(servers.admin_dsn)
        try:
            await admin.execute("SELECT pg_terminate_backend($1)", pid)
        finally:
            await admin.close()
        balance.version = 2
        # It stands still while the other, which gets the lock now, tells what is newer.
        await eventually(_told(balance, 2), what="the newer state")

    first = _relay(databases[0], bootstrap_servers, Telling(balance, lose_the_lock))
    second = _relay(databases[1], bootstrap_servers, Telling(balance))
    running = [asyncio.create_task(first.run(stop))]
    try:
        await asyncio.sleep(2)
        running.append(asyncio.create_task(second.run(stop)))
        balance.version = 1
        await asyncio.wait_for(lost.wait(), 30)
        await eventually(_told(balance, 2), what="the newer state")
        await asyncio.sleep(3)
    finally:
        stop.set()
        await asyncio.gather(*running)
        for database in databases:
            await database.stop()
    assert (await _values(bootstrap_servers, balance.key))[-1] == b"2"


def _told(balance: Balance, version: int) -> Callable[[], Awaitable[bool]]:
    async def told() -> bool:
        return balance.told >= version

    return told


def _relay(database: Database, bootstrap_servers: str, states: Telling) -> Relay:
    return Relay(
        database,
        KafkaSettings(bootstrap_servers=bootstrap_servers),
        client_id="test-relay",
        source="/tests",
        clock=system_clock,
        faults=FaultPoints(None),
        states=states,
    )


async def _values(bootstrap_servers: str, key: str) -> list[bytes]:
    consumer = AIOKafkaConsumer(TOPIC, bootstrap_servers=bootstrap_servers, auto_offset_reset="earliest")
    await consumer.start()
    try:
        found = await consumer.getmany(timeout_ms=3_000)
        return [record.value for records in found.values() for record in records if record.key == key.encode()]
    finally:
        await consumer.stop()
