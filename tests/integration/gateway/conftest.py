"""One gateway with its peers for all tests of this folder."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from tests.integration.gateway.support import Peer, directory_read_by_all
from tests.support.gateway import GatewayProcess, Issuer
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
    async with httpx.AsyncClient(base_url=gateway.url, timeout=20, trust_env=False) as http:
        yield http


@pytest.fixture(scope="package")
def admin(issuer: Issuer) -> dict[str, str]:
    """The headers of a system administrator."""
    return issuer.person("root", system_admin=True)
