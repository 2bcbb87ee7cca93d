"""A relay that lost its lock between reading and sending does not tell an older state after a newer one."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import uuid4

import asyncpg

from services.chassis.clock import system_clock
from services.chassis.database import Database
from services.chassis.faults import FaultPoints
from services.chassis.outbox import OutboxRow
from services.chassis.relay import Relay
from services.chassis.settings import KafkaSettings
from tests.support.databases import connected, opened
from tests.support.parts import at_work
from tests.support.stack import ServerPair
from tests.support.topics import read_topic
from tests.support.waiting import eventually

TOPIC = "balance.changed"


class Balance:
    """One state that two relays publish; its version is what is published."""

    def __init__(self) -> None:
        self.key = f"relayed/{uuid4()}"
        self.version = self.published = 0


class Telling:
    """How one of the relays reads the state, with something that happens right after."""

    def __init__(self, balance: Balance, then: Callable[[asyncpg.Connection], Awaitable[None]] | None = None) -> None:
        self._balance = balance
        self._then = then

    async def read(self, connection: asyncpg.Connection, limit: int) -> Sequence[tuple[OutboxRow, Any]]:
        version = self._balance.version
        if self._balance.published >= version:
            return []
        if self._then is not None:
            await self._then(connection)
        row = OutboxRow(TOPIC, self._balance.key, "ch.rappen.test.v1", uuid4(), datetime.now(UTC), str(version))
        return [(row, version)]

    async def mark_published(self, connection: asyncpg.Connection, published: Sequence[Any]) -> None:
        self._balance.published = max(self._balance.published, *published)


async def test_a_relay_whose_lock_connection_died_sends_nothing_it_had_read(
    servers: ServerPair, bootstrap_servers: str
) -> None:
    balance = Balance()
    lost = asyncio.Event()

    async def lose_the_lock(connection: asyncpg.Connection) -> None:
        if lost.is_set():
            return
        lost.set()
        pid = connection.get_server_pid()
        async with connected(servers.admin_dsn) as admin:
            await admin.execute("SELECT pg_terminate_backend($1)", pid)
        balance.version = 2
        # It stands still while the other, which gets the lock now, tells what is newer.
        await eventually(lambda: balance.published >= 2, what="the newer state")

    dsn = servers.dsn("billing")
    async with opened(dsn, pool_size=2) as one, opened(dsn, pool_size=2) as other:
        async with at_work(_relay(one, bootstrap_servers, Telling(balance, lose_the_lock))):
            await eventually(partial(_is_locked, servers), what="the lock of the first")
            async with at_work(_relay(other, bootstrap_servers, Telling(balance))):
                balance.version = 1
                await eventually(lost.is_set, what="the loss of the lock")
                await eventually(lambda: balance.published >= 2, what="the newer state")
                await asyncio.sleep(3)
    assert (await _values(bootstrap_servers, balance.key))[-1] == b"2"


async def _is_locked(servers: ServerPair) -> bool:
    """Whether a relay holds the lock; no other advisory lock is held for long."""
    async with connected(servers.admin_dsn) as admin:
        return bool(await admin.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted"))


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
    return [record.value for record in await read_topic(bootstrap_servers, TOPIC, key=key)]
