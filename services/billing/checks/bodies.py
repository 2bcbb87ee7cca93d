"""Request and response models of the check."""

from typing import Self

from pydantic import BaseModel, ConfigDict, model_validator

from rappen_contracts.types import Money, Name, NonNegativeMoney, Quantities, Strings
from rappen_contracts.usage.v1 import Tokens
from services.billing.checks.domain import Reason
from services.billing.http import Identifier
from services.billing.ledger.domain import BillingModel
from services.billing.pricing import Metered
from services.billing.pricing.rating import Billable, ProviderCost
from services.chassis.bodies import AnswerBody, RequestBody
from services.chassis.validation import value_fault

__all__ = ["Check", "CheckAnswer"]


class Estimate(BaseModel):
    """A part of a usage event with its own names: `cost`, or what a price is found by."""

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
        """The part of the estimate that decides its price."""
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


class Check(RequestBody):
    """May this be spent? Exactly one of `estimatedCost` (final CHF) and `estimate` (a part of a usage event)."""

    mandate_id: Identifier
    user_id: Identifier
    estimated_cost: NonNegativeMoney | None = None
    estimate: Estimate | None = None
    provider: Name | None = None
    model: Name | None = None
    feature_instance_id: Identifier | None = None

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


class CheckAnswer(AnswerBody):
    """Whether it may, and why not."""

    allowed: bool
    reason: Reason | None
    current_balance: Money
    held_amount: Money
    required_amount: Money
    shortfall: Money
    billing_model: BillingModel
