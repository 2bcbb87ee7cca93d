"""Operations that a service behind the gateway answers: the request as it came, with the caller signed for it."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from urllib.parse import quote, urlencode

import orjson
from fastapi import Request, Response

from services.chassis.caller import CALLER_HEADER, Caller, sign_caller
from services.chassis.clock import Clock
from services.chassis.exact_json import read_json
from services.chassis.logging import get_logger
from services.chassis.operations import Repeat
from services.chassis.problems import InvalidBody, OutcomeUnknown, Problem, Unavailable
from services.chassis.requests import Answering, Direct, deadline_of, request_id_of
from services.chassis.streams import StreamedAnswer
from services.chassis.validation import FieldFault, both
from services.gateway.edge.admission import Admission, Call, body_of, read_body
from services.gateway.edge.connections import Answer, HttpClient, NoAnswer, NoConnection, OpenAnswer
from services.gateway.edge.errors import (
    IDEMPOTENCY_KEY,
    IDEMPOTENCY_KEY_LENGTH_MAX,
    InvalidIdempotencyKey,
    RepeatAsItWas,
    RepeatWithKey,
)
from services.gateway.edge.operations import SERVICE_S, Body, Operation

__all__ = ["ServiceClient", "Unanswered", "forwarded_operations", "path_of", "time_for"]

# Kept back from the request's time, for reporting that no answer came.
MARGIN_S = 0.5
# Requests to one service at once; further ones are answered at once that it is too busy.
IN_FLIGHT_MAX = 1_000
# No other header is forwarded, above all not the token, and none that the gateway has evaluated itself.
FORWARDED_HEADERS = ("content-type", "accept-language", "idempotency-key")
ANSWERED_HEADERS = ("content-type", "content-disposition", "retry-after")
# The two operations for which more is done than forwarding the request unchanged.
CHECKOUT, WEBHOOK = "payments-create-checkout", "payments-receive-stripe-event"

_log = get_logger(__name__)


class Unanswered(Unavailable):
    """The request was sent, and no answer came back: what it asked for may have been done."""


def forwarded_operations(
    operations: Mapping[str, Sequence[Operation]], clients: Mapping[str, "ServiceClient"], admission: Admission
) -> list[Direct]:
    """The services' operations with what answers each; both mappings are by the name of the service."""
    return [
        Direct(operation.method, operation.path, _answering(operation, clients[service], clients, admission))
        for service, described in operations.items()
        for operation in described
    ]


def _answering(
    operation: Operation, client: "ServiceClient", clients: Mapping[str, "ServiceClient"], admission: Admission
) -> Answering:
    async def plain(request: Request) -> Response:
        call = await admission.admit(request, operation)
        return call.named(await _forward(client, call, await body_of(call)))

    async def streamed(request: Request) -> Response:
        call = await admission.admit(request, operation)
        return await _pass_on(client, call)

    async def checkout(request: Request) -> Response:
        call = await admission.admit(request, operation)
        body = await body_of(call)
        target = await _top_up_target(clients["billing"], call, _user_id(body))
        return call.named(target if target.status_code != 200 else await _forward(client, call, body))

    async def webhook(request: Request) -> Response:
        # The signature covers the bytes, so they are forwarded unchanged; without a token there is no caller and no
        # `Call`.
        return await _forward_raw(client, operation, request, "stripe-signature")

    special: dict[str, Answering] = {CHECKOUT: checkout, WEBHOOK: webhook}
    return special.get(operation.id, streamed if operation.rules.streams else plain)


async def _forward(client: "ServiceClient", call: Call, body: bytes) -> Response:
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
            timeout_s=time_for(call.request, operation.service_s),
            repeatable=not changes,
        )
    except Unanswered as error:
        if not changes:
            raise
        raise _unanswered(call) from error
    if changes and _outcome_unknown(answer):
        raise _unanswered(call)
    return _answer_of(answer, call.caller, operation.path)


async def _pass_on(client: "ServiceClient", call: Call) -> Response:
    """The service's answer to this request, which changes nothing, piece by piece as it comes."""
    operation = call.operation
    answer = await client.open(
        operation.method,
        path_of(operation.path, call.path),
        caller=call.caller,
        query=call.request.scope["query_string"],
        headers=_headers_of(call.request),
        timeout_s=time_for(call.request, operation.service_s),
    )
    if answer.status != HTTPStatus.OK:
        return _answer_of(await answer.whole(), call.caller, operation.path)
    headers = {
        name.decode(): value.decode("latin-1") for name, value in answer.headers if name.decode() in ANSWERED_HEADERS
    }
    return StreamedAnswer(answer.pieces, headers=headers)


async def _top_up_target(billing: "ServiceClient", call: Call, user_id: str | None) -> Response:
    """Billing's answer whether this mandate and member can be topped up: payments knows neither directory nor billing
    models."""
    path = "/internal/top-up-target/{mandateId}"
    answer = await billing.send(
        "GET",
        path_of(path, call.path),
        caller=call.caller,
        query=urlencode({"userId": user_id}).encode() if user_id is not None else b"",
        headers=_headers_of(call.request),
        timeout_s=time_for(call.request, SERVICE_S),
        repeatable=True,
    )
    return _answer_of(answer, call.caller, path)


def _user_id(body: bytes) -> str | None:
    given = read_json(body)
    user_id = given.get("userId") if isinstance(given, dict) else None
    if user_id is None or isinstance(user_id, str):
        return user_id
    raise InvalidBody([FieldFault("userId", both("text is expected", "Text wird erwartet"))])


async def _forward_raw(client: "ServiceClient", operation: Operation, request: Request, *headers: str) -> Response:
    """The service's answer to a request without a caller: the bytes as they came, and the named headers with them."""
    content = await read_body(request, operation.body or Body())
    sent = {**_headers_of(request), **_text_of(request, headers)}
    answer = await client.send(
        "POST",
        operation.path,
        caller=None,
        body=content,
        headers=sent,
        timeout_s=time_for(request, SERVICE_S),
        repeatable=False,
    )
    return _answer_of(answer, None, operation.path)


def time_for(request: Request, most_s: float) -> float:
    """The seconds that a service gets: what is left of the request's own time, at most `most_s`."""
    return min(most_s, max(MARGIN_S, deadline_of(request).left_s() - MARGIN_S))


def _unanswered(call: Call) -> Problem:
    return RepeatWithKey(call.key) if call.operation.keyed else RepeatAsItWas(call.key)


def _outcome_unknown(answer: Answer) -> bool:
    """Whether the service itself does not know: its database did not answer in time."""
    if answer.status != OutcomeUnknown.status:
        return False
    try:
        document = orjson.loads(answer.body)
    except ValueError:
        return False
    return isinstance(document, dict) and document.get("code") == OutcomeUnknown.code


def _headers_of(request: Request) -> dict[str, str]:
    """The headers that go along, and the request's id.

    A key that cannot be one is refused, because a repeat without it would be a second request.
    """
    if not IDEMPOTENCY_KEY.fullmatch(request.headers.get("idempotency-key", "none")):
        raise InvalidIdempotencyKey(length_max=IDEMPOTENCY_KEY_LENGTH_MAX)
    return {**_text_of(request, FORWARDED_HEADERS), "x-request-id": request_id_of(request)}


def _text_of(request: Request, names: Sequence[str]) -> dict[str, str]:
    """The headers of these names. One that is no text names no language and no type and signs nothing, so it stays
    here."""
    given = {name: request.headers[name] for name in names if name in request.headers}
    return {name: text for name, text in given.items() if text.isascii()}


def _answer_of(answer: Answer, caller: Caller | None, path: str) -> Response:
    """A service's answer for the caller: status, body, type, when to try again; no other header of it."""
    if caller is not None and answer.status == 401:
        # The caller's token was good, so it is our own signature that the service does not accept.
        _log.error("caller context refused", path=path)
        raise Unavailable(headers={"Retry-After": "5"})
    headers = {name: text for name in ANSWERED_HEADERS if (text := answer.header(name.encode())) is not None}
    return Response(answer.body, status_code=answer.status, headers=headers)


class ServiceClient:
    """One service: `name` is the audience that its caller contexts are signed for."""

    def __init__(self, http: HttpClient, *, name: str, secret: str, clock: Clock) -> None:
        self._http = http
        self._name = name
        self._secret = secret
        self._clock = clock
        self._in_flight = 0

    async def send(
        self,
        method: str,
        path: str,
        *,
        caller: Caller | None,
        query: bytes = b"",
        body: bytes = b"",
        headers: Mapping[str, str],
        timeout_s: float,
        repeatable: bool,
    ) -> Answer:
        """The service's answer, whatever its status; `Unanswered` when there is none within the time, `Unavailable`
        when it got no request.

        Path, query and headers are ASCII. `repeatable` says that it may get the request twice.
        """
        with self._taken(method):
            async with asyncio.timeout(timeout_s):
                sent = self._signed(headers, caller)
                return await self._http.send(method, _target(path, query), sent, body, repeatable=repeatable)

    async def open(
        self,
        method: str,
        path: str,
        *,
        caller: Caller,
        query: bytes,
        headers: Mapping[str, str],
        timeout_s: float,
    ) -> OpenAnswer:
        """As `send`, of a repeatable request without a body, once its answer has begun."""
        with self._taken(method):
            async with asyncio.timeout(timeout_s):
                return await self._http.open(method, _target(path, query), self._signed(headers, caller))

    @contextmanager
    def _taken(self, method: str) -> Iterator[None]:
        """A place among the requests to the service, and its failures as refusals of ours."""
        if self._in_flight >= IN_FLIGHT_MAX:
            raise Unavailable(headers={"Retry-After": "1"})
        self._in_flight += 1
        try:
            yield
        except (NoConnection, NoAnswer, TimeoutError) as error:
            _log.warning("service away", service=self._name, method=method, error=repr(error))
            unsent = isinstance(error, NoConnection)
            raise (Unavailable if unsent else Unanswered)(headers={"Retry-After": "1"}) from error
        finally:
            self._in_flight -= 1

    def _signed(self, headers: Mapping[str, str], caller: Caller | None) -> dict[str, str]:
        if caller is None:
            return dict(headers)
        context = sign_caller(caller, audience=self._name, secret=self._secret, now=self._clock())
        return {**headers, CALLER_HEADER: context}


def _target(path: str, query: bytes) -> str:
    return f"{path}?{query.decode('ascii')}" if query else path


def path_of(template: str, values: Mapping[str, str]) -> str:
    """The path of a template, each value as one segment: `.` and `..` are ids here and no steps of a path."""
    path = template
    for name, value in values.items():
        segment = value.replace(".", "%2E") if not value.strip(".") else quote(value, safe=":@")
        path = path.replace(f"{{{name}}}", segment)
    return path
