"""Reads of what a correction is about: the charge, and what became of usage that was cancelled."""

from typing import Literal, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.tables import accounts, cancellations, mandates, transactions, unposted_events

__all__ = ["UsageState", "find_number", "find_reversal", "find_transaction", "read_reason", "read_state"]

# What became of cancelled usage: its charge was taken back, it was free, it waited for a price and never gets one, or
# it has not arrived.
UsageState = Literal["reversed", "free", "unpriced", "awaited"]


class Place(NamedTuple):
    """Where a row stands: its account and its number in that account's chain."""

    account_no: int
    seq: int


async def find_number(connection: AsyncConnection, mandate_id: str) -> int | None:
    """The number of a mandate that has books, whether or not the directory knows it."""
    number: int | None = await connection.scalar(sa.select(mandates.c.no).where(mandates.c.id == mandate_id))
    return number


async def find_transaction(connection: AsyncConnection, account_no: int, seq: int) -> sa.RowMapping | None:
    """The mandate and event of a row, and whether it is a charge of usage; None where there is no such row."""
    columns = transactions.c
    is_charge = sa.and_(~columns.own, columns.contra_account == "REVENUE", columns.transaction_type == "DEBIT")
    read = (
        sa.select(columns.mandate_no, columns.event_id, is_charge.label("is_charge"))
        .select_from(accounts.join(transactions, columns.mandate_no == accounts.c.mandate_no))
        .where(accounts.c.no == account_no, columns.posted_account_no == account_no, columns.seq == seq)
    )
    return (await connection.execute(read)).mappings().one_or_none()


async def find_reversal(connection: AsyncConnection, mandate_no: int, reversal: UUID) -> Place | None:
    """The row that takes a charge back, by the id that is made for it."""
    columns = transactions.c
    read = sa.select(columns.posted_account_no, columns.seq)
    found = (
        await connection.execute(
            read.where(columns.mandate_no == mandate_no, columns.event_id == reversal, columns.own)
        )
    ).one_or_none()
    return None if found is None else Place(*found)


async def read_state(connection: AsyncConnection, mandate_no: int, event_id: UUID) -> UsageState:
    """What became of usage that is cancelled and not reversed."""
    columns = unposted_events.c
    read = sa.select(columns.reason).where(columns.mandate_no == mandate_no, columns.event_id == event_id, ~columns.own)
    states: dict[str | None, UsageState] = {"FREE": "free", "CANCELLED": "unpriced"}
    return states.get(await connection.scalar(read), "awaited")


async def read_reason(connection: AsyncConnection, mandate_no: int, event_id: UUID) -> str:
    """Why usage was cancelled, as it was said first."""
    columns = cancellations.c
    read = sa.select(columns.reason).where(columns.mandate_no == mandate_no, columns.event_id == event_id)
    reason: str = (await connection.execute(read)).scalar_one()
    return reason
