"""The number of statements of a charge does not depend on the number of events in it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.charging.charge_usage import ChargeUsage
from services.chassis.clock import system_clock
from services.chassis.consumer import Received
from services.chassis.database import Database, driver_connection
from services.chassis.faults import FaultPoints
from tests.support.charging import received
from tests.support.events import new_mandate, usage_record
from tests.support.ledger import Books

SIZES = (1, 10, 100, 1000)
COUNTED = ("copy_to_table", "execute", "executemany", "fetch", "fetchrow", "fetchval")


class CountedDriver:
    """A connection of the driver that counts every call that goes to the server, COPY too."""

    def __init__(self, driver: asyncpg.Connection, calls: list[str]) -> None:
        self._driver = driver
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        if name in COUNTED:
            self._calls.append(name)
        return getattr(self._driver, name)


class CountedConnection:
    """A connection below which a counted one of the driver stands, where `driver_connection` looks for it."""

    def __init__(self, connection: AsyncConnection, calls: list[str]) -> None:
        below = CountedDriver(driver_connection(connection), calls)
        self.sync_connection = SimpleNamespace(connection=SimpleNamespace(driver_connection=below))


class CountedDatabase(Database):
    """The real database, whose connections count."""

    def __init__(self, database: Database) -> None:
        self._real = database
        self.calls: list[str] = []

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Any]:
        """A counted connection."""
        async with self._real.reading() as connection:
            yield CountedConnection(connection, self.calls)


async def test_new_events_of_known_places_take_the_same_statements_whatever_their_number(
    database: Database, books: Books
) -> None:
    mandates, counted = [new_mandate() for _ in range(5)], CountedDatabase(database)
    charge = _charge(counted)
    await charge(_batch(mandates, 100), [])
    statements = {}
    for size in SIZES:
        counted.calls.clear()
        await charge(_batch(mandates, size), [])
        statements[size] = list(counted.calls)
    assert len({tuple(calls) for calls in statements.values()}) == 1, statements
    assert len(statements[1]) <= 10
    assert statements[1].count("copy_to_table") == 1
    assert await books.charged(mandates) == 100 + sum(SIZES)


async def test_a_batch_of_repeats_takes_the_same_statements_whatever_their_number(
    database: Database, books: Books
) -> None:
    mandates, counted = [new_mandate()], CountedDatabase(database)
    charge = _charge(counted)
    known = _batch(mandates, max(SIZES))
    await charge(known, [])
    statements = {}
    for size in SIZES:
        counted.calls.clear()
        await charge([*known[:size], *_batch(mandates, 1)], [])
        statements[size] = len(counted.calls)
    assert len(set(statements.values())) == 1, statements
    assert await books.charged(mandates) == max(SIZES) + len(SIZES)


async def test_new_mandates_members_and_models_take_the_same_statements_whatever_their_number(
    database: Database, books: Books
) -> None:
    counted = CountedDatabase(database)
    charge = _charge(counted)
    await charge(_batch([new_mandate()], 1), [])
    statements = {}
    for size in SIZES:
        mandates = [new_mandate() for _ in range(size)]
        counted.calls.clear()
        await charge(_batch(mandates, size, model=f"model-{uuid4()}"), [])
        statements[size] = len(counted.calls)
        assert await books.charged(mandates) == size
    assert len(set(statements.values())) == 1, statements


async def test_events_without_a_price_take_the_same_statements_whatever_their_number(
    database: Database, books: Books
) -> None:
    mandates, counted = [new_mandate()], CountedDatabase(database)
    charge = _charge(counted)
    unpriced = {"cost": None, "tokens": {"input": 1}, "model": f"model-{uuid4()}"}
    await charge(_batch(mandates, 3, **unpriced), [])
    statements = {}
    for size in SIZES:
        counted.calls.clear()
        await charge(_batch(mandates, size, **unpriced), [])
        statements[size] = list(counted.calls)
    assert len({tuple(calls) for calls in statements.values()}) == 1, statements
    assert await books.parked(mandates) == 3 + sum(SIZES)


def _charge(database: Database) -> ChargeUsage:
    return ChargeUsage(database, default_markup=Decimal(50), clock=system_clock, faults=FaultPoints(None))


def _batch(mandates: list[str], size: int, **data: Any) -> list[Received]:
    records = [usage_record(mandates[n % len(mandates)], f"user-{n % 3}", **data) for n in range(size)]
    return received(records)
