"""From what was counted of a call to the data of its usage event."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, Required, TypedDict
from uuid import UUID, uuid4, uuid5

from pydantic import ValidationError

from rappen_contracts.adapters.reading import Part
from rappen_contracts.errors import ContractError
from rappen_contracts.field_faults import refusal
from rappen_contracts.usage.v1 import UsageRecorded

__all__ = ["Call", "EventFields", "Tokens", "build", "event_ids", "served_tier", "usage_of"]


class EventFields(TypedDict, total=False):
    """What the provider's answer does not say, as fields of the event.

    `provider`, `model`, `service_tier` and `response_id` come before what the answer says, entries of `quantities` and
    `conditions` come on top of it. Calls of another model that an answer reports keep their own.
    """

    mandate_id: Required[str]
    user_id: Required[str]
    provider: str
    model: str
    quantities: Mapping[str, str]
    service_tier: str
    conditions: Mapping[str, str]
    response_id: str
    feature_code: str
    feature_instance_id: str
    workflow_id: str
    hold_id: str | UUID
    description: str
    processing_time_ms: int
    bytes_sent: int
    bytes_received: int
    error_count: int
    metadata: Mapping[str, str]


# What concerns the whole answer goes with its first event: a hold is settled once, a duration is not multiplied.
_ONCE: Final = ("hold_id", "processing_time_ms", "bytes_sent", "bytes_received", "error_count")
# Asked for and not served: an event with it would wait for a price that nobody has.
_NOT_SERVED: Final = frozenset({"auto", "unspecified"})
# What has an outcome has usage. Anything else is fetched again and reported then, or has failed and costs nothing.
_FINISHED: Final = frozenset({"completed", "incomplete"})
# Under which ids of events are derived; another one would charge every answer again that is read once more.
_IDS: Final = UUID("0d5f6f0e-7f0c-5a58-9a5e-1c4f3a3d9b27")


@dataclass(frozen=True, slots=True)
class Tokens:
    """Counts of disjoint kinds, and the total that the provider declares."""

    counts: Mapping[str, int]
    provider_total: int | None = None

    @property
    def total(self) -> int:
        """The sum of all kinds."""
        return sum(self.counts.values())


@dataclass(frozen=True, slots=True)
class Call:
    """One call that the provider bills. `model` is set where it is not that of the answer; `cost` is in USD."""

    tokens: Tokens = field(default_factory=lambda: Tokens({}))
    model: str | None = None
    quantities: Mapping[str, int | Decimal] = field(default_factory=dict)
    service_tier: str | None = None
    conditions: Mapping[str, str] = field(default_factory=dict)
    cost: Decimal | None = None


def usage_of(answer: Part, *names: str, known: tuple[str, ...]) -> Part | None:
    """The usage object of an answer, or the answer itself where it is one, by fields that only usage has.

    None for an answer that waits, runs or has failed. MISSING_FIELD for any other without usage, such as a stream that
    was not asked for it, and for usage that has none of these fields, such as that of another provider.
    """
    usage = answer.part(*names) if answer.has(*names) else answer
    if usage.has(*known):
        return usage
    if usage is not answer:
        raise ContractError("MISSING_FIELD", f"{usage.path(known[0])}: is required")
    if answer.has("status") and answer.text("status") not in _FINISHED:
        return None
    raise ContractError("MISSING_FIELD", f"{answer.path(names[0])}: is required")


def served_tier(tier: str | None) -> str | None:
    """The service tier as an event names it; None for one that only says what was asked for."""
    tier = tier.lower() if tier else None
    return None if tier in _NOT_SERVED else tier


def build(
    provider: str | None,
    calls: Iterable[Call],
    fields: EventFields,
    *,
    model: str | None = None,
    response_id: str | None = None,
) -> list[UsageRecorded]:
    """The events of an answer; none for calls that used nothing."""
    unknown = sorted(fields.keys() - EventFields.__annotations__.keys())
    if unknown:
        raise TypeError(f"an event has no field {unknown[0]!r} to be given here")
    used: dict[str, Any] = dict(fields)
    events: list[UsageRecorded] = []
    for call in calls:
        data = _data(provider, call, used, model, response_id)
        if data is not None:
            events.append(_checked(data))
            used = {name: value for name, value in used.items() if name not in _ONCE and name != "quantities"}
    return events


def event_ids(events: Sequence[UsageRecorded]) -> list[UUID]:
    """An id for each event of one answer: the same ones whenever the answer is read again, so that it is charged once
    however often it is fetched. Of an answer without an id (`response_id`) they are new each time."""
    return [
        uuid4() if event.response_id is None else uuid5(_IDS, f"{event.provider}\n{event.response_id}\n{place}")
        for place, event in enumerate(events)
    ]


def _data(
    provider: str | None, call: Call, fields: Mapping[str, Any], model: str | None, response_id: str | None
) -> dict[str, Any] | None:
    counts = {kind: count for kind, count in call.tokens.counts.items() if count}
    quantities = {name: format(Decimal(number), "f") for name, number in call.quantities.items() if number}
    quantities |= fields.get("quantities") or {}
    if not counts and not quantities and call.cost is None:
        return None
    data: dict[str, Any] = {
        "provider": provider,
        "model": model,
        "service_tier": call.service_tier,
        "response_id": response_id,
    }
    data |= fields
    if call.model is not None:
        data["model"] = call.model
    if counts:
        data["tokens"] = counts | {"total": call.tokens.total, "provider_total": call.tokens.provider_total}
    if call.cost is not None:
        data["cost"] = {"amount": format(call.cost, "f"), "currency": "USD"}
    data["quantities"] = quantities or None
    data["conditions"] = {**call.conditions, **(fields.get("conditions") or {})} or None
    return data


def _checked(data: Mapping[str, Any]) -> UsageRecorded:
    try:
        return UsageRecorded.model_validate(data)
    except ValidationError as error:
        raise refusal(error, UsageRecorded) from None
