"""What is on every answer: limits, cross-origin headers, the described surface, and no word of the inside."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.gateway.support import Headers, Peer, assert_problem, unique
from tests.support.gateway import GatewayProcess, Issuer
from tests.support.stack import ServerPair

PREFLIGHT = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "authorization"}


@pytest.fixture(scope="module")
async def limited(
    servers: ServerPair, issuer: Issuer, peers: dict[str, Peer], gateway: GatewayProcess, tmp_path_factory: Any
) -> AsyncIterator[httpx.AsyncClient]:
    folder: Path = tmp_path_factory.mktemp("limited")
    more = {
        "GATEWAY_RATE_LIMITS__ENABLED": "true",
        "GATEWAY_RATE_LIMITS__OVERRIDES": '{"billing-list-balances": 3}',
    }
    async with GatewayProcess(servers, issuer, peers, folder, role="api", more=more) as process:
        async with httpx.AsyncClient(base_url=process.url, timeout=20, trust_env=False) as http:
            yield http


async def test_a_person_has_so_many_requests_a_minute_of_each_operation(
    limited: httpx.AsyncClient, issuer: Issuer, peers: dict[str, Peer]
) -> None:
    me, other = issuer.person(unique("user")), issuer.person(unique("user"))
    before = peers["billing"].requests
    answers = [await limited.get("/api/billing/balance", headers=me) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert [answer.headers["ratelimit"].split(";")[1] for answer in answers] == ["r=2", "r=1", "r=0", "r=0"]
    assert answers[0].headers["ratelimit-policy"] == '"default";q=3;w=60'
    assert_problem(answers[3], 429, "RATE_LIMITED")
    assert 1 <= int(answers[3].headers["retry-after"]) <= 60
    assert peers["billing"].requests == before + 3
    # Neither another operation nor another caller is concerned.
    assert (await limited.get("/api/billing/transactions", headers=me)).status_code == 200
    assert (await limited.get("/api/billing/balance", headers=other)).status_code == 200


async def test_the_limits_of_the_operations_are_those_of_the_reference(
    limited: httpx.AsyncClient, issuer: Issuer, admin: Headers
) -> None:
    me = issuer.person(unique("user"))
    for path, limit, headers in (
        ("/api/billing/transactions", 30, me),
        ("/api/billing/providers", 60, me),
        ("/api/subscriptions/plans", 60, me),
        ("/api/billing/admin/settings/m", 30, admin),
        ("/api/directory/users", 60, admin),
    ):
        answer = await limited.get(path, headers=headers)
        assert answer.headers["ratelimit-policy"] == f'"default";q={limit};w=60', path
    changed = await limited.post("/api/billing/admin/credit/m", json={}, headers=admin)
    assert changed.headers["ratelimit-policy"] == '"default";q=10;w=60'


async def test_a_program_has_no_limit_unless_one_is_set(limited: httpx.AsyncClient, issuer: Issuer) -> None:
    program = issuer.service_account("usage:check")
    answers = await asyncio.gather(*(limited.post("/api/billing/check", json={}, headers=program) for _ in range(80)))
    assert {answer.status_code for answer in answers} == {200}
    assert "ratelimit" not in answers[0].headers


async def test_the_frontend_may_call_from_its_origin(client: httpx.AsyncClient) -> None:
    origin = {"Origin": "https://app.test"}
    preflight = await client.options("/api/billing/balance", headers={**origin, **PREFLIGHT})
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-origin"] == "https://app.test"
    assert preflight.headers["access-control-allow-methods"] == "GET, POST, PUT, DELETE"
    assert preflight.headers["access-control-allow-headers"].split(", ") == [
        "Authorization",
        "Content-Type",
        "Accept-Language",
        "Idempotency-Key",
        "Last-Event-ID",
        "X-Mandate-Id",
    ]
    # Refusals too: without the headers the frontend could not read them.
    answer = await client.get("/api/billing/balance", headers=origin)
    assert answer.status_code == 401
    assert answer.headers["access-control-allow-origin"] == "https://app.test"
    assert "access-control-allow-credentials" not in answer.headers


async def test_a_frontend_may_use_every_method_and_header_that_the_surface_describes(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    preflight = await client.options("/api/billing/balance", headers={"Origin": "https://app.test", **PREFLIGHT})
    methods = {method.upper() for each in document["paths"].values() for method in each}
    assert set(preflight.headers["access-control-allow-methods"].split(", ")) == methods
    described = {
        parameter["name"]
        for each in document["paths"].values()
        for operation in each.values()
        for parameter in operation["parameters"]
        if parameter["in"] == "header"
    }
    assert described
    assert described <= set(preflight.headers["access-control-allow-headers"].split(", "))


async def test_a_frontend_can_read_every_header_of_answers_that_the_surface_describes(
    client: httpx.AsyncClient,
) -> None:
    document = (await client.get("/openapi.json")).json()
    answer = await client.get("/api/billing/balance", headers={"Origin": "https://app.test"})
    exposed = answer.headers["access-control-expose-headers"].split(", ")
    assert sorted(exposed) == sorted(document["components"]["headers"])


async def test_a_frontend_can_read_how_long_it_has_to_wait(limited: httpx.AsyncClient, issuer: Issuer) -> None:
    headers = {"Origin": "https://app.test", **issuer.person(unique("user"))}
    answers = [await limited.get("/api/billing/balance", headers=headers) for _ in range(4)]
    refused = answers[-1]
    assert refused.status_code == 429
    exposed = refused.headers["access-control-expose-headers"].split(", ")
    read = ["Retry-After", "X-Request-Id", "RateLimit", "RateLimit-Policy"]
    assert [name for name in read if name not in exposed or name not in refused.headers] == []


@pytest.mark.parametrize("origin", ["https://app.test.evil", "http://app.test", "https://APP.test", "null", "*", ""])
async def test_every_other_origin_gets_no_cross_origin_header(
    client: httpx.AsyncClient, admin: Headers, origin: str
) -> None:
    for answer in (
        await client.options("/api/billing/balance", headers={"Origin": origin, **PREFLIGHT}),
        await client.get("/api/billing/balance", headers={"Origin": origin, **admin}),
    ):
        assert not [name for name in answer.headers if name.startswith("access-control-")]


async def test_the_described_surface_is_the_one_that_is_served(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    operations = [
        (method, path, described) for path, each in document["paths"].items() for method, described in each.items()
    ]
    assert len(operations) > 45
    ids = [described["operationId"] for _, _, described in operations]
    assert len(ids) == len(set(ids))
    for method, path, described in operations:
        if described["security"]:
            filled = path.replace("{", "").replace("}", "")
            answer = await client.request(method, filled)
            assert answer.status_code == 401, (method, path)
            assert {"401", "403", "429", "503"} <= described["responses"].keys()
        names = {part[1:-1] for part in path.split("/") if part.startswith("{")}
        assert names == {each["name"] for each in described["parameters"] if each["in"] == "path"}
    references: set[str] = set()
    _collect(document, references)
    components = document["components"]
    missing = {
        name for name in references if name.rpartition("/")[2] not in components[name.removeprefix("#/").split("/")[1]]
    }
    assert not missing


def _collect(node: Any, references: set[str]) -> None:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            references.add(node["$ref"])
        for each in node.values():
            _collect(each, references)
    elif isinstance(node, list):
        for each in node:
            _collect(each, references)


@pytest.mark.parametrize("request_id", ["x" * 65, "a\x01b", ""])
async def test_a_request_id_of_the_caller_is_kept_only_when_it_is_one(
    client: httpx.AsyncClient, request_id: str
) -> None:
    answer = await client.get("/api/billing/balance", headers=[(b"X-Request-Id", request_id.encode())])
    if answer.status_code == 400 and "x-request-id" not in answer.headers:
        return  # The server refused the header before the application saw it.
    assert answer.headers["x-request-id"] != request_id
    kept = await client.get("/api/billing/balance", headers={"X-Request-Id": "frontend-7"})
    assert kept.headers["x-request-id"] == "frontend-7"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b"\xff",
        b'{"label": NaN}',
        b"[" * 50_000,
        b'{"label": ' + b"9" * 6000 + b"}",
        b'{"label": "\\ud800"}',
        b'{"label": {"a": []}}',
        b'{"id": {}}',
    ],
)
async def test_no_body_makes_the_gateway_fail(client: httpx.AsyncClient, admin: Headers, body: bytes) -> None:
    given = {**admin, "Content-Type": "application/json"}
    document = assert_problem(await client.put("/api/directory/mandates/m", content=body, headers=given), 422)
    assert isinstance(document["errors"], list)
    for path in ("users/u", "memberships/m/u", "feature-instances/i", "provider-permissions/m/r"):
        answer = await client.put(f"/api/directory/{path}", content=body, headers=given)
        assert answer.status_code in (200, 404, 422), answer.text


async def test_no_answer_tells_of_the_inside(
    client: httpx.AsyncClient, admin: Headers, gateway: GatewayProcess
) -> None:
    hostile = ("'; DROP TABLE users; --", "%27%22%3E", "${jndi:x}", "{0.__class__}", "\u202e", "\U0001f4a9" * 20)
    for text in hostile:
        for answer in (
            await client.get("/api/directory/users", params={"mandateId": text}, headers=admin),
            await client.get("/api/directory/users", params={"cursor": text}, headers=admin),
            await client.get("/api/directory/users", params={"limit": text}, headers=admin),
            await client.get("/api/directory/users", params={"pagination": text}, headers=admin),
        ):
            document = assert_problem(answer, answer.status_code)
            assert answer.status_code in (400, 422)
            for word in ("Traceback", "asyncpg", "sqlalchemy", "pydantic", "SELECT"):
                assert word not in str(document)
    found = await client.get("/api/directory/users", params={"pagination": '{"search": "\'; --%_\\\\"}'}, headers=admin)
    assert found.status_code == 200
    assert "request failed" not in gateway.log_text()


async def _sent(gateway: GatewayProcess, *pieces: bytes) -> tuple[bytes, dict[str, Any]]:
    """The status line and the problem document of a request that is sent as bytes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    async with asyncio.timeout(60):
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            # So that each arrives alone.
            await asyncio.sleep(0.01)
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return head.partition(b"\r\n")[0], json.loads(body)


async def test_a_head_without_an_end_is_refused(gateway: GatewayProcess) -> None:
    line, problem = await _sent(gateway, b"GET / HTTP/1.1\r\nHost: x\r\nX-A: ", *[b"a" * 50_000] * 3)
    assert line == b"HTTP/1.1 431 Request Header Fields Too Large"
    assert problem["code"] == "HEAD_TOO_LARGE"
    line, problem = await _sent(gateway, b"GET / HTTP/1.1\r\n", *[b"a: b\r\n" * 9_000] * 3)
    assert problem["code"] == "HEAD_TOO_LARGE"


async def test_trailers_without_an_end_close_the_connection(gateway: GatewayProcess) -> None:
    head = b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-A: "
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(head)
    async with asyncio.timeout(60):
        assert b"404" in await reader.readline()
        for _ in range(4):
            writer.write(b"a" * 50_000)
            await asyncio.sleep(0.01)
        # Something may still be on its way when it is closed.
        with suppress(ConnectionError):
            await reader.read()
    writer.close()


async def test_what_is_no_request_is_answered_with_a_problem_document(gateway: GatewayProcess) -> None:
    long = b"GET /" + b"x" * 66_000 + b" HTTP/1.1\r\n\r\n"
    for sent in (b"\x16\x03\x01\x02\x00", b"GET /\xff HTTP/1.1\r\n\r\n", long):
        line, problem = await _sent(gateway, sent)
        assert line == b"HTTP/1.1 400 Bad Request"
        assert problem["code"] == "MALFORMED_REQUEST"


async def test_a_large_head_and_a_body_in_pieces_are_read(gateway: GatewayProcess, admin: Headers) -> None:
    line, problem = await _sent(
        gateway,
        b"GET /api/billing/balance HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-A: ",
        b"a" * 100_000,
        b"\r\n\r\n",
    )
    assert line == b"HTTP/1.1 401 Unauthorized"
    assert problem["code"] == "UNAUTHENTICATED"

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(6):
            yield b" " * 100_000
        yield b'{"label": "M"}'

    async with httpx.AsyncClient(base_url=gateway.url, timeout=20, trust_env=False) as http:
        headers = {**admin, "Content-Type": "application/json"}
        path = f"/api/directory/mandates/{unique('mandate')}"
        answer = await http.put(path, content=pieces(), headers=headers)
    assert answer.status_code == 200, answer.text


async def test_a_caller_who_hangs_up_within_a_body_is_no_failed_request(gateway: GatewayProcess) -> None:
    """Anybody can do that at the webhook, as often as they like."""
    request_id = unique("hang-up")
    head = f"POST /api/billing/webhook/stripe HTTP/1.1\r\nHost: x\r\nX-Request-Id: {request_id}\r\n"
    _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(f"{head}Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{".encode())
    await writer.drain()
    await asyncio.sleep(0.2)
    writer.close()
    await writer.wait_closed()
    await asyncio.sleep(0.5)
    assert request_id not in gateway.log_text()


_POST = b"POST /api/billing/webhook/stripe HTTP/1.1\r\nHost: x\r\n"
_SECOND = b"GET /api/nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
        b"Content-Length: 4\r\nContent-Length: 4\r\n\r\nabcd",
        b"Content-Length: 4\r\nContent-Length: 0\r\n\r\nabcd",
        b"Content-Length: 4, 4\r\n\r\nabcd",
        b"Content-Length: +4\r\n\r\nabcd",
        b"Content-Length : 4\r\n\r\nabcd",
        b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
        b"Content-Length: 0\r\nX-A: b\r\n X-Rappen-Caller: c\r\n\r\n",
        b"Content-Length: 0\r\nX-A: b\nX-B: c\r\n\r\n",
        b"Content-Length: 0\r\nX-A: b\x00c\r\n\r\n",
        b"Content-Length: 0\r\nX A: b\r\n\r\n",
    ],
)
async def test_a_request_whose_end_is_a_matter_of_opinion_is_refused_with_all_behind_it(
    gateway: GatewayProcess, framing: bytes, peers: dict[str, Peer]
) -> None:
    before = peers["payments"].requests
    line, problem = await _sent(gateway, _POST + framing + _SECOND)
    assert line == b"HTTP/1.1 400 Bad Request"
    assert problem["code"] == "MALFORMED_REQUEST"
    assert peers["payments"].requests == before


async def test_an_upgrade_that_is_not_made_is_answered_and_ends_the_connection(gateway: GatewayProcess) -> None:
    """The parser reads nothing behind it, so whoever sent more would wait for ever."""
    asked = b"GET /api/nothing HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n"
    line, problem = await _sent(gateway, asked)
    assert line == b"HTTP/1.1 404 Not Found"
    assert problem["code"] == "NOT_FOUND"


async def test_an_upgrade_with_a_body_is_refused_because_the_body_would_not_be_read(
    gateway: GatewayProcess, peers: dict[str, Peer]
) -> None:
    before = peers["payments"].requests
    for framing in (b"Content-Length: 4\r\n\r\nabcd", b"Transfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n"):
        line, problem = await _sent(gateway, _POST + b"Connection: upgrade\r\nUpgrade: h2c\r\n" + framing)
        assert line == b"HTTP/1.1 400 Bad Request"
        assert problem["code"] == "MALFORMED_REQUEST"
    assert peers["payments"].requests == before
