"""What all operations of the public surface share, whatever service answers: admission, the key of a change, and
bodies, which are read up to their limit and of the announced type."""

import asyncio
import math
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar
from uuid import uuid4

from fastapi import Depends, Request, Response
from pydantic import BaseModel, TypeAdapter, ValidationError

from rappen_contracts.types import Identifier, Name
from services.chassis.caller import Caller, ServiceAccountNeeded
from services.chassis.exact_json import ExactJsonRoute, read_json
from services.chassis.operations import Access, Repeat
from services.chassis.problems import InvalidBody
from services.chassis.requests import add_headers, answer_undecided_with, deadline_of, language_of, mark_as_read
from services.chassis.validation import FieldFault, both, faults_of
from services.gateway.access.errors import RateLimited
from services.gateway.access.identity import Identity, TokenVerifier
from services.gateway.access.scope import ScopeReader
from services.gateway.access.windows import WINDOW, Windows
from services.gateway.edge.errors import (
    IDEMPOTENCY_KEY,
    IDEMPOTENCY_KEY_HEADER,
    BodyTooLarge,
    BodyTooSlow,
    RepeatAsItWas,
    UnsupportedMediaType,
)
from services.gateway.edge.operations import LONG_SERVICE_S, Body, Operation
from services.gateway.settings import RateLimitSettings

__all__ = [
    "RATE_LIMIT_HEADERS",
    "Admission",
    "Admitted",
    "Call",
    "PublicRoute",
    "RateLimits",
    "body_of",
    "read_body",
    "read_model",
    "read_object",
]

# The IETF's draft-ietf-httpapi-ratelimit-headers.
RATE_LIMIT_HEADERS = ("RateLimit", "RateLimit-Policy")
WINDOW_S = int(WINDOW.total_seconds())

# Added to the service's time: for admission, and for reporting that no answer came.
MARGIN_S = 2.0
BODY_S = 60.0
_FOR_PEOPLE = (Access.PERSON, Access.MEMBER, Access.MANDATE_ADMIN)
_IDENTIFIER: TypeAdapter[str] = TypeAdapter(Identifier)
# The form of a path value that is not an id.
_PATH_TYPES: dict[str, TypeAdapter[str]] = {"role": TypeAdapter(Name)}
_NO_OBJECT = FieldFault("body", both("a JSON object is expected", "ein JSON-Objekt wird erwartet"))

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Call:
    """A request that was let in: who calls which operation, the values of the path, the key of a change."""

    request: Request
    operation: Operation
    caller: Caller
    path: dict[str, str]
    key: str

    def named(self, answer: Response) -> Response:
        """The answer, which of a change names its key."""
        if self.operation.named:
            answer.headers[IDEMPOTENCY_KEY_HEADER] = self.key
        return answer


class RateLimits:
    """Limits a caller's requests for an operation, by the wall clock, whatever time the platform has been moved to."""

    def __init__(self, settings: RateLimitSettings, windows: Windows) -> None:
        self._settings = settings
        self._windows = windows

    async def take(self, identity: Identity, operation_id: str, limit: int | None) -> dict[str, str]:
        """Takes one request of the caller's minute and gives the headers that say what is left; refuses beyond it."""
        quota = self._quota(identity, operation_id, limit)
        if quota is None:
            return {}
        taken = await self._windows.take(identity.subject, operation_id, quota)
        seconds = max(1, min(WINDOW_S, math.ceil(taken.reset_s)))
        headers = {
            "RateLimit-Policy": f'"default";q={quota};w={WINDOW_S}',
            "RateLimit": f'"default";r={max(0, taken.remaining)};t={seconds}',
        }
        if not taken.granted:
            raise RateLimited(seconds=seconds, headers={"Retry-After": str(seconds), **headers})
        return headers

    def _quota(self, identity: Identity, operation_id: str, limit: int | None) -> int | None:
        if not self._settings.enabled:
            return None
        return (
            self._settings.service_account
            if identity.service_account
            else self._settings.overrides.get(operation_id, limit)
        )


class Admission:
    """Lets a request in: token, rate limit, scope, kind of caller, path, access to the mandate that the path names, in
    this order, before an answer reveals anything else."""

    def __init__(self, *, tokens: TokenVerifier, limits: RateLimits, scopes: ScopeReader) -> None:
        self._tokens = tokens
        self._limits = limits
        self._scopes = scopes

    async def admit(self, request: Request, operation: Operation) -> Call:
        """The call, or a refusal; from here on the request has the time and the meaning of a repeat that are its
        operation's."""
        if operation.repeats is Repeat.READ:
            mark_as_read(request)
        caller = await self._caller(request, operation)
        key = _key_of(request)
        if operation.repeats is Repeat.SAME:
            answer_undecided_with(request, RepeatAsItWas(key))
        if operation.rules.long:
            deadline_of(request).restart(LONG_SERVICE_S + MARGIN_S)
        path = {name: _path_value(name, value) for name, value in request.path_params.items()}
        _require_mandate(caller, operation, path.get(operation.rules.mandate_parameter))
        return Call(request, operation, caller, path, key)

    async def renew(self, call: Call) -> Caller:
        """The caller as they are now, for an answer that goes on: refuses a token that has expired meanwhile, and a
        caller who may not make this call any more."""
        return await self._caller(call.request, call.operation, counted=False)

    async def _caller(self, request: Request, operation: Operation, *, counted: bool = True) -> Caller:
        rules = operation.rules
        identity = await self._tokens.verify(request.headers.get("authorization"))
        if counted:
            add_headers(request, await self._limits.take(identity, operation.id, rules.limit))
        if identity.service_account:
            # It is a member of no mandate, and names the mandate in each request.
            scopes, language = identity.scopes, language_of(request)
            caller = Caller(user_id=identity.subject, service=True, scopes=scopes, language=language)
        else:
            caller = await self._scopes.read(identity, request, context=rules.context)
        if rules.access is Access.SYSTEM_ADMIN:
            caller.require_system_admin()
        elif rules.access in _FOR_PEOPLE:
            caller.require_person()
        elif rules.access is Access.SERVICE_ACCOUNT and not caller.service:
            raise ServiceAccountNeeded
        if rules.scope is not None and (caller.service or rules.access is Access.SERVICE_ACCOUNT):
            caller.require_scope(rules.scope)
        return caller


def _key_of(request: Request) -> str:
    """The key of a change: the caller's, where it can be one, or one of ours."""
    given = request.headers.get(IDEMPOTENCY_KEY_HEADER, "")
    return given if IDEMPOTENCY_KEY.fullmatch(given) else str(uuid4())


def _path_value(name: str, given: str) -> str:
    try:
        return _PATH_TYPES.get(name, _IDENTIFIER).validate_python(given)
    except ValidationError as error:
        raise InvalidBody(faults_of(error, prefix=name)) from None


def _require_mandate(caller: Caller, operation: Operation, mandate_id: str | None) -> None:
    if mandate_id is not None and operation.rules.access is Access.MEMBER:
        caller.require_member(mandate_id)
    if mandate_id is not None and operation.rules.access is Access.MANDATE_ADMIN:
        caller.require_admin(mandate_id)


class PublicRoute(ExactJsonRoute):
    """A route of an operation: nothing of a request is looked at before it is admitted, and what a change was answered
    names its key. The application has the `Admission` in its state."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, behind the admission; without it where the operation is for everybody."""
        handler, operation = super().get_route_handler(), Operation.of_route(self)
        if operation.rules.access is Access.NOBODY:
            return handler

        async def admitted(request: Request) -> Response:
            admission: Admission = request.app.state.admission
            call = request.state.call = await admission.admit(request, operation)
            return call.named(await handler(request))

        return admitted


async def _call_of(request: Request) -> Call:
    call: Call = request.state.call
    return call


Admitted = Annotated[Call, Depends(_call_of)]


async def read_body(request: Request, body: Body) -> bytes:
    """The bytes of the body; a body whose media type or announced length is refused is not read."""
    chunks: list[bytes] = []
    length = 0
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > body.bytes_max:
        raise BodyTooLarge(bytes_max=body.bytes_max)
    if body.type_checked:
        _check_type(request, body)
    # The time that a slow caller takes to send the body does not count towards the time of our answer.
    deadline = deadline_of(request)
    left_s = deadline.left_s()
    deadline.lift()
    try:
        async with asyncio.timeout(BODY_S):
            async for chunk in request.stream():
                length += len(chunk)
                if length > body.bytes_max:
                    raise BodyTooLarge(bytes_max=body.bytes_max)
                chunks.append(chunk)
    except TimeoutError:
        raise BodyTooSlow(seconds=int(BODY_S)) from None
    deadline.restart(left_s)
    return b"".join(chunks)


async def body_of(call: Call) -> bytes:
    """The bytes of the body that the call's operation describes; none where it describes none."""
    return b"" if call.operation.body is None else await read_body(call.request, call.operation.body)


async def read_object(call: Call) -> dict[str, Any]:
    """The JSON object of the body."""
    given = read_json(await body_of(call))
    if not isinstance(given, dict):
        raise InvalidBody([_NO_OBJECT])
    return given


async def read_model(call: Call, model: type[M]) -> M:
    """The body as a model."""
    given = await read_object(call)
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise InvalidBody(faults_of(error)) from None


def _check_type(request: Request, body: Body) -> None:
    announced = request.headers.get("content-type", "")
    essence, *parameters = announced.split(";")
    if not announced and not body.required and request.headers.get("content-length", "0") == "0":
        return
    given = [parameter.partition("=") for parameter in parameters]
    # Of the parameters of a media type only this one changes how a body is read.
    charsets = [value.strip().lower().strip('"') for name, _, value in given if name.strip().lower() == "charset"]
    # Only ASCII white space counts in a header.
    known = announced.isascii() and essence.strip().lower() in body.media_types
    if not known or not all(value in ("utf-8", "utf8") for value in charsets):
        raise UnsupportedMediaType(expected=" / ".join(body.media_types))
