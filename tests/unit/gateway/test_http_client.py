"""Requests to a service and its answers: as they were given, within their bounds, by IPv6 and by https."""

import asyncio
import datetime
import ipaddress
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from services.gateway.edge import connections
from services.gateway.edge.connections import HttpClient, NoAnswer, NoConnection
from tests.unit.gateway.talks import OK, Talk, ask, forever, peer


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
        b"GET /x?y=1 HTTP/1.1\r\nHost: " + host + b"\r\nx-a: b\r\n\r\n",
        b"POST /x?y=1 HTTP/1.1\r\nHost: " + host + b"\r\nx-a: b\r\nContent-Length: 2\r\n\r\n{}",
        b"DELETE /x?y=1 HTTP/1.1\r\nHost: " + host + b"\r\nx-a: b\r\nContent-Length: 0\r\n\r\n",
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
    "said",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
    ],
)
async def test_no_whole_answer_is_none_and_the_request_is_not_sent_again(said: bytes) -> None:
    async def saying(talk: Talk) -> None:
        await talk.hear()
        await talk.say(said)

    async with peer(saying) as (known, client):
        with pytest.raises(NoAnswer):
            await ask(client)
    assert len(known.talks) == 1


async def test_a_head_without_an_end_is_no_answer() -> None:
    async def endless(talk: Talk) -> None:
        await talk.hear()
        await talk.say(b"HTTP/1.1 200 OK\r\n")
        while True:
            await talk.say(b"x-a: " + b"a" * 8_000 + b"\r\n")

    async with peer(endless) as (_, client):
        with pytest.raises(NoAnswer, match=r"^ClientResponseError$"):
            await ask(client)


async def test_a_service_is_reached_by_ipv6_and_behind_a_path() -> None:
    heard: list[bytes] = []

    async def telling(talk: Talk) -> None:
        heard.append(await talk.hear())
        await talk.say(OK)

    try:
        async with peer(telling, "::1") as (known, _):
            client = HttpClient(known.url + "/behind/")
            await client.start()
            await ask(client)
            await client.stop()
    except OSError:
        pytest.skip("this machine has no IPv6")
    assert heard[0].startswith(b"GET /behind/x?y=1 HTTP/1.1\r\nHost: [::1]:")


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
        with pytest.raises(NoConnection, match="CertificateError"):
            await ask(stranger)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        client = HttpClient(known.url)
        await client.start()
        for _ in range(3):
            assert (await ask(client, method="POST", body=b"{}", repeatable=False)).body == b"hi"
        await client.stop()


@pytest.mark.parametrize(
    "target",
    [
        "/a//b/../c/./%2E%2E/%2f?a=%26&b=+&&;\"'<>{}|\\^`[]?=%zz%",
        "//other.test/x",
        "/:@x;y=1?/../?",
    ],
)
async def test_a_target_arrives_byte_for_byte(target: str) -> None:
    heard: list[bytes] = []

    async def telling(talk: Talk) -> None:
        heard.append(await talk.hear())
        await talk.say(OK)

    async with peer(telling) as (_, client):
        await client.send("GET", target, {}, b"", repeatable=True)
    assert heard[0].split(b" ")[1] == target.encode()


async def test_a_body_is_sent_whole_at_the_pace_of_the_service() -> None:
    """The service takes nothing for a while: what it has not taken is not in its buffers, and arrives in the end."""
    body = bytes(range(256)) * 4 * 4096
    got = bytearray()

    async def slow(talk: Talk) -> None:
        await talk.hear()
        await asyncio.sleep(0.1)
        got.extend(await talk.take(len(body)))
        await talk.say(OK)

    async with peer(slow) as (_, client):
        assert (await ask(client, method="POST", body=body, repeatable=False)).body == b"hi"
    assert got == body


async def test_a_body_over_the_bound_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "BODY_BYTES_MAX", 10)

    async def saying(talk: Talk) -> None:
        await talk.hear()
        await talk.say(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + b"8\r\n12345678\r\n" * 2)
        assert await talk.ended()

    async with peer(saying) as (_, client):
        with pytest.raises(NoAnswer, match="too large"):
            await ask(client)


async def test_nothing_is_followed_kept_or_decoded() -> None:
    """An answer is passed on: a redirect, a cookie and an encoding are the caller's business."""
    heard: list[bytes] = []

    async def telling(talk: Talk) -> None:
        while True:
            heard.append(await talk.hear())
            await talk.say(
                b"HTTP/1.1 302 Found\r\nlocation: /y\r\nset-cookie: a=b\r\ncontent-encoding: gzip\r\n"
                b"content-length: 2\r\n\r\nhi"
            )

    async with peer(telling) as (_, client):
        for _ in range(2):
            answer = await ask(client)
            assert (answer.status, answer.body, answer.header(b"set-cookie")) == (302, b"hi", "a=b")
    assert len(heard) == 2
    assert not any(b"cookie" in each.lower() for each in heard)
