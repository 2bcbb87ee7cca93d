"""Reads of mandates: settings, names, whether somebody is a member."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import asyncpg
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.mandates.repository import USABLE_PERCENT
from services.billing.tables import mandates
from services.chassis.database import Database, driver_connection

__all__ = [
    "count_unknown",
    "display_name",
    "is_member",
    "list_unknown",
    "markup_in_force",
    "read_settings",
]

UNKNOWN_MAX = 1000

# Label, else name, else id.
DISPLAY_NAME = "coalesce(nullif(dm.label, ''), nullif(dm.name, ''), m.id)"


def display_name(label: str | None, name: str | None, mandate_id: str) -> str:
    """The name to show: label, else name, else id."""
    return label or name or mandate_id


async def read_settings(connection: asyncpg.Connection, mandate_no: int) -> asyncpg.Record:
    """The mandate's row, with its settings; `lock` holds it until the transaction ends."""
    return await connection.fetchrow("SELECT * FROM mandates WHERE no = $1", mandate_no)


async def markup_in_force(connection: AsyncConnection, mandate_no: int, default: Decimal) -> Decimal:
    """The mandate's percent, else the plan's, else the platform's; one that cannot be computed with counts as none."""
    own: sa.ColumnElement[Decimal] = sa.literal_column(USABLE_PERCENT.format("markup_percent"), sa.Numeric)
    of_plan: sa.ColumnElement[Decimal] = sa.literal_column(USABLE_PERCENT.format("plan_markup_percent"), sa.Numeric)
    read = sa.select(sa.func.coalesce(own, of_plan, default)).select_from(mandates).where(mandates.c.no == mandate_no)
    return (await connection.execute(read)).scalar_one()


async def is_member(connection: asyncpg.Connection, mandate_id: str, user_id: str) -> bool:
    """Whether the user is an enabled member of the mandate."""
    found: bool = await connection.fetchval(
        "SELECT EXISTS (SELECT 1 FROM directory_members WHERE mandate_id = $1 AND user_id = $2 AND enabled)",
        mandate_id,
        user_id,
    )
    return found


_ACCOUNTS = (
    "accounts a JOIN mandates m ON m.no = a.mandate_no"
    " LEFT JOIN directory_mandates dm ON dm.id = m.id"
    " LEFT JOIN directory_members s ON s.mandate_id = m.id AND s.user_id = a.user_id"
)
_UNKNOWN = "a.type = 'USER' AND (dm.id IS NULL OR s.user_id IS NULL)"


async def count_unknown(connection: asyncpg.Connection) -> int:
    """How many `list_unknown` could list."""
    count: int = await connection.fetchval(f"SELECT count(*) FROM {_ACCOUNTS} WHERE {_UNKNOWN}")
    return count


async def list_unknown(database: Database, *, limit: int = UNKNOWN_MAX) -> Sequence[dict[str, Any]]:
    """Mandates and members with usage that the directory does not know."""
    async with database.reading() as connection:
        rows = await driver_connection(connection).fetch(
            "SELECT m.id AS mandate_id, a.user_id, dm.id IS NULL AS mandate_unknown,"
            " coalesce(sum(r.count), 0)::bigint AS usage_count"
            f" FROM {_ACCOUNTS} LEFT JOIN rollups r ON r.mandate_no = a.mandate_no AND r.member_account_no = a.no"
            f" WHERE {_UNKNOWN} GROUP BY 1, 2, 3 ORDER BY 1, 2 LIMIT $1",
            limit,
        )
    return [
        {
            "mandateId": row["mandate_id"],
            "userId": row["user_id"],
            "mandateUnknown": row["mandate_unknown"],
            "usageCount": row["usage_count"],
        }
        for row in rows
    ]
