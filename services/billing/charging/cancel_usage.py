"""Cancelling usage, whichever way it is asked for: before or after the usage arrives, once, never an edit."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.charging.cancellations import (
    Cancellation,
    EventKey,
    insert_cancellations,
    read_cancellations,
    unpark,
)
from services.billing.charging.reversals import LockedTerms, reverse_charges
from services.billing.mandates.repository import mark_cancellations
from services.billing.storage.keep_reports import resume_reports

__all__ = ["CancelledUsage", "cancel_usage"]


class CancelledUsage(NamedTuple):
    """The usage that is cancelled from now on, and that of which nothing was done, because what was charged for it
    cannot be given back: a balance would leave the ledger's range."""

    new: set[EventKey]
    beyond_range: set[EventKey]


async def cancel_usage(
    connection: AsyncConnection,
    asked: Sequence[Cancellation],
    mandates: Mapping[int, LockedTerms],
    *,
    arrived: Collection[EventKey] = (),
    now: datetime,
) -> CancelledUsage:
    """Cancels usage in the caller's transaction, which has locked the mandates of all of it.

    What was charged is taken back, what waits for a price leaves the parking place, and what has not arrived is
    remembered; `arrived` is usage that this transaction has recorded, which may have been cancelled before. Usage that
    is cancelled already stays as it is, with the reason that was given first. Raises `Contended`, so that it is begun
    again, where parked usage is being priced.
    """
    known = await read_cancellations(connection, {*arrived, *(each.key for each in asked)})
    fresh: dict[EventKey, Cancellation] = {}
    for each in asked:
        if each.key not in known:
            fresh.setdefault(each.key, each)
    # What has arrived was paid in this transaction, so it comes first: its account has room for it.
    due = {key: known[key] for key in arrived if key in known} | fresh
    await unpark(connection, due)
    beyond_range = await reverse_charges(connection, due, mandates, now=now)
    kept = [each for key, each in fresh.items() if key not in beyond_range]
    if kept:
        await insert_cancellations(connection, kept, now)
        await mark_cancellations(connection, {each.mandate_no for each in kept})
        await resume_reports(connection, [each.key for each in kept])
    return CancelledUsage({each.key for each in kept}, beyond_range)
