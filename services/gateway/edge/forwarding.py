"""Operations that a service behind the gateway answers: the request as it came, with the caller signed for it."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from urllib.parse import urlencode

import httpx
from fastapi import Request, Response

from services.chassis.caller import Caller
from services.chassis.deadlines import deadline_of
from services.chassis.exact_json import read_json
from services.chassis.logging import get_logger
from services.chassis.operations import Repeat
from services.chassis.problems import InvalidBody, OutcomeUnknown, Problem, Unavailable, request_id_of
from services.chassis.validation import FieldFault
from services.gateway.edge.admission import Admitted, Call, PublicRoute
from services.gateway.edge.bodies import body_of, read_body
from services.gateway.edge.clients import ServiceClient, Unanswered, path_of
from services.gateway.edge.errors import (
    IDEMPOTENCY_KEY,
    IDEMPOTENCY_KEY_LENGTH_MAX,
    InvalidIdempotencyKey,
    RepeatAsItWas,
    RepeatWithKey,
)
from services.gateway.edge.operations import SERVICE_S, Body, Operation

__all__ = ["forwarded_routes"]

# Kept back from the request's time, for reporting that no answer came.
MARGIN_S = 0.5
# No other header is forwarded, above all not the token, and none that the gateway has evaluated itself.
FORWARDED_HEADERS = ("content-type", "accept-language", "idempotency-key")
ANSWERED_HEADERS = ("content-type", "retry-after")
# The two operations for which more is done than forwarding the request unchanged.
CHECKOUT, WEBHOOK = "payments-create-checkout", "payments-receive-stripe-event"

_log = get_logger(__name__)

Endpoint = Callable[..., Awaitable[Response]]


def forwarded_routes(
    operations: Mapping[str, Sequence[Operation]], clients: Mapping[str, ServiceClient]
) -> list[PublicRoute]:
    """The routes of the services' operations; both by the name of the service."""
    return [
        _route(operation, _endpoint(operation, clients[service], clients))
        for service, described in operations.items()
        for operation in described
    ]


def _route(operation: Operation, endpoint: Endpoint) -> PublicRoute:
    return PublicRoute(
        operation.path,
        endpoint,
        methods=[operation.method],
        operation_id=operation.id,
        openapi_extra=operation.described,
        include_in_schema=False,
    )


def _endpoint(operation: Operation, client: ServiceClient, clients: Mapping[str, ServiceClient]) -> Endpoint:
    async def plain(call: Admitted) -> Response:
        return await _forward(client, call, await body_of(call))

    async def checkout(call: Admitted) -> Response:
        body = await body_of(call)
        target = await _top_up_target(clients["billing"], call, _user_id(body))
        return target if target.status_code != 200 else await _forward(client, call, body)

    async def webhook(request: Request) -> Response:
        # The signature covers the bytes, so they are forwarded unchanged; without a token there is no caller and no
        # `Call`.
        return await _forward_raw(client, operation, request, "stripe-signature")

    special: dict[str, Endpoint] = {CHECKOUT: checkout, WEBHOOK: webhook}
    return special.get(operation.id, plain)


async def _forward(client: ServiceClient, call: Call, body: bytes) -> Response:
    """The service's answer to this request.

    Every change has a key, the caller's or one of ours, so that it can be repeated when its answer is lost.
    """
    operation, headers = call.operation, _headers_of(call.request)
    changes = operation.repeats is not Repeat.READ
    if changes:
        headers["idempotency-key"] = call.key
    try:
        answer = await client.send(
            operation.method,
            path_of(operation.path, call.path),
            caller=call.caller,
            query=call.request.scope["query_string"],
            body=body,
            headers=headers,
            timeout_s=_time_for(call.request, operation.service_s),
        )
    except Unanswered as error:
        if not changes:
            raise
        raise _unanswered(call) from error
    if changes and _outcome_unknown(answer):
        raise _unanswered(call)
    return _answer_of(answer, call.caller)


async def _top_up_target(billing: ServiceClient, call: Call, user_id: str | None) -> Response:
    """Billing's answer whether this mandate and member can be topped up: payments knows neither directory nor billing
    models."""
    answer = await billing.send(
        "GET",
        path_of("/internal/top-up-target/{mandateId}", call.path),
        caller=call.caller,
        query=urlencode({"userId": user_id}).encode() if user_id is not None else b"",
        headers=_headers_of(call.request),
        timeout_s=_time_for(call.request, SERVICE_S),
    )
    return _answer_of(answer, call.caller)


def _user_id(body: bytes) -> str | None:
    given = read_json(body)
    user_id = given.get("userId") if isinstance(given, dict) else None
    if user_id is None or isinstance(user_id, str):
        return user_id
    raise InvalidBody([FieldFault("userId", {"en": "text is expected", "de": "Text wird erwartet"})])


async def _forward_raw(client: ServiceClient, operation: Operation, request: Request, *headers: str) -> Response:
    """The service's answer to a request without a caller: the bytes as they came, and the named headers with them."""
    content = await read_body(request, operation.body or Body())
    sent = {**_headers_of(request), **{name: request.headers[name] for name in headers if name in request.headers}}
    time_s = _time_for(request, SERVICE_S)
    answer = await client.send("POST", operation.path, caller=None, body=content, headers=sent, timeout_s=time_s)
    return _answer_of(answer, None)


def _time_for(request: Request, most_s: float) -> float:
    """The seconds that a service gets: what is left of the request's own time, at most `most_s`."""
    return min(most_s, max(MARGIN_S, deadline_of(request).left_s() - MARGIN_S))


def _unanswered(call: Call) -> Problem:
    return RepeatWithKey(call.key) if call.operation.keyed else RepeatAsItWas(call.key)


def _outcome_unknown(answer: httpx.Response) -> bool:
    """Whether the service itself does not know: its database did not answer in time."""
    if answer.status_code != OutcomeUnknown.status:
        return False
    try:
        document = answer.json()
    except ValueError:
        return False
    return isinstance(document, dict) and document.get("code") == OutcomeUnknown.code


def _headers_of(request: Request) -> dict[str, str]:
    """The headers that go along, and the request's id.

    A language or type that is no text names none, so it stays here; a key that cannot be one is refused, because
    a repeat without it would be a second request.
    """
    given = {name: request.headers[name] for name in FORWARDED_HEADERS if name in request.headers}
    if not IDEMPOTENCY_KEY.fullmatch(given.get("idempotency-key", "none")):
        raise InvalidIdempotencyKey(length_max=IDEMPOTENCY_KEY_LENGTH_MAX)
    kept = {name: text for name, text in given.items() if text.isascii()}
    return {**kept, "x-request-id": request_id_of(request)}


def _answer_of(answer: httpx.Response, caller: Caller | None) -> Response:
    """A service's answer for the caller: status, body, type, when to try again; no other header of it."""
    if caller is not None and answer.status_code == 401:
        # The caller's token was good, so it is our own signature that the service does not accept.
        _log.error("caller context refused", url=answer.request.url.path)
        raise Unavailable(headers={"Retry-After": "5"})
    headers = {name: answer.headers[name] for name in ANSWERED_HEADERS if name in answer.headers}
    return Response(answer.content, status_code=answer.status_code, headers=headers)
