"""Events that are claimed without a posting: free ones, those parked until they have a price or a rate, and those by
which usage was cancelled."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import orjson
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts import Event, encode_structured
from rappen_contracts.usage.v1 import UsageRecorded
from services.billing.pricing.rating import Parked
from services.billing.tables import unposted_events
from services.chassis.database import driver_connection

__all__ = ["UnpostedEvent", "insert_unposted", "take_parked", "waiting"]

# Of events that are claimed for good; all others wait.
_SETTLED = ("FREE", "CANCELLED", "CANCELLATION")


class UnpostedEvent(NamedTuple):
    """A row of `unposted_events`; the fields are its columns."""

    mandate_no: int
    event_id: UUID
    digest: bytes
    reason: str
    detail: str
    currency: str | None
    provider: str | None
    model: str | None
    occurred_at: datetime
    recorded_at: datetime
    event: str | None
    price_revision: int
    # A payment, whose id no publisher of usage can name.
    own: bool = False

    @classmethod
    def parked(cls, mandate_no: int, event: Event, why: Parked, now: datetime, revision: int) -> "UnpostedEvent":
        """Usage or a payment that waits for a price or a rate, kept whole."""
        text = orjson.dumps(encode_structured(event)).decode()
        return cls(
            mandate_no,
            event.id,
            event.digest,
            why.reason,
            why.detail,
            why.currency,
            *_names(event),
            event.time,
            now,
            text,
            revision,
            not isinstance(event.data, UsageRecorded),
        )

    @classmethod
    def kept(cls, row: sa.RowMapping, why: Parked, revision: int) -> "UnpostedEvent":
        """A row of `take_parked` as it was, parked for another reason; nothing of the event need be readable."""
        return cls(
            row["mandate_no"],
            row["event_id"],
            row["digest"],
            why.reason,
            why.detail,
            why.currency,
            row["provider"],
            row["model"],
            row["occurred_at"],
            row["recorded_at"],
            row["event"],
            revision,
            row["own"],
        )

    @classmethod
    def free(cls, mandate_no: int, event: Event, now: datetime, revision: int) -> "UnpostedEvent":
        """Usage that cost exactly nothing."""
        return cls(
            mandate_no, event.id, event.digest, "FREE", "", None, *_names(event), event.time, now, None, revision
        )

    @classmethod
    def cancellation(cls, mandate_no: int, event: Event, cancelled: UUID, now: datetime) -> "UnpostedEvent":
        """The event by which usage was cancelled, so that its own id is not taken for something else."""
        return cls(
            mandate_no,
            event.id,
            event.digest,
            "CANCELLATION",
            str(cancelled),
            None,
            *_names(event),
            event.time,
            now,
            None,
            0,
        )


def _names(event: Event) -> tuple[str | None, str | None]:
    data = event.data
    return (data.provider, data.model) if isinstance(data, UsageRecorded) else (None, None)


async def insert_unposted(connection: AsyncConnection, events: Sequence[UnpostedEvent]) -> None:
    """Claims events without a posting; raises `UniqueViolationError` when one is claimed already."""
    if events:
        driver = driver_connection(connection)
        await driver.copy_records_to_table("unposted_events", records=events, columns=UnpostedEvent._fields)


def waiting(events: sa.FromClause) -> sa.ColumnElement[bool]:
    """Whether a row of `unposted_events`, or of an alias of it, is parked. The reasons are written out, because a plan
    for any values could not use the index of parked events."""
    return events.c.reason.not_in([sa.literal_column(f"'{reason}'") for reason in _SETTLED])


async def take_parked(connection: AsyncConnection, *, own: bool, revision: int, limit: int) -> Sequence[sa.RowMapping]:
    """Deletes and returns parked usage, or parked payments (`own`), last looked at under an older price book. It is
    part of the caller's transaction, which settles them or parks them again. Workers do not wait for each other."""
    unposted = unposted_events.alias("parked")
    taken, parked = unposted_events.c, unposted.c
    to_look_at = sa.and_(waiting(unposted), parked.price_revision < revision)
    identities = (
        sa.select(parked.mandate_no, parked.event_id, parked.own)
        .where(to_look_at, parked.own == own)
        .order_by(parked.price_revision)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    take = sa.delete(unposted_events).where(sa.tuple_(taken.mandate_no, taken.event_id, taken.own).in_(identities))
    kept = (taken.digest, taken.provider, taken.model, taken.occurred_at, taken.recorded_at, taken.event)
    rows = await connection.execute(take.returning(taken.mandate_no, taken.event_id, taken.own, *kept))
    return rows.mappings().all()
