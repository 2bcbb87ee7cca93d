"""What is public and what is not: health and metrics are told on the internal port alone."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import httpx
import pytest

from tests.integration.gateway.support import HANG_S, Peer, assert_problem
from tests.support.described import NO_OPERATIONS
from tests.support.gateway import GatewayProcess, Issuer
from tests.support.stack import ServerPair
from tests.support.waiting import eventually

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
            assert_problem(await internal.get(path, extensions=NO_OPERATIONS), 404, "NOT_FOUND")


async def test_a_worker_has_no_public_port(servers: ServerPair, issuer: Issuer, tmp_path: Path) -> None:
    async with GatewayProcess(servers, issuer, {}, tmp_path, role="worker") as worker:
        async with httpx.AsyncClient(trust_env=False) as http:
            with pytest.raises(httpx.ConnectError):
                await http.get(worker.url)


@pytest.mark.parametrize(("taken", "shared"), [("port", "false"), ("internal_port", "false"), ("port", "true")])
async def test_the_process_ends_when_either_port_cannot_be_opened(
    servers: ServerPair, issuer: Issuer, tmp_path: Path, taken: str, shared: str
) -> None:
    # A port is shared with those who share it too.
    process = GatewayProcess(servers, issuer, {}, tmp_path, more={"GATEWAY_HTTP__SHARED": shared})
    with socket.create_server(("127.0.0.1", getattr(process, taken))):
        process.start()
        with pytest.raises(AssertionError, match="gateway all ended with"):
            await process.ready()
    assert process.exit_code not in (0, None)
    assert "address already in use" in process.log_text().lower()


async def test_a_request_is_answered_to_its_end_while_the_internal_port_says_that_no_more_may_come(
    servers: ServerPair, issuer: Issuer, peers: dict[str, Peer], admin: dict[str, str], tmp_path: Path
) -> None:
    peer = peers["subscriptions"]
    before, peer.delay_s = peer.requests, HANG_S
    try:
        async with (
            GatewayProcess(servers, issuer, peers, tmp_path, role="api") as process,
            httpx.AsyncClient(trust_env=False, timeout=20) as http,
        ):
            begun = asyncio.create_task(http.get(f"{process.url}/api/subscriptions/plans", headers=admin))
            await eventually(lambda: peer.requests > before, what="the request at the peer")
            process.terminate()
            await eventually(lambda: refuses_connections(process.port), what="a closed public port")
            ready = await http.get(f"{process.internal_url}/readyz")
            assert (ready.status_code, ready.json()) == (503, {"ready": False, "failing": ["draining"]})
            assert (await http.get(f"{process.internal_url}/healthz")).status_code == 200
            assert not begun.done()
            peer.delay_s = 0.0
            assert (await begun).status_code == 200
            assert await asyncio.to_thread(process.wait) == 0
    finally:
        peer.delay_s = 0.0


async def refuses_connections(port: int) -> bool:
    """Whether nobody listens on a port."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return True
    writer.close()
    return False
