"""Usage events over HTTP, as the OpenAPI document shows them."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, WithJsonSchema

from rappen_contracts.registry import source_topic
from rappen_contracts.usage.v1 import UsageRecorded, UsageVoided
from services.chassis.operations import ProblemDocument

__all__ = ["NoEventAccepted", "StructuredEvent", "UsageResults"]

USAGE_EVENTS = source_topic("usage.recorded").events


class StructuredEvent(BaseModel):
    """A CloudEvent in structured mode: usage (ch.rappen.usage.recorded.v1), or the cancellation of some
    (ch.rappen.usage.voided.v1); its data is the contract's own.

    In place of `data`, `data_base64` may have it as JSON in base64.
    """

    model_config = ConfigDict(extra="allow")

    specversion: Literal["1.0"]
    id: Annotated[str, WithJsonSchema({"type": "string", "format": "uuid"})]
    source: Annotated[
        str, WithJsonSchema({"type": "string", "format": "uri-reference", "minLength": 1, "maxLength": 1024})
    ]
    type: Annotated[str, WithJsonSchema({"type": "string", "enum": [event.type for event in USAGE_EVENTS]})]
    time: Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]
    data: UsageRecorded | UsageVoided


class UsageResult(BaseModel):
    """What became of one event; `id` as it was sent, null when it had none."""

    id: str | None
    status: Literal["accepted", "invalid"]
    code: str | None = None
    detail: str | None = None


class UsageResults(BaseModel):
    """What became of the events, in their order."""

    accepted: int
    results: list[UsageResult]


class NoEventAccepted(ProblemDocument):
    """A refusal of every event, with the members of the usual answer beside its own."""

    accepted: int
    results: list[UsageResult]
