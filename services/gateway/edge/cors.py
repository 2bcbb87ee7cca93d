"""Cross-origin requests of the configured frontends; every other origin gets no header at all.

Starlette's `CORSMiddleware` tells every origin which methods and headers there are (of which
`test_every_other_origin_gets_no_cross_origin_header` has to see none), adds headers to the allowed list and leaves
`Vary` out where no origin is named (`test_the_frontend_may_call_from_its_origin`).
"""

import re
from collections.abc import Collection, Sequence

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Cors"]

PREFLIGHT_AGE_S = 600
_LOOPBACK = re.compile(r"http://(?:localhost|127\.0\.0\.1)(?::[0-9]{1,5})?")


class Cors:
    """Answers preflight requests and marks answers for the allowed origins; plain ASGI."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        origins: Collection[str],
        loopback: bool,
        methods: Sequence[str],
        headers: Sequence[str],
        exposed: Sequence[str],
    ) -> None:
        self._app = app
        self._origins = frozenset(origins)
        self._loopback = loopback
        self._preflight = {
            "access-control-allow-methods": ", ".join(methods),
            "access-control-allow-headers": ", ".join(headers),
            "access-control-max-age": str(PREFLIGHT_AGE_S),
        }
        self._exposed = {"access-control-expose-headers": ", ".join(exposed)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes everything on that is no preflight request of an allowed origin."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin", "")
        allowed = origin in self._origins or (self._loopback and _LOOPBACK.fullmatch(origin) is not None)
        if allowed and scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            granted = _encode({"access-control-allow-origin": origin, "vary": "Origin", **self._preflight})
            await send({"type": "http.response.start", "status": 204, "headers": granted})
            await send({"type": "http.response.body", "body": b""})
            return

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                # A shared cache must not give one origin's answer to another, so `Vary` is always there.
                marks = {"vary": "Origin"}
                if allowed:
                    marks |= {"access-control-allow-origin": origin, **self._exposed}
                message["headers"] = [*message["headers"], *_encode(marks)]
            await send(message)

        await self._app(scope, receive, send_marked)


def _encode(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), text.encode()) for name, text in headers.items()]
