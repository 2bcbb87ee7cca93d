"""POST /api/billing/check: the question before an AI call.

It is asked so often that the web framework's layers would cost more than the answer. So it is answered in front of the
application, with the same request ids, deadlines and problem documents, and counts as a read, which may be repeated. So
are holds and their captures (`api_holds`), which are changes.
"""

from typing import TypeVar, cast

from fastapi import Request, Response
from pydantic import BaseModel, ValidationError

from rappen_contracts.field_faults import code_of
from services.billing.checks.bodies import Check, CheckAnswer
from services.billing.checks.check_funds import CheckFunds, Question
from services.billing.http import router
from services.chassis.caller import CALLER_HEADER, CallerVerifier
from services.chassis.exact_json import ExactJsonResponse, read_json
from services.chassis.operations import Access, Repeat, operation
from services.chassis.problems import invalid_body
from services.chassis.requests import Answering, mark_as_read

__all__ = ["PATH", "api", "check_handler", "question_of", "read_body"]

M = TypeVar("M", bound=BaseModel)

PATH = "/api/billing/check"

api = router()


@api.post(
    PATH,
    **operation(
        "billing-check",
        "Whether a member may spend an amount now.",
        access=Access.SERVICE_ACCOUNT,
        scope="usage:check",
        limit=None,
        repeat=Repeat.READ,
        body=Check,
        answer=CheckAnswer,
        refuses=(404, 413, 415, 422),
    ),
)
async def check(request: Request) -> Response:
    handler = cast("Answering", request.app.state.check)
    return await handler(request)


def check_handler(caller: CallerVerifier, check_funds: CheckFunds) -> Answering:
    """Answers the check: on the direct path, and on the route that describes it."""

    async def answer(request: Request) -> Response:
        mark_as_read(request)
        caller.verify(request.headers.get(CALLER_HEADER)).require_scope("usage:check")
        answered = await check_funds(question_of(read_body(Check, await request.body(), event_part="estimate")))
        return ExactJsonResponse(answered.json())

    return answer


def question_of(asked: Check) -> Question:
    """The question in the body of a check or a hold. Where it names no provider or model, those of the estimate
    count."""
    estimate = asked.estimate
    return Question(
        mandate_id=asked.mandate_id,
        user_id=asked.user_id,
        estimated_cost=asked.estimated_cost.amount if asked.estimated_cost is not None else None,
        estimate=estimate.billable() if estimate is not None else None,
        provider=asked.provider or (estimate.provider if estimate is not None else None),
        model=asked.model or (estimate.model if estimate is not None else None),
        feature_instance_id=asked.feature_instance_id,
    )


def read_body(model: type[M], text: bytes, *, event_part: str) -> M:
    """A body as its model, or its refusal. What an event may not have has the same code in a part of one."""
    try:
        return model.model_validate(read_json(text))
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        code = code_of(fault) if event_part in fault["loc"][:-1] else None
        raise invalid_body(error, code=code) from None
