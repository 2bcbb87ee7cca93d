"""usage.recorded v1: AI or storage usage that happened, published by the service that did the work; and usage.voided
v1, which cancels it and travels on the same topic."""

from typing import Literal

from pydantic import ConfigDict, model_validator
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

from rappen_contracts.types import (
    Contract,
    Count,
    Description,
    EventId,
    Identifier,
    Metadata,
    Name,
    NonNegativeMoney,
    Quantities,
    Reason,
    Strings,
    Text,
)

__all__ = ["TOKEN_KINDS", "Tokens", "UsageRecorded", "UsageVoided"]

TOKEN_KINDS = (
    "input",
    "cache_read",
    "cache_write",
    "cache_write_1h",
    "output",
    "reasoning",
    "audio_input",
    "audio_cache_read",
    "audio_output",
    "image_input",
    "image_cache_read",
    "image_output",
    "tool_input",
)


class Tokens(Contract):
    """Token counts of mutually exclusive kinds; `total`, where given, is their sum.

    `provider_total` is what the provider declared: kept, never checked, because some leave kinds out. A name that is no
    kind is refused, because what is not read would be given away.
    """

    model_config = ConfigDict(extra="forbid")

    input: Count = 0
    cache_read: Count = 0
    cache_write: Count = 0
    cache_write_1h: Count = 0
    output: Count = 0
    reasoning: Count = 0
    audio_input: Count = 0
    audio_cache_read: Count = 0
    audio_output: Count = 0
    image_input: Count = 0
    image_cache_read: Count = 0
    image_output: Count = 0
    tool_input: Count = 0
    total: Count | None = None
    provider_total: Count | None = None

    def counts(self) -> dict[str, int]:
        """The kinds that occurred, with their counts."""
        return {kind: count for kind, count in self.__dict__.items() if count and kind in _KINDS}

    @model_validator(mode="after")
    def _total_adds_up(self) -> "Tokens":
        if self.total is not None and self.total != sum(map(self.__dict__.__getitem__, TOKEN_KINDS)):
            raise PydanticCustomError("TOTAL_MISMATCH", "tokens.total is not the sum of the kinds")
        return self


_KINDS = frozenset(TOKEN_KINDS)


def _given(*fields: str) -> JsonDict:
    """JSON Schema for: these fields are there and not null."""
    return {"required": list(fields), "properties": {field: {"not": {"type": "null"}} for field in fields}}


def _not_empty(field: str) -> JsonDict:
    """JSON Schema for: this field is an object that says something."""
    return {"required": [field], "properties": {field: {"type": "object", "minProperties": 1}}}


# What `UsageRecorded._complete` checks, for publishers that build from the schema.
_COMPLETE: JsonDict = {
    "if": {"properties": {"kind": {"const": "storage"}}, "required": ["kind"]},
    "then": _given("feature_instance_id", "bytes_in_use"),
    "else": {
        "allOf": [_given("provider", "model")],
        "anyOf": [_given("cost"), _not_empty("tokens"), _not_empty("quantities")],
    },
}


class UsageRecorded(Contract):
    """One unit of usage of a member of a mandate; `cost` is what the provider charged, before markup."""

    model_config = ConfigDict(json_schema_extra=_COMPLETE)

    mandate_id: Identifier
    user_id: Identifier
    kind: Literal["ai", "storage"] = "ai"
    provider: Name | None = None
    model: Name | None = None
    cost: NonNegativeMoney | None = None
    tokens: Tokens | None = None
    quantities: Quantities | None = None
    service_tier: Name | None = None
    conditions: Strings | None = None
    response_id: Text | None = None
    feature_code: Name | None = None
    feature_instance_id: Identifier | None = None
    workflow_id: Identifier | None = None
    hold_id: EventId | None = None
    description: Description | None = None
    processing_time_ms: Count | None = None
    bytes_sent: Count | None = None
    bytes_received: Count | None = None
    error_count: Count | None = None
    bytes_in_use: Count | None = None
    metadata: Metadata | None = None

    @model_validator(mode="after")
    def _complete(self) -> "UsageRecorded":
        # What is empty counts as absent, also for the digest.
        if self.tokens is not None and not self.tokens.__pydantic_fields_set__:
            self.__dict__["tokens"] = None
        if self.quantities is not None and not self.quantities:
            self.__dict__["quantities"] = None
        if self.kind == "ai":
            if self.provider is None or self.model is None:
                raise PydanticCustomError("MISSING_FIELD", "ai usage needs provider and model")
            if self.cost is None and self.tokens is None and self.quantities is None:
                raise PydanticCustomError("MISSING_FIELD", "ai usage needs cost, tokens or quantities")
        elif self.bytes_in_use is None or self.feature_instance_id is None:
            raise PydanticCustomError("MISSING_FIELD", "storage usage needs bytes_in_use and feature_instance_id")
        return self


class UsageVoided(Contract):
    """The cancellation of one usage event: what it was charged is given back, once, also where it comes first.

    `event_id` is the id of the usage event, in the same mandate; the cancellation has an id of its own. The reason is
    kept with the reversal.
    """

    mandate_id: Identifier
    event_id: EventId
    reason: Reason
