"""The services behind the gateway, over internal HTTP: one client each, with the caller signed for that service."""

import asyncio
from collections.abc import Mapping
from urllib.parse import quote

import httpx

from services.chassis.caller import CALLER_HEADER, Caller, sign_caller
from services.chassis.clock import Clock
from services.chassis.logging import get_logger
from services.chassis.problems import Unavailable

__all__ = ["HttpClient", "ServiceClient", "Unanswered", "path_of"]

# Callers that arrive together after a pause all need new connections; opening a hundred takes half a second.
CONNECT_TIMEOUT_S = 4.0
# A request that gets no connection in this time was not sent.
POOL_TIMEOUT_S = 8.0
CONNECTIONS_MAX = 100
# Requests to one service at once; further ones are answered at once that it is too busy.
IN_FLIGHT_MAX = 1_000
# All connections are kept open: one that is closed between two waves of callers has to be opened again.
CONNECTIONS_KEPT = CONNECTIONS_MAX
# Shorter than the services keep an idle connection, so that none is used at the moment it is closed.
IDLE_S = 30.0

_log = get_logger(__name__)


class Unanswered(Unavailable):
    """The request was sent, and no answer came back: what it asked for may have been done."""


class HttpClient:
    """An HTTP client as a resource: pooled, without redirects, deaf to proxy variables.

    Each peer has one of its own, so that one that does not answer uses up no connections to the others.
    """

    def __init__(self) -> None:
        self.client = httpx.AsyncClient(
            # The caller of `send` limits the time of the whole request.
            timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT_S, pool=POOL_TIMEOUT_S),
            limits=httpx.Limits(
                max_connections=CONNECTIONS_MAX, max_keepalive_connections=CONNECTIONS_KEPT, keepalive_expiry=IDLE_S
            ),
            follow_redirects=False,
            trust_env=False,
        )

    async def start(self) -> None:
        """Nothing to do: connections are made when they are needed."""

    async def stop(self) -> None:
        """Closes every connection."""
        await self.client.aclose()


class ServiceClient:
    """One service: `name` is the audience that its caller contexts are signed for."""

    def __init__(self, client: httpx.AsyncClient, *, name: str, url: str, secret: str, clock: Clock) -> None:
        self._client = client
        self._name = name
        self._url = httpx.URL(url)
        self._secret = secret
        self._clock = clock
        self._in_flight = 0

    async def send(
        self,
        method: str,
        path: str,
        *,
        caller: Caller | None,
        query: bytes = b"",
        body: bytes = b"",
        headers: Mapping[str, str],
        timeout_s: float,
    ) -> httpx.Response:
        """The service's answer, whatever its status; `Unanswered` when there is none within the time, `Unavailable`
        when it got no request.

        Headers are text as the server read it, a character for each byte, and go out as these bytes.
        """
        given = dict(headers)
        if caller is not None:
            given[CALLER_HEADER] = sign_caller(caller, audience=self._name, secret=self._secret, now=self._clock())
        sent = [(name.encode("ascii"), value.encode("latin-1")) for name, value in given.items()]
        prefix = self._url.raw_path.rstrip(b"/")
        url = self._url.copy_with(raw_path=prefix + path.encode() + (b"?" + query if query else b""))
        if self._in_flight >= IN_FLIGHT_MAX:
            raise Unavailable(headers={"Retry-After": "1"})
        self._in_flight += 1
        try:
            async with asyncio.timeout(timeout_s):
                return await self._request(method, url, body, sent)
        except (httpx.TransportError, TimeoutError) as error:
            _log.warning("service away", service=self._name, method=method, error=type(error).__name__)
            unsent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
            raise (Unavailable if unsent else Unanswered)(headers={"Retry-After": "1"}) from error
        finally:
            self._in_flight -= 1

    async def _request(
        self, method: str, url: httpx.URL, body: bytes, headers: list[tuple[bytes, bytes]]
    ) -> httpx.Response:
        try:
            return await self._client.request(method, url, content=body, headers=headers)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            # Nothing was sent; still only reads are tried again, so that a change has one attempt and one outcome.
            if method != "GET":
                raise
            return await self._client.request(method, url, content=body, headers=headers)


def path_of(template: str, values: Mapping[str, str]) -> str:
    """The path of a template, each value as one segment: `.` and `..` are ids here and no steps of a path."""
    path = template
    for name, value in values.items():
        segment = value.replace(".", "%2E") if not value.strip(".") else quote(value, safe=":@")
        path = path.replace(f"{{{name}}}", segment)
    return path
