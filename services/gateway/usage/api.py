"""Usage events over HTTP, for services without a Kafka client: the same contract, the same identity of an event."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Response
from pydantic import Field

from rappen_contracts import ContractError, Event
from rappen_contracts.codec import BATCH_EVENTS_MAX
from rappen_contracts.registry import RECORD_BYTES_MAX
from services.chassis.exact_json import ExactJsonResponse
from services.chassis.operations import Access, ProblemDocument, Repeat, operation
from services.chassis.problems import InvalidBody
from services.chassis.state import of_state
from services.chassis.validation import FieldFault, Texts, contract_texts, say
from services.gateway.edge.admission import Admitted, PublicRoute, body_of
from services.gateway.usage.bodies import NoEventAccepted, StructuredEvent, UsageResults
from services.gateway.usage.errors import InvalidEvents
from services.gateway.usage.record_usage import UsageRecorder, Verdict, read_batch, read_event

__all__ = ["api"]

BATCH_BYTES_MAX = 8 * 1024 * 1024
_Batch = Annotated[list[StructuredEvent], Field(min_length=1, max_length=BATCH_EVENTS_MAX)]

api = APIRouter(route_class=PublicRoute)


_Recorder = Annotated[UsageRecorder, of_state("usage")]


@api.post(
    "/api/usage",
    **operation(
        "usage-record",
        "Record one usage event, or cancel one; 202 means that Kafka has it.",
        access=Access.SERVICE_ACCOUNT,
        scope="usage:write",
        limit=None,
        body=StructuredEvent,
        media_types=("application/cloudevents+json",),
        body_bytes_max=RECORD_BYTES_MAX,
        answer=UsageResults,
        status=202,
        refuses=(413, 415),
        problems={422: ProblemDocument | NoEventAccepted},
        repeat=Repeat.SAME,
    ),
)
async def record(call: Admitted, recorder: _Recorder) -> Response:
    """One event."""
    events = read_event(await body_of(call), now=recorder.now())
    return _answer(await recorder.record(events), call.caller.language)


@api.post(
    "/api/usage/batch",
    **operation(
        "usage-record-batch",
        "Record or cancel up to 1,000 usage events; each is judged by itself.",
        access=Access.SERVICE_ACCOUNT,
        scope="usage:write",
        limit=None,
        body=_Batch,
        media_types=("application/cloudevents-batch+json",),
        body_bytes_max=BATCH_BYTES_MAX,
        answer=UsageResults,
        status=202,
        more_answers={207: UsageResults},
        refuses=(413, 415),
        problems={422: ProblemDocument | NoEventAccepted},
        repeat=Repeat.SAME,
    ),
)
async def record_batch(call: Admitted, recorder: _Recorder) -> Response:
    """A batch."""
    # A thousand events take long enough to read that other requests should not wait for it.
    events = await asyncio.to_thread(_batch, await body_of(call), recorder.now())
    return _answer(await recorder.record(events), call.caller.language)


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
