"""The check of every answer against the OpenAPI document finds what it is there for."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.support.described import FAKED_JSON, faults_of_answer

MARKUP: dict[str, Any] = {"percent": 5}
PROBLEM: dict[str, Any] = {
    "type": "urn:rappen:problem:not-found",
    "title": "Not found",
    "status": 404,
    "detail": "There is nothing here.",
    "code": "NOT_FOUND",
    "requestId": "r",
}
JSON, PROBLEM_JSON = "application/json", "application/problem+json"


def answer(
    status: int,
    body: object,
    *,
    media_type: str = JSON,
    method: str = "GET",
    path: str = "/api/billing/markup",
    headers: dict[str, str] | None = None,
) -> httpx.Response:
    sent = {"content-type": media_type, "x-request-id": "r", **(headers or {})}
    kept = {name: text for name, text in sent.items() if text}
    return httpx.Response(status, json=body, headers=kept, request=httpx.Request(method, f"http://gateway{path}"))


@pytest.mark.parametrize(
    "fits",
    [
        answer(200, MARKUP),
        answer(200, MARKUP, headers={"ratelimit": '"default";r=1;t=60'}),
        answer(404, PROBLEM, media_type=PROBLEM_JSON),
        answer(404, PROBLEM, media_type=PROBLEM_JSON, path="/api/nothing"),
        answer(405, {}, method="PATCH"),
        answer(200, {"ready": True}, path="/readyz"),
        answer(200, {"told": "by a stand-in"}, media_type=FAKED_JSON),
    ],
)
def test_what_is_described_or_no_operation_fits(fits: httpx.Response) -> None:
    assert faults_of_answer(fits) == []


@pytest.mark.parametrize(
    ("other", "fault"),
    [
        (answer(418, MARKUP), "the status is not described"),
        (answer(200, MARKUP, media_type="text/plain"), "text/plain and not application/json"),
        (answer(404, PROBLEM), "application/json and not application/problem+json"),
        (answer(200, {}), "'percent' is a required property"),
        (answer(200, {"percent": "5"}), "$.percent: '5' is not of type 'number'"),
        (answer(200, {**MARKUP, "since": 1}), "'since' was unexpected"),
        (answer(404, {**PROBLEM, "why": 1}, media_type=PROBLEM_JSON), "'why' was unexpected"),
        (answer(200, MARKUP, headers={"x-request-id": ""}), "X-Request-Id is missing"),
        (answer(200, MARKUP, headers={"retry-after": "1"}), "retry-after is not described"),
        # A literal path comes before a value in a path.
        (answer(200, {}, method="POST", path="/api/directory/users/lookup"), "directory-lookup-users 200"),
    ],
)
def test_what_is_not_described_is_told(other: httpx.Response, fault: str) -> None:
    (told,) = faults_of_answer(other)
    assert fault in told


def test_the_answers_of_a_client_are_looked_at(answers_that_do_not_fit: list[str]) -> None:
    transport = httpx.MockTransport(lambda request: answer(200, {}))
    with httpx.Client(transport=transport, base_url="http://gateway") as client:
        client.get("/api/billing/markup")
    assert len(answers_that_do_not_fit) == 1
    answers_that_do_not_fit.clear()


async def test_the_answers_of_an_asynchronous_client_are_looked_at(answers_that_do_not_fit: list[str]) -> None:
    transport = httpx.MockTransport(lambda request: answer(200, {}))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        await client.get("/api/billing/markup")
    assert len(answers_that_do_not_fit) == 1
    answers_that_do_not_fit.clear()
