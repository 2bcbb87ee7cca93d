"""A usage.voided event, as it comes in a batch among usage."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar
from uuid import UUID

from rappen_contracts import Event
from rappen_contracts.usage.v1 import UsageVoided
from services.chassis.consumer import data_of
from services.chassis.kafka import KafkaRecord
from services.chassis.quarantine import Refused

__all__ = ["CancellationEvent", "by_kind"]

U = TypeVar("U")


@dataclass(slots=True, eq=False)
class CancellationEvent:
    """An event that cancels usage, and the record that it came in."""

    record: KafkaRecord
    event: Event
    mandate_id: str
    # The id of the usage event, which may not have arrived.
    cancelled: UUID
    reason: str
    mandate_no: int = field(init=False)

    @classmethod
    def of(cls, event: Event, record: KafkaRecord) -> "CancellationEvent":
        """The event as it was decoded; TypeError for one of another kind."""
        data = data_of(event, UsageVoided)
        return cls(record, event, data.mandate_id, data.event_id, data.reason)

    @property
    def id(self) -> UUID:
        """The event's own id."""
        return self.event.id

    @property
    def identity(self) -> tuple[int, bytes]:
        """What makes two deliveries the same event: it is no usage, but shares the ids of its mandate with it."""
        return self.mandate_no, self.event.id.bytes

    def refused(self, code: str, detail: str) -> Refused:
        """Its record, with why it is refused."""
        return Refused(self.record, code, detail, publishers_fault=True)


def by_kind(events: Sequence[U | CancellationEvent]) -> tuple[list[U], list[CancellationEvent]]:
    """The usage of a batch, and its cancellations."""
    usages: list[U] = []
    cancellations: list[CancellationEvent] = []
    for event in events:
        if isinstance(event, CancellationEvent):
            cancellations.append(event)
        else:
            usages.append(event)
    return usages, cancellations
