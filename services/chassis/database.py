"""PostgreSQL: one pool a process, for statements of SQLAlchemy Core and, below them, for the driver's own.

Transactions are those of asyncpg, so statements of Core and those that a repository of a hot path sends through
`driver_connection` (COPY, prepared ones) are in the same one. Errors of the server are asyncpg's on both ways.
Whatever the server does, nobody waits for it without an end: the queue for a connection is short, a session's locks
and statements have their time, and a statement that was given up takes its connection with it.
"""

import asyncio
import math
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, ClassVar, TypeVar

import asyncpg
import orjson
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import ExceptionContext, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from services.chassis.settings import DatabaseSettings

__all__ = [
    "OPERATOR_TIMEOUTS",
    "Contended",
    "Database",
    "DatabaseUnavailable",
    "announce",
    "begin",
    "driver_connection",
    "extend_timeouts",
    "is_transient",
    "is_undecided",
    "raise_what_the_driver_raised",
    "savepoint",
]

CONNECT_TIMEOUT_S = 5.0
# The driver's limit is longer than the server's, whose error says what it ended; it is for a server that is silent.
COMMAND_TIMEOUT_S = 60.0
# By so much at least.
COMMAND_TIMEOUT_BEYOND_S = 5.0
CLIENT_CHECK_S = 5
# Unanswered keepalive probes after which a silent peer counts as gone; the first is sent after half of the timeout.
KEEPALIVES = 3

_Borrowed = TypeVar("_Borrowed")
# Where a connection remembers what its transaction has announced.
_ANNOUNCED = "announced"
_GENERIC_PLANS = {"plan_cache_mode": "force_generic_plan"}

# For an operator's commands, which have the time that their work takes.
OPERATOR_TIMEOUTS = DatabaseSettings(lock_timeout_s=60.0, statement_timeout_s=900.0)

# connection failures, transaction rollback (deadlock, serialization), insufficient resources, operator intervention,
# lock not available, cannot connect now, read-only (a failover in progress).
_TRANSIENT_CLASSES = ("08", "40", "53", "57", "58")
_TRANSIENT_STATES = ("55P03", "25006")


class DatabaseUnavailable(Exception):  # noqa: N818 - named for what the caller finds.
    """No connection could be had, so nothing was done."""


class Contended(Exception):  # noqa: N818 - as above.
    """The work gave way to that of others each time it was begun, so nothing was done."""


class _Connection(asyncpg.Connection):  # type: ignore[misc]
    """A connection that ends with the statement that was given up on it.

    asyncpg would ask the server over a second connection to cancel, and the caller that gave up would wait for that
    answer for as long as the server stands still. The server notices the closed connection and cancels by itself.
    """

    peer_timeout_s: ClassVar[int]
    # The driver's own settings of the connection.
    _config: Any
    # Set in the moment a statement is given up; the connection is closed only in the event loop's next turn.
    given_up = False

    def __init__(self, protocol: Any, transport: asyncio.Transport, *more: Any) -> None:
        super().__init__(protocol, transport, *more)
        self._ordinary: Any = self._config
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            _watch_peer(sock, self.peer_timeout_s)

    def extend_timeout(self, seconds: float) -> None:
        """Waits for the answer to a statement that may take so long. The driver has no other way to say so for the
        statements of one transaction, which SQLAlchemy sends."""
        longer = max(self._ordinary.command_timeout, seconds + COMMAND_TIMEOUT_BEYOND_S)
        self._config = self._ordinary._replace(command_timeout=longer)

    def restore_timeout(self) -> None:
        """Waits as long as ever again."""
        self._config = self._ordinary

    def _cancel_current_command(self, *waiters: asyncio.Future[None]) -> None:
        self.given_up = True
        super()._cancel_current_command(*waiters)

    async def _cancel(self, waiter: asyncio.Future[None], cancel_waiter: asyncio.Future[None] | None = None) -> None:
        self.terminate()


def announce(connection: AsyncConnection, name: str) -> None:
    """Has the notice of that name set (`Database.notice`) once the caller's transaction is committed, where that is one
    of `Database.transaction`. After any other, whoever waits finds the work at their next look."""
    _info(connection).setdefault(_ANNOUNCED, set()).add(name)


def _info(connection: AsyncConnection) -> dict[str, Any]:
    """What is remembered with the driver's connection. What was announced before a rollback stays there, and sets a
    notice for nothing later, which costs a look."""
    sync = connection.sync_connection
    return {} if sync is None else sync.info


class Database:
    """One service's schema through its application role. `start` before use, `stop` at the end."""

    def __init__(
        self,
        url: str,
        *,
        pool_size: int = 8,
        settings: DatabaseSettings | None = None,
        generic_plans: bool = False,
        session: Mapping[str, str] | None = None,
    ) -> None:
        """`generic_plans` is for a service whose statements are written so that one plan, by index, serves any values:
        planning them at each execution costs more than most of them do. `session` are values of the service's own,
        which its statements read from their session."""
        settings = settings or DatabaseSettings()
        self._notices: dict[str, asyncio.Event] = {}
        self._waiting = 0
        self._waiting_max = settings.waiting_max
        self.engine: AsyncEngine = create_async_engine(
            make_url(url).set(drivername="postgresql+asyncpg"),
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=CONNECT_TIMEOUT_S,
            # By default all connections of the pool are used in turn, and each has to keep its plans and caches warm.
            pool_use_lifo=True,
            # Transactions are begun and ended on the driver's connection; there is nothing to reset behind them.
            isolation_level="AUTOCOMMIT",
            pool_reset_on_return=None,
            # Values of rows must not get into logs, not even with an error.
            hide_parameters=True,
            json_deserializer=orjson.loads,
            connect_args={
                "timeout": CONNECT_TIMEOUT_S,
                "command_timeout": max(COMMAND_TIMEOUT_S, settings.statement_timeout_s + COMMAND_TIMEOUT_BEYOND_S),
                "connection_class": type("_Connection", (_Connection,), {"peer_timeout_s": settings.peer_timeout_s}),
                "server_settings": {
                    **_session(settings),
                    **(_GENERIC_PLANS if generic_plans else {}),
                    **(session or {}),
                },
            },
        )
        # The pool replaces a connection by this. SQLAlchemy's own would first wait for a polite close, and who is
        # cancelled meanwhile would take the connection's place in the pool along.
        self.engine.sync_engine.dialect.do_terminate = _terminate  # type: ignore[method-assign]
        event.listen(self.engine.sync_engine, "checkin", _close_in_transaction)
        event.listen(self.engine.sync_engine, "checkout", _refuse_closed)
        event.listen(self.engine.sync_engine, "handle_error", raise_what_the_driver_raised)

    async def start(self) -> None:
        """Opens a first connection; raises when the server is away."""
        async with self.reading():
            pass

    async def stop(self) -> None:
        """Closes every connection."""
        await self.engine.dispose()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """One transaction, committed at the end of the block."""
        async with self.reading() as connection:
            async with begin(connection):
                yield connection
            for name in _info(connection).pop(_ANNOUNCED, ()):
                self.notice(name).set()

    def notice(self, name: str) -> asyncio.Event:
        """Set when a transaction of this process is committed that has announced work of that name, for who would else
        find it at their next look. Who waits for it clears it before each look."""
        return self._notices.setdefault(name, asyncio.Event())

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A connection on which each statement stands alone: for reads."""
        connection = await self._borrow(self.engine.connect)
        try:
            yield connection
        except asyncpg.InterfaceError as error:
            # A rollback of the driver's own found its connection gone with the statement before it, as in `begin`.
            if isinstance(error.__context__, asyncio.CancelledError | TimeoutError):
                raise error.__context__ from None
            raise
        finally:
            # Nothing in it waits, so it is done even where the caller was cancelled.
            await connection.close()

    @asynccontextmanager
    async def driver_reading(self) -> AsyncIterator[asyncpg.Connection]:
        """The driver's connection of `reading` by itself, for the statements of a check and of a caller's scope:
        SQLAlchemy's around it costs as much as a part of that."""
        borrowed = await self._borrow(self.engine.raw_connection)
        try:
            yield borrowed.driver_connection
        finally:
            borrowed.close()

    @property
    def awaited(self) -> bool:
        """Whether somebody waits for a connection, so that who keeps one for long should give it back."""
        return self._waiting > 0

    async def ping(self) -> bool:
        """Whether the server answers this role."""
        async with self.reading() as connection:
            return bool(await connection.scalar(sa.select(sa.true())))

    async def _borrow(self, connect: Callable[[], Awaitable[_Borrowed]]) -> _Borrowed:
        """A connection of the pool; `DatabaseUnavailable` where too many wait for one, or none is free in time."""
        if self._waiting >= self._waiting_max:
            raise DatabaseUnavailable
        others_wait = self.awaited
        self._waiting += 1
        try:
            if others_wait:
                # Who waits takes a connection that came back in the turn after that. Without this turn, who gives one
                # back and borrows again at once would always be first.
                await asyncio.sleep(0)
            return await connect()
        except Exception as error:
            # Below SQLAlchemy's own connection nothing has called `raise_what_the_driver_raised`.
            found = _drivers_own(error)
            if is_transient(found):
                raise DatabaseUnavailable from found
            if found is not error:
                raise found from None
            raise
        finally:
            self._waiting -= 1


def _session(settings: DatabaseSettings) -> dict[str, str]:
    """The settings of each session; a number without a unit is milliseconds to the server."""
    return {
        "lock_timeout": _milliseconds(settings.lock_timeout_s),
        "statement_timeout": _milliseconds(settings.statement_timeout_s),
        "idle_in_transaction_session_timeout": _milliseconds(settings.idle_in_transaction_timeout_s),
        # A statement whose caller is gone ends here, and not when it is done.
        "client_connection_check_interval": _milliseconds(CLIENT_CHECK_S),
        "tcp_keepalives_idle": str(settings.peer_timeout_s // 2),
        "tcp_keepalives_interval": str(_keepalive_interval_s(settings.peer_timeout_s)),
        "tcp_keepalives_count": str(KEEPALIVES),
        "tcp_user_timeout": _milliseconds(settings.peer_timeout_s),
    }


def _watch_peer(sock: socket.socket, peer_timeout_s: int) -> None:
    """Keepalive on the client's side of the connection; the option names are those of Linux, where the services run."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, number in (
        ("TCP_KEEPIDLE", peer_timeout_s // 2),
        ("TCP_KEEPINTVL", _keepalive_interval_s(peer_timeout_s)),
        ("TCP_KEEPCNT", KEEPALIVES),
        ("TCP_USER_TIMEOUT", peer_timeout_s * 1000),
    ):
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), number)


def _keepalive_interval_s(peer_timeout_s: int) -> int:
    return max(1, peer_timeout_s // (2 * KEEPALIVES))


def _milliseconds(seconds: float) -> str:
    return str(math.ceil(seconds * 1000))


async def extend_timeouts(connection: AsyncConnection, seconds: float) -> None:
    """Lets the statements of the running transaction take `seconds` each, waiting for locks included.

    It is itself a statement in the ordinary time, so a server that stands still is noticed before the long one begins.
    """
    limit = _milliseconds(seconds)
    local = (sa.func.set_config(name, limit, True) for name in ("statement_timeout", "lock_timeout"))
    await connection.execute(sa.select(*local))
    driver_connection(connection).extend_timeout(seconds)


def driver_connection(connection: AsyncConnection) -> asyncpg.Connection:
    """The connection of asyncpg below, in the same transaction: for the repositories of the hot paths alone."""
    below = connection.sync_connection
    if below is None:
        raise RuntimeError("the connection is closed")
    return below.connection.driver_connection


@asynccontextmanager
async def begin(connection: AsyncConnection) -> AsyncIterator[None]:
    """One transaction on a connection of `Database.reading`, for work that needs several, one after the other; where
    one is running already, a part of it as by `savepoint`."""
    driver = driver_connection(connection)
    transaction = driver.transaction()
    is_part = driver.is_in_transaction()
    try:
        await transaction.start()
    except BaseException:
        # The driver takes it for begun all the same, and would make what comes next on the connection a part of it.
        if not is_part:
            driver.terminate()
        raise
    try:
        yield
    except BaseException:
        try:
            await transaction.rollback()
        except Exception:
            # Gone with the statement before it, the connection has nothing to roll back; why it is gone is what counts.
            if not driver.is_closed():
                raise
        raise
    else:
        await transaction.commit()
    finally:
        if not driver.is_closed() and not driver.is_in_transaction():
            driver.restore_timeout()


@asynccontextmanager
async def savepoint(connection: AsyncConnection) -> AsyncIterator[None]:
    """A part of the running transaction that can fail by itself: what it did is then undone, and the error raised."""
    async with begin(connection):
        yield


def _terminate(dbapi_connection: DBAPIConnection) -> None:
    dbapi_connection.driver_connection.terminate()


def _close_in_transaction(connection: DBAPIConnection | None, *_: object) -> None:
    """Closes a connection that comes back with a transaction open, as after a cancellation that arrived together with
    the server's answer to BEGIN: whoever had it next would work in that transaction, which nobody commits."""
    if connection is None or connection.driver_connection.is_closed():
        return
    if connection.driver_connection.is_in_transaction():
        connection.driver_connection.terminate()


def _refuse_closed(connection: DBAPIConnection, *_: object) -> None:
    """Makes the pool replace a connection that the server has closed meanwhile, or that is about to be closed; needs no
    round trip."""
    if connection.driver_connection.is_closed() or connection.driver_connection.given_up:
        raise DisconnectionError


def raise_what_the_driver_raised(context: ExceptionContext) -> None:
    """Unwraps the two exceptions of SQLAlchemy, so that errors of the server are asyncpg's wherever they are
    handled."""
    error = _drivers_own(context.original_exception)
    if error is not context.original_exception:
        raise error


def _drivers_own(error: BaseException) -> BaseException:
    """What asyncpg raised, where SQLAlchemy's dialect has raised an error of its own from that."""
    cause = error.__cause__
    drivers = isinstance(cause, asyncpg.PostgresError | asyncpg.InterfaceError | asyncpg.InternalClientError)
    return cause if cause is not None and drivers else error


def is_transient(error: BaseException) -> bool:
    """Whether trying the same work again can succeed: the database was away, busy or broke a deadlock.

    What is not known to be transient is not: a data error repeated for ever would stop a partition.
    """
    if isinstance(error, PoolTimeoutError | DatabaseUnavailable | Contended):
        return True
    # A migration changed a table under a prepared statement, which this connection prepares anew the next time.
    if isinstance(error, asyncpg.InvalidCachedStatementError):
        return True
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        return state[:2] in _TRANSIENT_CLASSES or state in _TRANSIENT_STATES
    # asyncpg says InterfaceError for a connection that was closed under it.
    return isinstance(error, OSError | TimeoutError | asyncpg.InterfaceError | asyncpg.InternalClientError)


def is_undecided(error: BaseException) -> bool:
    """Whether the work of a transient error may have been done: the answer to it was lost, not refused."""
    if not is_transient(error) or isinstance(error, PoolTimeoutError | DatabaseUnavailable | Contended):
        return False
    # What the server itself answered with was rolled back; class 08 is what the client says of a lost connection.
    return not isinstance(error, asyncpg.PostgresError) or (error.sqlstate or "08")[:2] == "08"
