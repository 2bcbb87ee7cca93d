"""Whatever is sent to whichever path: refusals in our own words, in the language that was asked for."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Coroutine, Iterator
from itertools import islice
from typing import Any

import httpx
import pytest

from tests.integration.answers.conftest import Headers, Surface

LIBRARY = re.compile(
    r"Input should|String should|should match|should have|Field required|[Vv]alue.error|List should|Extra inputs"
    r"|valid string|valid (integer|number|boolean|dictionary|list)|pydantic|\[type=|\^\[|\{1,64\}|function-"
    r"|constrained-|Traceback|asyncpg|sqlalchemy|Decimal\("
)
# Words that a German sentence does not have.
ENGLISH = re.compile(r"\b(the|is|are|must|expected|required|and|not|of|please|try|there|this|has|with)\b")
WRONG: list[Any] = [7, 1.5, True, None, "a b", "\x00", "x" * 3000, [], [7], {"a": []}, 10**30]
WORDS = ["a b", "", "-1", "1e9", '{"page": "x"}', '{"filters": {"id": {"a": 1}}}', "x" * 1100]
DEPTH_MAX = 4
# What is answered without an end has tests of its own.
ENDLESS = {"billing-stream"}


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if operation["operationId"] not in ENDLESS
    ]


def filled(document: dict[str, Any], schema: dict[str, Any], wrong: Any, depth: int = 0) -> Any:
    """A body of the right shape in which every value is the wrong one."""
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    choices = [choice for choice in schema.get("anyOf", []) if choice != {"type": "null"}]
    if choices:
        return filled(document, choices[0], wrong, depth)
    if depth < DEPTH_MAX and "properties" in schema:
        return {name: filled(document, each, wrong, depth + 1) for name, each in schema["properties"].items()}
    if depth < DEPTH_MAX and schema.get("type") == "array" and "items" in schema:
        return [filled(document, schema["items"], wrong, depth + 1)]
    return wrong


def bodies(document: dict[str, Any], operation: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Bodies that are wrong as a whole, in each of their members, and in each member of these."""
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        for raw in ("", "{", "\x00", "[" * 3000, '{"amount": NaN}', '{"amount": 1e999999}', '{"a": "\\ud800"}'):
            yield media_type, raw
        for wrong in WRONG:
            deep = filled(document, content["schema"], wrong)
            yield media_type, json.dumps(wrong)
            yield media_type, json.dumps(deep)
            if isinstance(deep, dict):
                yield media_type, json.dumps(dict.fromkeys(deep, wrong))


def path_of(path: str, value: str = "m") -> str:
    return re.sub(r"\{(\w+)\}", lambda found: "i" if found[1] == "instanceId" else value, path)


async def both(surface: Surface, method: str, path: str, caller: Headers, **request: Any) -> int:
    """Sends it in both languages and looks at the answers; returns the status."""
    given = {**request.pop("headers", {}), **caller}
    english, german = [
        await surface.http.request(method, path, headers={**given, "Accept-Language": language}, **request)
        for language in ("en", "de-CH,de;q=0.9")
    ]
    judge(english, german, f"{method} {path} {str(request)[:300]}")
    return english.status_code


async def at_once(sent: list[Coroutine[Any, Any, int]]) -> list[int]:
    """A few at a time, as several callers send them."""
    gate = asyncio.Semaphore(6)

    async def one(each: Coroutine[Any, Any, int]) -> int:
        async with gate:
            return await each

    return list(await asyncio.gather(*map(one, sent)))


def judge(english: httpx.Response, german: httpx.Response, sent: str) -> None:
    assert english.status_code == german.status_code, (sent, english.text, german.text)
    assert english.status_code != 500, (sent, english.text)
    if english.status_code < 400:
        return
    for answer in (english, german):
        assert answer.headers["content-type"] == "application/problem+json", (sent, answer.text)
        assert not LIBRARY.search(answer.text), (sent, answer.text)
    en, de = english.json(), german.json()
    assert en["code"] == de["code"], sent
    assert en["title"] != de["title"], (sent, de)
    assert en["detail"] != de["detail"], (sent, de)
    assert not ENGLISH.search(de["detail"]), (sent, de["detail"])
    assert ("errors" in en) == (en["status"] == 422) == ("errors" in de), (sent, en)
    for one, other in zip(en.get("errors", []), de.get("errors", []), strict=True):
        assert one["field"] == other["field"], sent
        assert one["message"] != other["message"], (sent, one, other)
        assert not ENGLISH.search(other["message"]), (sent, other)


async def test_no_body_is_answered_in_the_words_of_a_library(surface: Surface) -> None:
    refused = 0
    for method, path, operation in operations(surface.document):
        if "requestBody" not in operation:
            continue
        callers = surface.callers(bool(operation["security"]))
        # Who is let in gets to the body: an operator, or a program.
        for caller in (callers[0], callers[-1]):
            if await both(surface, method, path_of(path), caller) == 403:
                continue
            sent = [
                both(surface, method, path_of(path), caller, content=body, headers={"Content-Type": media_type})
                for media_type, body in bodies(surface.document, operation)
            ]
            refused += sum(status >= 400 for status in await at_once(sent))
    assert refused > 500


async def test_no_parameter_is_answered_in_the_words_of_a_library(surface: Surface) -> None:
    sent = []
    for method, path, operation in operations(surface.document):
        if method == "DELETE":
            continue
        callers = surface.callers(bool(operation["security"]))
        # Who is let in gets to what is asked: an operator, or a program.
        for caller in (callers[0], callers[-1]):
            queries = [each["name"] for each in operation["parameters"] if each["in"] == "query"]
            sent += [
                both(surface, method, path_of(path), caller, params={name: word}) for name in queries for word in WORDS
            ]
            if "{" in path:
                values = ("a%20b", "x" * 65, "%00", "nowhere")
                sent += [both(surface, method, path_of(path, value), caller) for value in values]
    assert sum(status >= 400 for status in await at_once(sent)) > 200


async def test_every_kind_of_refusal_is_there_in_both_languages(surface: Surface) -> None:
    root, chief, nobody, program = surface.callers(security=True)
    json_type = {"Content-Type": "application/json"}
    seen = {
        await both(surface, "GET", "/api/billing/balance", {}),
        await both(surface, "GET", "/api/billing/balance", {"Authorization": "Bearer x"}),
        await both(surface, "GET", "/api/billing/balance", {**chief, "X-Mandate-Id": "a b"}),
        await both(surface, "GET", "/api/billing/balance/m", nobody),
        await both(surface, "GET", "/api/directory/users", program),
        await both(surface, "GET", "/nowhere", {}),
        await both(surface, "GET", "/api/billing/balance/nowhere", root),
        await both(surface, "PATCH", "/api/billing/balance", root),
        await both(surface, "PUT", "/api/directory/mandates/m", root, content="x", headers={"Content-Type": "text/x"}),
        await both(surface, "PUT", "/api/directory/mandates/m", root, content=b" " * (5 << 20), headers=json_type),
        await both(surface, "PUT", "/api/directory/mandates/m", root, content="{", headers=json_type),
        await both(surface, "POST", "/api/billing/admin/credit/m", root, json={"amount": 0}),
        await both(surface, "POST", "/api/billing/admin/credit/m", root, json={"amount": 10**6}),
        await both(surface, "POST", "/api/billing/admin/credit/m", root, json={"amount": 1, "userId": "no"}),
        await both(surface, "POST", "/api/billing/admin/settings/m", root, json={"billingModel": "UNLIMITED"}),
        await both(surface, "POST", "/api/billing/admin/model/m", root, json={"billingModel": "PREPAY_MANDATE"}),
        await both(surface, "POST", "/api/billing/admin/model/m", root, json={"billingModel": "CREDIT_POSTPAY"}),
        await both(
            surface,
            "POST",
            "/api/billing/checkout/create/m",
            chief,
            json={"amount": 7, "returnUrl": "https://app.test/"},
        ),
        await both(
            surface, "POST", "/api/billing/checkout/create/m", chief, json={"amount": 10, "returnUrl": "https://evil/"}
        ),
        await both(
            surface,
            "POST",
            "/api/billing/checkout/create/m",
            chief,
            json={"amount": 10, "returnUrl": "https://app.test/"},
        ),
        await both(surface, "POST", "/api/billing/webhook/stripe", {}, content="{}", headers=json_type),
        await both(surface, "POST", "/api/subscriptions/m", chief, json={"planKey": "nothing"}),
        await both(
            surface,
            "POST",
            "/api/billing/check",
            program,
            json={
                "mandateId": "m",
                "userId": "chief",
                "estimate": {"provider": "p", "model": "none", "tokens": {"input": 1}},
            },
        ),
    }
    assert {400, 401, 403, 404, 405, 409, 413, 415, 422, 503} <= seen


@pytest.mark.parametrize("language", ["en", "de"])
async def test_a_refused_event_is_named_by_its_id(surface: Surface, language: str) -> None:
    program = {**surface.callers(security=True)[-1], "Accept-Language": language}
    event = {
        "specversion": "1.0",
        "id": "0198c0de-0000-7000-8000-000000000001",
        "source": "/tests",
        "type": "nothing.v1",
    }
    for body in ({**event, "time": "2026-05-01T00:00:00Z", "data": {}}, event, {**event, "specversion": "2"}):
        headers = {**program, "Content-Type": "application/cloudevents+json"}
        answer = await surface.http.post("/api/usage", content=json.dumps(body), headers=headers)
        document = answer.json()
        assert answer.status_code == 422
        assert event["id"] in document["detail"]
        assert event["id"] in document["errors"][0]["message"]
        assert [result["id"] for result in document["results"]] == [event["id"]]


async def test_nothing_of_all_this_was_unexpected(surface: Surface) -> None:
    for log in surface.logs:
        failed = [line for line in log.read_text().splitlines() if "request failed" in line]
        assert list(islice(failed, 3)) == []
