"""The cancellations in a batch of the charge: settled after its usage, so that their order in it does not matter."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.charging.cancel_usage import cancel_usage
from services.billing.charging.cancellation_event import CancellationEvent
from services.billing.charging.cancellations import Cancellation
from services.billing.charging.usage_events import Usage
from services.billing.ledger.domain import BEYOND_BALANCE_MAX
from services.billing.ledger.keys import ensure_mandates
from services.billing.ledger.repository import recorded_digests
from services.billing.mandates.domain import Terms
from services.billing.pricing.unposted import UnpostedEvent, insert_unposted
from services.chassis.database import begin
from services.chassis.quarantine import Refused

__all__ = ["SettledCancellations", "assign_mandates", "settle_cancellations"]


class SettledCancellations(NamedTuple):
    """What became of the cancellations of a batch: how many changed something or nothing, and what was refused."""

    cancelled: int
    repeated: int
    refused: list[Refused]


_NOTHING = SettledCancellations(0, 0, [])


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
    arrived = [(usage.keys.mandate_no, usage.id) for usage in usages if usage.keys.mandate_no in cancelling]
    fresh, repeated, refused = await _compare(connection, cancellations)
    settled = await cancel_usage(connection, [_cancellation(each) for each in fresh], terms, arrived=arrived, now=now)
    claimed = []
    for each in fresh:
        if _cancellation(each).key in settled.beyond_range:
            refused.append(each.refused("AMOUNT_TOO_LARGE", BEYOND_BALANCE_MAX))
        else:
            claimed.append(UnpostedEvent.cancellation(each.mandate_no, each.event, each.cancelled, now))
    await insert_unposted(connection, claimed)
    # A second cancellation of the same usage changes nothing.
    changed = len(settled.new)
    return SettledCancellations(changed, repeated + len(claimed) - changed, refused)


def _cancellation(event: CancellationEvent) -> Cancellation:
    return Cancellation(event.mandate_no, event.cancelled, event.reason)


async def _compare(
    connection: AsyncConnection, cancellations: Sequence[CancellationEvent]
) -> tuple[list[CancellationEvent], int, list[Refused]]:
    """Splits cancellations into those whose own id is new, the number of repeats, and those that are refused."""
    identities = list({each.identity for each in cancellations})
    known = await recorded_digests(connection, "transactions", identities)
    known |= await recorded_digests(connection, "unposted_events", identities)
    fresh, repeated, refused = [], 0, []
    for each in cancellations:
        if each.id == each.cancelled:
            # Else it would depend on the order of the two which of them stands.
            refused.append(each.refused("CONFLICT", "a cancellation has an id of its own"))
        elif each.identity not in known:
            known[each.identity] = each.event.digest
            fresh.append(each)
        elif known[each.identity] == each.event.digest:
            repeated += 1
        else:
            refused.append(each.refused("CONFLICT", f"event {each.id} was recorded with other data"))
    return fresh, repeated, refused
