"""Request and response models of the check and of holds."""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    StringConstraints,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from rappen_contracts.registry import USAGE_RECORDED_V1
from rappen_contracts.types import Money, Name, NonNegativeMoney, Quantities, Strings
from rappen_contracts.usage.v1 import Tokens, UsageRecorded
from services.billing.checks.domain import Reason
from services.billing.checks.limits import LimitKind, LimitPeriod
from services.billing.http import Identifier
from services.billing.ledger.domain import BillingModel
from services.billing.pricing import Metered
from services.billing.pricing.rating import Billable, ProviderCost
from services.chassis.bodies import IDENTIFIER, AnswerBody, RequestBody, Time
from services.chassis.operations import ProblemDocument
from services.chassis.validation import Form, value_fault

__all__ = [
    "KEY_LENGTH_MAX",
    "Capture",
    "Captured",
    "Check",
    "CheckAnswer",
    "Hold",
    "HoldMade",
    "HoldNotMade",
    "HoldVoid",
    "LimitGiven",
    "LimitShown",
]

KEY_LENGTH_MAX = 255
TTL_S_MAX = 3600
TTL_S = 300


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
    """May this be spent? Exactly one of `estimatedCost` (final CHF) and `estimate` (a part of a usage event).

    A name that is not known is refused: where it is misspelt, its default would be taken unnoticed.
    """

    model_config = ConfigDict(extra="forbid")

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


Key = Annotated[
    str,
    StringConstraints(max_length=KEY_LENGTH_MAX),
    Form(
        r"^[\x21-\x7e]+$",
        "1 to 255 visible ASCII characters without spaces are expected",
        "1 bis 255 sichtbare ASCII-Zeichen ohne Leerzeichen werden erwartet",
    ),
]


class Hold(Check):
    """What is to be reserved: as in a check, and for how many seconds. The key may stand here or in the header
    Idempotency-Key; where both are, the one here counts."""

    ttl_seconds: Annotated[int, Field(ge=1, le=TTL_S_MAX)] = TTL_S
    idempotency_key: Key | None = None


class HoldMade(AnswerBody):
    """The hold, and what is left of the balance less all holds (0 where nobody's balance pays)."""

    hold_id: Annotated[str, WithJsonSchema({"type": "string", "format": "uuid"})]
    amount: Money
    expires_at: Time
    balance_after_hold: Money


class HoldNotMade(ProblemDocument):
    """Why nothing is reserved, as a check would say it, with the figures of a check."""

    code: Reason
    current_balance: Money
    held_amount: Money
    required_amount: Money
    shortfall: Money
    billing_model: BillingModel


class CapturedEvent(BaseModel):
    """The CloudEvent in structured mode that settles a hold: ch.rappen.usage.recorded.v1."""

    model_config = ConfigDict(extra="allow")

    specversion: Literal["1.0"]
    id: Annotated[str, WithJsonSchema({"type": "string", "format": "uuid"})]
    source: Annotated[
        str, WithJsonSchema({"type": "string", "format": "uri-reference", "minLength": 1, "maxLength": 1024})
    ]
    type: Annotated[str, WithJsonSchema({"type": "string", "enum": [USAGE_RECORDED_V1.type]})]
    time: Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]
    data: UsageRecorded


def _as_given(value: Any) -> Any:
    """The contract reads it, with its own codes."""
    return value


class Capture(RequestBody):
    """The usage that settles the hold, exactly one of: `cost`, which the provider charged, before markup, or `event`,
    a whole usage event."""

    model_config = ConfigDict(extra="forbid")

    cost: NonNegativeMoney | None = None
    event: Annotated[Any, PlainValidator(_as_given, json_schema_input_type=CapturedEvent | None)] = None

    @model_validator(mode="after")
    def _one_usage(self) -> Self:
        if (self.cost is None) == (self.event is None):
            raise value_fault(
                "capture",
                en="exactly one of cost and event is expected",
                de="genau eines von cost und event wird erwartet",
            )
        return self


class Captured(AnswerBody):
    """The charge: nothing in `transactionId` where the usage was free, in `balanceAfter` where no balance moved."""

    hold_id: Annotated[str, WithJsonSchema({"type": "string", "format": "uuid"})]
    event_id: Annotated[str, WithJsonSchema({"type": "string", "format": "uuid"})]
    transaction_id: Annotated[str, WithJsonSchema({"type": "string", "format": "uuid"})] | None
    amount: Money
    balance_after: Money | None


class HoldVoid(AnswerBody):
    """The hold whose amount was given back."""

    hold_id: Annotated[str, WithJsonSchema({"type": "string", "format": "uuid"})]
    amount: Money


_LIMITED_BY_ID = ("member", "feature")


class LimitGiven(RequestBody):
    """How much may be spent in a day or a month by a member, for a feature instance, or at a provider or a model; `key`
    is the user id, the feature instance id, or the name as usage reports it."""

    kind: LimitKind
    key: Name
    period: LimitPeriod
    limit: NonNegativeMoney

    @field_validator("key")
    @classmethod
    def _as_its_kind(cls, key: str, info: ValidationInfo) -> str:
        if info.data.get("kind") in _LIMITED_BY_ID and not IDENTIFIER.fullmatch(key):
            raise value_fault(
                "key",
                en="an id is 1 to 64 letters, digits or the characters . _ : @ | -",
                de="eine Id besteht aus 1 bis 64 Buchstaben, Ziffern oder den Zeichen . _ : @ | -",
            )
        return key


class LimitShown(AnswerBody):
    """A limit."""

    kind: LimitKind
    key: str
    period: LimitPeriod
    limit: Money
