"""Holds: POST /api/billing/holds, /api/billing/holds/{holdId}/capture and /void."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Path, Request
from pydantic import WithJsonSchema
from pydantic_core import PydanticCustomError

from rappen_contracts import ContractError, Event, decode_structured
from rappen_contracts.registry import USAGE_RECORDED_V1
from rappen_contracts.types import parse_uuid
from services.billing.checks.api import question_of, read_body
from services.billing.checks.authorize_holds import AuthorizeHolds, HoldRequest
from services.billing.checks.bodies import Capture, Captured, Hold, HoldMade, HoldNotMade, HoldVoid
from services.billing.checks.capture_holds import CaptureHolds
from services.billing.checks.errors import HoldUnknown
from services.billing.checks.void_hold import void
from services.billing.http import Context, IdempotencyKey, router
from services.chassis.caller import Caller, CurrentCaller
from services.chassis.exact_json import ExactJsonResponse
from services.chassis.operations import Access, Repeat, operation
from services.chassis.problems import InvalidBody
from services.chassis.state import of_state
from services.chassis.validation import FieldFault, contract_texts

__all__ = ["api"]

# What may be in an event that settles a hold: usage, and nothing else that travels with it.
_EVENTS = {USAGE_RECORDED_V1.type: USAGE_RECORDED_V1}
# The faults of an event's attributes name these; all others are of its data.
_ATTRIBUTES = frozenset(["id", "source", "specversion", "time", "type", "datacontenttype", "data", "data_base64"])

api = router()


async def _may_check(caller: CurrentCaller) -> Caller:
    caller.require_scope("usage:check")
    return caller


async def _may_write(caller: CurrentCaller) -> Caller:
    caller.require_scope("usage:write")
    return caller


HoldId = Annotated[str, Path(alias="holdId"), WithJsonSchema({"type": "string", "format": "uuid"})]


@api.post(
    "/api/billing/holds",
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
async def post_hold(
    request: Request,
    caller: Annotated[Caller, Depends(_may_check)],
    authorize: Annotated[AuthorizeHolds, of_state("authorize")],
    key: IdempotencyKey = None,
) -> Any:
    asked = read_body(Hold, await request.body(), event_part="estimate")
    hold = HoldRequest(
        question=question_of(asked),
        model=asked.model or (asked.estimate.model if asked.estimate is not None else None),
        feature_instance_id=asked.feature_instance_id,
        ttl_s=asked.ttl_seconds,
        actor=caller.user_id,
        key=asked.idempotency_key or key,
        body=asked.model_dump_json(exclude={"idempotency_key"}),
    )
    return ExactJsonResponse(await authorize(hold), status_code=201)


@api.post(
    "/api/billing/holds/{holdId}/capture",
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
    request: Request,
    _: Annotated[Caller, Depends(_may_write)],
    context: Context,
    capture: Annotated[CaptureHolds, of_state("capture")],
    hold_id: HoldId,
) -> dict[str, Any]:
    asked = read_body(Capture, await request.body(), event_part="cost")
    given = asked.cost if asked.cost is not None else _event(asked.event, context.clock())
    return await capture(_id(hold_id), given)


@api.post(
    "/api/billing/holds/{holdId}/void",
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
