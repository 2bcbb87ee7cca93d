"""What is asked of the database, counted."""

import inspect
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from services.chassis.database import Database

__all__ = ["CountedDatabase"]


class CountedConnection:
    """A connection that notes every call that goes to the server: statements and COPY of whatever kind."""

    def __init__(self, connection: asyncpg.Connection, calls: list[str]) -> None:
        self._connection = connection
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        # What asyncpg awaits, it asks of the server; a new way to ask is counted without being named here.
        if inspect.iscoroutinefunction(getattr(asyncpg.Connection, name)):
            self._calls.append(name)
        return getattr(self._connection, name)


class CountedDatabase(Database):
    """The real database, whose bare connections count."""

    def __init__(self, database: Database) -> None:
        self._real = database
        self.calls: list[str] = []

    @asynccontextmanager
    async def bare(self) -> AsyncIterator[Any]:
        """A counted connection."""
        async with self._real.bare() as connection:
            yield CountedConnection(connection, self.calls)
