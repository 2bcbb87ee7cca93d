"""Operations that a service behind the gateway answers: the request as it came, with the caller signed for it."""

import httpx
from fastapi import Request, Response

from services.chassis.caller import Caller
from services.chassis.deadlines import deadline_of
from services.chassis.logging import get_logger
from services.chassis.problems import OutcomeUnknown, Problem, Unavailable, request_id_of
from services.gateway.api.bodies import read_body
from services.gateway.api.operations import SERVICE_S, Body, Call, Operation, Repeat, Surface
from services.gateway.clients import ServiceClient, Unanswered, path_of
from services.gateway.errors import (
    IDEMPOTENCY_KEY,
    IDEMPOTENCY_KEY_LENGTH_MAX,
    InvalidIdempotencyKey,
    RepeatAsItWas,
    RepeatWithKey,
)

__all__ = ["FORWARDED_HEADERS", "add_forwarded", "answer_of", "forward", "forward_raw", "headers_of", "time_for"]

# Left of the request's time for saying that no answer came.
MARGIN_S = 0.5
# Everything else stays here, the token above all. What the gateway itself has read is not repeated either.
FORWARDED_HEADERS = ("content-type", "accept-language", "idempotency-key")
ANSWERED_HEADERS = ("content-type", "retry-after")

_log = get_logger(__name__)


def add_forwarded(surface: Surface, client: ServiceClient, operations: tuple[Operation, ...]) -> None:
    """Serves operations by one service."""
    for operation in operations:
        _add(surface, client, operation)


def _add(surface: Surface, client: ServiceClient, operation: Operation) -> None:
    async def handler(call: Call) -> Response:
        body = await read_body(call.request, operation.body) if operation.body is not None else b""
        return await forward(client, operation, call, body)

    surface.add(operation, handler, reads_query=False)


async def forward(client: ServiceClient, operation: Operation, call: Call, body: bytes) -> Response:
    """The service's answer to this request.

    Every change has a key, the caller's or one of ours, so that it can be repeated when its answer is lost.
    """
    headers = headers_of(call.request)
    changes = operation.repeats is not Repeat.READ
    key: str = call.request.state.key
    if changes:
        headers["idempotency-key"] = key
    try:
        answer = await client.send(
            operation.method,
            path_of(operation.path, call.path),
            caller=call.caller,
            query=call.request.scope["query_string"],
            body=body,
            headers=headers,
            timeout_s=time_for(call.request, operation.service_s),
        )
    except Unanswered as error:
        if not changes:
            raise
        raise _unanswered(operation, key) from error
    if changes and _outcome_unknown(answer):
        raise _unanswered(operation, key)
    return answer_of(answer, call.caller)


def time_for(request: Request, most_s: float) -> float:
    """The seconds that a service gets: what is left of the request's own, up to so many."""
    return min(most_s, max(MARGIN_S, deadline_of(request).left_s() - MARGIN_S))


def _unanswered(operation: Operation, key: str) -> Problem:
    return RepeatWithKey(key) if operation.repeats is Repeat.KEY else RepeatAsItWas(key)


def _outcome_unknown(answer: httpx.Response) -> bool:
    """Whether the service itself does not know: its database did not answer in time."""
    if answer.status_code != OutcomeUnknown.status:
        return False
    try:
        document = answer.json()
    except ValueError:
        return False
    return isinstance(document, dict) and document.get("code") == OutcomeUnknown.code


async def forward_raw(client: ServiceClient, path: str, request: Request, body: Body, *headers: str) -> Response:
    """The service's answer to a request without a caller: the bytes as they came, and the named headers with them."""
    content = await read_body(request, body)
    sent = {**headers_of(request), **{name: request.headers[name] for name in headers if name in request.headers}}
    time_s = time_for(request, SERVICE_S)
    answer = await client.send("POST", path, caller=None, body=content, headers=sent, timeout_s=time_s)
    return answer_of(answer, None)


def headers_of(request: Request) -> dict[str, str]:
    """The headers that go along, and the request's id.

    A language or type that is no text names none, so it stays here; a key that cannot be one is refused, because
    a repeat without it would be a second request.
    """
    given = {name: request.headers[name] for name in FORWARDED_HEADERS if name in request.headers}
    if not IDEMPOTENCY_KEY.fullmatch(given.get("idempotency-key", "none")):
        raise InvalidIdempotencyKey(length_max=IDEMPOTENCY_KEY_LENGTH_MAX)
    kept = {name: text for name, text in given.items() if text.isascii()}
    return {**kept, "x-request-id": request_id_of(request)}


def answer_of(answer: httpx.Response, caller: Caller | None) -> Response:
    """A service's answer for the caller: status, body, type, when to try again; no other header of it."""
    if caller is not None and answer.status_code == 401:
        # The caller's token was good, so it is our own signature that the service does not accept.
        _log.error("caller context refused", url=answer.request.url.path)
        raise Unavailable(headers={"Retry-After": "5"})
    headers = {name: answer.headers[name] for name in ANSWERED_HEADERS if name in answer.headers}
    return Response(answer.content, status_code=answer.status_code, headers=headers)
