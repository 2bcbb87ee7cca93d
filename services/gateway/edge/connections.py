"""Connections of the public port, whose callers are unknown until the whole head of a request has been read.

A head has a bound in bytes and in time: the parser keeps what it has of one, and copies it with every further piece, so
a head without an end would exhaust the memory and block all other callers.
"""

import asyncio
from uuid import uuid4

import orjson

from services.chassis.http_protocol import WholeAnswers

__all__ = ["BoundedHttp"]

# The longest target that is read has 64 KiB, a token 8 KiB.
HEAD_BYTES_MAX = 128 * 1024
HEAD_S = 30.0

_FRAMING = (b"content-length", b"transfer-encoding")
_TOO_LARGE = (431, "Request Header Fields Too Large", "HEAD_TOO_LARGE", "The head of the request is too large.")
_MALFORMED = (400, "Bad Request", "MALFORMED_REQUEST", "This is not a valid HTTP request.")


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
