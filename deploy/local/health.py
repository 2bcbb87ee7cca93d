"""Readiness over HTTP: asking for it, and answering for the servers that do not speak HTTP themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import httpx

from deploy.local.ports import LOOPBACK

_REQUEST_TIMEOUT_S = 5.0
_HEAD_BYTES_MAX = 8 * 1024


async def http_started(client: httpx.AsyncClient, address: str) -> bool:
    """Say whether the address answers 200, or that all it waits for is the operator.

    What fails for a reason, as a stopped consumer does, lasts until a command ends it, and the commands need a stack
    that has started.
    """
    ready, failing = await _ask(client, address)
    return ready or (bool(failing) and all(": " in each for each in failing))


async def readiness(client: httpx.AsyncClient, address: str) -> tuple[bool, str]:
    """Say whether the address answers 200, and else what it says is failing."""
    ready, failing = await _ask(client, address)
    return ready, "; ".join(failing)


async def _ask(client: httpx.AsyncClient, address: str) -> tuple[bool, list[str]]:
    try:
        answer = await client.get(address, timeout=_REQUEST_TIMEOUT_S)
    except httpx.HTTPError:
        return False, []
    if answer.status_code == httpx.codes.OK:
        return True, []
    try:
        failing = answer.json().get("failing", [])
    except (ValueError, AttributeError):
        return False, []
    return False, list(map(str, failing)) if isinstance(failing, list) else []


class HealthServer:
    """Answers `GET /<name>/readyz` with 200 or 503, so that PostgreSQL and Kafka have a health address like the rest.

    It is far smaller than a web framework because it lives in the supervisor, which must not fail for any request.
    """

    def __init__(self, port: int, probes: Mapping[str, Callable[[], Awaitable[bool]]]) -> None:
        self._port = port
        self._probes = {f"/{name}/readyz": probe for name, probe in probes.items()}
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, LOOPBACK, self._port, limit=_HEAD_BYTES_MAX)

    async def stop(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), _REQUEST_TIMEOUT_S)
            status, body = await self._answer(head)
            writer.write(
                f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
                f"Connection: close\r\n\r\n{body}".encode()
            )
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return  # The client went away, or sends what is no request: there is nobody to answer.
        finally:
            writer.close()

    async def _answer(self, head: bytes) -> tuple[str, str]:
        method, _, rest = head.partition(b" ")
        probe = self._probes.get(rest.partition(b" ")[0].decode("ascii", errors="replace"))
        if method != b"GET" or probe is None:
            return "404 Not Found", '{"ready": false}'
        if await probe():
            return "200 OK", '{"ready": true}'
        return "503 Service Unavailable", '{"ready": false}'
