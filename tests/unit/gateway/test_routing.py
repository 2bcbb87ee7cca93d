"""What answers a request: in front of the framework or behind, a literal path before a value in its place."""

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from starlette.types import Receive, Scope, Send

from services.chassis.problems import Problem
from services.chassis.requests import Answering, Direct, DirectPaths, install_problems
from services.gateway.edge.routing import in_order

ANSWER_S = 5.0


def told(name: str) -> Answering:
    async def answer(request: Request) -> Response:
        values = ",".join(f"{key}={value}" for key, value in sorted(request.path_params.items()))
        return Response(f"{name} {values}".strip())

    return answer


async def failing(request: Request) -> Response:
    raise RuntimeError("nobody expected this")


DIRECT = [
    Direct("GET", "/a/{one}", told("one")),
    Direct("PUT", "/a/{one}", told("put")),
    Direct("POST", "/a/lookup", told("lookup")),
    Direct("GET", "/a/{one}/b/{two}", told("two")),
    Direct("GET", "/fails", failing),
]


@pytest.fixture
def client() -> httpx.AsyncClient:
    behind = FastAPI(openapi_url=None, redirect_slashes=False)
    install_problems(behind, answer_s=ANSWER_S)
    behind.router.routes.extend(in_order([], DIRECT))
    transport = httpx.ASGITransport(DirectPaths(behind, DIRECT, answer_s=ANSWER_S))
    return httpx.AsyncClient(transport=transport, base_url="http://gateway")


@pytest.mark.parametrize(
    ("method", "path", "answer"),
    [
        ("GET", "/a/x", "one one=x"),
        ("PUT", "/a/x", "put one=x"),
        ("POST", "/a/lookup", "lookup"),
        # What the literal path does not serve is a value in a path.
        ("GET", "/a/lookup", "one one=lookup"),
        ("GET", "/a/x/b/y", "two one=x,two=y"),
        ("GET", "/a/%2E%2E", "one one=.."),
    ],
)
async def test_each_request_finds_its_answer(client: httpx.AsyncClient, method: str, path: str, answer: str) -> None:
    given = await client.request(method, path, headers={"X-Request-Id": "request-7"})
    assert (given.status_code, given.text, given.headers["x-request-id"]) == (200, answer, "request-7")


@pytest.mark.parametrize("path", ["/", "/a", "/a/", "/a/x/", "/a/x/b", "/a/x/c/y", "/a/x%2Fb%2Fy/z", "/A/x", "//a/x"])
async def test_what_is_no_path_of_ours_is_404(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("DELETE", "/a/x", "GET, PUT"), ("DELETE", "/a/lookup", "POST"), ("POST", "/a/x/b/y", "GET")],
)
async def test_a_method_that_a_path_lacks_is_405_with_those_that_there_are(
    client: httpx.AsyncClient, method: str, path: str, allowed: str
) -> None:
    answer = await client.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


async def test_what_nobody_expected_is_a_problem_document_that_tells_nothing(client: httpx.AsyncClient) -> None:
    answer = await client.get("/fails")
    assert (answer.status_code, answer.json()["code"]) == (Problem.status, Problem.code)
    assert answer.json()["requestId"] == answer.headers["x-request-id"]
    assert "nobody expected" not in answer.text


async def test_what_is_no_request_is_for_the_application_behind() -> None:
    seen: list[str] = []

    async def behind(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    async def nothing(*_: object) -> None:
        raise AssertionError("nothing is received or sent")

    await DirectPaths(behind, DIRECT, answer_s=ANSWER_S)({"type": "lifespan"}, nothing, nothing)  # type: ignore[arg-type]
    assert seen == ["lifespan"]
