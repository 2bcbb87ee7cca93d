"""HTTP/1.1 to a service: a bounded number of connections that stay open, one request after the other on each of them.

Written out upon the parser that the server's side has too, because the layers of a general client cost several times as
much as all else that forwarding does. Of HTTP it is what internal requests need: bodies are whole, answers are read to
their end and taken as they come, without redirects, cookies, proxies or encodings.
"""

import asyncio
import math
import select
import ssl
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

import httptools

__all__ = ["Answer", "HttpClient", "NoAnswer", "NoConnection"]

# Callers that arrive together after a pause all need new connections; opening a hundred takes half a second.
CONNECT_TIMEOUT_S = 4.0
# A request that gets no connection in this time was not sent.
WAIT_TIMEOUT_S = 8.0
# All connections are kept open: one that is closed between two waves of callers has to be opened again.
CONNECTIONS_MAX = 100
# Shorter than the services keep an idle connection, so that none is used at the moment it is closed.
IDLE_S = 30.0
# Heads and bodies of services are ours, so these bounds are only for a peer that is none of them.
HEAD_BYTES_MAX = 64 * 1024
BODY_BYTES_MAX = 256 * 1024 * 1024


class NoConnection(Exception):  # noqa: N818 - named for what the caller finds.
    """No connection could be had, so nothing was sent."""


class NoAnswer(Exception):  # noqa: N818 - as above.
    """The request was sent, at least in part, and no whole answer came. `begun` says whether anything of one did."""

    def __init__(self, reason: str, *, begun: bool) -> None:
        super().__init__(reason)
        self.begun = begun


class Answer(NamedTuple):
    """What a service answered; names of headers are in lower case."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def header(self, name: bytes) -> str | None:
        """A header's text, a character for each byte; more than one of a name are joined, as HTTP says."""
        found = [value for each, value in self.headers if each == name]
        return b", ".join(found).decode("latin-1") if found else None


class HttpClient:
    """The connections to one service. A peer that does not answer uses up no connections to the others."""

    def __init__(self, url: str) -> None:
        """`url` may have a path, which is put in front of each request's."""
        parts = urlsplit(url)
        secure = parts.scheme == "https"
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if secure else 80)
        self._ssl = ssl.create_default_context() if secure else None
        self._prefix = parts.path.rstrip("/").encode()
        self._named = b"host: " + parts.netloc.rpartition("@")[2].encode() + b"\r\n"
        self._idle: list[_Connection] = []
        self._open: set[_Connection] = set()
        self._places = asyncio.Semaphore(CONNECTIONS_MAX)

    async def start(self) -> None:
        """Nothing to do: connections are made when they are needed."""

    async def stop(self) -> None:
        """Closes every connection."""
        for connection in list(self._open):
            connection.close()

    async def send(
        self, method: str, target: bytes, headers: Sequence[tuple[bytes, bytes]], body: bytes, *, repeatable: bool
    ) -> Answer:
        """The answer to a request whose headers and target are valid in HTTP; raises `NoConnection` or `NoAnswer`.

        How long that may take is the caller's to limit: who gives up closes the connection. A repeatable request is
        sent a second time where no connection could be opened, and where a connection that had been idle was closed
        instead of bringing an answer, as when the service was started again.
        """
        request = self._request(method, target, headers, body)
        await self._take_place()
        try:
            idle = self._take_idle()
            if idle is not None:
                try:
                    return await self._ask(idle, request)
                except NoAnswer as error:
                    if error.begun or not repeatable:
                        raise
            return await self._ask(await self._connect(again=repeatable), request)
        finally:
            self._places.release()

    def _request(
        self, method: str, target: bytes, headers: Sequence[tuple[bytes, bytes]], body: bytes
    ) -> tuple[bytes, ...]:
        parts = [method.encode(), b" ", self._prefix, target, b" HTTP/1.1\r\n", self._named]
        for name, value in headers:
            parts += (name, b": ", value, b"\r\n")
        if body or method != "GET":
            parts.append(b"content-length: %d\r\n" % len(body))
        parts.append(b"\r\n")
        return (b"".join(parts), body) if body else (b"".join(parts),)

    async def _take_place(self) -> None:
        if not self._places.locked():
            await self._places.acquire()
            return
        try:
            async with asyncio.timeout(WAIT_TIMEOUT_S):
                await self._places.acquire()
        except TimeoutError:
            raise NoConnection("every connection was in use") from None

    def _take_idle(self) -> "_Connection | None":
        """The connection that was used last, so that those not needed any more grow old."""
        now = asyncio.get_running_loop().time()
        while self._idle:
            connection = self._idle.pop()
            if connection.usable and now - connection.idle_since <= IDLE_S:
                return connection
            connection.close()
        return None

    async def _ask(self, connection: "_Connection", request: Sequence[bytes]) -> Answer:
        answer = await connection.ask(request)
        if connection.reusable:
            self._idle.append(connection)
        else:
            connection.close()
        return answer

    async def _connect(self, *, again: bool) -> "_Connection":
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, connection = await loop.create_connection(
                    lambda: _Connection(self._open), self._host, self._port, ssl=self._ssl
                )
        except (OSError, TimeoutError) as error:
            if again:
                return await self._connect(again=False)
            raise NoConnection(type(error).__name__) from error
        return connection


class _Connection(asyncio.Protocol):
    """One connection; `usable` for a request, `reusable` after an answer."""

    def __init__(self, open_connections: "set[_Connection]") -> None:
        self._open_connections = open_connections
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport
        self._input = select.poll()
        self._answered: asyncio.Future[Answer] | None = None
        self._closed = False
        self._clear()
        self.idle_since = -math.inf
        self.reusable = False

    @property
    def usable(self) -> bool:
        """Whether the peer has neither closed it nor sent what nobody asked for; what the event loop has not read yet
        counts too."""
        return not self._closed and not self._transport.is_closing() and not self._input.poll(0)

    async def ask(self, request: Sequence[bytes]) -> Answer:
        """Sends a request and waits for the answer to it; who is cancelled meanwhile leaves it closed."""
        loop = asyncio.get_running_loop()
        self._answered = loop.create_future()
        self._clear()
        self.reusable = False
        if self._closed:
            raise NoAnswer("closed before", begun=False)
        self._transport.writelines(request)
        try:
            answer = await self._answered
        except BaseException:
            self.close()
            raise
        finally:
            self._answered = None
        self.idle_since = loop.time()
        return answer

    def close(self) -> None:
        """Closes it at once; what was not sent yet is dropped."""
        self._closed = True
        self._transport.abort()

    def _clear(self) -> None:
        self._begun = False
        self._head_bytes = self._body_bytes = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        # An answer without a length ends with its connection.
        self._framed = self._headed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # The loop's own class has all of its methods, and is no subclass of it.
        self._transport = transport  # type: ignore[assignment]
        self._input.register(transport.get_extra_info("socket").fileno(), select.POLLIN | select.POLLHUP)
        self._open_connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        self._open_connections.discard(self)
        if self._headed and not self._framed:
            self._complete()
        self._fail("connection lost")

    def data_received(self, data: bytes) -> None:
        self._begun = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail("no HTTP")

    def on_message_begin(self) -> None:
        if self._answered is None or self._answered.done():
            self.close()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > HEAD_BYTES_MAX:
            self._fail("head too large")
        else:
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        bodiless = status in (204, 304)
        self._headed = status >= 200
        self._framed = bodiless or any(name in (b"content-length", b"transfer-encoding") for name, _ in self._headers)

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes > BODY_BYTES_MAX:
            self._fail("body too large")
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        if self._headed:
            self.reusable = self._parser.should_keep_alive() and not self._closed
            self._complete()
        else:
            # 100 and its like announce the answer.
            self._headers = []

    def _complete(self) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(Answer(self._parser.get_status_code(), self._headers, b"".join(self._body)))
        self._headers = []

    def _fail(self, reason: str) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(NoAnswer(reason, begun=self._begun))
            self.close()
