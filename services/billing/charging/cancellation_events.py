"""The cancellations in a batch of the charge: told from usage, and settled after it, so that their order among usage
does not matter."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts import Event
from rappen_contracts.usage.v1 import UsageVoided
from services.billing.charging.cancel_usage import cancel_usage
from services.billing.charging.cancellations import Cancellation, Identity
from services.billing.charging.usage_events import Usage
from services.billing.ledger.domain import BEYOND_BALANCE_MAX
from services.billing.ledger.keys import ensure_mandates
from services.billing.ledger.repository import recorded_digests
from services.billing.mandates.domain import Terms
from services.billing.pricing.unposted import UnpostedEvent, insert_unposted
from services.chassis.consumer import Received
from services.chassis.database import begin
from services.chassis.quarantine import Refused

__all__ = ["CancellationEvent", "SettledCancellations", "assign_mandates", "by_kind", "settle_cancellations"]


class CancellationEvent:
    """A usage.voided event on its way through the charge."""

    __slots__ = ("cancelled", "event", "mandate_id", "mandate_no", "reason", "received")

    mandate_no: int

    def __init__(self, event: Event, data: UsageVoided, received: Received) -> None:
        self.event = event
        self.received = received
        self.mandate_id = data.mandate_id
        self.cancelled: UUID = data.event_id
        self.reason = data.reason

    @property
    def identity(self) -> Identity:
        """The event's own: it is no usage, but shares the ids of its mandate with it."""
        return self.mandate_no, self.event.id

    @property
    def cancellation(self) -> Cancellation:
        """What it asks for."""
        return Cancellation(self.mandate_no, self.cancelled, self.reason)

    def refused(self, code: str, detail: str) -> Refused:
        """Its record, with why it is refused."""
        return Refused(self.received.record, code, detail, publishers_fault=True)


class SettledCancellations(NamedTuple):
    """What became of the cancellations of a batch: how many changed something or nothing, and what was refused."""

    cancelled: int
    repeated: int
    refused: list[Refused]


_NOTHING = SettledCancellations(0, 0, [])


def by_kind(events: Sequence[Received]) -> tuple[list[Usage], list[CancellationEvent]]:
    """The usage of a batch, and its cancellations."""
    usages: list[Usage] = []
    cancellations: list[CancellationEvent] = []
    for received in events:
        event = received.event
        if isinstance(event.data, UsageVoided):
            cancellations.append(CancellationEvent(event, event.data, received))
        else:
            usages.append(Usage(event, received))
    return usages, cancellations


async def assign_mandates(connection: AsyncConnection, cancellations: Sequence[CancellationEvent]) -> None:
    """Gives each cancellation its mandate's number; a mandate that is new gets its settings, as with usage."""
    if cancellations:
        async with begin(connection):
            numbers = await ensure_mandates(connection, [each.mandate_id for each in cancellations])
        for each in cancellations:
            each.mandate_no = numbers[each.mandate_id]


async def settle_cancellations(
    connection: AsyncConnection,
    cancellations: Sequence[CancellationEvent],
    usages: Sequence[Usage],
    terms: Mapping[int, Terms],
    *,
    now: datetime,
) -> SettledCancellations:
    """Settles the cancellations of a batch, and takes back what of its usage was cancelled before; in the caller's
    transaction, which has locked the mandates and recorded the usage. Without either it costs no statement."""
    cancelling = {no for no, term in terms.items() if term.has_cancellations}
    if not cancellations and not cancelling:
        return _NOTHING
    arrived = [usage.identity for usage in usages if usage.keys.mandate_no in cancelling]
    fresh, repeated, refused = await _compare(connection, cancellations)
    settled = await cancel_usage(connection, [each.cancellation for each in fresh], terms, arrived=arrived, now=now)
    claimed = []
    for each in fresh:
        if each.cancellation.identity in settled.beyond_range:
            refused.append(each.refused("AMOUNT_TOO_LARGE", BEYOND_BALANCE_MAX))
        else:
            claimed.append(UnpostedEvent.cancellation(each.mandate_no, each.event, each.cancelled, now))
    await insert_unposted(connection, claimed)
    # A second cancellation of the same usage changes nothing.
    changed = len(settled.new)
    return SettledCancellations(changed, repeated + len(claimed) - changed, refused)


async def _compare(
    connection: AsyncConnection, cancellations: Sequence[CancellationEvent]
) -> tuple[list[CancellationEvent], int, list[Refused]]:
    """Splits cancellations into those whose own id is new, the number of repeats, and those that are refused."""
    identities = list({each.identity for each in cancellations})
    known = await recorded_digests(connection, "transactions", identities)
    known |= await recorded_digests(connection, "unposted_events", identities)
    fresh, repeated, refused = [], 0, []
    for each in cancellations:
        if each.event.id == each.cancelled:
            # Else it would depend on the order of the two which of them stands.
            refused.append(each.refused("CONFLICT", "a cancellation has an id of its own"))
        elif each.identity not in known:
            known[each.identity] = each.event.digest
            fresh.append(each)
        elif known[each.identity] == each.event.digest:
            repeated += 1
        else:
            refused.append(each.refused("CONFLICT", f"event {each.event.id} was recorded with other data"))
    return fresh, repeated, refused
