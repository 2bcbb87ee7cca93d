"""The billing api, and a gateway in front of it, upon a large ledger that the audit has found to be in order."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from services.chassis.caller import Caller
from tests.bench.large_ledger import DAYS, LargeLedger, Size
from tests.support.callers import headers
from tests.support.databases import connected, opened
from tests.support.gateway import GatewayProcess, Issuer
from tests.support.ledger import Books
from tests.support.processes import ServiceProcess
from tests.support.stack import ServerPair

__all__ = ["FULL_SIZE", "QUICK_SIZE", "LargeStack", "asked"]

FULL_SIZE = Size(rows=5_000_000, large=500_000, postpaid=1_000_000)
QUICK_SIZE = Size(rows=500_000, large=50_000, postpaid=100_000)
ANSWER_S = 120


class LargeStack:
    """Servers of its own, because what other runs leave would be part of what is measured."""

    def __init__(self, folder: Path, size: Size) -> None:
        self.folder = folder
        self.size = size
        self.servers = ServerPair(folder, disposable=False)
        self.now = datetime.now(UTC)
        # How long it took to fill the ledger, and to audit it.
        self.filled_s = self.audited_s = 0.0

    @asynccontextmanager
    async def running(self) -> AsyncIterator["LargeStack"]:
        """The servers with the ledger in them."""
        try:
            # The fixture of the tests runs event loops of its own.
            await asyncio.to_thread(self.servers.start, ["billing", "gateway"])
            async with opened(self.servers.dsn("billing"), pool_size=2) as database:
                begun = time.perf_counter()
                await LargeLedger(self.servers, database, self.size, now=self.now).fill()
                self.filled_s = time.perf_counter() - begun
            begun = time.perf_counter()
            await self.require_order()
            self.audited_s = time.perf_counter() - begun
            yield self
        finally:
            await asyncio.to_thread(self.servers.stop)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection of the database's administrator, which looks at billing's tables."""
        async with connected(self.servers.admin_dsn, schema="billing") as connection:
            yield connection

    @property
    def middle(self) -> date:
        """A day in the middle of the ledger, most of which is of that day's year."""
        return self.now.date() - timedelta(days=DAYS // 2)

    async def require_order(self) -> None:
        """Raises unless the audit finds nothing and the ledger has as many rows as were wanted."""
        books = Books(self.servers.admin_dsn)
        failing = await books.failing()
        if failing:
            raise RuntimeError(f"the audit finds {failing}")
        rows = await books.value("SELECT count(*) FROM transactions")
        if not 0.99 * self.size.rows <= rows <= 1.01 * self.size.rows:
            raise RuntimeError(f"the ledger has {rows:,} rows of {self.size.rows:,}")

    @asynccontextmanager
    async def api(self) -> AsyncIterator[tuple[ServiceProcess, httpx.AsyncClient]]:
        """The billing api and a client of it."""
        async with (
            ServiceProcess(self.servers, "billing", "api", self.folder / "api.log") as api,
            httpx.AsyncClient(base_url=api.url, trust_env=False, timeout=ANSWER_S) as client,
        ):
            yield api, client

    @asynccontextmanager
    async def gateway(self, api: ServiceProcess) -> AsyncIterator[tuple[GatewayProcess, httpx.AsyncClient]]:
        """A gateway in front of that api, and a client that asks it as the operator."""
        issuer = Issuer(self.folder)
        # What is asked goes to billing alone.
        peers = dict.fromkeys(("billing", "payments", "subscriptions"), api)
        async with GatewayProcess(self.servers, issuer, peers, self.folder, role="api") as gateway:
            operator = issuer.person("root", system_admin=True)
            async with httpx.AsyncClient(
                base_url=gateway.url, headers=operator, trust_env=False, timeout=ANSWER_S
            ) as client:
                yield gateway, client

    def signed(self, caller: Caller) -> dict[str, str]:
        """The context that the gateway would send."""
        return headers(caller, audience="billing", secret=self.servers.secret)


async def asked(client: httpx.AsyncClient, path: str, params: Mapping[str, Any], signed: Mapping[str, str]) -> float:
    """Asks once; gives the milliseconds, and raises for any other answer than 200."""
    begun = time.perf_counter()
    answer = await client.get(path, params=params, headers=signed)
    elapsed = (time.perf_counter() - begun) * 1_000
    if answer.status_code != 200:
        raise RuntimeError(f"{path} {params}: {answer.status_code} {answer.text[:300]}")
    return elapsed
