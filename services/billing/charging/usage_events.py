"""Usage events as a batch of the charge: the first of each, its repeats, and those that contradict it."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from uuid import UUID

import orjson

from rappen_contracts import Event
from rappen_contracts.usage.v1 import UsageRecorded
from services.billing.ledger.domain import Posting
from services.billing.ledger.keys import ChargeKeys
from services.billing.pricing import PROMPT_KINDS
from services.billing.pricing.rating import RatedUsage, derivation
from services.chassis.consumer import Received
from services.chassis.quarantine import Refused

__all__ = ["Usage", "compare", "contradicting", "distinct", "refused_usage"]


class Usage:
    """A usage event on its way through the charge: what was done, where in the ledger it belongs, what it costs."""

    __slots__ = ("data", "dimensions", "event", "keys", "rated", "received", "tokens")

    keys: ChargeKeys
    rated: RatedUsage

    def __init__(self, event: Event, received: Received | None = None) -> None:
        data = event.data
        if not isinstance(data, UsageRecorded):
            raise TypeError(f"{type(data).__name__} is not usage")
        self.event = event
        self.data = data
        self.received = received
        self.tokens = data.tokens.counts() if data.tokens is not None else {}
        # What decides on its charge keys, in the order of `UsageDimensions`.
        self.dimensions = (
            data.mandate_id,
            data.user_id,
            data.provider,
            data.model,
            data.feature_code,
            data.feature_instance_id,
        )

    @property
    def identity(self) -> tuple[int, UUID]:
        """The mandate's number and the event's id; two deliveries with the same are the same event."""
        return self.keys.mandate_no, self.event.id

    def posting(self, rated: RatedUsage, account_no: int) -> Posting:
        """The charge of this usage at its price, to the account that pays."""
        self.rated = rated
        event, data, keys = self.event, self.data, self.keys
        # By position, because this is done for each event.
        return Posting(
            keys.mandate_no,
            event.id,
            keys.member_account_no,
            account_no,
            "DEBIT",
            rated.exact,
            "REVENUE",
            "WORKFLOW" if data.kind == "ai" else "STORAGE",
            event.time,
            data.description,
            event.digest,
            keys.dimension_no,
            data.workflow_id,
            None,
            None,
            self,
        )

    def measured(self) -> tuple[int | None, int | None, int | None, int | None, int | None, int | None]:
        """The numbers that the ledger's row keeps beside the amount, as `UsageDetails` has them."""
        data = self.data
        sent, received = _sent_and_received(self.tokens)
        return data.processing_time_ms, data.bytes_sent, data.bytes_received, data.error_count, sent, received

    def explain(self, remainder_before: Decimal, remainder_after: Decimal) -> bytes:
        """How the amount came about, as JSON; remainders are CHF."""
        return orjson.dumps(derivation(self.data, self.rated, remainder_before, remainder_after, self.tokens))


def _sent_and_received(tokens: Mapping[str, int]) -> tuple[int, int] | tuple[None, None]:
    if not tokens:
        return None, None
    sent = received = 0
    for kind, count in tokens.items():
        if kind in PROMPT_KINDS:
            sent += count
        else:
            received += count
    return sent, received


def distinct(usages: list[Usage]) -> tuple[list[Usage], int, list[Usage]]:
    """The first of each identity within the batch, the number of its repeats, and those with other data."""
    if len({usage.event.id.int for usage in usages}) == len(usages):
        return usages, 0, []
    first: dict[tuple[int, UUID], Usage] = {}
    repeats, others = 0, []
    for usage in usages:
        known = first.setdefault(usage.identity, usage)
        if known is not usage:
            if known.event.digest == usage.event.digest:
                repeats += 1
            else:
                others.append(usage)
    return list(first.values()), repeats, others


def contradicting(others: Sequence[Usage], recorded: dict[tuple[int, UUID], bytes]) -> list[Refused]:
    """The usages that differ from the first of their identity: the recorded one, else the first in the batch."""
    return [_conflict(usage) for usage in others if recorded.get(usage.identity) != usage.event.digest]


def compare(
    usages: Sequence[Usage], known: dict[tuple[int, UUID], bytes]
) -> tuple[list[Usage], list[Usage], list[Refused]]:
    """Splits events into new ones, repeats of what is recorded, and contradictions to it."""
    if not known:
        return list(usages), [], []
    fresh, again, other = [], [], []
    for usage in usages:
        digest = known.get(usage.identity)
        if digest is None:
            fresh.append(usage)
        elif digest == usage.event.digest:
            again.append(usage)
        else:
            other.append(_conflict(usage))
    return fresh, again, other


def _conflict(usage: Usage) -> Refused:
    return refused_usage(usage, "CONFLICT", f"event {usage.event.id} was recorded with other data")


def refused_usage(usage: Usage, code: str, detail: str) -> Refused:
    """The record of an event that was received, with why it is refused."""
    if usage.received is None:
        raise AssertionError("only received events can be refused")
    return Refused(usage.received.record, code, detail, publishers_fault=True)
