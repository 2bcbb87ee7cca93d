"""Peers that are bare sockets, because no server would answer like that."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from services.gateway.edge.connections import Answer, HttpClient

__all__ = ["OK", "Peer", "Talk", "ask", "forever", "peer"]

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-type: text/plain\r\n\r\nhi"

Conversation = Callable[["Talk"], Awaitable[None]]


class Talk:
    """One connection at the peer, the number of it, and what came on it."""

    def __init__(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.number = number
        self.writer = writer
        self._reader = reader

    async def hear(self) -> bytes:
        """The next request without a body, or with one of two bytes."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        return head + (await self._reader.readexactly(2) if b"Content-Length: 2" in head else b"")

    async def say(self, *pieces: bytes) -> None:
        """Each piece arrives alone."""
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            await asyncio.sleep(0.01)

    async def take(self, count: int) -> bytes:
        """So many bytes of what comes next."""
        return await self._reader.readexactly(count)

    async def ended(self) -> bool:
        """Waits for the other side's end."""
        return await self._reader.read() == b""


class Peer:
    def __init__(self) -> None:
        self.talks: list[Talk] = []
        self.url = ""


@asynccontextmanager
async def peer(
    conversation: Conversation, host: str = "127.0.0.1", *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[Peer, HttpClient]]:
    """A peer that talks like this on every connection, and the client of it."""
    known = Peer()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        known.talks.append(Talk(len(known.talks), reader, writer))
        try:
            await conversation(known.talks[-1])
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(talk, host, 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    known.url = f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"
    client = HttpClient(known.url)
    await client.start()
    try:
        async with asyncio.timeout(60):
            yield known, client
    finally:
        await client.stop()
        server.close()


async def ask(client: HttpClient, *, method: str = "GET", repeatable: bool = True, body: bytes = b"") -> Answer:
    return await client.send(method, "/x?y=1", {"x-a": "b"}, body, repeatable=repeatable)


async def forever(talk: Talk) -> None:
    while True:
        await talk.hear()
        await talk.say(OK)
