"""The public operations: one description from which each is routed, guarded, limited and documented."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any
from uuid import uuid4

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, TypeAdapter, ValidationError

from rappen_contracts.types import Identifier, Name
from services.chassis.caller import Caller, ProgramNeeded
from services.chassis.deadlines import ANSWER_S, LONG_ANSWER_S, deadline_of
from services.chassis.problems import InvalidBody, answer_undecided_with, mark_as_read
from services.chassis.validation import faults_of
from services.gateway.errors import IDEMPOTENCY_KEY, IDEMPOTENCY_KEY_HEADER, RepeatAsItWas
from services.gateway.identity import TokenVerifier
from services.gateway.limits import RateLimits
from services.gateway.scope import ScopeReader

__all__ = ["Body", "Call", "Gate", "Operation", "Repeat", "Surface", "Who", "refusal"]

READS_PER_MINUTE = 60
CHANGES_PER_MINUTE = 20
# How long a service may take for its answer; it has given up by itself before that.
SERVICE_S = ANSWER_S + 1.0
LONG_SERVICE_S = LONG_ANSWER_S + 3.0
# Beyond the service's time, for letting the request in and for saying that no answer came.
MARGIN_S = 2.0


class Who(Enum):
    """The kind of caller an operation is for, as the document says it; what they see is decided by what they ask.

    The gate tells people from programs and system administrators from others. Whether somebody is a member or an
    administrator of the mandate they name is decided where the mandate is known, before anything else is told.
    """

    NOBODY = "everybody, without a token"
    PERSON = "any person"
    MEMBER = "members of the mandate, and system administrators"
    MANDATE_ADMIN = "administrators of the mandate, and system administrators"
    SYSTEM_ADMIN = "system administrators"
    PROGRAM = "programs"
    PERSON_OR_PROGRAM = "any person, and programs"
    MEMBER_OR_PROGRAM = "members of the mandate, system administrators, and programs"

    @property
    def is_for_people(self) -> bool:
        """Whether people alone have it."""
        return self in (Who.PERSON, Who.MEMBER, Who.MANDATE_ADMIN, Who.SYSTEM_ADMIN)


class Repeat(Enum):
    """What it means to send an operation's request once more, when its first answer was lost."""

    READ = "it only reads"
    LOOK = "what was made is refused the second time, so look before repeating"
    SAME = "made twice, it has the same effect as once"
    KEY = "with the same Idempotency-Key it is made once, and answered as at first"


@dataclass(frozen=True, slots=True)
class Body:
    """What a request carries; `model` documents it, and the media types are enforced unless the service does that."""

    model: Any
    media_types: tuple[str, ...] = ("application/json",)
    bytes_max: int = 4 * 1024 * 1024
    required: bool = True
    enforced: bool = True


@dataclass(frozen=True, slots=True)
class Operation:
    """One method on one path. `id` is the operation id, tag first; `limit` is a person's requests a minute."""

    method: str
    path: str
    id: str
    summary: str
    who: Who = Who.PERSON
    scope: str | None = None
    limit: int | None = READS_PER_MINUTE
    query: type[BaseModel] | None = None
    body: Body | None = None
    answer: Any = None
    status: int = 200
    # Further answers that are no problem documents, and the statuses of those that are.
    more_answers: Mapping[int, Any] = field(default_factory=dict)
    refusals: Sequence[int] = ()
    # What a path value is, where it is no id.
    path_types: Mapping[str, Any] = field(default_factory=dict)
    # Of a POST it is always said.
    repeat: Repeat | None = None
    # Whether the header that names the context mandate counts; elsewhere it is ignored.
    context: bool = False
    # Whether its work grows with a mandate or a file, so that it may take longer than others.
    long: bool = False

    @property
    def repeats(self) -> Repeat:
        """What a repeat of it means."""
        return self.repeat or (Repeat.READ if self.method == "GET" else Repeat.SAME)

    @property
    def keyed(self) -> bool:
        """Whether a repeat with the same Idempotency-Key is the same request."""
        return self.repeats is Repeat.KEY

    @property
    def named(self) -> bool:
        """Whether an answer names a key, with which the change can be repeated when its answer is lost."""
        return self.repeats in (Repeat.KEY, Repeat.SAME)

    @property
    def service_s(self) -> float:
        """How long a service behind the gateway may take for it."""
        return LONG_SERVICE_S if self.long else SERVICE_S

    @property
    def tag(self) -> str:
        """The group of the operation."""
        return self.id.split("-", 1)[0]

    @property
    def path_names(self) -> list[str]:
        """The names in the path, in their order."""
        return [part[1:-1] for part in self.path.split("/") if part.startswith("{")]

    def path_type(self, name: str) -> Any:
        """The type of a path value."""
        return self.path_types.get(name, Name if name == "role" else Identifier)


@dataclass(frozen=True, slots=True)
class Call:
    """A request that was let in: who calls, the values of the path, the query where the operation has one."""

    request: Request
    caller: Caller
    path: dict[str, str]
    query: Any = None


class Gate:
    """Lets a request in: token, rate limit, scope, kind of caller, in this order, before anything else is told."""

    def __init__(self, *, tokens: TokenVerifier, limits: RateLimits, scopes: ScopeReader) -> None:
        self._tokens = tokens
        self._limits = limits
        self._scopes = scopes

    async def admit(self, request: Request, operation: Operation) -> Caller:
        """The caller, or a refusal."""
        identity = await self._tokens.verify(request.headers.get("authorization"))
        request.state.rate_limit = await self._limits.take(identity, operation.id, operation.limit)
        caller = await self._scopes.read(identity, request, context=operation.context)
        if operation.who is Who.SYSTEM_ADMIN:
            caller.require_system_admin()
        elif operation.who.is_for_people:
            caller.require_person()
        elif operation.who is Who.PROGRAM and not caller.service:
            raise ProgramNeeded
        if operation.scope is not None and (caller.service or operation.who is Who.PROGRAM):
            caller.require_scope(operation.scope)
        return caller


Handler = Callable[[Call], Awaitable[Response]]
Endpoint = Callable[[Request], Awaitable[Response]]


def _key_of(request: Request) -> str:
    """The key of a change: the caller's, where it can be one, or one of ours."""
    given = request.headers.get(IDEMPOTENCY_KEY_HEADER, "")
    return given if IDEMPOTENCY_KEY.fullmatch(given) else str(uuid4())


class Surface:
    """Collects the operations and their routes."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self.operations: list[Operation] = []
        self._endpoints: dict[str, dict[str, Endpoint]] = {}

    def add(self, operation: Operation, handler: Handler, *, reads_query: bool = True) -> None:
        """Serves an operation to callers that the gate lets in; a service behind reads its query itself."""
        types = {name: TypeAdapter(operation.path_type(name)) for name in operation.path_names}
        query_type = TypeAdapter(operation.query) if reads_query and operation.query is not None else None

        async def endpoint(request: Request) -> Response:
            if operation.repeats is Repeat.READ:
                mark_as_read(request)
            caller = await self._gate.admit(request, operation)
            key = request.state.key = _key_of(request)
            if operation.repeats is Repeat.SAME:
                answer_undecided_with(request, RepeatAsItWas(key))
            if operation.long:
                deadline_of(request).restart(LONG_SERVICE_S + MARGIN_S)
            path = {name: str(_value(types[name], name, request.path_params[name])) for name in types}
            _require_mandate(caller, operation, path)
            query = None if query_type is None else _value(query_type, None, dict(request.query_params))
            answer = await handler(Call(request, caller, path, query))
            if operation.named:
                answer.headers[IDEMPOTENCY_KEY_HEADER] = key
            return answer

        self._route(operation, endpoint)

    def add_open(self, operation: Operation, handler: Endpoint) -> None:
        """Serves an operation to everybody, without a token."""

        self._route(operation, handler)

    def router(self) -> APIRouter:
        """The routes, one for each path, so that a method that is not there is answered with all that are.

        Literal paths come first: what they do not serve is then still tried as a value in a path.
        """
        router = APIRouter(include_in_schema=False)
        for path in sorted(self._endpoints, key=lambda path: ("{" in path, path)):
            methods = self._endpoints[path]
            router.add_api_route(path, _by_method(methods), methods=list(methods), response_model=None)
        return router

    def _route(self, operation: Operation, endpoint: Endpoint) -> None:
        self.operations.append(operation)
        self._endpoints.setdefault(operation.path, {})[operation.method] = endpoint


def _require_mandate(caller: Caller, operation: Operation, path: Mapping[str, str]) -> None:
    """Where the path names the mandate, access to it is decided here, before the body is looked at."""
    mandate_id = path.get("mandateId")
    if mandate_id is not None and operation.who is Who.MEMBER:
        caller.require_member(mandate_id)
    if mandate_id is not None and operation.who is Who.MANDATE_ADMIN:
        caller.require_admin(mandate_id)


def _by_method(endpoints: Mapping[str, Endpoint]) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        return await endpoints[request.method](request)

    return endpoint


def _value(type_: TypeAdapter[Any], name: str | None, given: object) -> Any:
    try:
        return type_.validate_python(given, strict=False)
    except ValidationError as error:
        raise refusal(error, prefix=name) from None


def refusal(error: ValidationError, *, prefix: str | None = None) -> InvalidBody:
    """422 with every fault and its field; values are not repeated."""
    return InvalidBody(faults_of(error, prefix=prefix))
