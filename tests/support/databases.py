"""Sessions of PostgreSQL for a test, closed at the end of a block."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from services.chassis.database import Database

__all__ = ["connected", "opened", "unseen"]


@asynccontextmanager
async def connected(dsn: str, *, schema: str | None = None) -> AsyncIterator[asyncpg.Connection]:
    """A connection; with a schema, its tables need no prefix. What is not committed at the end is rolled back."""
    connection = await asyncpg.connect(dsn, server_settings={"search_path": schema} if schema else None)
    try:
        yield connection
    finally:
        await connection.close()


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
