"""Connections of a load over HTTP: a bare protocol, because a full client would use the core that the api needs."""

import asyncio
import json
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

__all__ = ["LOST", "Answered", "Connection", "connect", "least_busy", "post"]

# In place of a status, where there will be no answer.
LOST = "connection lost"
# Takes the status and the body of an answer.
Answered = Callable[[str, bytes], None]


class Connection(asyncio.Protocol):
    """One HTTP/1.1 connection; requests on it are answered in their order."""

    def __init__(self) -> None:
        self._answered: deque[Answered] = deque()
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    @property
    def waiting(self) -> int:
        """Requests without an answer."""
        return len(self._answered)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # The loop's own class has all of its methods, and is no subclass of it.
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        while self._answered:
            self._answered.popleft()(LOST, b"")

    def ask(self, request: bytes, answered: Answered) -> None:
        """Sends one request, whose answer is given to `answered`."""
        if self._transport is None:
            raise AssertionError("connected before")
        self._answered.append(answered)
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while True:
            head, separator, rest = self._buffer.partition(b"\r\n\r\n")
            if not separator:
                return
            length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
            if len(rest) < length:
                return
            self._buffer = rest[length:]
            self._answered.popleft()(head[9:12].decode(), rest[:length])


async def connect(port: int, count: int) -> list[Connection]:
    """So many connections to a port of this machine."""
    loop = asyncio.get_running_loop()
    return [(await loop.create_connection(Connection, "127.0.0.1", port))[1] for _ in range(count)]


def least_busy(connections: Sequence[Connection]) -> Connection:
    """The connection with the fewest requests, as a pool would give a free one."""
    return min(connections, key=lambda connection: connection.waiting)


def post(port: int, path: str, headers: Mapping[str, str], body: Mapping[str, Any]) -> bytes:
    """A request with a JSON body."""
    content = json.dumps(body).encode()
    more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n{more}"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content
