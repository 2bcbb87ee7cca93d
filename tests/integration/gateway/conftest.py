"""One gateway with its peers for all tests of this folder."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from services.chassis.database import Database
from tests.integration.gateway.support import Peer, directory_read_by_all
from tests.support.databases import opened
from tests.support.gateway import GatewayProcess, Issuer
from tests.support.processes import ServiceProcess
from tests.support.stack import ServerPair


@pytest.fixture(scope="package")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerPair]:
    with ServerPair(tmp_path_factory.mktemp("servers")).running() as pair:
        yield pair


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gateway")


@pytest.fixture(scope="package")
def issuer(folder: Path) -> Issuer:
    return Issuer(folder)


@pytest.fixture(scope="package")
async def peers(servers: ServerPair) -> AsyncIterator[dict[str, Peer]]:
    started = {name: Peer(name, servers.secret) for name in ("billing", "payments", "subscriptions")}
    for peer in started.values():
        await peer.start()
    yield started
    for peer in started.values():
        await peer.stop()


@pytest.fixture(scope="package")
async def directory_read(servers: ServerPair) -> AsyncIterator[None]:
    async with directory_read_by_all(servers.kafka.bootstrap_servers):
        yield


@pytest.fixture(scope="package")
async def gateway(
    servers: ServerPair, issuer: Issuer, peers: dict[str, Peer], directory_read: None, folder: Path
) -> AsyncIterator[GatewayProcess]:
    async with GatewayProcess(servers, issuer, peers, folder, more={"GATEWAY_STREAM_RENEWAL_S": "1"}) as process:
        yield process


@pytest.fixture(scope="package")
async def client(gateway: GatewayProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=gateway.url, timeout=120, trust_env=False) as http:
        yield http


@pytest.fixture(scope="package")
def admin(issuer: Issuer) -> dict[str, str]:
    """The headers of a system administrator."""
    return issuer.person("root", system_admin=True)


@pytest.fixture
async def database(servers: ServerPair) -> AsyncIterator[Database]:
    """The database of billing."""
    async with opened(servers.dsn("billing"), pool_size=2) as database:
        yield database


@pytest.fixture
async def http(
    servers: ServerPair, issuer: Issuer, peers: dict[str, Peer], folder: Path
) -> AsyncIterator[httpx.AsyncClient]:
    """A gateway in front of billing itself."""
    async with ServiceProcess(servers, "billing", "api", folder / "billing.log") as billing:
        async with GatewayProcess(servers, issuer, {**peers, "billing": billing}, folder, role="api") as gateway:
            async with httpx.AsyncClient(base_url=gateway.url, timeout=120, trust_env=False) as client:
                yield client
