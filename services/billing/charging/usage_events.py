"""Usage events as a batch of the charge: reading them, the first of each, its repeats, and those that contradict it."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from rappen_contracts import Event, decode
from rappen_contracts.registry import source_topic
from rappen_contracts.types import since_epoch
from rappen_contracts.usage import fast
from rappen_contracts.usage.fast import UsageData
from rappen_contracts.usage.v1 import TOKEN_KINDS, UsageRecorded, UsageVoided
from services.billing.charging.cancellation_event import CancellationEvent
from services.billing.charging.metrics import FAST_FORM_ERRORS
from services.billing.ledger.domain import Posting
from services.billing.ledger.keys import ChargeKeys
from services.billing.money import Exact
from services.billing.pricing import LATEST
from services.billing.pricing.derivation import derivation
from services.billing.pricing.quotes import output_counts
from services.billing.pricing.rating import PriceSource
from services.chassis.consumer import data_of
from services.chassis.kafka import KafkaRecord
from services.chassis.logging import get_logger
from services.chassis.quarantine import Refused

__all__ = ["Identity", "Usage", "compare", "contradicting", "distinct", "reader", "refused_usage"]

# The mandate's number and the event's id; two deliveries with the same are the same event.
Identity = tuple[int, bytes]

# Events of other topics are refused by their type, like those that nobody knows.
_OF_THE_TOPIC = {version.type: version for version in source_topic("usage.recorded").events}

_log = get_logger(__name__)


# What is assigned on its way.
_LATER: Any = None


# A struct for the same reason as `Posting`.
class Usage(msgspec.Struct, eq=False):
    """A usage event on its way through the charge: what was done, where in the ledger it belongs, what it costs.

    It was read in the fast form, or in the published one; `published` turns the first into the second.
    """

    record: KafkaRecord | None
    event_id: bytes
    # Microseconds since 2000.
    time: int
    digest: bytes
    data: UsageData | UsageRecorded
    # What decides on its charge keys, in the order of `UsageDimensions`.
    names: fast.Names
    # Of the token kinds in their order; empty where none occurred.
    counts: Sequence[int]
    # The event as it was decoded in the published way.
    event: Event | None = None
    keys: ChargeKeys = _LATER
    price: Exact = _LATER
    source: PriceSource = _LATER

    @classmethod
    def of(cls, event: Event, record: KafkaRecord | None = None) -> "Usage":
        """Usage that was decoded in the published way; TypeError for an event of another kind."""
        data = data_of(event, UsageRecorded)
        names = (
            data.mandate_id,
            data.user_id,
            data.provider,
            data.model,
            data.feature_code,
            data.feature_instance_id,
        )
        counts = () if data.tokens is None else tuple(getattr(data.tokens, kind) for kind in TOKEN_KINDS)
        time = since_epoch(event.time)
        return cls(record, event.id.bytes, time, event.digest, data, names, counts if any(counts) else (), event)

    @property
    def id(self) -> UUID:
        """The event's id."""
        return UUID(bytes=self.event_id)

    @property
    def hold_id(self) -> UUID | None:
        """The id of the hold that it names."""
        hold = self.data.hold_id
        return UUID(hold) if isinstance(hold, str) else hold

    @property
    def identity(self) -> Identity:
        """What makes two deliveries the same event."""
        return self.keys.mandate_no, self.event_id

    def published(self) -> tuple[Event, UsageRecorded, Mapping[str, int]]:
        """The event, its data, and the counts of the token kinds that occurred."""
        if self.event is None:
            record = _record_of(self)
            # Its time was not in the future when it was read, and is not judged again.
            self.event = decode(record.headers, record.value, now=LATEST)
            self.data = data_of(self.event, UsageRecorded)
        data = data_of(self.event, UsageRecorded)
        return self.event, data, {} if data.tokens is None else data.tokens.counts()

    def posting(self, price: Exact, source: PriceSource, account_no: int) -> Posting:
        """The charge of this usage at its exact price, to the account that pays."""
        self.price, self.source = price, source
        data, keys = self.data, self.keys
        # By position, because this is done for each event.
        return Posting(
            keys.mandate_no,
            self.event_id,
            keys.member_account_no,
            account_no,
            "DEBIT",
            None,
            "REVENUE",
            "WORKFLOW" if data.kind == "ai" else "STORAGE",
            self.time,
            data.description,
            self.digest,
            keys.dimension_no,
            data.workflow_id,
            None,
            None,
            price,
            self,
        )

    def measured(self) -> tuple[int | None, int | None, int | None, int | None, int | None, int | None]:
        """The numbers that the ledger's row keeps beside the amount, as `UsageDetails` has them."""
        data, counts = self.data, self.counts
        sent = received = None
        if counts:
            received = sum(output_counts(counts))
            sent = sum(counts) - received
        return data.processing_time_ms, data.bytes_sent, data.bytes_received, data.error_count, sent, received

    def explain(self, remainder_before: str, remainder_after: str) -> bytes:
        """How the amount came about, as JSON."""
        return derivation(self.data, self.source, remainder_before, remainder_after)


def reader(now: datetime) -> Callable[[KafkaRecord], Usage | CancellationEvent]:
    """Reads the records of a batch: in the fast form what is usual, in the published one everything else. `now` bounds
    how far ahead an event's time may be. What it gives raises `ContractError` for a record that is refused."""
    since_2000 = since_epoch(now)

    def read(record: KafkaRecord) -> Usage | CancellationEvent:
        try:
            found = fast.read(record.headers, record.value, since_2000)
        except Exception as error:  # noqa: BLE001 - whatever it is, the published form decides on the record.
            found = None
            FAST_FORM_ERRORS.labels("read").inc()
            _log.warning("record read in the published form", error=type(error).__name__)
        if found is None:
            event = decode(record.headers, record.value, now=now, events=_OF_THE_TOPIC)
            if isinstance(event.data, UsageVoided):
                return CancellationEvent.of(event, record)
            return Usage.of(event, record)
        # Not unpacked in the call, which takes longer, because this is done for each event.
        event_id, time, digest, data, names, counts = found
        return Usage(record, event_id, time, digest, data, names, counts)

    return read


def distinct(usages: list[Usage]) -> tuple[list[Usage], int, list[Usage]]:
    """The first of each identity within the batch, the number of its repeats, and those with other data."""
    if len({usage.event_id for usage in usages}) == len(usages):
        return usages, 0, []
    first: dict[Identity, Usage] = {}
    repeats, others = 0, []
    for usage in usages:
        known = first.setdefault(usage.identity, usage)
        if known is not usage:
            if known.digest == usage.digest:
                repeats += 1
            else:
                others.append(usage)
    return list(first.values()), repeats, others


def contradicting(others: Sequence[Usage], recorded: Mapping[Identity, bytes]) -> list[Refused]:
    """The usages that differ from the first of their identity: the recorded one, else the first in the batch."""
    return [_conflict(usage) for usage in others if recorded.get(usage.identity) != usage.digest]


def compare(usages: Sequence[Usage], known: Mapping[Identity, bytes]) -> tuple[list[Usage], list[Usage], list[Refused]]:
    """Splits events into new ones, repeats of what is recorded, and contradictions to it."""
    if not known:
        return list(usages), [], []
    fresh, again, other = [], [], []
    for usage in usages:
        digest = known.get(usage.identity)
        if digest is None:
            fresh.append(usage)
        elif digest == usage.digest:
            again.append(usage)
        else:
            other.append(_conflict(usage))
    return fresh, again, other


def _conflict(usage: Usage) -> Refused:
    return refused_usage(usage, "CONFLICT", f"event {usage.id} was recorded with other data")


def refused_usage(usage: Usage, code: str, detail: str) -> Refused:
    """The record of an event that was received, with why it is refused."""
    return Refused(_record_of(usage), code, detail, publishers_fault=True)


def _record_of(usage: Usage) -> KafkaRecord:
    if usage.record is None:
        raise AssertionError("only received events have a record")
    return usage.record
