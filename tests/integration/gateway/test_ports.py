"""What is public and what is not: health and metrics are told on the internal port alone."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import httpx
import pytest

from tests.integration.gateway.support import GatewayProcess, Issuer, Peer, assert_problem
from tests.support.stack import ServerPair

INTERNAL_PATHS = ("/healthz", "/readyz", "/metrics")


@pytest.mark.parametrize("path", INTERNAL_PATHS)
async def test_the_public_port_knows_nothing_of_health_and_metrics(client: httpx.AsyncClient, path: str) -> None:
    told = assert_problem(await client.get(path), 404, "NOT_FOUND")
    unknown = assert_problem(await client.get("/nothing"), 404, "NOT_FOUND")
    assert {**told, "requestId": ""} == {**unknown, "requestId": ""}


async def test_the_internal_port_tells_health_and_metrics_and_nothing_else(gateway: GatewayProcess) -> None:
    async with httpx.AsyncClient(base_url=gateway.internal_url, trust_env=False) as internal:
        answers = {path: await internal.get(path) for path in INTERNAL_PATHS}
        assert {path: answer.status_code for path, answer in answers.items()} == dict.fromkeys(INTERNAL_PATHS, 200)
        assert answers["/readyz"].json() == {"ready": True, "failing": []}
        assert "rappen_outbox_rows" in answers["/metrics"].text
        for path in ("/api/billing/balance", "/openapi.json", "/nothing"):
            assert_problem(await internal.get(path), 404, "NOT_FOUND")


async def test_a_worker_has_no_public_port(servers: ServerPair, issuer: Issuer, tmp_path: Path) -> None:
    worker = GatewayProcess(servers, issuer, {}, tmp_path)
    await worker.start(role="worker")
    try:
        async with httpx.AsyncClient(trust_env=False) as http:
            with pytest.raises(httpx.ConnectError):
                await http.get(worker.url)
    finally:
        await worker.stop()


@pytest.mark.parametrize("taken", ["port", "internal_port"])
async def test_the_process_ends_when_either_port_cannot_be_opened(
    servers: ServerPair, issuer: Issuer, tmp_path: Path, taken: str
) -> None:
    process = GatewayProcess(servers, issuer, {}, tmp_path)
    with socket.create_server(("127.0.0.1", getattr(process, taken))):
        with pytest.raises(AssertionError, match="did not start"):
            await process.start()
    assert process.exit_code not in (0, None)
    assert "address already in use" in process.log().lower()


async def test_a_request_is_answered_to_its_end_while_the_internal_port_says_that_no_more_may_come(
    servers: ServerPair, issuer: Issuer, peers: dict[str, Peer], admin: dict[str, str], tmp_path: Path
) -> None:
    process, peer = GatewayProcess(servers, issuer, peers, tmp_path), peers["subscriptions"]
    await process.start(role="api")
    before, peer.delay_s = peer.requests, 4.0
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=20) as http, asyncio.timeout(30):
            begun = asyncio.create_task(http.get(f"{process.url}/api/subscriptions/plans", headers=admin))
            while peer.requests == before:  # noqa: ASYNC110 - the peer has no event for it.
                await asyncio.sleep(0.01)
            stopping = asyncio.create_task(process.stop())
            while await takes_connections(process.port):  # noqa: ASYNC110 - a caller can only try.
                await asyncio.sleep(0.05)
            ready = await http.get(f"{process.internal_url}/readyz")
            assert (ready.status_code, ready.json()) == (503, {"ready": False, "failing": ["draining"]})
            assert (await http.get(f"{process.internal_url}/healthz")).status_code == 200
            assert not begun.done()
            assert (await begun).status_code == 200
            await stopping
    finally:
        peer.delay_s = 0.0


async def takes_connections(port: int) -> bool:
    """Whether somebody listens on a port."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return False
    writer.close()
    return True
