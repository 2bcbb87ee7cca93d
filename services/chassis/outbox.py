"""Events to publish, written in the transaction of the fact that they report; the relay brings them to Kafka."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa
from pydantic_core import to_json
from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts.registry import EventVersion
from rappen_contracts.types import Contract
from services.chassis.database import announce, driver_connection

__all__ = ["OUTBOX", "OutboxRow", "append_outbox", "outbox_row", "outbox_table"]

# The notice that there are rows.
OUTBOX = "outbox"


class OutboxRow(NamedTuple):
    """One event on its way; the order of the fields is the order of the columns."""

    topic: str
    key: str
    type: str
    event_id: UUID
    occurred_at: datetime
    data: str
    traceparent: str | None = None


def outbox_table(metadata: sa.MetaData) -> sa.Table:
    """The table; rows are deleted once Kafka has acknowledged them, so it stays small."""
    return sa.Table(
        "outbox",
        metadata,
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("topic", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("event_id", sa.Uuid, nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("data", sa.Text, nullable=False),
        sa.Column("traceparent", sa.Text),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
    )


def outbox_row(
    event: EventVersion,
    data: Contract,
    *,
    event_id: UUID,
    occurred_at: datetime,
    key: str,
) -> OutboxRow:
    """The row of one event; an event of another model is a programming error."""
    if not isinstance(data, event.model):
        raise TypeError(f"{event.type} does not carry {type(data).__name__}")
    text = to_json(data, exclude_none=True).decode()
    return OutboxRow(event.name, key, event.type, event_id, occurred_at, text)


async def append_outbox(connection: AsyncConnection, rows: Sequence[OutboxRow]) -> None:
    """Appends rows in the caller's transaction, by one COPY whatever their number."""
    if rows:
        driver = driver_connection(connection)
        await driver.copy_records_to_table("outbox", records=rows, columns=OutboxRow._fields)
        announce(connection, OUTBOX)
