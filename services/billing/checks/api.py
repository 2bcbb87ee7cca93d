"""POST /api/billing/check: the question before an AI call."""

from typing import Self

from fastapi import Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rappen_contracts.field_faults import code_of
from rappen_contracts.types import Name, NonNegativeMoney, Quantities, Strings
from rappen_contracts.usage.v1 import Tokens
from services.billing.checks.check_funds import CheckFunds, Question
from services.billing.checks.direct import DirectHandler
from services.billing.http import ApiContext, Body, Identifier
from services.billing.pricing import Metered
from services.billing.pricing.rating import Billable, ProviderCost
from services.billing.pricing.repository import Tariffs
from services.chassis.caller import CALLER_HEADER
from services.chassis.exact_json import ExactJsonResponse, read_json
from services.chassis.problems import invalid_body
from services.chassis.validation import value_fault

__all__ = ["direct"]


class EstimateBody(BaseModel):
    """A part of a usage event's data, with its own names."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    cost: NonNegativeMoney | None = None
    provider: Name | None = None
    model: Name | None = None
    tokens: Tokens | None = None
    quantities: Quantities | None = None
    service_tier: Name | None = None
    conditions: Strings | None = None

    @model_validator(mode="after")
    def _can_be_priced(self) -> Self:
        metered = self.provider and self.model and (self._counted() or self.quantities)
        if self.cost is None and not metered:
            raise value_fault(
                "estimate",
                en="cost, or provider and model with tokens or quantities",
                de="cost, oder provider und model mit tokens oder quantities",
            )
        return self

    def _counted(self) -> bool:
        """Whether tokens are there; empty ones count as absent, as in an event."""
        return self.tokens is not None and bool(self.tokens.model_fields_set)

    def billable(self) -> Billable:
        """What decides the price."""
        if self.cost is not None:
            return ProviderCost(self.cost.amount, self.cost.currency)
        if self.provider is None or self.model is None:
            raise AssertionError("validated before")
        return Metered(
            self.provider,
            self.model,
            self.tokens.counts() if self.tokens is not None else {},
            self.quantities or {},
            self.service_tier or "standard",
            self.conditions or {},
        )


class CheckBody(Body):
    """Exactly one of estimatedCost (final CHF) and estimate (priced here)."""

    mandate_id: Identifier
    user_id: Identifier
    estimated_cost: NonNegativeMoney | None = None
    estimate: EstimateBody | None = None
    provider: Name | None = None
    model: Name | None = None
    feature_instance_id: Identifier | None = Field(default=None)

    @model_validator(mode="after")
    def _one_amount(self) -> Self:
        if (self.estimated_cost is None) == (self.estimate is None):
            raise value_fault(
                "estimate",
                en="exactly one of estimatedCost and estimate is expected",
                de="genau eines von estimatedCost und estimate wird erwartet",
            )
        if self.estimated_cost is not None and self.estimated_cost.currency != "CHF":
            raise value_fault("currency", en="estimatedCost is in CHF", de="estimatedCost ist in CHF")
        return self


def _read(text: bytes) -> CheckBody:
    try:
        return CheckBody.model_validate(read_json(text))
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        # An estimate is a part of an event, so what an event may not have has the same code here.
        code = code_of(fault) if "estimate" in fault["loc"][:-1] else None
        raise invalid_body(error, code=code) from None


def direct(context: ApiContext, tariffs: Tariffs) -> DirectHandler:
    """The check, which is asked before every AI call."""
    check_funds = CheckFunds(context.database, tariffs, context.settings, context.clock)

    async def check(request: Request) -> Response:
        context.caller.verify(request.headers.get(CALLER_HEADER)).require_scope("usage:check")
        body = _read(await request.body())
        answer = await check_funds(
            Question(
                mandate_id=body.mandate_id,
                user_id=body.user_id,
                estimated_cost=body.estimated_cost.amount if body.estimated_cost is not None else None,
                estimate=body.estimate.billable() if body.estimate is not None else None,
                provider=body.provider or (body.estimate.provider if body.estimate is not None else None),
            )
        )
        return ExactJsonResponse(answer.json())

    return check
