"""How long a session may hold up others, and what becomes of one whose statement was given up."""

import asyncio
import time
from collections.abc import AsyncIterator

import asyncpg
import pytest
import sqlalchemy as sa

from services.billing.checks.eligibility import TOGETHER_MAX, WAITING_MAX, Asked, EligibilityBatcher
from services.chassis.clock import system_clock
from services.chassis.database import (
    Database,
    DatabaseUnavailable,
    begin,
    extend_timeouts,
    is_transient,
    is_undecided,
)
from services.chassis.settings import DatabaseSettings
from tests.integration.billing.conftest import BillingApi
from tests.support.callers import system_admin
from tests.support.databases import connected, on_driver, opened
from tests.support.locks import held, held_accounts
from tests.support.stack import ServerPair

EXPECTED = {
    "lock_timeout": "5s",
    "statement_timeout": "30s",
    "idle_in_transaction_session_timeout": "1min",
    "client_connection_check_interval": "5s",
    "tcp_keepalives_idle": "15",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "30000",
}

# Much longer than any statement here is waited for.
STATEMENT_S = 30


@pytest.fixture
async def narrow(servers: ServerPair) -> AsyncIterator[Database]:
    """One connection, for which two may wait; a lock is waited for only shortly."""
    settings = DatabaseSettings(waiting_max=2, lock_timeout_s=0.3)
    async with opened(servers.dsn("billing"), pool_size=1, settings=settings) as database:
        yield database


async def test_each_session_has_its_limits_from_the_service(database: Database) -> None:
    async with on_driver(database) as connection:
        bare = {name: await connection.fetchval("SELECT current_setting($1)", name) for name in EXPECTED}
    async with database.reading() as reading:
        core = {
            name: (await reading.execute(sa.text("SELECT current_setting(:name)"), {"name": name})).scalar_one()
            for name in EXPECTED
        }
    assert bare == EXPECTED
    assert core == EXPECTED


async def test_a_lock_that_is_not_to_be_had_is_told_as_a_passing_fault(narrow: Database, servers: ServerPair) -> None:
    async with held(servers.admin_dsn, "LOCK TABLE billing.rates IN ACCESS EXCLUSIVE MODE") as lock:
        with pytest.raises(asyncpg.LockNotAvailableError) as refused:
            async with on_driver(narrow) as connection:
                await connection.fetch("SELECT * FROM rates")
        assert is_transient(refused.value)
        assert not is_undecided(refused.value)
        # Work that says so waits longer.
        async with narrow.transaction() as connection:
            await extend_timeouts(connection, 20)
            for name in ("lock_timeout", "statement_timeout"):
                assert await connection.scalar(sa.select(sa.func.current_setting(name))) == "20s"
            reading = asyncio.create_task(connection.execute(sa.text("SELECT * FROM rates")))
            await asyncio.sleep(1)
            assert not reading.done()
            await lock.release()
            await reading


async def test_work_that_says_so_may_take_longer_than_the_driver_waits_for_other_work(
    servers: ServerPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver's own limit is for a server that is silent; the server does not end these statements."""
    monkeypatch.setattr("services.chassis.database.COMMAND_TIMEOUT_S", 1.0)
    monkeypatch.setattr("services.chassis.database.COMMAND_TIMEOUT_BEYOND_S", -4.0)
    settings = DatabaseSettings(statement_timeout_s=5)
    async with opened(servers.dsn("billing"), pool_size=1, settings=settings) as database:
        async with database.reading() as connection:
            async with begin(connection):
                await extend_timeouts(connection, 60)
                assert await connection.scalar(sa.text("SELECT pg_sleep(3) IS NOT NULL"))
            # What comes after it on the same connection is given up as soon as ever.
            with pytest.raises(TimeoutError):
                await connection.execute(sa.text("SELECT pg_sleep(3)"))


@pytest.mark.parametrize("extended", [False, True])
async def test_a_server_that_is_silent_in_a_transaction_is_a_passing_fault(
    servers: ServerPair, monkeypatch: pytest.MonkeyPatch, extended: bool
) -> None:
    monkeypatch.setattr("services.chassis.database.COMMAND_TIMEOUT_S", 1.0)
    monkeypatch.setattr("services.chassis.database.COMMAND_TIMEOUT_BEYOND_S", -4.0)
    settings = DatabaseSettings(statement_timeout_s=5)
    async with opened(servers.dsn("billing"), pool_size=1, settings=settings) as database:
        with pytest.raises(TimeoutError) as raised:
            await _asleep_in_a_transaction(database, extended)
        assert is_transient(raised.value)
        assert is_undecided(raised.value)
        async with database.transaction() as connection:
            assert await connection.scalar(sa.text("SELECT true"))


async def _asleep_in_a_transaction(database: Database, extended: bool) -> None:
    async with database.transaction() as connection:
        if extended:
            await extend_timeouts(connection, 5.5)
        await connection.execute(sa.text("SELECT pg_sleep(5)"))


async def test_what_is_done_after_a_statement_was_given_up_hides_nothing(narrow: Database) -> None:
    with pytest.raises(TimeoutError):
        await _given_up_before_the_end(narrow)
    assert await narrow.ping()


async def _given_up_before_the_end(database: Database) -> None:
    async with database.transaction() as connection:
        try:
            async with asyncio.timeout(0.2):
                await connection.execute(sa.text(f"SELECT pg_sleep({STATEMENT_S})"))
        finally:
            await asyncio.sleep(0.01)


async def test_a_locked_account_answers_503_and_nothing_is_done(
    api: BillingApi, mandate: str, servers: ServerPair
) -> None:
    path = f"/api/billing/admin/credit/{mandate}"
    assert (await api.call(system_admin(), "POST", path, json={"amount": 1})).status_code == 200
    async with held_accounts(servers.admin_dsn, mandate):
        refused = await api.call(system_admin(), "POST", path, json={"amount": 1})
    assert (refused.status_code, refused.json()["code"]) == (503, "UNAVAILABLE")
    assert refused.headers["retry-after"] == "1"
    assert (await api.call(system_admin(), "POST", path, json={"amount": 1})).json()["balanceAfter"] == 2


async def test_a_statement_that_was_given_up_takes_its_connection_with_it(narrow: Database) -> None:
    async with on_driver(narrow) as connection:
        first = await connection.fetchval("SELECT pg_backend_pid()")
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2), on_driver(narrow) as connection, connection.transaction():
            await connection.fetchval(f"SELECT pg_sleep({STATEMENT_S})")
    with pytest.raises(TimeoutError):
        async with on_driver(narrow) as connection:
            await connection.fetchval(f"SELECT pg_sleep({STATEMENT_S})", timeout=0.2)
    async with on_driver(narrow) as connection:
        assert await connection.fetchval("SELECT pg_backend_pid()") != first
    assert time.monotonic() - started < STATEMENT_S


async def test_the_line_for_a_connection_is_short(narrow: Database) -> None:
    async with on_driver(narrow):
        waiting = [asyncio.create_task(narrow.ping()) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(DatabaseUnavailable) as refused:
            await narrow.ping()
        assert not any(task.done() for task in waiting)
        assert is_transient(refused.value)
        assert not is_undecided(refused.value)
    assert await asyncio.gather(*waiting) == [True, True]


@pytest.mark.parametrize("on_the_driver", [False, True])
async def test_a_server_that_refuses_connections_for_now_is_unavailable(
    servers: ServerPair, on_the_driver: bool
) -> None:
    database = Database(servers.dsn("billing"), pool_size=1)
    async with connected(servers.admin_dsn) as admin:
        # It answers so too while it starts: with an error of its own, and not by being away.
        await admin.execute("ALTER ROLE billing_app CONNECTION LIMIT 0")
        try:
            with pytest.raises(DatabaseUnavailable) as refused:
                await _borrow(database, on_the_driver)
        finally:
            await admin.execute("ALTER ROLE billing_app CONNECTION LIMIT -1")
    assert isinstance(refused.value.__cause__, asyncpg.TooManyConnectionsError)
    await _borrow(database, on_the_driver)
    await database.stop()


@pytest.mark.parametrize("on_the_driver", [False, True])
async def test_a_refused_password_is_no_passing_fault(servers: ServerPair, on_the_driver: bool) -> None:
    wrong = servers.dsn("billing").replace(servers.password("billing"), "wrong")
    with pytest.raises(asyncpg.InvalidPasswordError) as refused:
        await _borrow(Database(wrong, pool_size=1), on_the_driver)
    assert not is_transient(refused.value)


async def _borrow(database: Database, on_the_driver: bool) -> None:
    async with database.driver_reading() if on_the_driver else database.reading():
        pass


@pytest.mark.parametrize("on_the_driver", [False, True])
async def test_who_borrows_again_and_again_goes_behind_who_waits(narrow: Database, on_the_driver: bool) -> None:
    borrowed = narrow.driver_reading if on_the_driver else narrow.reading

    async def borrow_without_end() -> None:
        while True:
            async with borrowed() as connection:
                await connection.execute("SELECT 1" if on_the_driver else sa.text("SELECT 1"))

    borrowing = asyncio.create_task(borrow_without_end())
    try:
        for _ in range(5):
            await asyncio.sleep(0.02)
            async with asyncio.timeout(60):
                assert await narrow.ping()
    finally:
        borrowing.cancel()
        (ended,) = await asyncio.gather(borrowing, return_exceptions=True)
    assert isinstance(ended, asyncio.CancelledError)


async def test_more_checks_than_can_wait_are_refused_at_once(
    database: Database, mandate: str, servers: ServerPair
) -> None:
    batcher = EligibilityBatcher(database, system_clock, readers_max=1)
    asked = Asked(mandate, "user-1", None, None, None)
    async with held(servers.admin_dsn, "LOCK TABLE billing.price_book IN ACCESS EXCLUSIVE MODE"):
        read = [batcher.read(asked) for _ in range(TOGETHER_MAX + WAITING_MAX)]
        waiting = [asyncio.create_task(one) for one in read[:TOGETHER_MAX]]
        await asyncio.sleep(0.2)
        waiting += [asyncio.create_task(one) for one in read[TOGETHER_MAX:]]
        await asyncio.sleep(0)
        with pytest.raises(DatabaseUnavailable):
            await batcher.read(asked)
        # Who has gone leaves their place.
        waiting.pop().cancel()
        await asyncio.sleep(0)
        waiting.append(asyncio.create_task(batcher.read(asked)))
    async with asyncio.timeout(60):
        assert all(found.row["known"] for found in await asyncio.gather(*waiting))
