"""Placed locks: rows that another session locks, so that our transactions queue in a chosen order."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import asyncpg

from tests.support.databases import connected
from tests.support.waiting import eventually

__all__ = ["PlacedLock", "held", "held_accounts"]


class PlacedLock:
    """Rows under a lock until `release`, and who waits for them."""

    def __init__(self, holder: asyncpg.Connection, looking: asyncpg.Connection) -> None:
        self._holder = holder
        self._looking = looking
        self._begun: list[asyncio.Task[Any]] = []
        # The most transactions that were seen waiting for a lock at once: a proof that the fault was there.
        self.waited = 0

    async def begin(self, *work: Awaitable[Any]) -> None:
        """Starts the works one after the other: each stands at a lock or is done before the next one begins."""
        for each in work:
            before = await self._waiting()
            task = asyncio.ensure_future(each)
            self._begun.append(task)

            async def stands(task: asyncio.Task[Any] = task, before: int = before) -> bool:
                return task.done() or await self._waiting() > before

            await eventually(stands, what="a transaction at the lock")
            self.waited = max(self.waited, await self._waiting())

    async def release(self) -> list[Any]:
        """Lets go, and gives what each work returned, or the error that it raised."""
        await self._holder.execute("ROLLBACK")
        return await asyncio.wait_for(asyncio.gather(*self._begun, return_exceptions=True), 60)

    async def _waiting(self) -> int:
        """Transactions that wait for this session, or for one that does."""
        found: int = await self._looking.fetchval(
            "WITH RECURSIVE behind (pid) AS (SELECT $1::int UNION"
            " SELECT a.pid FROM pg_stat_activity a JOIN behind b ON b.pid = ANY (pg_blocking_pids(a.pid))"
            " WHERE a.wait_event_type = 'Lock') SELECT count(*) - 1 FROM behind",
            self._holder.get_server_pid(),
        )
        return found


@asynccontextmanager
async def held(admin_dsn: str, statement: str, *values: object) -> AsyncIterator[PlacedLock]:
    """What a statement locks, until the end of the block or `release`."""
    async with connected(admin_dsn) as holder, connected(admin_dsn) as looking:
        await holder.execute("BEGIN")
        await holder.fetch(statement, *values)
        yield PlacedLock(holder, looking)


def held_accounts(admin_dsn: str, mandate_id: str) -> AbstractAsyncContextManager[PlacedLock]:
    """All accounts that a mandate has so far, held as a charge would hold them."""
    return held(
        admin_dsn,
        "SELECT 1 FROM billing.accounts a JOIN billing.mandates m ON m.no = a.mandate_no WHERE m.id = $1"
        " FOR UPDATE OF a",
        mandate_id,
    )
