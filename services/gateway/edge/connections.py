"""HTTP/1.1 at both ends of the gateway: callers' connections on the public port, and those to the services.

Callers are unknown until the whole head of a request has been read. A head has a bound in bytes and in time: the parser
keeps what it has of one, and copies it with every further piece, so a head without an end would exhaust the memory and
block all other callers.

A service gets whole bodies over a bounded number of connections that stay open, and its answers are passed on as they
come: by aiohttp, with nothing that it does for browsers' sake: no redirects, cookies, proxies or encodings, no repeats
but ours.
"""

import asyncio
import ssl
from collections.abc import AsyncGenerator, Mapping
from http import HTTPStatus
from io import BytesIO
from typing import NamedTuple
from urllib.parse import urlsplit
from uuid import uuid4

import aiohttp
import orjson
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from yarl import URL

from services.chassis.http_protocol import WholeAnswers

__all__ = ["Answer", "BoundedHttp", "HttpClient", "NoAnswer", "NoConnection", "OpenAnswer"]

# The longest target that is read has 64 KiB, a token 8 KiB.
HEAD_BYTES_MAX = 128 * 1024
HEAD_S = 30.0

# What says that a body follows the head.
_FRAMING = (b"content-length", b"transfer-encoding")
_TOO_LARGE = (431, "Request Header Fields Too Large", "HEAD_TOO_LARGE", "The head of the request is too large.")
_MALFORMED = (400, "Bad Request", "MALFORMED_REQUEST", "This is not a valid HTTP request.")

# Towards the services. Callers that arrive together after a pause all need new connections; opening a hundred takes
# half a second.
CONNECT_TIMEOUT_S = 4.0
# A request that gets no connection in this time was not sent.
WAIT_TIMEOUT_S = 8.0
# All connections are kept open: one that is closed between two waves of callers has to be opened again.
CONNECTIONS_MAX = 100
# Shorter than the services keep an idle connection, so that none is used at the moment it is closed.
IDLE_S = 30.0
# Answers of services are ours: this bound, and aiohttp's of a head, are only for a peer that is none of them.
BODY_BYTES_MAX = 256 * 1024 * 1024
# A refusal in place of an answer that is passed on piece by piece.
SHORT_BODY_BYTES_MAX = 1024 * 1024
# How long the next piece of such an answer may take.
PIECE_S = 60.0
# Larger bodies are sent piece by piece, at the pace of the service.
PIECE_BYTES_MAX = 64 * 1024


class BoundedHttp(WholeAnswers):
    """The server's HTTP protocol with these bounds, and with problem documents for what never becomes a request.

    Bounded is what arrives without completing anything, which is a head or the trailers behind a body.
    """

    _incomplete_bytes = 0
    _completed = False
    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._complete()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._completed = False
        super().data_received(data)
        if self._completed or self.transport.is_closing():
            return
        self._wait()
        self._incomplete_bytes += len(data)
        if self._incomplete_bytes > HEAD_BYTES_MAX:
            self._refuse(*_TOO_LARGE)

    def on_headers_complete(self) -> None:
        self._complete()
        # No other protocol is spoken here, but behind a head that asks for one the parser reads nothing.
        upgrade = self.parser.should_upgrade()
        if upgrade and any(name in _FRAMING for name, _ in self.headers):
            raise ValueError("the body behind an upgrade would not be read")
        super().on_headers_complete()
        if upgrade:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        self._complete()
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._complete()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(*_MALFORMED)

    def _wait(self) -> None:
        if self._patience is None:
            self._patience = self.loop.call_later(HEAD_S, self.transport.close)

    def _complete(self) -> None:
        self._completed, self._incomplete_bytes = True, 0
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _refuse(self, status: int, reason: str, code: str, detail: str) -> None:
        """Answers and closes; in the middle of another answer it only closes."""
        request_id = str(uuid4())
        document = orjson.dumps(
            {
                "type": f"urn:rappen:problem:{code.lower().replace('_', '-')}",
                "title": reason,
                "status": status,
                "detail": detail,
                "code": code,
                "requestId": request_id,
            }
        )
        head = (
            f"HTTP/1.1 {status} {reason}\r\ncontent-type: application/problem+json\r\n"
            f"content-length: {len(document)}\r\nx-request-id: {request_id}\r\nconnection: close\r\n\r\n"
        )
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(head.encode() + document)
        self.transport.close()


class NoConnection(Exception):  # noqa: N818 - named for what the caller finds.
    """No connection could be had, so nothing was sent."""


class NoAnswer(Exception):  # noqa: N818 - as above.
    """The request was sent, at least in part, and no whole answer came."""


class _Ended(NoAnswer):
    """The connection ended before an answer began."""


class Answer(NamedTuple):
    """What a service answered; names of headers are in lower case."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def header(self, name: bytes) -> str | None:
        """A header's text, a character for each byte; more than one of a name are joined, as HTTP says."""
        found = [value for each, value in self.headers if each == name]
        return b", ".join(found).decode("latin-1") if found else None


class OpenAnswer(NamedTuple):
    """An answer whose body is still to come; `pieces` ends with `NoAnswer` where it breaks off."""

    status: int
    headers: list[tuple[bytes, bytes]]
    pieces: AsyncGenerator[bytes, None]

    async def whole(self) -> Answer:
        """The answer with its body, which is a short one."""
        body = b""
        async for piece in self.pieces:
            body += piece
            if len(body) > SHORT_BODY_BYTES_MAX:
                raise NoAnswer("body too large")
        return Answer(self.status, self.headers, body)


class HttpClient:
    """The connections to one service. A peer that does not answer uses up no connections to the others."""

    def __init__(self, url: str) -> None:
        """`url` may have a path, which is put in front of each request's; a user in it counts for nothing."""
        service = urlsplit(url)
        self._scheme, self._authority = service.scheme, service.netloc.rpartition("@")[2]
        self._prefix = service.path.rstrip("/")
        self._session: aiohttp.ClientSession

    async def start(self) -> None:
        """Connections are made when they are needed."""
        security = ssl.create_default_context()
        self._session = aiohttp.ClientSession(
            # Started again, a service may have another address.
            connector=_Connector(limit=CONNECTIONS_MAX, keepalive_timeout=IDLE_S, use_dns_cache=False, ssl=security),
            timeout=aiohttp.ClientTimeout(total=None, connect=WAIT_TIMEOUT_S, sock_connect=CONNECT_TIMEOUT_S),
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            middlewares=(_once,),
        )

    async def stop(self) -> None:
        """Closes every connection."""
        await self._session.close()

    async def send(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes, *, repeatable: bool
    ) -> Answer:
        """The answer to a request whose target and headers are ASCII; raises `NoConnection` or `NoAnswer`.

        How long that may take is the caller's to limit: who gives up closes the connection. A repeatable request is
        sent a second time where its connection ended without any answer, as one that had been idle does when the
        service was started again.
        """
        url = self._url(target)
        if not repeatable:
            # In these turns the event loop learns which idle connections have ended since it last looked.
            for _ in range(2):
                await asyncio.sleep(0)
        try:
            return await self._ask(method, url, headers, body)
        except _Ended:
            if not repeatable:
                raise
        return await self._ask(method, url, headers, body)

    async def open(self, method: str, target: str, headers: Mapping[str, str]) -> OpenAnswer:
        """The beginning of an answer to a repeatable request without a body; its pieces have to be read or closed."""
        try:
            answer = await self._open(method, target, headers)
        except _Ended:
            answer = await self._open(method, target, headers)
        if answer.status < HTTPStatus.OK:
            answer.close()
            raise NoAnswer(f"status {answer.status}")
        return OpenAnswer(answer.status, [(name.lower(), value) for name, value in answer.raw_headers], _pieces(answer))

    async def _open(self, method: str, target: str, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        try:
            return await self._session.request(method, self._url(target), headers=headers, allow_redirects=False)
        except aiohttp.ClientError as error:
            raise NoAnswer(type(error).__name__) from error

    def _url(self, target: str) -> URL:
        """Built of its parts and marked as encoded, because a URL that is parsed is changed."""
        path, _, query = target.partition("?")
        return URL.build(
            scheme=self._scheme, authority=self._authority, path=self._prefix + path, query_string=query, encoded=True
        )

    async def _ask(self, method: str, url: URL, headers: Mapping[str, str], body: bytes) -> Answer:
        sent = BytesIO(body) if len(body) > PIECE_BYTES_MAX else body or None
        pieces, length = [], 0
        try:
            async with self._session.request(method, url, headers=headers, data=sent, allow_redirects=False) as answer:
                if answer.status < HTTPStatus.OK:
                    raise NoAnswer(f"status {answer.status}")
                async for piece in answer.content.iter_any():
                    pieces.append(piece)
                    length += len(piece)
                    if length > BODY_BYTES_MAX:
                        raise NoAnswer("body too large")
        except aiohttp.ClientError as error:
            raise NoAnswer(type(error).__name__) from error
        return Answer(answer.status, [(name.lower(), value) for name, value in answer.raw_headers], b"".join(pieces))


async def _pieces(answer: aiohttp.ClientResponse) -> AsyncGenerator[bytes, None]:
    try:
        pieces = answer.content.iter_any()
        while True:
            async with asyncio.timeout(PIECE_S):
                piece = await anext(pieces, b"")
            if not piece:
                return
            yield piece
    except (aiohttp.ClientError, TimeoutError) as error:
        raise NoAnswer(type(error).__name__) from error
    finally:
        # Of one that was read to its end the connection is given back already.
        answer.close()


class _Connector(aiohttp.TCPConnector):
    """Gives no idle connection on which the service has said something since: it would be taken for the answer to the
    next request, which may be another caller's."""

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        for _ in range(CONNECTIONS_MAX + 1):
            connection = await super().connect(req, traces, timeout)
            if connection.protocol is not None and not connection.protocol.should_close:
                return connection
            connection.close()
        raise NoConnection("the service talks before it is asked")


async def _once(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Sends a request, with errors of ours: after some of its own the session would repeat a PUT or DELETE."""
    try:
        return await send(request)
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        raise NoConnection(type(error).__name__) from error
    except aiohttp.ClientConnectionError as error:
        raise _Ended(type(error).__name__) from error
