"""Usage over HTTP: accepted only when Kafka has it, each event judged by itself."""

from __future__ import annotations

import asyncio
import json
import time
from base64 import b64encode
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from rappen_contracts import decode
from rappen_contracts.usage.v1 import UsageRecorded, UsageVoided
from services.chassis.clock import system_clock
from tests.integration.gateway.support import Headers, assert_problem, unique
from tests.support.gateway import GatewayProcess, Issuer
from tests.support.stack import ServerPair
from tests.support.topics import read_topic
from tests.support.waiting import eventually

BATCH = "application/cloudevents-batch+json"


@pytest.fixture(scope="package")
def service_account(issuer: Issuer) -> Headers:
    return issuer.service_account("usage:write")


def an_event(mandate: str, **changes: Any) -> dict[str, Any]:
    data = {
        "mandate_id": mandate,
        "user_id": "user-1",
        "provider": "anthropic",
        "model": "claude",
        "cost": {"amount": "0.000001230000000000000001", "currency": "USD"},
    }
    event = {
        "specversion": "1.0",
        "id": str(uuid4()),
        "source": "/tests",
        "type": "ch.rappen.usage.recorded.v1",
        "time": "2026-01-02T03:04:05.678901Z",
        "data": data,
    }
    return {**event, **changes}


async def send(client: httpx.AsyncClient, headers: Headers, event: object) -> httpx.Response:
    body = event if isinstance(event, bytes) else json.dumps(event).encode()
    given = {**headers, "Content-Type": "application/cloudevents+json; charset=utf-8"}
    return await client.post("/api/usage", content=body, headers=given)


async def send_batch(client: httpx.AsyncClient, headers: Headers, events: object) -> httpx.Response:
    body = events if isinstance(events, bytes) else json.dumps(events).encode()
    return await client.post("/api/usage/batch", content=body, headers={**headers, "Content-Type": BATCH})


async def test_an_accepted_event_is_in_kafka_exactly_as_it_was_sent(
    client: httpx.AsyncClient, service_account: Headers, servers: ServerPair
) -> None:
    mandate = unique("m")
    event = an_event(mandate, traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    answer = await send(client, service_account, event)
    assert answer.status_code == 202
    assert answer.json() == {"accepted": 1, "results": [{"id": event["id"], "status": "accepted"}]}
    (record,) = await read_topic(servers.kafka.bootstrap_servers, "usage.recorded", key=mandate, count=1)
    headers = dict(record.headers)
    assert headers["ce_id"] == event["id"].encode()
    assert headers["ce_source"] == b"/tests"
    assert headers["traceparent"] == event["traceparent"].encode()
    read = decode(record.headers, record.value, now=system_clock())
    assert isinstance(read.data, UsageRecorded)
    assert read.data.cost is not None
    assert str(read.data.cost.amount) == "0.000001230000000000000001"
    assert read.time.isoformat() == "2026-01-02T03:04:05.678901+00:00"


async def test_in_a_batch_each_event_is_judged_by_itself(
    client: httpx.AsyncClient, service_account: Headers, servers: ServerPair
) -> None:
    mandate = unique("m")
    good, twice = an_event(mandate), an_event(mandate)
    negative = an_event(mandate)
    negative["data"] = {**negative["data"], "cost": {"amount": "-1", "currency": "CHF"}}
    foreign = an_event(mandate, type="ch.rappen.payment.succeeded.v1")
    duplicate = json.dumps(an_event(mandate)).replace('"user_id"', '"user_id": "other", "user_id"', 1)
    parts = [json.dumps(each) for each in (good, negative, twice, foreign, "text", twice, an_event(mandate, id=7))]
    body = f"[{','.join(parts)}, {duplicate}]".encode()
    answer = await send_batch(client, service_account, body)
    assert answer.status_code == 207, answer.text
    results = answer.json()["results"]
    assert answer.json()["accepted"] == 3
    assert [result["status"] for result in results] == [
        *("accepted", "invalid", "accepted", "invalid", "invalid", "accepted", "invalid", "invalid")
    ]
    assert (results[1]["id"], results[1]["code"]) == (negative["id"], "NEGATIVE")
    assert results[7]["code"] == "DUPLICATE_KEY"
    assert all(result["detail"] for result in results if result["status"] == "invalid")
    records = await read_topic(servers.kafka.bootstrap_servers, "usage.recorded", key=mandate, count=3)
    assert [dict(record.headers)["ce_id"].decode() for record in records] == [good["id"], twice["id"], twice["id"]]


async def test_a_payment_cannot_be_written_through_the_usage_endpoint(
    client: httpx.AsyncClient, service_account: Headers
) -> None:
    data = {
        "mandate_id": "m",
        "user_id": None,
        "amount": {"amount": "1000.000000", "currency": "CHF"},
        "reason": "top_up",
        "stripe_payment_intent_id": "pi_1",
        "paid_at": "2026-01-01T00:00:00Z",
    }
    refused = await send(client, service_account, an_event("m", type="ch.rappen.payment.succeeded.v1", data=data))
    document = assert_problem(refused, 422, "INVALID_EVENTS")
    (result,) = document["results"]
    assert (result["status"], result["code"]) == ("invalid", "UNKNOWN_TYPE")
    known = "ch.rappen.usage.recorded.v1, ch.rappen.usage.voided.v1"
    assert result["detail"] == f"type: no such event; known are {known}"


async def test_a_cancellation_is_taken_as_usage_is(
    client: httpx.AsyncClient, service_account: Headers, servers: ServerPair
) -> None:
    mandate = unique("m")
    usage = an_event(mandate)
    cancelling = an_event(mandate, type="ch.rappen.usage.voided.v1", data=_cancelled(mandate, event_id=usage["id"]))
    answer = await send(client, service_account, cancelling)
    assert (answer.status_code, answer.json()["accepted"]) == (202, 1), answer.text
    bad = [
        an_event(mandate, type="ch.rappen.usage.voided.v1", data=data)
        for data in (usage["data"], _cancelled(mandate, event_id="evt_1"), _cancelled(mandate, reason=""))
    ]
    answer = await send_batch(client, service_account, [usage, cancelling, *bad])
    assert answer.status_code == 207, answer.text
    codes = [result.get("code") for result in answer.json()["results"]]
    assert codes == [None, None, "MISSING_FIELD", "BAD_UUID", "TOO_SHORT"]
    records = await read_topic(servers.kafka.bootstrap_servers, "usage.recorded", key=mandate, count=3)
    assert [dict(record.headers)["ce_id"].decode() for record in records] == [
        *(cancelling["id"], usage["id"], cancelling["id"])
    ]
    read = decode(records[0].headers, records[0].value, now=system_clock())
    assert read.data == UsageVoided(mandate_id=mandate, event_id=UUID(usage["id"]), reason="sent twice")


def _cancelled(mandate: str, **changes: Any) -> dict[str, Any]:
    return {"mandate_id": mandate, "event_id": str(uuid4()), "reason": "sent twice", **changes}


async def test_when_nothing_is_valid_the_answer_is_a_problem_with_every_result(
    client: httpx.AsyncClient, service_account: Headers
) -> None:
    event = an_event("m", specversion="0.3")
    for answer in (await send(client, service_account, event), await send_batch(client, service_account, [event])):
        document = assert_problem(answer, 422, "INVALID_EVENTS")
        assert document["accepted"] == 0
        assert [result["status"] for result in document["results"]] == ["invalid"]
        assert document["errors"][0]["field"] == "0"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"{}",
        b'"text"',
        b"\xff\xfe",
        b'{"id": "\\ud800"}',
        b"[" * 100_000,
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"id": 1e999}',
        b"NaN",
        json.dumps(an_event("m\x00")).encode(),
        json.dumps(an_event("m", source="/\x00")).encode(),
        json.dumps(an_event("m", source="\ud800")).encode(),
        json.dumps(an_event("m", id="\x00" * 50)).encode(),
        json.dumps(an_event("m", time="9999-12-31T23:59:59Z")).encode(),
        json.dumps(an_event("m", time="0000-00-00T00:00:00Z")).encode(),
        json.dumps(an_event("m", data=None)).encode(),
    ],
)
async def test_hostile_bodies_are_refused_one_by_one_and_in_batches(
    client: httpx.AsyncClient, service_account: Headers, body: bytes
) -> None:
    assert_problem(await send(client, service_account, body), 422, "INVALID_EVENTS")
    assert_problem(await send_batch(client, service_account, b"[" + body + b"]"), 422)
    assert_problem(await send_batch(client, service_account, body), 422)


async def test_what_would_be_given_away_or_is_said_twice_is_refused_with_its_code(
    client: httpx.AsyncClient, service_account: Headers
) -> None:
    data = an_event("m")["data"]
    encoded = b64encode(json.dumps(data).encode()).decode()
    cases: list[tuple[dict[str, Any], str]] = [
        ({"data": data | {"tokens": {"prompt_tokens": 100_000}}}, "UNKNOWN_TOKEN_KIND"),
        ({"data": data | {"cost": {"amount": "99999999999999", "currency": "CHF"}}}, "TOO_LARGE"),
        ({"data": data | {"cost": {"amount": "1", "currency": "chf"}}}, "UNKNOWN_CURRENCY"),
        ({"data": json.dumps(data), "datacontenttype": "application/json"}, "NOT_AN_OBJECT"),
        ({"data_base64": encoded}, "DATA_TWICE"),
        ({"data": None, "data_base64": encoded}, "DATA_TWICE"),
        ({"datacontenttype": "text/plain"}, "BAD_CONTENT_TYPE"),
        ({"source": "my service"}, "BAD_SOURCE"),
        ({"time": "0001-01-01T00:00:00Z"}, "TIME_OUT_OF_RANGE"),
        ({"time": "2026-01-02T14:07Z"}, "BAD_TIME"),
    ]
    for changes, code in cases:
        document = assert_problem(await send(client, service_account, an_event("m", **changes)), 422, "INVALID_EVENTS")
        assert document["results"][0]["code"] == code, document
    answer = await send_batch(client, service_account, [an_event("m", **changes) for changes, _ in cases])
    assert [result["code"] for result in answer.json()["results"]] == [code for _, code in cases]


async def test_data_in_base64_is_taken_as_data_is(
    client: httpx.AsyncClient, service_account: Headers, servers: ServerPair
) -> None:
    mandate = unique("m")
    event = an_event(mandate)
    encoded = {**event, "data_base64": b64encode(json.dumps(event.pop("data")).encode()).decode()}
    del encoded["data"]
    assert (await send(client, service_account, encoded)).status_code == 202
    (record,) = await read_topic(servers.kafka.bootstrap_servers, "usage.recorded", key=mandate, count=1)
    read = decode(record.headers, record.value, now=system_clock())
    assert read.data.model_dump()["mandate_id"] == mandate


async def test_the_size_of_a_batch_and_of_a_body_is_limited(
    client: httpx.AsyncClient, service_account: Headers
) -> None:
    assert_problem(await send_batch(client, service_account, [{}] * 1001), 422, "TOO_MANY_EVENTS")
    large = an_event("m", comment="x" * 300_000)
    assert_problem(await send(client, service_account, large), 413, "BODY_TOO_LARGE")
    mixed = await send_batch(client, service_account, [an_event("m"), large])
    assert mixed.status_code == 207
    assert mixed.json()["results"][1]["code"] == "RECORD_TOO_LARGE"
    assert_problem(await send_batch(client, service_account, b" " * (8 * 1024 * 1024 + 1)), 413, "BODY_TOO_LARGE")


async def test_another_content_type_is_415(client: httpx.AsyncClient, service_account: Headers) -> None:
    for path, media_type in (("/api/usage", BATCH), ("/api/usage/batch", "application/json"), ("/api/usage", "")):
        given = {**service_account, "Content-Type": media_type}
        assert_problem(await client.post(path, content=b"[]", headers=given), 415, "UNSUPPORTED_MEDIA_TYPE")


async def test_only_a_program_with_the_scope_may_write_usage(
    client: httpx.AsyncClient, issuer: Issuer, admin: Headers
) -> None:
    for headers in (
        issuer.service_account("usage:check"),
        issuer.service_account(""),
        issuer.person("somebody"),
        admin,
    ):
        assert_problem(await send(client, headers, an_event("m")), 403)
        assert_problem(await send_batch(client, headers, b"{"), 403)


async def test_a_full_batch_is_accepted_quickly(
    client: httpx.AsyncClient, service_account: Headers, servers: ServerPair
) -> None:
    mandate = unique("m")
    events = [an_event(mandate) for _ in range(1000)]
    answer = await send_batch(client, service_account, events)
    assert (answer.status_code, answer.json()["accepted"]) == (202, 1000)
    records = await read_topic(servers.kafka.bootstrap_servers, "usage.recorded", key=mandate, count=1000)
    assert [dict(record.headers)["ce_id"].decode() for record in records] == [event["id"] for event in events]


async def test_too_many_events_in_flight_are_429(
    servers: ServerPair, issuer: Issuer, service_account: Headers, tmp_path: Path
) -> None:
    more = {"GATEWAY_USAGE_IN_FLIGHT_MAX": "5"}
    async with GatewayProcess(servers, issuer, {}, tmp_path, role="api", more=more) as small:
        async with httpx.AsyncClient(base_url=small.url, trust_env=False) as client:
            refused = await send_batch(client, service_account, [an_event("m") for _ in range(6)])
            assert_problem(refused, 429, "TOO_MANY_IN_FLIGHT")
            assert refused.headers["retry-after"] == "1"
            assert (await send_batch(client, service_account, [an_event("m") for _ in range(5)])).status_code == 202


async def test_zz_while_kafka_is_away_usage_is_503_and_afterwards_accepted_again(
    client: httpx.AsyncClient, service_account: Headers, servers: ServerPair
) -> None:
    mandate = unique("m")
    await asyncio.to_thread(servers.kafka.kill)
    try:
        started = time.monotonic()
        answer = await send(client, service_account, an_event(mandate))
        assert_problem(answer, 503, "UNAVAILABLE")
        assert int(answer.headers["retry-after"]) >= 1
        assert time.monotonic() - started < 15
        again = await send_batch(client, service_account, [an_event(mandate)])
        assert_problem(again, 503, "UNAVAILABLE")
    finally:
        await asyncio.to_thread(servers.kafka.start)
    event = an_event(mandate)

    async def accepted() -> bool:
        return (await send(client, service_account, event)).status_code == 202

    await eventually(accepted, what="an event accepted again")
    records = await read_topic(servers.kafka.bootstrap_servers, "usage.recorded", key=mandate, count=1)
    assert event["id"] in {dict(record.headers)["ce_id"].decode() for record in records}
