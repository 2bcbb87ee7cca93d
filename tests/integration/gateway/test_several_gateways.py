"""Several gateways: on one port, and with limits that all of them count together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from deploy.local.ports import free_port
from services.chassis.database import Database
from services.gateway.access import windows
from services.gateway.access.windows import OwnWindows, SharedWindows, Taken, Windows
from tests.integration.gateway.support import Peer, assert_problem, unique
from tests.support.databases import connected, opened
from tests.support.gateway import GatewayProcess, Issuer
from tests.support.processes import run_command
from tests.support.stack import ServerPair

QUOTA = 6
OPERATION = "billing-list-balances"
MORE = {
    "GATEWAY_HTTP__SHARED": "true",
    "GATEWAY_RATE_LIMITS__ENABLED": "true",
    "GATEWAY_RATE_LIMITS__SHARED": "true",
    "GATEWAY_RATE_LIMITS__OVERRIDES": f'{{"{OPERATION}": {QUOTA}}}',
}


@pytest.fixture
async def database(servers: ServerPair) -> AsyncIterator[Database]:
    async with opened(servers.dsn("gateway"), pool_size=4) as pool:
        yield pool


@asynccontextmanager
async def two_on_one_port(
    servers: ServerPair, issuer: Issuer, peers: dict[str, Peer], folder: Path
) -> AsyncIterator[list[GatewayProcess]]:
    port = free_port()
    async with AsyncExitStack() as started:
        yield [
            await started.enter_async_context(
                GatewayProcess(servers, issuer, peers, folder, role="api", more=MORE, port=port)
            )
            for _ in range(2)
        ]


def connections(process: GatewayProcess) -> int:
    """How many callers are connected to this process."""
    return sum(
        connection.status == psutil.CONN_ESTABLISHED and connection.laddr.port == process.port
        for connection in psutil.Process(process.pid).net_connections("tcp")
    )


async def test_two_gateways_on_one_port_share_its_connections_and_its_limits(
    servers: ServerPair, issuer: Issuer, peers: dict[str, Peer], tmp_path: Path
) -> None:
    me = issuer.person(unique("user"))
    async with two_on_one_port(servers, issuer, peers, tmp_path) as gateways:
        url = gateways[0].url
        clients = [httpx.AsyncClient(base_url=url, trust_env=False, timeout=20) for _ in range(32)]
        async with AsyncExitStack() as opened_clients:
            for client in clients:
                await opened_clients.enter_async_context(client)
            answers = await asyncio.gather(*(client.get("/api/billing/balance", headers=me) for client in clients))
            assert [connections(gateway) > 0 for gateway in gateways] == [True, True]
            assert sum(map(connections, gateways)) == len(clients)
            assert sorted(answer.status_code for answer in answers) == [200] * QUOTA + [429] * (len(clients) - QUOTA)
            left = {answer.headers["ratelimit"].split(";")[1] for answer in answers if answer.status_code == 200}
            assert left == {f"r={number}" for number in range(QUOTA)}
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert_problem(refused, 429, "RATE_LIMITED")
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        # One ends; the other goes on, and knows what both have counted.
        await asyncio.to_thread(gateways[0].stop)
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=20) as client:
            assert (await client.get("/api/billing/balance", headers=me)).status_code == 429
            assert (await client.get("/api/billing/transactions", headers=me)).status_code == 200


def test_several_gateways_that_would_each_count_for_themselves_do_not_start(
    gateway: GatewayProcess, servers: ServerPair
) -> None:
    more = {**gateway.settings, **MORE, "GATEWAY_RATE_LIMITS__SHARED": "false"}
    refused = run_command(servers, "gateway", "api", more=more, anew=True)
    assert refused.returncode == 2
    assert "rate_limits.shared" in refused.stderr


@pytest.mark.parametrize("shared", [False, True])
async def test_a_quota_is_given_once_however_many_ask_at_the_same_time(database: Database, shared: bool) -> None:
    counting: Windows = SharedWindows(database) if shared else OwnWindows()
    subject = unique("user")
    taken = await asyncio.gather(*(counting.take(subject, OPERATION, 20) for _ in range(50)))
    granted = [each for each in taken if each.granted]
    assert sorted(each.remaining for each in granted) == list(range(20))
    assert {each.remaining for each in taken if not each.granted} == {0}
    assert all(50 < each.reset_s <= 60 for each in taken)
    assert (await counting.take(subject, "another", 20)).remaining == 19
    assert (await counting.take(unique("user"), OPERATION, 20)).remaining == 19


async def test_a_request_counts_for_a_minute_from_its_own_moment(
    servers: ServerPair, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting, subject = SharedWindows(database), unique("user")
    for _ in range(3):
        await counting.take(subject, OPERATION, 3)
    assert not (await counting.take(subject, OPERATION, 3)).granted

    async def passes(seconds: int) -> None:
        async with connected(servers.dsn("gateway", owner=True)) as connection:
            await connection.execute(
                "UPDATE gateway.rate_windows SET taken = ARRAY(SELECT at - make_interval(secs => $1)"
                " FROM unnest(taken) WITH ORDINALITY AS each (at, no) ORDER BY no)",
                seconds,
            )

    await passes(40)
    told = await counting.take(subject, OPERATION, 3)
    assert (told.granted, told.remaining) == (False, 0)
    assert 15 < told.reset_s <= 20
    await passes(21)
    granted = await counting.take(subject, OPERATION, 3)
    assert (granted.granted, granted.remaining) == (True, 2)
    assert granted.reset_s == pytest.approx(60, abs=1)
    # What is over is deleted at the next look; what still counts is not.
    await passes(30)
    other = unique("user")
    await counting.take(other, OPERATION, 3)
    await passes(31)
    monkeypatch.setattr(windows, "SWEEP_S", 0.0)
    sweeping = SharedWindows(database)
    assert isinstance(await sweeping.take(other, "another", 3), Taken)
    async with connected(servers.dsn("gateway", owner=True)) as connection:
        rows = await connection.fetch(
            "SELECT subject, operation_id FROM gateway.rate_windows WHERE subject = ANY($1)", [subject, other]
        )
    assert {tuple(row) for row in rows} == {(other, OPERATION), (other, "another")}


async def test_a_gateway_alone_counts_like_several() -> None:
    now_s = 1000.0
    counting = OwnWindows(lambda: now_s)
    subject = unique("user")
    for remaining in (2, 1, 0):
        assert await counting.take(subject, OPERATION, 3) == Taken(True, remaining, 60)
    now_s += 40
    assert await counting.take(subject, OPERATION, 3) == Taken(False, 0, 20)
    now_s += 20
    assert await counting.take(subject, OPERATION, 3) == Taken(True, 2, 60)
    # Nothing is kept of callers who have not come for a minute.
    for number in range(100):
        await counting.take(f"{subject}-{number}", OPERATION, 3)
    now_s += 2 * windows.SWEEP_S
    await counting.take(subject, "another", 3)
    assert len(counting._taken) == 1
