"""Counting the statements that are sent to the database."""

import asyncio
import inspect
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.database import Database, driver_connection

__all__ = ["CountedDatabase"]


class CountedDriver:
    """A connection of the driver that notes every call that goes to the server: statements, and COPY of any kind."""

    def __init__(self, connection: asyncpg.Connection, calls: list[str]) -> None:
        self._connection = connection
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        # What asyncpg awaits, it asks of the server; a new way to ask is counted without being named here.
        if inspect.iscoroutinefunction(getattr(type(self._connection), name)):
            self._calls.append(name)
        return getattr(self._connection, name)


class CountedConnection:
    """A connection that notes the statements of Core, below which a counted one of the driver stands, where
    `driver_connection` looks for it."""

    def __init__(self, connection: AsyncConnection, calls: list[str]) -> None:
        self._connection = connection
        self._calls = calls
        below = SimpleNamespace(driver_connection=CountedDriver(driver_connection(connection), calls))
        # With it goes what a transaction announces.
        info = {} if connection.sync_connection is None else connection.sync_connection.info
        self.sync_connection = SimpleNamespace(connection=below, info=info)

    def __getattr__(self, name: str) -> Any:
        if inspect.iscoroutinefunction(getattr(AsyncConnection, name)):
            self._calls.append(name)
        return getattr(self._connection, name)


class CountedDatabase(Database):
    """The real database, whose connections count."""

    def __init__(self, database: Database) -> None:
        self._real = database
        self.calls: list[str] = []

    @property
    def awaited(self) -> bool:
        """As the real one."""
        return self._real.awaited

    def notice(self, name: str) -> asyncio.Event:
        """That of the real one."""
        return self._real.notice(name)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Any]:
        """A counted connection."""
        async with self._real.reading() as connection:
            yield CountedConnection(connection, self.calls)

    @asynccontextmanager
    async def driver_reading(self) -> AsyncIterator[Any]:
        """A counted connection of the driver."""
        async with self._real.driver_reading() as connection:
            yield CountedDriver(connection, self.calls)
