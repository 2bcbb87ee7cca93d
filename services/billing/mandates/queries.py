"""Reads of mandates: settings, names, whether somebody is a member."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import asyncpg

from services.billing.ledger.keys import ensure_mandates
from services.billing.mandates.errors import MandateUnknown
from services.billing.mandates.repository import USABLE_PERCENT

__all__ = [
    "count_unknown",
    "display_name",
    "ensure_known",
    "is_member",
    "markup_in_force",
    "read_settings",
    "unknown_usage",
]

# G3: label, else name, else id.
DISPLAY_NAME = "coalesce(nullif(dm.label, ''), nullif(dm.name, ''), m.id)"


def display_name(label: str | None, name: str | None, mandate_id: str) -> str:
    """How a mandate is called."""
    return label or name or mandate_id


async def ensure_known(connection: asyncpg.Connection, mandate_id: str) -> int:
    """The number of a mandate that the directory knows; its settings are made where they are missing.

    What only usage has named is no mandate yet: nobody sets its terms or gives it money, and it is listed as unknown.
    """
    row = await connection.fetchrow(
        "SELECT m.no FROM directory_mandates d LEFT JOIN mandates m ON m.id = d.id WHERE d.id = $1", mandate_id
    )
    if row is None:
        raise MandateUnknown
    if row["no"] is not None:
        return int(row["no"])
    return (await ensure_mandates(connection, [mandate_id]))[mandate_id]


async def read_settings(connection: asyncpg.Connection, mandate_no: int, *, lock: bool = False) -> asyncpg.Record:
    """The row of a mandate's settings."""
    return await connection.fetchrow(
        "SELECT * FROM mandates WHERE no = $1" + (" FOR UPDATE" if lock else ""), mandate_no
    )


async def markup_in_force(connection: asyncpg.Connection, mandate_no: int, default: Decimal) -> Decimal:
    """P4: the mandate's percent, else the plan's, else the platform's."""
    own, of_plan = USABLE_PERCENT.format("markup_percent"), USABLE_PERCENT.format("plan_markup_percent")
    percent: Decimal = await connection.fetchval(
        f"SELECT coalesce({own}, {of_plan}, $2) FROM mandates WHERE no = $1",
        mandate_no,
        default,
    )
    return percent


async def is_member(connection: asyncpg.Connection, mandate_id: str, user_id: str) -> bool:
    """Whether somebody is an enabled member."""
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
    """How many `unknown_usage` would list."""
    count: int = await connection.fetchval(f"SELECT count(*) FROM {_ACCOUNTS} WHERE {_UNKNOWN}")
    return count


async def unknown_usage(connection: asyncpg.Connection, *, limit: int) -> Sequence[dict[str, Any]]:
    """L5: mandates and members with usage that the directory does not know."""
    rows = await connection.fetch(
        "SELECT m.id AS mandate_id, a.user_id, dm.id IS NULL AS mandate_unknown,"
        " coalesce(sum(r.count), 0)::bigint AS usage_count"
        f" FROM {_ACCOUNTS} LEFT JOIN rollups r ON r.mandate_no = a.mandate_no AND r.account_no = a.no"
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
