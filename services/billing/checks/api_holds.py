"""Holds: POST /api/billing/holds, /api/billing/holds/{holdId}/capture and /void."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Path, Request, Response
from pydantic import WithJsonSchema
from pydantic_core import PydanticCustomError

from rappen_contracts import ContractError, Event, decode_structured
from rappen_contracts.registry import USAGE_RECORDED_V1
from rappen_contracts.types import parse_uuid
from services.billing.checks.api import question_of, read_body
from services.billing.checks.authorize_holds import AuthorizeHolds, HoldRequest
from services.billing.checks.bodies import KEY_LENGTH_MAX, Capture, Captured, Hold, HoldMade, HoldNotMade, HoldVoid
from services.billing.checks.capture_holds import CaptureHolds
from services.billing.checks.errors import HoldUnknown
from services.billing.checks.void_hold import void
from services.billing.errors import InvalidField
from services.billing.http import Context, router
from services.chassis.caller import CALLER_HEADER, Caller, CallerVerifier, CurrentCaller
from services.chassis.clock import Clock
from services.chassis.exact_json import ExactJsonResponse
from services.chassis.operations import Access, Repeat, operation
from services.chassis.problems import InvalidBody
from services.chassis.requests import Direct
from services.chassis.state import of_state
from services.chassis.validation import FieldFault, contract_texts

__all__ = ["HoldHandlers", "api"]

PATH = "/api/billing/holds"
CAPTURE_PATH = f"{PATH}/{{holdId}}/capture"
# What may be in an event that settles a hold: usage, and nothing else that travels with it.
_EVENTS = {USAGE_RECORDED_V1.type: USAGE_RECORDED_V1}
# The faults of an event's attributes name these; all others are of its data.
_ATTRIBUTES = frozenset(["id", "source", "specversion", "time", "type", "datacontenttype", "data", "data_base64"])

api = router()


async def _may_check(caller: CurrentCaller) -> Caller:
    caller.require_scope("usage:check")
    return caller


HoldId = Annotated[str, Path(alias="holdId"), WithJsonSchema({"type": "string", "format": "uuid"})]


class HoldHandlers:
    """Answers holds and captures: on the direct path, and on the routes that describe them."""

    def __init__(
        self, caller: CallerVerifier, authorize: AuthorizeHolds, capture: CaptureHolds, *, clock: Clock
    ) -> None:
        self._caller = caller
        self._authorize = authorize
        self._capture = capture
        self._clock = clock

    def direct(self) -> list[Direct]:
        """What is answered in front of the web framework."""
        return [Direct("POST", PATH, self.authorize), Direct("POST", CAPTURE_PATH, self._capture_directly)]

    async def authorize(self, request: Request) -> Response:
        """A hold."""
        caller = self._caller_of(request, "usage:check")
        asked = read_body(Hold, await request.body(), event_part="estimate")
        hold = HoldRequest(
            question=question_of(asked),
            ttl_s=asked.ttl_seconds,
            actor=caller.user_id,
            key=asked.idempotency_key or _key_of(request),
            body=asked.model_dump_json(exclude={"idempotency_key"}),
        )
        return ExactJsonResponse(await self._authorize(hold), status_code=201)

    async def capture(self, request: Request, hold_id: str) -> Response:
        """A capture."""
        self._caller_of(request, "usage:write")
        asked = read_body(Capture, await request.body(), event_part="cost")
        given = asked.cost if asked.cost is not None else _event(asked.event, self._clock())
        return ExactJsonResponse(await self._capture(_id(hold_id), given))

    async def _capture_directly(self, request: Request) -> Response:
        return await self.capture(request, request.path_params["holdId"])

    def _caller_of(self, request: Request, scope: str) -> Caller:
        caller = self._caller.verify(request.headers.get(CALLER_HEADER))
        caller.require_scope(scope)
        return caller


@api.post(
    PATH,
    **operation(
        "billing-authorize-hold",
        "Reserve an amount for a member until it is captured, voided or expired.",
        access=Access.SERVICE_ACCOUNT,
        scope="usage:check",
        limit=None,
        repeat=Repeat.KEY,
        body=Hold,
        answer=HoldMade,
        status=201,
        refuses=(404, 413, 415, 422),
        problems={402: HoldNotMade},
    ),
)
async def post_hold(request: Request, holds: Annotated[HoldHandlers, of_state("holds")]) -> Response:
    return await holds.authorize(request)


@api.post(
    CAPTURE_PATH,
    **operation(
        "billing-capture-hold",
        "Charge usage and settle its hold.",
        access=Access.SERVICE_ACCOUNT,
        scope="usage:write",
        limit=None,
        repeat=Repeat.SAME,
        body=Capture,
        answer=Captured,
        refuses=(404, 409, 413, 415, 422),
    ),
)
async def post_capture(
    request: Request, holds: Annotated[HoldHandlers, of_state("holds")], hold_id: HoldId
) -> Response:
    return await holds.capture(request, hold_id)


@api.post(
    f"{PATH}/{{holdId}}/void",
    **operation(
        "billing-void-hold",
        "Give back what a hold has reserved.",
        access=Access.SERVICE_ACCOUNT,
        scope="usage:check",
        limit=None,
        repeat=Repeat.SAME,
        answer=HoldVoid,
        refuses=(404, 409, 422),
    ),
)
async def post_void(_: Annotated[Caller, Depends(_may_check)], context: Context, hold_id: HoldId) -> dict[str, Any]:
    return await void(context.database, _id(hold_id), clock=context.clock)


def _key_of(request: Request) -> str | None:
    """The key in the header; the gateway lets none pass that cannot be one."""
    key = request.headers.get("idempotency-key")
    if key is not None and len(key) > KEY_LENGTH_MAX:
        most = f"{KEY_LENGTH_MAX}"
        raise InvalidField("Idempotency-Key", en=f"at most {most} characters", de=f"höchstens {most} Zeichen")
    return key


def _id(given: str) -> UUID:
    """What cannot be an id names no hold."""
    try:
        return parse_uuid(given)
    except PydanticCustomError:
        raise HoldUnknown from None


def _event(given: Any, now: datetime) -> Event:
    try:
        return decode_structured(given, now=now, events=_EVENTS)
    except ContractError as error:
        texts, place = contract_texts(error.code, error.detail), error.detail.partition(": ")[0]
        if place == error.detail or " " in place:
            raise InvalidBody([FieldFault("event", texts)], code=error.code) from None
        said = {language: text.partition(": ")[2] or text for language, text in texts.items()}
        field = f"event.{place}" if place in _ATTRIBUTES else f"event.data.{place}"
        raise InvalidBody([FieldFault(field, said)], code=error.code) from None
