"""The server's protocol: answers leave in one piece, and are otherwise what uvicorn makes of them."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from services.chassis.http_protocol import WholeAnswers
from tests.support.waiting import eventually

PIECE = b"x" * 50_000
# `tcpi_data_segs_in` of Linux' `struct tcp_info`.
DATA_SEGMENTS_IN = 152


class App:
    """Answers `/` shortly, `/long` in many pieces, `/close` with the end of the connection."""

    def __init__(self) -> None:
        self.pieces = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/plain")]
        if scope["path"] == "/close":
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if scope["path"] == "/long":
            for _ in range(400):
                await send({"type": "http.response.body", "body": PIECE, "more_body": True})
                self.pieces += 1
        await send({"type": "http.response.body", "body": b"end"})


@asynccontextmanager
async def served(app: App) -> AsyncIterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(app, http=WholeAnswers, lifespan="off", log_config=None, timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server._serve([listening]))
        await eventually(lambda: server.started, what="a server")
        yield listening.getsockname()[1]
        server.should_exit = True
        await serving


def request(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


async def answer(reader: asyncio.StreamReader) -> bytes:
    """The body of the next answer, which is chunked."""
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")
    body = b""
    while length := int(await reader.readuntil(b"\r\n"), 16):
        body += await reader.readexactly(length)
        assert await reader.readexactly(2) == b"\r\n"
    assert await reader.readexactly(2) == b"\r\n"
    return body


@pytest.mark.skipif(not hasattr(socket, "TCP_INFO"), reason="only Linux counts the segments of a connection")
async def test_head_and_body_of_an_answer_are_one_segment() -> None:
    async with served(App()) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in range(1, 6):
            writer.write(request("/"))
            assert await answer(reader) == b"end"
            told = writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
            assert struct.unpack_from("I", told, DATA_SEGMENTS_IN) == (number,)
        writer.close()


async def test_requests_sent_at_once_are_answered_in_their_order_and_the_last_closes() -> None:
    async with served(App()) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request("/") + request("/long") + request("/close"))
        assert [len(await answer(reader)) for _ in range(3)] == [3, 400 * len(PIECE) + 3, 3]
        assert await reader.read() == b""
        writer.close()


async def test_an_answer_that_nobody_reads_is_not_made_to_its_end() -> None:
    app = App()
    async with served(app) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(request("/long"))
        await eventually(lambda: app.pieces > 0, what="a first piece")

        async def stands_still() -> bool:
            made = app.pieces
            await asyncio.sleep(0.3)
            return app.pieces == made

        # What fits into the buffers of the sockets, and no more.
        await eventually(stands_still, what="an answer that is not made on")
        assert app.pieces < 400
        assert await reader.readuntil(b"\r\n\r\n")
        writer.close()


async def test_a_caller_who_is_gone_gets_nothing_and_nothing_fails(caplog: pytest.LogCaptureFixture) -> None:
    app = App()
    async with served(app) as port:
        for _ in range(3):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request("/long") + request("/"))
            await asyncio.sleep(0.01)
            writer.transport.abort()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request("/"))
        assert await answer(reader) == b"end"
        writer.close()
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []
