"""The connections to a service: what is sent again, what is closed, what is bounded.

The peers are bare sockets, because no server would answer like that.
"""

import asyncio
import datetime
import ipaddress
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from services.gateway.edge import http_client
from services.gateway.edge.http_client import Answer, HttpClient, NoAnswer, NoConnection
from tests.support.waiting import eventually

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
        return head + (await self._reader.readexactly(2) if b"content-length: 2" in head else b"")

    async def say(self, *pieces: bytes) -> None:
        """Each piece arrives alone."""
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            await asyncio.sleep(0.01)

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
    try:
        async with asyncio.timeout(10):
            yield known, client
    finally:
        await client.stop()
        server.close()


async def ask(client: HttpClient, *, method: str = "GET", repeatable: bool = True, body: bytes = b"") -> Answer:
    return await client.send(method, b"/x?y=1", [(b"x-a", b"\xe9")], body, repeatable=repeatable)


async def forever(talk: Talk) -> None:
    while True:
        await talk.hear()
        await talk.say(OK)


async def test_requests_one_after_the_other_share_a_connection_and_arrive_as_they_were_given() -> None:
    heard: list[bytes] = []

    async def telling(talk: Talk) -> None:
        while True:
            heard.append(await talk.hear())
            await talk.say(OK)

    async with peer(telling) as (known, client):
        first = await ask(client)
        await ask(client, method="POST", body=b"{}")
        await ask(client, method="DELETE")
        host = known.url.removeprefix("http://").encode()
    assert len(known.talks) == 1
    assert (first.status, first.body, first.header(b"content-type")) == (200, b"hi", "text/plain")
    assert heard == [
        b"GET /x?y=1 HTTP/1.1\r\nhost: " + host + b"\r\nx-a: \xe9\r\n\r\n",
        b"POST /x?y=1 HTTP/1.1\r\nhost: " + host + b"\r\nx-a: \xe9\r\ncontent-length: 2\r\n\r\n{}",
        b"DELETE /x?y=1 HTTP/1.1\r\nhost: " + host + b"\r\nx-a: \xe9\r\ncontent-length: 0\r\n\r\n",
    ]


@pytest.mark.parametrize(
    ("pieces", "status", "body"),
    [
        ([b"HTTP/1.1 200 OK\r\ncontent-", b"length: 4\r\n", b"\r\nab", b"cd"], 200, b"abcd"),
        ([b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n", b"1\r\nc\r\n0\r\n\r\n"], 200, b"abc"),
        ([b"HTTP/1.1 204 No Content\r\n\r\n"], 204, b""),
        ([b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n", OK], 200, b"hi"),
        ([b"HTTP/1.1 503 Away\r\ncontent-length: 0\r\nretry-after: 1\r\n\r\n"], 503, b""),
    ],
)
async def test_an_answer_is_read_however_it_is_framed(pieces: list[bytes], status: int, body: bytes) -> None:
    async def saying(talk: Talk) -> None:
        while True:
            await talk.hear()
            await talk.say(*pieces)

    async with peer(saying) as (known, client):
        for _ in range(2):
            answer = await ask(client)
            assert (answer.status, answer.body) == (status, body)
            assert answer.header(b"link") is None
    assert len(known.talks) == 1


async def test_headers_of_one_name_are_joined() -> None:
    async def saying(talk: Talk) -> None:
        await talk.hear()
        await talk.say(b"HTTP/1.1 200 OK\r\nX-A: 1\r\nx-a: \xe9\r\ncontent-length: 0\r\n\r\n")

    async with peer(saying) as (_, client):
        assert (await ask(client)).header(b"x-a") == "1, \xe9"


async def test_an_answer_without_a_length_ends_with_its_connection() -> None:
    async def saying(talk: Talk) -> None:
        await talk.hear()
        await talk.say(b"HTTP/1.1 200 OK\r\n\r\n", b"all", b" of it")

    async with peer(saying) as (known, client):
        assert [(await ask(client)).body for _ in range(2)] == [b"all of it"] * 2
    assert len(known.talks) == 2


@pytest.mark.parametrize(
    ("said", "begun"),
    [
        (b"", False),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab", True),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n", True),
        (b"SSH-2.0-OpenSSH\r\n", True),
        (b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", True),
    ],
)
async def test_no_whole_answer_is_none_and_the_request_is_not_sent_again(said: bytes, begun: bool) -> None:
    async def saying(talk: Talk) -> None:
        await talk.hear()
        await talk.say(said)

    async with peer(saying) as (known, client):
        with pytest.raises(NoAnswer) as told:
            await ask(client)
    assert told.value.begun is begun
    assert len(known.talks) == 1


async def test_a_read_on_a_connection_that_ended_while_it_was_idle_is_sent_again_on_another() -> None:
    async def once(talk: Talk) -> None:
        await talk.hear()
        await talk.say(OK)
        if talk.number == 0:
            # As a service that ends after it was asked and before it answers.
            await talk.hear()
            return
        await forever(talk)

    async with peer(once) as (known, client):
        assert (await ask(client)).body == b"hi"
        assert (await ask(client)).body == b"hi"
        assert len(known.talks) == 2


async def test_a_change_is_never_sent_twice() -> None:
    heard: list[int] = []

    async def once(talk: Talk) -> None:
        await talk.hear()
        await talk.say(OK)
        await talk.hear()
        heard.append(talk.number)

    async with peer(once) as (known, client):
        await ask(client)
        with pytest.raises(NoAnswer):
            await ask(client, method="POST", body=b"{}", repeatable=False)
    assert heard == [0]
    assert len(known.talks) == 1


async def test_a_change_takes_no_connection_that_the_service_has_closed() -> None:
    async def one(talk: Talk) -> None:
        await talk.hear()
        # Not announced by a header, as when the service ends.
        await talk.say(OK)

    async with peer(one) as (known, client):
        for _ in range(5):
            assert (await ask(client, method="POST", body=b"{}", repeatable=False)).body == b"hi"
            known.talks[-1].writer.close()
            # In the kernel before the event loop has looked.
            await asyncio.sleep(0)
    assert len(known.talks) == 5


async def test_a_connection_that_the_answer_closes_or_that_says_more_is_not_used_again() -> None:
    async def closing(talk: Talk) -> None:
        await talk.hear()
        close = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi"
        await talk.say(close if talk.number % 2 else OK + OK)
        assert await talk.ended()

    async with peer(closing) as (known, client):
        for _ in range(4):
            answer = await ask(client)
            assert (answer.body, len(answer.headers)) == (b"hi", 2)
            await asyncio.sleep(0.02)
        assert len(known.talks) == 4


async def test_an_idle_connection_is_not_used_when_the_service_is_about_to_close_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_client, "IDLE_S", 0.05)
    async with peer(forever) as (known, client):
        await ask(client)
        await ask(client)
        await asyncio.sleep(0.1)
        await ask(client)
    assert len(known.talks) == 2


async def test_who_gives_up_closes_the_connection_and_nobody_gets_the_late_answer() -> None:
    late = asyncio.Event()

    async def slow(talk: Talk) -> None:
        await talk.hear()
        if talk.number == 0:
            await late.wait()
        await talk.say(OK.replace(b"hi", b"0" + str(talk.number).encode()))
        await talk.ended()

    async with peer(slow) as (known, client):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await ask(client)
        late.set()
        await asyncio.sleep(0.05)
        assert (await ask(client)).body == b"01"
        assert len(known.talks) == 2


async def test_connections_are_bounded_and_who_waits_too_long_for_one_has_sent_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_client, "WAIT_TIMEOUT_S", 0.1)
    monkeypatch.setattr(http_client, "CONNECTIONS_MAX", 3)
    go = asyncio.Event()

    async def slow(talk: Talk) -> None:
        while True:
            await talk.hear()
            await go.wait()
            await talk.say(OK)

    async with peer(slow) as (known, client):
        asking = [asyncio.create_task(ask(client)) for _ in range(3)]
        await eventually(lambda: len(known.talks) == 3, what="three connections", timeout_s=2)
        with pytest.raises(NoConnection):
            await ask(client)
        go.set()
        assert [answer.status for answer in await asyncio.gather(*asking)] == [200] * 3
        monkeypatch.setattr(http_client, "WAIT_TIMEOUT_S", 8.0)
        # Who waited was given up, and takes no place from those who come later.
        answers = await asyncio.gather(*(ask(client) for _ in range(20)))
        assert len(answers) == 20
        assert len(known.talks) == 3


async def test_who_is_cancelled_while_waiting_for_a_connection_takes_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "CONNECTIONS_MAX", 1)
    go = asyncio.Event()

    async def slow(talk: Talk) -> None:
        while True:
            await talk.hear()
            await go.wait()
            await talk.say(OK)

    async with peer(slow) as (known, client):
        first = asyncio.create_task(ask(client))
        await eventually(lambda: len(known.talks) == 1, what="a connection", timeout_s=2)
        for _ in range(5):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await ask(client)
        go.set()
        assert (await first).status == 200
        assert (await ask(client)).status == 200
        assert len(known.talks) == 1


async def test_a_head_without_an_end_is_no_answer() -> None:
    async def endless(talk: Talk) -> None:
        await talk.hear()
        await talk.say(b"HTTP/1.1 200 OK\r\n")
        while True:
            await talk.say(b"x-a: " + b"a" * 8_000 + b"\r\n")

    async with peer(endless) as (_, client):
        with pytest.raises(NoAnswer, match="head too large"):
            await ask(client)


async def test_a_service_is_reached_by_ipv6_and_behind_a_path() -> None:
    heard: list[bytes] = []

    async def telling(talk: Talk) -> None:
        heard.append(await talk.hear())
        await talk.say(OK)

    try:
        async with peer(telling, "::1") as (known, _):
            client = HttpClient(known.url + "/behind/")
            await ask(client)
            await client.stop()
    except OSError:
        pytest.skip("this machine has no IPv6")
    assert heard[0].startswith(b"GET /behind/x?y=1 HTTP/1.1\r\nhost: [::1]:")


def certified(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's side of TLS at 127.0.0.1, and the file with its certificate."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - day, now + day)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file, key_file = folder / "certificate.pem", folder / "key.pem"
    file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, key_file)
    return context, file


async def test_a_service_by_https_has_to_be_one_that_the_machine_trusts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, certificate = certified(tmp_path)
    async with peer(forever, tls=context) as (known, stranger):
        with pytest.raises(NoConnection, match="SSLCertVerificationError"):
            await ask(stranger)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        client = HttpClient(known.url)
        for _ in range(3):
            assert (await ask(client, method="POST", body=b"{}", repeatable=False)).body == b"hi"
        await client.stop()


async def test_where_nobody_listens_nothing_was_sent() -> None:
    async with peer(forever) as (known, _):
        url = known.url
    client = HttpClient(url)
    with pytest.raises(NoConnection):
        await ask(client)
