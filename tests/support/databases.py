"""Sessions of PostgreSQL for a test, closed at the end of a block."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from weakref import WeakKeyDictionary

import asyncpg

from services.chassis.database import Database, driver_connection

__all__ = ["connected", "kept", "on_driver", "opened", "unseen"]

# What nobody uses now: in each event loop one connection for each address and schema.
_idle: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[str, str], asyncpg.Connection]] = WeakKeyDictionary()


@asynccontextmanager
async def connected(dsn: str, *, schema: str | None = None) -> AsyncIterator[asyncpg.Connection]:
    """A connection; with a schema, its tables need no prefix. What is not committed at the end is rolled back."""
    connection = await asyncpg.connect(dsn, server_settings={"search_path": schema} if schema else None)
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def kept(dsn: str, *, schema: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection that is kept for the next block: to connect costs as much CPU as a hundred short statements."""
    idle = _idle.setdefault(asyncio.get_running_loop(), {})
    connection = idle.pop((dsn, schema), None)
    if connection is None or not await _as_new(connection):
        # No plan is kept, because tests change tables.
        connection = await asyncpg.connect(dsn, server_settings={"search_path": schema}, statement_cache_size=0)
    try:
        yield connection
    except BaseException:
        connection.terminate()
        raise
    if idle.setdefault((dsn, schema), connection) is not connection:
        await connection.close()


async def _as_new(connection: asyncpg.Connection) -> bool:
    """Whether it is as it was when it was opened, also where its server was stopped or has ended it."""
    try:
        await connection.reset()
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        connection.terminate()
        return False
    return True


@asynccontextmanager
async def unseen(dsn: str, *, schema: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection in a transaction that is rolled back at the end: what is done there nobody else ever sees."""
    async with connected(dsn, schema=schema) as connection:
        transaction = connection.transaction(isolation="repeatable_read")
        await transaction.start()
        try:
            yield connection
        finally:
            await transaction.rollback()


@asynccontextmanager
async def opened(dsn: str, **options: Any) -> AsyncIterator[Database]:
    """A service's database with its pool, as the service opens it; options are those of `Database`."""
    database = Database(dsn, **options)
    await database.start()
    try:
        yield database
    finally:
        await database.stop()


@asynccontextmanager
async def on_driver(database: Database) -> AsyncIterator[asyncpg.Connection]:
    """The driver's connection below one of the service's pool, for statements that a test writes itself."""
    async with database.reading() as connection:
        yield driver_connection(connection)
