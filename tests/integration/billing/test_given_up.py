"""Transactions whose work is given up or whose connection ends, wherever that happens: the next one is its own."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
import sqlalchemy as sa
from sqlalchemy import AsyncAdaptedQueuePool
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.database import Database, begin, driver_connection, is_transient, is_undecided, savepoint
from tests.support.databases import connected, opened
from tests.support.stack import ServerPair
from tests.support.waiting import eventually

Work = Callable[[Database], Coroutine[Any, Any, None]]
Ask = Callable[[Database, str], Coroutine[Any, Any, Any]]


class _Cancelled(Awaitable[None]):
    """Work that is cancelled at one of the places where it waits: before what it waits for is there, or `late`, when it
    has arrived and the work has not gone on yet. A task that is cancelled in the same turn of the loop sees that."""

    def __init__(self, work: Coroutine[Any, Any, None], *, place: int, late: bool) -> None:
        self._work = work
        self._place = place
        self._late = late
        self.places = 0

    def __await__(self) -> Generator[Any, Any, None]:
        work = self._work.__await__()
        thrown: BaseException | None = None
        while True:
            try:
                waited_for = next(work) if thrown is None else work.throw(thrown)
            except StopIteration:
                return
            self.places += 1
            here, thrown = self.places == self._place, None
            task = asyncio.current_task()
            if here and not self._late and task is not None:
                asyncio.get_running_loop().call_soon(task.cancel)
            try:
                yield waited_for
            except BaseException as error:  # noqa: BLE001 - whatever it is, the work gets it.
                thrown = error
            if here and self._late and thrown is None:
                thrown = asyncio.CancelledError()


@pytest.fixture
async def single(servers: ServerPair) -> AsyncIterator[Database]:
    """One connection, which everybody gets."""
    async with opened(servers.dsn("billing"), pool_size=1) as database:
        yield database


async def _one_transaction(database: Database) -> None:
    async with database.transaction() as connection:
        await _both_ways(connection)


async def _with_savepoint(database: Database) -> None:
    async with database.transaction() as connection:
        await _both_ways(connection)
        async with savepoint(connection):
            await _both_ways(connection)


async def _one_after_the_other(database: Database) -> None:
    async with database.reading() as connection:
        await _both_ways(connection)
        for _ in range(2):
            async with begin(connection):
                await _both_ways(connection)


async def _both_ways(connection: AsyncConnection) -> None:
    await connection.execute(sa.text("SELECT 1"))
    await driver_connection(connection).fetch("SELECT 2")


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("work", [_one_transaction, _with_savepoint, _one_after_the_other])
async def test_what_follows_a_cancellation_is_committed_wherever_it_came(
    servers: ServerPair, single: Database, work: Work, late: bool, fresh: bool
) -> None:
    place = 0
    async with connected(servers.admin_dsn) as admin:
        while True:
            place += 1
            if fresh:
                await single.engine.dispose()
            attempt = _Cancelled(work(single), place=place, late=late)
            (error,) = await asyncio.gather(_awaited(attempt), return_exceptions=True)
            async with asyncio.timeout(60), single.transaction() as connection:
                number = await connection.scalar(sa.text("SELECT pg_current_xact_id()::text"))
            status = await admin.fetchval("SELECT pg_xact_status($1::text::xid8)", number)
            assert status == "committed", f"after a cancellation at {place}"
            if attempt.places < place:
                assert error is None
                break
            # Neither is it taken for a fault of the database, upon which the work would be tried again.
            assert isinstance(error, asyncio.CancelledError), f"{error!r} at {place}"
    assert place > 5


async def _awaited(attempt: _Cancelled) -> None:
    await attempt


async def test_an_error_in_a_transaction_whose_connection_is_gone_is_the_one_that_is_raised(
    servers: ServerPair, single: Database
) -> None:
    async with connected(servers.admin_dsn) as admin:
        with pytest.raises(LookupError):
            await _fail_without_connection(single, admin)
    async with single.transaction() as connection:
        await _both_ways(connection)


async def test_a_transaction_that_the_server_does_not_begin_leaves_the_connection_fit_for_others(
    single: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when somebody cancels what a backend is doing just as it begins; a part of one that runs fails by itself."""
    real, refused = asyncpg.Connection.execute, list[str]()

    async def execute(connection: asyncpg.Connection, query: str, *args: Any, **options: Any) -> str:
        if query.startswith(("BEGIN", "SAVEPOINT")) and query.split(maxsplit=1)[0].rstrip(";") not in refused:
            refused.append(query.split(maxsplit=1)[0].rstrip(";"))
            # The server's own answer, with which the connection stays.
            query = "SELECT 1 / 0"
        return await real(connection, query, *args, **options)

    monkeypatch.setattr(asyncpg.Connection, "execute", execute)
    for _ in range(2):
        with pytest.raises(asyncpg.DivisionByZeroError):
            await _with_savepoint(single)
    assert refused == ["BEGIN", "SAVEPOINT"]
    await _with_savepoint(single)


async def _fail_without_connection(database: Database, admin: asyncpg.Connection) -> None:
    async with database.transaction() as connection, savepoint(connection):
        pid = await connection.scalar(sa.text("SELECT pg_backend_pid()"))
        await admin.execute("SELECT pg_terminate_backend($1, 5000)", pid)
        raise LookupError


async def test_a_statement_that_a_migration_made_outdated_is_a_passing_fault(
    servers: ServerPair, single: Database
) -> None:
    """Each connection has it to itself, so with a pool of them the next try may find it again."""
    async with connected(servers.admin_dsn) as admin:
        await admin.execute("CREATE TABLE billing.changed (a int); GRANT ALL ON billing.changed TO billing_app")
        try:
            for on_driver in (False, True):
                await _read_changed(single, on_driver)
                await admin.execute("ALTER TABLE billing.changed ADD COLUMN IF NOT EXISTS b int, ALTER a TYPE bigint")
                with pytest.raises(asyncpg.InvalidCachedStatementError) as raised:
                    await _read_changed(single, on_driver)
                assert is_transient(raised.value)
                assert not is_undecided(raised.value)
                await _read_changed(single, on_driver)
                await admin.execute("ALTER TABLE billing.changed ALTER a TYPE int")
        finally:
            await admin.execute("DROP TABLE billing.changed")


async def _read_changed(database: Database, on_driver: bool) -> None:
    async with database.transaction() as connection:
        if on_driver:
            await driver_connection(connection).fetch("SELECT a FROM changed")
        else:
            await connection.execute(sa.text("SELECT a FROM changed"))


async def _asked(database: Database, statement: str) -> Any:
    async with database.reading() as connection:
        return await connection.scalar(sa.text(statement))


async def _asked_by_the_driver(database: Database, statement: str) -> Any:
    async with database.driver_reading() as connection:
        return await connection.fetchval(statement)


@pytest.mark.parametrize("ask", [_asked, _asked_by_the_driver])
async def test_a_connection_whose_statement_is_given_up_goes_to_nobody_else(
    servers: ServerPair, single: Database, ask: Ask
) -> None:
    before = await ask(single, "SELECT pg_backend_pid()")
    async with connected(servers.admin_dsn) as admin:
        given_up = await _asleep(ask, single, admin)
    given_up.cancel()
    # It begins in the same turn of the loop, as soon as the connection has come back and before that is closed.
    after = asyncio.create_task(ask(single, "SELECT pg_backend_pid()"))
    assert await after != before
    assert given_up.cancelled()


async def _asleep(ask: Ask, database: Database, admin: asyncpg.Connection) -> asyncio.Task[Any]:
    """A statement that the server has begun, and would not end before the test does."""
    mark = uuid4().hex
    asking = asyncio.create_task(ask(database, f"SELECT pg_sleep(300) AS of_{mark}"))
    running = f"SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND strpos(query, 'of_{mark}') > 0"
    await eventually(lambda: admin.fetchval(running), what="the statement")
    return asking


async def _given_up(ask: Ask, database: Database, admin: asyncpg.Connection) -> None:
    """Leaves a connection in the pool that is closed in the event loop's next turn."""
    (await _asleep(ask, database, admin)).cancel()


async def _ended_by_the_server(ask: Ask, database: Database, admin: asyncpg.Connection) -> None:
    """Leaves a connection in the pool that is known to be closed."""
    await admin.execute("SELECT pg_terminate_backend($1, 5000)", await ask(database, "SELECT pg_backend_pid()"))
    await asyncio.sleep(0.05)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("ask", [_asked, _asked_by_the_driver])
@pytest.mark.parametrize("end", [_given_up, _ended_by_the_server])
async def test_who_is_cancelled_while_a_connection_is_replaced_takes_no_place_of_the_pool_along(
    servers: ServerPair,
    single: Database,
    end: Callable[[Ask, Database, asyncpg.Connection], Awaitable[None]],
    ask: Ask,
    late: bool,
) -> None:
    pool = single.engine.sync_engine.pool
    assert isinstance(pool, AsyncAdaptedQueuePool)
    place = 0
    async with connected(servers.admin_dsn) as admin:
        while True:
            place += 1
            await end(ask, single, admin)
            attempt = _Cancelled(ask(single, "SELECT 1"), place=place, late=late)
            (error,) = await asyncio.gather(_awaited(attempt), return_exceptions=True)
            # While the error is kept, so is what it went through: the place must not depend on garbage collection.
            assert pool.checkedout() == 0, f"after {error!r} at {place}"
            if attempt.places < place:
                assert error is None
                break
    assert place > 2
