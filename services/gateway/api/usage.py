"""Usage events over HTTP, for services without a Kafka client: the same contract, the same identity of an event."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

from fastapi import Response
from pydantic import Field

from rappen_contracts import ContractError, Event
from rappen_contracts.codec import BATCH_EVENTS_MAX
from rappen_contracts.registry import RECORD_BYTES_MAX
from services.chassis.clock import Clock
from services.chassis.exact_json import ExactJsonResponse
from services.chassis.problems import InvalidBody
from services.chassis.validation import FieldFault, Texts, contract_texts, say
from services.gateway.api.bodies import read_body
from services.gateway.api.documents.usage import StructuredEvent, UsageResults
from services.gateway.api.operations import Body, Call, Operation, Repeat, Surface, Who
from services.gateway.errors import InvalidEvents
from services.gateway.usage_publisher import UsagePublisher
from services.gateway.use_cases.record_usage import Verdict, read_batch, read_event, record_usage

__all__ = ["add_usage"]

EVENT = Body(StructuredEvent, ("application/cloudevents+json",), RECORD_BYTES_MAX)
BATCH = Body(
    Annotated[list[StructuredEvent], Field(min_length=1, max_length=BATCH_EVENTS_MAX)],
    ("application/cloudevents-batch+json",),
    bytes_max=8 * 1024 * 1024,
)

RECORD = Operation(
    "POST",
    "/api/usage",
    "usage-record",
    "Record one usage event; 202 means that Kafka has it.",
    who=Who.PROGRAM,
    scope="usage:write",
    limit=None,
    body=EVENT,
    answer=UsageResults,
    status=202,
    refusals=(413, 415, 422, 503),
    repeat=Repeat.SAME,
)
RECORD_BATCH = Operation(
    "POST",
    "/api/usage/batch",
    "usage-record-batch",
    "Record up to 1,000 usage events; each is judged by itself.",
    who=Who.PROGRAM,
    scope="usage:write",
    limit=None,
    body=BATCH,
    answer=UsageResults,
    status=202,
    more_answers={207: UsageResults},
    refusals=(413, 415, 422, 503),
    repeat=Repeat.SAME,
)


def add_usage(surface: Surface, *, publisher: UsagePublisher, clock: Clock) -> None:
    """Serves both."""

    async def record(call: Call) -> Response:
        body = await read_body(call.request, EVENT)
        return _answer(await record_usage(publisher, read_event(body, now=clock())), call.caller.language)

    async def record_batch(call: Call) -> Response:
        body = await read_body(call.request, BATCH)
        # A thousand events take long enough to read that other requests should not wait for it.
        events = await asyncio.to_thread(_batch, body, clock())
        return _answer(await record_usage(publisher, events), call.caller.language)

    surface.add(RECORD, record)
    surface.add(RECORD_BATCH, record_batch)


def _batch(body: bytes, now: datetime) -> list[Event | ContractError]:
    try:
        return read_batch(body, now=now)
    except ContractError as error:
        raise InvalidBody([FieldFault("body", contract_texts(error.code, error.detail))], code=error.code) from None


def _answer(verdicts: Sequence[Verdict], language: str) -> Response:
    results = [_result(verdict, language) for verdict in verdicts]
    invalid = [(number, verdict) for number, verdict in enumerate(verdicts) if verdict.code is not None]
    accepted = len(verdicts) - len(invalid)
    if not accepted:
        # A problem document like every other refusal, with the members of the usual answer beside its own.
        extra: dict[str, Any] = {"accepted": 0, "results": results}
        errors = [FieldFault(str(number), _fault(verdict)) for number, verdict in invalid]
        raise InvalidEvents(errors=errors, extra=extra, first=errors[0].texts)
    return ExactJsonResponse({"accepted": accepted, "results": results}, status_code=207 if invalid else 202)


def _result(verdict: Verdict, language: str) -> dict[str, str | None]:
    """What became of one event, as the answer tells it."""
    if verdict.code is None:
        return {"id": verdict.id, "status": "accepted"}
    detail = say(contract_texts(verdict.code, verdict.detail), language)
    return {"id": verdict.id, "status": "invalid", "code": verdict.code, "detail": detail}


def _fault(verdict: Verdict) -> Texts:
    """The fault of an event with its id, as far as it could be read, and its code."""
    texts = contract_texts(str(verdict.code), verdict.detail)
    named = "" if verdict.id is None else f"{verdict.id}: "
    return {language: f"{named}{verdict.code}: {text}" for language, text in texts.items()}
