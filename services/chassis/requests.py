"""What every request over HTTP has: an id, a language, a time limit, and an answer whatever happens to it.

The limits of time lie one inside the other, so that the inner one can still say what it knows: a lock before a
service's answer, that before the gateway's patience with the service, and that before the gateway's own answer. No text
of an exception leaves the process: what is not a `Problem` becomes a constant sentence.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from re import Pattern
from types import TracebackType
from typing import Self, TypeAlias
from uuid import uuid4

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.chassis.database import is_transient, is_undecided
from services.chassis.logging import get_logger
from services.chassis.problems import OutcomeUnknown, Problem, Unavailable, invalid_body, problem_of_status

__all__ = [
    "ANSWER_S",
    "LONG_ANSWER_S",
    "REQUEST_ID_HEADER",
    "Answering",
    "Deadline",
    "Direct",
    "DirectPaths",
    "add_headers",
    "answer_undecided_with",
    "deadline_of",
    "failure_response",
    "install_problems",
    "language_of",
    "mark_as_read",
    "problem_response",
    "request_id_of",
]

REQUEST_ID_HEADER = "X-Request-Id"
ANSWER_S = 9.0
# For the few operations whose work grows with a mandate or a file. They ask for it once the database has answered.
LONG_ANSWER_S = 55.0

Answering: TypeAlias = Callable[[Request], Awaitable[Response]]

_log = get_logger(__name__)


class Deadline:
    """An asynchronous context that raises TimeoutError at the end of the time, which can be moved while it runs."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._limit = asyncio.timeout(seconds)

    async def __aenter__(self) -> Self:
        await self._limit.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._limit.__aexit__(kind, error, trace)

    def restart(self, seconds: float | None = None) -> None:
        """Restarts the deadline from now, with the given seconds or those it began with."""
        self._move(asyncio.get_running_loop().time() + (self._seconds if seconds is None else seconds))

    def lift(self) -> None:
        """The answer has begun: from here on the caller's connection sets the pace."""
        self._move(None)

    def left_s(self) -> float:
        """The seconds that are left."""
        when = self._limit.when()
        return self._seconds if when is None else max(0.0, when - asyncio.get_running_loop().time())

    def _move(self, when: float | None) -> None:
        if self._limit.expired():
            raise TimeoutError
        self._limit.reschedule(when)


def deadline_of(request: Request) -> Deadline:
    """The deadline of this request."""
    deadline: Deadline = request.state.deadline
    return deadline


def language_of(request: Request) -> str:
    """`de` or `en`, by Accept-Language; the first of the two that is named wins."""
    for part in request.headers.get("accept-language", "").lower().split(","):
        tag = part.split(";", 1)[0].strip()[:2]
        if tag in ("de", "en"):
            return tag
    return "en"


def request_id_of(request: Request) -> str:
    """The id under which this request is logged; services take over the gateway's."""
    return str(getattr(request.state, "request_id", ""))


def add_headers(request: Request, headers: Mapping[str, str]) -> None:
    """Says which headers go with the answer to this request, whatever it will be."""
    request.state.answer_headers |= headers


def _identify(request: Request, answer_s: float) -> Deadline:
    """Gives a request its id (the caller's, where it can be one, or else a new one) and its deadline."""
    given = request.headers.get(REQUEST_ID_HEADER, "")
    valid = given.isascii() and 0 < len(given) <= 64 and given.isprintable()
    request.state.request_id = request_id = given if valid else str(uuid4())
    request.state.answer_headers = {REQUEST_ID_HEADER: request_id}
    deadline = request.state.deadline = Deadline(answer_s)
    return deadline


def mark_as_read(request: Request) -> None:
    """Says that this request changes nothing, whatever its method: it can be repeated."""
    request.state.reads = True


def answer_undecided_with(request: Request, problem: Problem) -> None:
    """Says what to answer when it is not known whether the change of this request was made."""
    request.state.undecided = problem


def _changes(request: Request) -> bool:
    return request.method not in ("GET", "HEAD", "OPTIONS") and not getattr(request.state, "reads", False)


def problem_response(request: Request, problem: Problem) -> Response:
    """The refusal as a problem document, in the language of the request."""
    document = problem.document(language_of(request), request_id_of(request))
    return Response(
        orjson.dumps(document, default=str),
        status_code=problem.status,
        media_type="application/problem+json",
        headers=problem.headers,
    )


@dataclass(frozen=True, slots=True)
class Direct:
    """A method on a path, by its template, and what answers it."""

    method: str
    path: str
    answering: Answering


class DirectPaths:
    """An ASGI application: operations that are answered in front of the web framework, whose layers cost more than many
    an answer, with the same id, deadline and problem documents as behind it; everything else by the application behind.
    A literal path comes before one with a value in its place."""

    def __init__(self, behind: ASGIApp, operations: Iterable[Direct], *, answer_s: float = ANSWER_S) -> None:
        self._behind = behind
        self._answer_s = answer_s
        self._literal: dict[tuple[str, str], Answering] = {}
        # By method and number of segments, so that few patterns are tried.
        self._valued: dict[tuple[str, int], list[tuple[Pattern[str], Answering]]] = {}
        for operation in sorted(operations, key=lambda each: each.path):
            if "{" not in operation.path:
                self._literal[operation.method, operation.path] = operation.answering
                continue
            pattern, _, _ = compile_path(operation.path)
            key = operation.method, operation.path.count("/")
            self._valued.setdefault(key, []).append((pattern, operation.answering))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        answering = self._find(scope) if scope["type"] == "http" else None
        if answering is None:
            await self._behind(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            async with _identify(request, self._answer_s):
                answer = await answering(request)
        except Exception as error:  # noqa: BLE001 - whatever it is, the answer to it is a problem document.
            answer = failure_response(request, error)
        answer.headers.update(request.state.answer_headers)
        await answer(scope, receive, send)

    def _find(self, scope: Scope) -> Answering | None:
        method, path = scope["method"], scope["path"]
        literal = self._literal.get((method, path))
        if literal is not None:
            return literal
        for pattern, answering in self._valued.get((method, path.count("/")), ()):
            found = pattern.match(path)
            if found is not None:
                scope["path_params"] = found.groupdict()
                return answering
        return None


class _Identify:
    """Gives each request its id and its deadline, and answers what nobody else caught; plain ASGI, because it is on
    every path."""

    def __init__(self, app: ASGIApp, answer_s: float) -> None:
        self._app = app
        self._answer_s = answer_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        deadline = _identify(request, self._answer_s)
        started = False

        async def send_identified(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = request.state.answer_headers.items()
                message["headers"] = [
                    *message["headers"],
                    *((name.lower().encode(), text.encode()) for name, text in added),
                ]
            await send(message)

        async def send_in_time(message: Message) -> None:
            nonlocal started
            if not started:
                deadline.lift()
                started = True
            await send_identified(message)

        try:
            async with deadline:
                await self._app(scope, receive, send_in_time)
        except Exception as error:
            if started:
                raise
            await failure_response(request, error)(scope, receive, send_identified)


def install_problems(app: FastAPI, *, answer_s: float = ANSWER_S) -> None:
    """Maps every way a request can fail to a problem document and gives each request its id and its deadline."""
    app.add_middleware(_Identify, answer_s=answer_s)

    @app.exception_handler(Problem)
    async def refused(request: Request, error: Problem) -> Response:
        return problem_response(request, error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return problem_response(request, invalid_body(error))

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        return problem_response(request, problem_of_status(error.status_code, error.headers))


def failure_response(request: Request, error: Exception) -> Response:
    """The answer to a request that raised: the problem itself, a body that is not valid, or what nobody expected."""
    if isinstance(error, Problem):
        return problem_response(request, error)
    if isinstance(error, ValidationError):
        return problem_response(request, invalid_body(error))
    if isinstance(error, ClientDisconnect):
        # Nobody reads this; and a caller who hangs up within a body is no fault of ours that would be logged as one.
        return problem_response(request, problem_of_status(400, None))
    return _unexpected(request, error)


def _unexpected(request: Request, error: Exception) -> Response:
    if is_transient(error):
        _log.warning(
            "dependency away", request_id=request_id_of(request), path=request.url.path, error=type(error).__name__
        )
        undecided = _changes(request) and is_undecided(error)
        unknown: Problem = getattr(request.state, "undecided", None) or OutcomeUnknown()
        problem = unknown if undecided else Unavailable()
        problem.headers["Retry-After"] = "1"
        return problem_response(request, problem)
    _log.error("request failed", request_id=request_id_of(request), path=request.url.path, exc_info=error)
    return problem_response(request, Problem())
