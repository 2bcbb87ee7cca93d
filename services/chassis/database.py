"""PostgreSQL: an engine for statements of SQLAlchemy Core, a pool of bare asyncpg connections for the hot paths."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

__all__ = ["Database", "is_transient"]

CONNECT_TIMEOUT_S = 5.0
# A statement that takes longer than this is stuck; the caller gets an error and tries again or answers 503.
COMMAND_TIMEOUT_S = 60.0

# connection failures, transaction rollback (deadlock, serialization), insufficient resources, operator intervention,
# lock not available, cannot connect now, read-only (a failover in progress).
_TRANSIENT_CLASSES = ("08", "40", "53", "57", "58")
_TRANSIENT_STATES = ("55P03", "25006")


class Database:
    """One service's schema through its application role. `start` before use, `stop` at the end."""

    def __init__(self, url: str, *, pool_size: int = 8) -> None:
        self._url = make_url(url).set(drivername="postgresql")
        self._pool_size = pool_size
        self.engine: AsyncEngine = create_async_engine(
            self._url.set(drivername="postgresql+asyncpg"),
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=CONNECT_TIMEOUT_S,
            # A server that was restarted leaves dead connections in the pool.
            pool_pre_ping=True,
            connect_args={"timeout": CONNECT_TIMEOUT_S, "command_timeout": COMMAND_TIMEOUT_S},
        )
        self._pool: asyncpg.Pool | None = None

    async def start(self) -> None:
        """Opens the pool of bare connections; raises when the server is away."""
        self._pool = await asyncpg.create_pool(
            self._url.render_as_string(hide_password=False),
            min_size=1,
            max_size=self._pool_size,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=COMMAND_TIMEOUT_S,
            max_inactive_connection_lifetime=300.0,
            # The statements are written so that one plan, by index, serves any number of rows; planning each anew costs
            # more than most of them do.
            server_settings={"plan_cache_mode": "force_generic_plan"},
            # Whoever borrows a connection closes what it opens on it; resetting it each time would cost a round trip.
            reset=_leave_as_it_is,
        )

    async def stop(self) -> None:
        """Closes every connection."""
        await self.engine.dispose()
        if self._pool is not None:
            self._pool.terminate()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """One transaction of SQLAlchemy Core, committed at the end of the block."""
        async with self.engine.begin() as connection:
            yield connection

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A connection for reads; nothing is committed."""
        async with self.engine.connect() as connection:
            yield connection

    @asynccontextmanager
    async def bare(self) -> AsyncIterator[asyncpg.Connection]:
        """A bare asyncpg connection; the caller opens its transaction."""
        if self._pool is None:
            raise RuntimeError("start() comes first")
        async with self._pool.acquire(timeout=CONNECT_TIMEOUT_S) as connection:
            yield connection

    async def ping(self) -> bool:
        """Whether the server answers this role."""
        async with self.bare() as connection:
            return bool(await connection.fetchval("SELECT true"))


async def _leave_as_it_is(_: asyncpg.Connection) -> None:
    return


def is_transient(error: BaseException) -> bool:
    """Whether trying the same work again can succeed: the database was away, busy or broke a deadlock.

    What is not known to be transient is not: a data error repeated for ever would stop a partition.
    """
    if isinstance(error, PoolTimeoutError):
        return True
    if isinstance(error, DBAPIError) and error.orig is not None:
        if error.connection_invalidated:
            return True
        error = error.orig.__cause__ or error.orig
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        return state[:2] in _TRANSIENT_CLASSES or state in _TRANSIENT_STATES
    # asyncpg says InterfaceError for a connection that was closed under it.
    return isinstance(error, OSError | TimeoutError | asyncpg.InterfaceError | asyncpg.InternalClientError)
