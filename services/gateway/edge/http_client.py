"""HTTP/1.1 to a service: a bounded number of connections that stay open, whole bodies, answers passed on as they come.

aiohttp, with nothing that it does for browsers' sake: no redirects, cookies, proxies or encodings, no repeats but ours.
"""

import asyncio
import ssl
from collections.abc import Mapping
from http import HTTPStatus
from io import BytesIO
from typing import NamedTuple
from urllib.parse import urlsplit

import aiohttp
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from yarl import URL

__all__ = ["Answer", "HttpClient", "NoAnswer", "NoConnection"]

# Callers that arrive together after a pause all need new connections; opening a hundred takes half a second.
CONNECT_TIMEOUT_S = 4.0
# A request that gets no connection in this time was not sent.
WAIT_TIMEOUT_S = 8.0
# All connections are kept open: one that is closed between two waves of callers has to be opened again.
CONNECTIONS_MAX = 100
# Shorter than the services keep an idle connection, so that none is used at the moment it is closed.
IDLE_S = 30.0
# Answers of services are ours: this bound, and aiohttp's of a head, are only for a peer that is none of them.
BODY_BYTES_MAX = 256 * 1024 * 1024
# Larger bodies are sent piece by piece, at the pace of the service.
PIECE_BYTES_MAX = 64 * 1024


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
        path, _, query = target.partition("?")
        # Built of its parts and marked as encoded, because a URL that is parsed is changed.
        url = URL.build(
            scheme=self._scheme, authority=self._authority, path=self._prefix + path, query_string=query, encoded=True
        )
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
