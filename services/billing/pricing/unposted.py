"""Events that are claimed without a posting: free ones, and those parked until they have a price or a rate."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg
import orjson

from rappen_contracts import Event, encode_structured
from rappen_contracts.usage.v1 import UsageRecorded
from services.billing.pricing.rating import Parked

__all__ = ["UnpostedEvent", "insert_unposted", "take_parked"]


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
    def kept(cls, row: asyncpg.Record, why: Parked, now: datetime, revision: int) -> "UnpostedEvent":
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
            now,
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


def _names(event: Event) -> tuple[str | None, str | None]:
    data = event.data
    return (data.provider, data.model) if isinstance(data, UsageRecorded) else (None, None)


async def insert_unposted(connection: asyncpg.Connection, events: Sequence[UnpostedEvent]) -> None:
    """Claims events without a posting; raises `UniqueViolationError` when one is claimed already."""
    if events:
        await connection.copy_records_to_table("unposted_events", records=events, columns=UnpostedEvent._fields)


async def take_parked(connection: asyncpg.Connection, *, own: bool, revision: int, limit: int) -> list[asyncpg.Record]:
    """Deletes and returns parked usage, or parked payments (`own`), last looked at under an older price book. It is
    part of the caller's transaction, which settles them or parks them again. Workers do not wait for each other."""
    rows: list[asyncpg.Record] = await connection.fetch(
        "DELETE FROM unposted_events WHERE (mandate_no, event_id, own) IN ("
        " SELECT mandate_no, event_id, own FROM unposted_events"
        " WHERE reason <> 'FREE' AND price_revision < $1 AND own = $3"
        " ORDER BY price_revision LIMIT $2 FOR UPDATE SKIP LOCKED)"
        " RETURNING mandate_no, event_id, digest, provider, model, occurred_at, event, own",
        revision,
        limit,
        own,
    )
    return rows
