"""Errors over HTTP: RFC 9457 problem documents with a stable code, a readable detail and the request's id.

No text of an exception leaves the process: what is not a `Problem` becomes a constant sentence. Everything that people
read is there in English and German.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, ClassVar
from uuid import uuid4

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.chassis.database import is_transient, is_undecided
from services.chassis.deadlines import ANSWER_S, Deadline
from services.chassis.logging import get_logger
from services.chassis.validation import FieldFault, Texts, faults_of, say, summary

__all__ = [
    "IdempotencyMismatch",
    "InvalidBody",
    "OutcomeUnknown",
    "Problem",
    "answer_directly",
    "answer_undecided_with",
    "failure_response",
    "identify",
    "install_problems",
    "invalid_body",
    "mark_as_read",
    "problem_response",
]

TYPE_BASE = "urn:rappen:problem:"
REQUEST_ID_HEADER = "X-Request-Id"

_log = get_logger(__name__)


class Problem(Exception):  # noqa: N818 - the field's term is problem, not error.
    """An expected refusal. A subclass sets what differs from its base class: status, code, title, texts.

    `code` replaces the code of the class for one refusal, `errors` are the fields at fault, `headers` go with the
    answer, `extra` are further members of the document. The other keyword arguments fill the placeholders of the texts:
    with a phrase in both languages (`Texts`), or with a value that is the same in each.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "INTERNAL"
    title: ClassVar[str] = "Internal error"
    texts: ClassVar[Texts] = {
        "en": "Something went wrong on our side.",
        "de": "Bei uns ist etwas schiefgegangen.",
    }

    def __init__(
        self,
        *,
        code: str | None = None,
        errors: Sequence[FieldFault] = (),
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
        **values: object,
    ) -> None:
        super().__init__(self.code)
        self.actual_code = code or self.code
        self.errors = list(errors)
        self.headers = dict(headers or {})
        self.extra = dict(extra or {})
        self.values = values

    def detail(self, language: str) -> str:
        """The sentence for people, in that language."""
        values = {
            name: say(value, language) if isinstance(value, Mapping) else value for name, value in self.values.items()
        }
        return say(self.texts, language).format(**values)


class Unavailable(Problem):
    """A dependency is away; trying again later can succeed."""

    status = 503
    code = "UNAVAILABLE"
    title = "Temporarily unavailable"
    texts: ClassVar[Texts] = {
        "en": "A part of the platform is not reachable; please try again.",
        "de": "Ein Teil der Plattform ist nicht erreichbar; bitte noch einmal versuchen.",
    }


class OutcomeUnknown(Problem):
    """A change was begun and its outcome is unknown, so the answer does not promise that it can be tried again."""

    status = 503
    code = "OUTCOME_UNKNOWN"
    title = "Outcome unknown"
    texts: ClassVar[Texts] = {
        "en": "No answer came in time, so it is not known whether the change was made; please look before repeating"
        " it.",
        "de": "Es kam rechtzeitig keine Antwort, deshalb ist nicht bekannt, ob die Änderung gemacht wurde; bitte vor"
        " einer Wiederholung nachsehen.",
    }


class InvalidBody(Problem):
    """Fields of the request have the wrong type or range."""

    status = 422
    code = "VALIDATION"
    title = "Invalid request"
    texts: ClassVar[Texts] = {
        "en": "The request is not valid: {summary}.",
        "de": "Die Anfrage ist ungültig: {summary}.",
    }

    def __init__(
        self, errors: Sequence[FieldFault], *, code: str | None = None, extra: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(code=code, errors=errors, extra=extra, summary=summary(errors))


class IdempotencyMismatch(Problem):
    """An Idempotency-Key that was used for another request."""

    status = 422
    code = "IDEMPOTENCY_MISMATCH"
    title = "Idempotency key used before"
    texts: ClassVar[Texts] = {
        "en": "This Idempotency-Key was used for another request.",
        "de": "Dieser Idempotency-Key wurde schon für eine andere Anfrage verwendet.",
    }


_STATUS_TEXTS: dict[int, tuple[str, str, str, str]] = {
    400: ("BAD_REQUEST", "Bad request", "The request is malformed.", "Die Anfrage ist fehlerhaft."),
    401: ("UNAUTHENTICATED", "Not authenticated", "A valid token is needed.", "Ein gültiges Token ist nötig."),
    403: ("FORBIDDEN", "Not allowed", "This is not allowed.", "Das ist nicht erlaubt."),
    404: ("NOT_FOUND", "Not found", "There is nothing here.", "Hier ist nichts."),
    405: ("METHOD_NOT_ALLOWED", "Method not allowed", "Use another method.", "Eine andere Methode ist nötig."),
    413: ("TOO_LARGE", "Too large", "The request is too large.", "Die Anfrage ist zu gross."),
    415: ("UNSUPPORTED_MEDIA_TYPE", "Unsupported type", "Send JSON.", "Bitte JSON senden."),
}


# A title names the kind of refusal, for which the status is enough.
_GERMAN_TITLES: Mapping[int, str] = {
    400: "Fehlerhafte Anfrage",
    401: "Nicht angemeldet",
    402: "Zahlung nötig",
    403: "Nicht erlaubt",
    404: "Nicht gefunden",
    405: "Methode nicht erlaubt",
    408: "Zu langsam",
    409: "Konflikt",
    413: "Zu gross",
    415: "Falscher Inhaltstyp",
    422: "Ungültige Anfrage",
    429: "Zu viele Anfragen",
    500: "Interner Fehler",
    503: "Zurzeit nicht verfügbar",
}


def language_of(request: Request) -> str:
    """`de` or `en`, by Accept-Language; the first of the two that is named wins."""
    for part in request.headers.get("accept-language", "").lower().split(","):
        tag = part.split(";", 1)[0].strip()[:2]
        if tag in ("de", "en"):
            return tag
    return "en"


def problem_response(request: Request, problem: Problem) -> Response:
    """The refusal as a problem document, in the language of the request."""
    language = language_of(request)
    document: dict[str, Any] = {
        "type": TYPE_BASE + problem.actual_code.lower().replace("_", "-"),
        "title": _GERMAN_TITLES.get(problem.status, _GERMAN_TITLES[500]) if language == "de" else problem.title,
        "status": problem.status,
        "detail": problem.detail(language),
        "code": problem.actual_code,
        "requestId": request_id_of(request),
        **problem.extra,
    }
    if problem.errors or problem.status == 422:
        document["errors"] = [fault.wire(language) for fault in problem.errors]
    return Response(
        orjson.dumps(document, default=str),
        status_code=problem.status,
        media_type="application/problem+json",
        headers=problem.headers,
    )


def request_id_of(request: Request) -> str:
    """The id under which this request is logged; services take over the gateway's."""
    return str(getattr(request.state, "request_id", ""))


def identify(request: Request) -> str:
    """Gives a request its id: the caller's, where it can be one, or else a new one."""
    given = request.headers.get(REQUEST_ID_HEADER, "")
    valid = given.isascii() and 0 < len(given) <= 64 and given.isprintable()
    request_id = given if valid else str(uuid4())
    request.state.request_id = request_id
    return request_id


def mark_as_read(request: Request) -> None:
    """Says that this request changes nothing, whatever its method: it can be repeated."""
    request.state.reads = True


def answer_undecided_with(request: Request, problem: Problem) -> None:
    """Says what to answer when it is not known whether the change of this request was made."""
    request.state.undecided = problem


def _changes(request: Request) -> bool:
    return request.method not in ("GET", "HEAD", "OPTIONS") and not getattr(request.state, "reads", False)


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
        request_id = identify(request)
        deadline = request.state.deadline = Deadline(self._answer_s)
        started = False

        async def send_identified(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (REQUEST_ID_HEADER.lower().encode(), request_id.encode())]
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


async def answer_directly(
    answering: Callable[[Request], Awaitable[Response]],
    scope: Scope,
    receive: Receive,
    send: Send,
    *,
    answer_s: float = ANSWER_S,
) -> None:
    """Answers a request in front of the web framework, whose layers cost more than many an answer: with the same id,
    deadline and problem documents as behind it."""
    request = Request(scope, receive)
    request_id = identify(request)
    deadline = request.state.deadline = Deadline(answer_s)
    try:
        async with deadline:
            answer = await answering(request)
    except Exception as error:  # noqa: BLE001 - whatever it is, the answer to it is a problem document.
        answer = failure_response(request, error)
    answer.headers[REQUEST_ID_HEADER] = request_id
    await answer(scope, receive, send)


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
        return problem_response(request, _plain(error.status_code, error.headers))


def _plain(status: int, headers: Mapping[str, str] | None) -> Problem:
    code, title, english, german = _STATUS_TEXTS.get(status, _STATUS_TEXTS[400])
    plain = type("Plain", (Problem,), {"status": status, "title": title, "texts": {"en": english, "de": german}})
    problem: Problem = plain(code=code, headers=headers)
    return problem


def failure_response(request: Request, error: Exception) -> Response:
    """The answer to a request that raised: the problem itself, a body that is not valid, or what nobody expected."""
    if isinstance(error, Problem):
        return problem_response(request, error)
    if isinstance(error, ValidationError):
        return problem_response(request, invalid_body(error))
    if isinstance(error, ClientDisconnect):
        # Nobody reads this; and a caller who hangs up within a body is no fault of ours that would be logged as one.
        return problem_response(request, _plain(400, None))
    return _unexpected(request, error)


def invalid_body(error: RequestValidationError | ValidationError, *, code: str | None = None) -> Problem:
    """The refusal of a body with every fault of its fields; values are not repeated."""
    if isinstance(error, ValidationError):
        return InvalidBody(faults_of(error), code=code)
    # FastAPI puts in front where the value was: body, query, path or header.
    return InvalidBody(faults_of({**fault, "loc": fault["loc"][1:]} for fault in error.errors()), code=code)


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
