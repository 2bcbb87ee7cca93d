"""Requests that a service answers: what goes there, what comes back, and what neither does."""

from __future__ import annotations

import asyncio
import time
from uuid import UUID

import httpx
import pytest

from services.chassis.clock import system_clock
from services.chassis.problems import Unavailable
from services.gateway.edge.connections import CONNECTIONS_MAX, HttpClient
from services.gateway.edge.forwarding import ServiceClient, Unanswered
from tests.integration.gateway.support import HANG_S, Headers, Peer, a_tenant, assert_problem, unique
from tests.support.gateway import GatewayProcess, Issuer
from tests.support.waiting import eventually


@pytest.mark.parametrize(
    ("method", "path", "service"),
    [
        ("GET", "/api/billing/balance", "billing"),
        ("GET", "/api/billing/balance/m1", "billing"),
        ("GET", "/api/billing/transactions", "billing"),
        ("POST", "/api/billing/transactions/t1/reverse", "billing"),
        ("GET", "/api/billing/providers", "billing"),
        ("GET", "/api/billing/markup", "billing"),
        ("GET", "/api/billing/admin/settings/m1", "billing"),
        ("POST", "/api/billing/admin/settings/m1", "billing"),
        ("POST", "/api/billing/admin/credit/m1", "billing"),
        ("GET", "/api/billing/admin/accounts/m1", "billing"),
        ("PUT", "/api/billing/admin/accounts/a1", "billing"),
        ("GET", "/api/billing/admin/prices", "billing"),
        ("POST", "/api/billing/admin/prices", "billing"),
        ("GET", "/api/billing/admin/rates", "billing"),
        ("POST", "/api/billing/admin/rates", "billing"),
        ("GET", "/api/billing/admin/unpriced", "billing"),
        ("GET", "/api/billing/admin/unknown", "billing"),
        ("POST", "/api/billing/admin/model/m1", "billing"),
        ("PUT", "/api/billing/admin/terms/m1", "billing"),
        ("GET", "/api/billing/invoices", "billing"),
        ("GET", "/api/billing/invoices/i1", "billing"),
        ("GET", "/api/billing/checkout/options", "payments"),
        ("POST", "/api/billing/checkout/create/m1", "payments"),
        ("POST", "/api/billing/checkout/confirm", "payments"),
        ("GET", "/api/subscriptions/plans", "subscriptions"),
        ("GET", "/api/subscriptions/m1", "subscriptions"),
        ("POST", "/api/subscriptions/m1", "subscriptions"),
    ],
)
async def test_each_operation_reaches_its_service_under_the_same_path(
    client: httpx.AsyncClient, admin: Headers, method: str, path: str, service: str
) -> None:
    content = None if method == "GET" else b'{"amount": 10.000001}'
    given = {**admin, "Content-Type": "application/json"} if content else admin
    answer = await client.request(method, f"{path}?userId=a%26b&limit=5", content=content, headers=given)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert (told["service"], told["method"], told["path"]) == (service, method, path)
    assert told["query"] == "userId=a%26b&limit=5"
    assert told["body"] == (content or b"").decode()
    # The context was signed for this service: it has verified that itself.
    assert told["caller"]["user_id"] == "root"
    assert told["caller"]["system_admin"] is True


async def test_only_the_named_headers_go_there_and_come_back(client: httpx.AsyncClient, admin: Headers) -> None:
    given = {
        **admin,
        "Content-Type": "application/json; charset=utf-8",
        "Accept-Language": "de",
        "Idempotency-Key": "key-1",
        "X-Request-Id": "request-1",
        "Cookie": "session=1",
        "X-Rappen-Caller": "forged",
        "X-Forwarded-For": "1.2.3.4",
        "Connection": "close",
        "Stripe-Signature": "t=1",
    }
    answer = await client.post("/api/billing/admin/credit/m1", content=b"{}", headers=given)
    sent = answer.json()["headers"]
    assert {
        name: sent.get(name) for name in ("content-type", "accept-language", "idempotency-key", "x-request-id")
    } == {
        "content-type": "application/json; charset=utf-8",
        "accept-language": "de",
        "idempotency-key": "key-1",
        "x-request-id": "request-1",
    }
    assert not {"authorization", "cookie", "x-forwarded-for", "stripe-signature"} & sent.keys()
    assert sent["x-rappen-caller"] != "forged"
    assert answer.headers["retry-after"] == "7"
    assert answer.headers["x-request-id"] == "request-1"
    assert "x-internal" not in answer.headers
    assert "server" not in answer.headers


async def test_a_refusal_of_the_service_is_passed_on(
    client: httpx.AsyncClient, admin: Headers, peers: dict[str, Peer]
) -> None:
    path = f"/api/billing/balance/{unique('m')}"
    peers["billing"].answers[path] = (409, {"code": "CONFLICT"})
    answer = await client.get(path, headers=admin)
    assert (answer.status_code, answer.json()) == (409, {"code": "CONFLICT"})


async def test_ids_that_look_like_steps_of_a_path_stay_ids(client: httpx.AsyncClient, admin: Headers) -> None:
    answer = await client.get("/api/billing/balance/%2E%2E", headers=admin)
    assert answer.json()["path"] == "/api/billing/balance/.."
    for hostile in ("%2E%2E%2Finternal", "a%2Fb", "..%2f..%2finternal%2fx"):
        assert_problem(await client.get(f"/api/billing/balance/{hostile}", headers=admin), 404)
    for hostile in ("a%00b", "a%20b", "a%3Fb", "a%23b", "%C3%BC", "x" * 65):
        assert_problem(await client.get(f"/api/billing/balance/{hostile}", headers=admin), 422, "VALIDATION")


async def test_a_path_in_another_spelling_is_the_same_guarded_operation_or_none(
    client: httpx.AsyncClient, admin: Headers, issuer: Issuer, peers: dict[str, Peer]
) -> None:
    async def ask(target: bytes, headers: Headers) -> httpx.Response:
        # A path that is given as usual is put in order by the client.
        return await client.get("/", headers=headers, extensions={"target": target})

    service_account = issuer.service_account("usage:check")
    for same in (b"/api/billing%2Fbalance", b"/%61pi/billing/%62alance", b"http://other.test/api/billing/balance"):
        assert (await ask(same, admin)).json()["path"] == "/api/billing/balance"
        assert_problem(await ask(same, {}), 401)
        assert_problem(await ask(same, service_account), 403)
    before = {name: peer.requests for name, peer in peers.items()}
    for none in (
        b"//api/billing/balance",
        b"/api//billing/balance",
        b"/api/./billing/balance",
        b"/api/x/../billing/balance",
        b"/api/x/%2e%2e/billing/balance",
        b"/API/billing/balance",
        b"/api/billing/balance/",
        b"/api/billing/balance%00",
        b"/api/billing/balance%20",
        b"/api/billing/balance;x",
        b"/api/billing%252Fbalance",
        b"/api\\billing\\balance",
        b"/internal/top-up-target/m1",
        b"/internal%2Ftop-up-target/m1",
    ):
        assert_problem(await ask(none, admin), 404)
    assert {name: peer.requests for name, peer in peers.items()} == before


async def test_internal_paths_of_the_services_are_not_public(client: httpx.AsyncClient, admin: Headers) -> None:
    for path in ("/internal/top-up-target/m1", "/api/billing/../../internal/top-up-target/m1"):
        assert_problem(await client.get(path, headers=admin), 404)


async def test_a_service_that_is_away_or_too_slow_is_503_and_comes_back(
    client: httpx.AsyncClient, admin: Headers, peers: dict[str, Peer]
) -> None:
    peer = peers["subscriptions"]
    await peer.stop()
    try:
        for method in ("GET", "POST"):
            answer = await client.request(method, "/api/subscriptions/m1", json={}, headers=admin)
            assert_problem(answer, 503, "UNAVAILABLE")
            assert int(answer.headers["retry-after"]) >= 1
    finally:
        await peer.start()
    assert (await client.get("/api/subscriptions/plans", headers=admin)).status_code == 200
    peer.delay_s = HANG_S
    try:
        started = time.monotonic()
        assert_problem(await client.get("/api/subscriptions/plans", headers=admin), 503, "UNAVAILABLE")
        assert time.monotonic() - started < HANG_S / 2
    finally:
        peer.delay_s = 0.0


async def test_our_own_signature_refused_is_no_fault_of_the_callers_token(
    client: httpx.AsyncClient, admin: Headers, peers: dict[str, Peer]
) -> None:
    path = f"/api/billing/balance/{unique('m')}"
    peers["billing"].answers[path] = (401, {"code": "UNAUTHENTICATED"})
    assert_problem(await client.get(path, headers=admin), 503, "UNAVAILABLE")


async def test_a_body_over_the_limit_or_of_another_type_never_reaches_the_service(
    client: httpx.AsyncClient, admin: Headers, peers: dict[str, Peer]
) -> None:
    before = peers["billing"].requests
    path = "/api/billing/admin/credit/m1"
    large = b'{"description": "' + b"x" * 4 * 1024 * 1024 + b'"}'

    async def chunks() -> object:
        for start in range(0, len(large), 65536):
            yield large[start : start + 65536]

    given = {**admin, "Content-Type": "application/json"}
    assert_problem(await client.post(path, content=large, headers=given), 413, "BODY_TOO_LARGE")
    assert_problem(await client.post(path, content=chunks(), headers=given), 413, "BODY_TOO_LARGE")  # type: ignore[arg-type]
    for media_type in ("text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1", ""):
        given = {**admin, "Content-Type": media_type}
        assert_problem(await client.post(path, content=b"{}", headers=given), 415, "UNSUPPORTED_MEDIA_TYPE")
    for media_type in (b"application/json\xa0", b"application/json; charset=\x85utf-8"):
        headers = _with(admin, "Content-Type", media_type)
        assert_problem(await client.post(path, content=b"{}", headers=headers), 415, "UNSUPPORTED_MEDIA_TYPE")
    assert peers["billing"].requests == before


async def test_a_checkout_asks_billing_for_whom_the_money_is_before_payments_hears_of_it(
    client: httpx.AsyncClient, admin: Headers, issuer: Issuer, peers: dict[str, Peer]
) -> None:
    mandate, user = await a_tenant(client, admin, "admin")
    me = issuer.person(user)
    path, target = f"/api/billing/checkout/create/{mandate}", f"/internal/top-up-target/{mandate}"
    billing, payments = peers["billing"].requests, peers["payments"].requests
    accepted = await client.post(path, json={"userId": "a&b", "amount": 10, "returnUrl": "x"}, headers=me)
    assert accepted.json()["service"] == "payments"
    assert (peers["billing"].requests, peers["payments"].requests) == (billing + 1, payments + 1)
    peers["billing"].answers[target] = (422, {"code": "NOT_A_MEMBER"})
    refused = await client.post(path, json={"userId": "x", "amount": 10}, headers=me)
    assert (refused.status_code, refused.json()) == (422, {"code": "NOT_A_MEMBER"})
    assert_problem(await client.post(path, json={"userId": 7}, headers=me), 422, "VALIDATION")
    malformed = await client.post(path, content=b"{", headers={**me, "Content-Type": "application/json"})
    assert_problem(malformed, 422, "MALFORMED_JSON")
    stranger = issuer.person(unique("stranger"))
    assert_problem(await client.post(path, json={"amount": 10}, headers=stranger), 403)
    assert peers["payments"].requests == payments + 1


async def test_stripes_webhook_passes_byte_for_byte_without_a_token(client: httpx.AsyncClient) -> None:
    body = b'{ "id" : "evt_1",\r\n "a":1.50, "\xc3\xbc": "\\u00e9" }\n'
    given = {"Stripe-Signature": "t=1,v1=abc", "Content-Type": "application/json; charset=utf-8"}
    told = (await client.post("/api/billing/webhook/stripe", content=body, headers=given)).json()
    assert told["service"] == "payments"
    assert told["body"].encode("latin-1") == body
    assert told["headers"]["stripe-signature"] == "t=1,v1=abc"
    assert "x-rappen-caller" not in told["headers"]
    assert told["caller"] is None


async def test_stripes_webhook_is_judged_by_payments_whatever_type_it_names(client: httpx.AsyncClient) -> None:
    for given in ({}, {"Content-Type": "text/plain"}, {"Content-Type": "application/json"}):
        told = await client.post("/api/billing/webhook/stripe", content=b"{}", headers=given)
        assert told.status_code == 200, told.text
        assert told.json()["headers"].get("content-type") == given.get("Content-Type")


async def test_each_change_has_a_key_and_its_answer_names_it(client: httpx.AsyncClient, admin: Headers) -> None:
    for method, path in (
        ("POST", "/api/billing/admin/credit/m1"),
        ("PUT", "/api/billing/admin/terms/m1"),
        ("POST", "/api/billing/checkout/create/m1"),
        ("POST", "/api/subscriptions/m1"),
    ):
        first, second = [await client.request(method, path, json={}, headers=admin) for _ in range(2)]
        for answer in (first, second):
            key = answer.headers["idempotency-key"]
            assert key == answer.json()["headers"]["idempotency-key"]
            assert str(UUID(key)) == key
        assert first.headers["idempotency-key"] != second.headers["idempotency-key"]
        own = await client.request(method, path, json={}, headers={**admin, "Idempotency-Key": "mine"})
        assert own.headers["idempotency-key"] == own.json()["headers"]["idempotency-key"] == "mine"
    read = await client.get("/api/billing/balance", headers=admin)
    assert "idempotency-key" not in read.json()["headers"]
    assert "idempotency-key" not in read.headers


async def test_a_change_whose_answer_is_lost_is_told_as_unknown_with_its_key(
    client: httpx.AsyncClient, admin: Headers, issuer: Issuer, peers: dict[str, Peer]
) -> None:
    peer = peers["billing"]
    checker, given = issuer.service_account("usage:check"), {**admin, "Idempotency-Key": "mine"}
    peer.delay_s = HANG_S
    try:
        slow, german, named, settings, read, check = await asyncio.gather(
            client.post("/api/billing/admin/credit/m1", json={}, headers=admin),
            client.post("/api/billing/admin/credit/m1", json={}, headers={**admin, "Accept-Language": "de"}),
            client.post("/api/billing/admin/credit/m1", json={}, headers=given),
            client.post("/api/billing/admin/settings/m1", json={}, headers=admin),
            client.get("/api/billing/balance", headers=admin),
            client.post("/api/billing/check", json={}, headers=checker),
        )
    finally:
        peer.delay_s = 0.0
    document = assert_problem(slow, 503, "OUTCOME_UNKNOWN")
    key = document["idempotencyKey"]
    assert str(UUID(key)) == key == slow.headers["idempotency-key"]
    assert f"Repeat it unchanged with Idempotency-Key {key}" in document["detail"]
    told = assert_problem(german, 503, "OUTCOME_UNKNOWN")
    assert f"unverändert mit Idempotency-Key {told['idempotencyKey']} wiederholen" in told["detail"]
    assert assert_problem(named, 503, "OUTCOME_UNKNOWN")["idempotencyKey"] == "mine"
    assert "made twice, it has the same effect as once" in assert_problem(settings, 503, "OUTCOME_UNKNOWN")["detail"]
    assert_problem(read, 503, "UNAVAILABLE")
    assert_problem(check, 503, "UNAVAILABLE")


async def test_a_service_that_does_not_know_what_became_of_a_change_is_told_alike(
    client: httpx.AsyncClient, admin: Headers, peers: dict[str, Peer]
) -> None:
    path = f"/api/billing/admin/credit/{unique('m')}"
    peers["billing"].answers[path] = (503, {"code": "OUTCOME_UNKNOWN", "detail": "?"})
    document = assert_problem(await client.post(path, json={}, headers=admin), 503, "OUTCOME_UNKNOWN")
    assert document["idempotencyKey"] in document["detail"]
    # What the service knows to be undone is passed on as it is.
    peers["billing"].answers[path] = (503, {"code": "UNAVAILABLE"})
    assert (await client.post(path, json={}, headers=admin)).json() == {"code": "UNAVAILABLE"}


async def test_a_connection_lost_after_the_request_was_sent_is_another_thing_than_none(issuer: Issuer) -> None:
    async def hear_and_hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(hear_and_hang_up, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    http = HttpClient(f"http://127.0.0.1:{port}")
    await http.start()
    service = ServiceClient(http, name="billing", secret=issuer.key_id, clock=system_clock)
    with pytest.raises(Unanswered):
        await service.send("POST", "/x", caller=None, body=b"{}", headers={}, timeout_s=5, repeatable=False)
    server.close()
    await server.wait_closed()
    with pytest.raises(Unavailable) as unsent:
        await service.send("POST", "/x", caller=None, body=b"{}", headers={}, timeout_s=5, repeatable=False)
    assert not isinstance(unsent.value, Unanswered)
    await http.stop()


async def test_a_service_that_does_not_answer_uses_up_no_connections_to_the_others(
    client: httpx.AsyncClient, admin: Headers, peers: dict[str, Peer]
) -> None:
    peers["subscriptions"].delay_s = HANG_S
    limits = httpx.Limits(max_connections=CONNECTIONS_MAX + 10)
    try:
        async with httpx.AsyncClient(base_url=client.base_url, trust_env=False, timeout=20, limits=limits) as other:
            slow = [
                asyncio.create_task(other.get("/api/subscriptions/plans", headers=admin))
                for _ in range(CONNECTIONS_MAX)
            ]
            await eventually(lambda: peers["subscriptions"].waiting >= CONNECTIONS_MAX, what="slow requests")
            assert (await client.get("/api/billing/balance", headers=admin)).status_code == 200
            assert peers["subscriptions"].waiting > 0
            peers["subscriptions"].delay_s = 0.0
            await asyncio.gather(*slow)
    finally:
        peers["subscriptions"].delay_s = 0.0


async def test_a_language_that_cannot_be_forwarded_is_left_out(
    client: httpx.AsyncClient, admin: Headers, peers: dict[str, Peer]
) -> None:
    for language in (b"d\xe9", b"d\xc3\xa9", b"de, \xff"):
        answer = await client.get("/api/billing/balance", headers=_with(admin, "Accept-Language", language))
        assert answer.status_code == 200, answer.text
        assert "accept-language" not in answer.json()["headers"]
    odd = await client.get("/api/billing/balance", headers=_with(admin, "Content-Type", b"text/\xe9"))
    assert "content-type" not in odd.json()["headers"]
    path = f"/api/billing/checkout/create/{unique('m')}"
    given = _with({**admin, "Content-Type": "application/json"}, "Accept-Language", b"d\xe9")
    before = peers["payments"].requests
    assert (await client.post(path, content=b"{}", headers=given)).json()["service"] == "payments"
    assert peers["payments"].requests == before + 1


async def test_an_idempotency_key_of_other_characters_is_400_before_any_service_hears_of_it(
    client: httpx.AsyncClient, admin: Headers, peers: dict[str, Peer], gateway: GatewayProcess
) -> None:
    before = {name: peer.requests for name, peer in peers.items()}
    given = {**admin, "Content-Type": "application/json"}
    for path in ("/api/billing/checkout/create/m1", "/api/billing/admin/credit/m1"):
        for key in (b"\xe9", b"\xc3\xa9", b"key-\xff", b"a b", b"a\tb", b"x" * 256):
            answer = await client.post(path, content=b"{}", headers=_with(given, "Idempotency-Key", key))
            document = assert_problem(answer, 400, "INVALID_IDEMPOTENCY_KEY")
            assert "Idempotency-Key" in document["detail"]
        german = {**given, "Accept-Language": "de"}
        refused = await client.post(path, content=b"{}", headers=_with(german, "Idempotency-Key", b"\xe9"))
        assert assert_problem(refused, 400)["detail"].startswith("Idempotency-Key hat")
        accepted = await client.post(path, content=b"{}", headers=_with(given, "Idempotency-Key", b"x" * 255))
        assert accepted.json()["headers"]["idempotency-key"] == "x" * 255
    assert peers["billing"].requests == before["billing"] + 2
    assert peers["payments"].requests == before["payments"] + 1
    assert "UnicodeEncodeError" not in gateway.log_text()


async def test_a_signature_that_is_no_text_signs_nothing_and_is_left_out(client: httpx.AsyncClient) -> None:
    for signature in (b"t=1,v1=\xe9", b"t=1,v1=\xc3\xa9", b"\xff\xfe"):
        given = _with({"Content-Type": "application/json"}, "Stripe-Signature", signature)
        answer = await client.post("/api/billing/webhook/stripe", content=b"{}", headers=given)
        assert answer.status_code == 200, answer.text
        assert "stripe-signature" not in answer.json()["headers"]


def _with(headers: Headers, name: str, value: bytes) -> list[tuple[bytes, bytes]]:
    """The headers, and one more of any bytes."""
    return [*((each.encode(), text.encode()) for each, text in headers.items()), (name.encode(), value)]


async def test_unknown_paths_and_methods_are_problems_too(
    client: httpx.AsyncClient, admin: Headers, gateway: GatewayProcess
) -> None:
    assert_problem(await client.get("/api/nothing", headers=admin), 404, "NOT_FOUND")
    assert_problem(await client.get("/api/billing/balance/", headers=admin), 404, "NOT_FOUND")
    assert_problem(await client.delete("/api/billing/balance", headers=admin), 405, "METHOD_NOT_ALLOWED")
    for path, methods in (
        ("/api/billing/admin/settings/m", {"GET", "POST"}),
        ("/api/directory/users/u", {"GET", "PUT", "DELETE"}),
        ("/api/directory/users/lookup", {"POST"}),
    ):
        refused = await client.patch(path, headers=admin)
        assert_problem(refused, 405, "METHOD_NOT_ALLOWED")
        assert set(refused.headers["allow"].split(", ")) == methods
    german = await client.get("/api/nothing", headers={**admin, "Accept-Language": "de"})
    assert german.json()["detail"] == "Hier ist nichts."
    assert "Traceback" not in gateway.log_text()
