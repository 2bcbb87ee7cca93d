"""Reads of mandates: settings, names, whether somebody is a member."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.mandates.repository import USABLE_PERCENT
from services.billing.tables import accounts, directory_mandates, directory_members, mandates, rollups
from services.chassis.database import Database
from services.chassis.statements import one_of

__all__ = [
    "count_unknown",
    "display_name",
    "enabled_mandates",
    "enabled_members",
    "find_mandate",
    "is_member",
    "list_unknown",
    "mandate_exists",
    "markup_in_force",
    "read_settings",
]

UNKNOWN_MAX = 1000


def display_name(label: str | None, name: str | None, mandate_id: str) -> str:
    """The name to show: label, else name, else id."""
    return label or name or mandate_id


async def find_mandate(connection: AsyncConnection, mandate_id: str) -> tuple[bool, int | None]:
    """Whether the directory knows the mandate, and its number if it has one already."""
    read = sa.select(mandates.c.no).select_from(
        directory_mandates.outerjoin(mandates, mandates.c.id == directory_mandates.c.id)
    )
    row = (await connection.execute(read.where(directory_mandates.c.id == mandate_id))).first()
    return (False, None) if row is None else (True, row.no)


async def mandate_exists(connection: AsyncConnection, mandate_id: str) -> bool:
    """Whether the directory knows the mandate, or usage has made books for it."""
    in_directory = sa.exists().where(directory_mandates.c.id == mandate_id)
    in_books = sa.exists().where(mandates.c.id == mandate_id)
    return bool(await connection.scalar(sa.select(sa.or_(in_directory, in_books))))


async def read_settings(connection: AsyncConnection, mandate_no: int) -> sa.RowMapping:
    """The mandate's row, with its settings."""
    return (await connection.execute(sa.select(mandates).where(mandates.c.no == mandate_no))).mappings().one()


async def markup_in_force(connection: AsyncConnection, mandate_no: int, default: Decimal) -> Decimal:
    """The mandate's percent, else the plan's, else the platform's; one that cannot be computed with counts as none."""
    own: sa.ColumnElement[Decimal] = sa.literal_column(USABLE_PERCENT.format("markup_percent"), sa.Numeric)
    of_plan: sa.ColumnElement[Decimal] = sa.literal_column(USABLE_PERCENT.format("plan_markup_percent"), sa.Numeric)
    read = sa.select(sa.func.coalesce(own, of_plan, default)).select_from(mandates).where(mandates.c.no == mandate_no)
    return (await connection.execute(read)).scalar_one()


async def is_member(connection: AsyncConnection, mandate_id: str, user_id: str) -> bool:
    """Whether the user is an enabled member of the mandate."""
    members = directory_members.c
    found = sa.and_(members.mandate_id == mandate_id, members.user_id == user_id, members.enabled)
    return bool(await connection.scalar(sa.select(sa.exists().where(found))))


async def enabled_mandates(connection: AsyncConnection) -> list[str]:
    """The ids of all mandates that are enabled in the directory, in their order."""
    read = sa.select(directory_mandates.c.id).where(directory_mandates.c.enabled)
    return list(await connection.scalars(read.order_by(directory_mandates.c.id)))


async def enabled_members(connection: AsyncConnection, mandate_ids: Sequence[str]) -> list[tuple[str, str]]:
    """The enabled members of mandates, as (mandate, user)."""
    members = directory_members.c
    read = sa.select(members.mandate_id, members.user_id).where(
        members.enabled, one_of(members.mandate_id, mandate_ids)
    )
    return [(row.mandate_id, row.user_id) for row in await connection.execute(read)]


_ACCOUNTS = (
    accounts.join(mandates, mandates.c.no == accounts.c.mandate_no)
    .outerjoin(directory_mandates, directory_mandates.c.id == mandates.c.id)
    .outerjoin(
        directory_members,
        sa.and_(directory_members.c.mandate_id == mandates.c.id, directory_members.c.user_id == accounts.c.user_id),
    )
)
_UNKNOWN = sa.and_(
    accounts.c.type == "USER", sa.or_(directory_mandates.c.id.is_(None), directory_members.c.user_id.is_(None))
)


async def count_unknown(connection: AsyncConnection) -> int:
    """How many `list_unknown` could list."""
    counted = await connection.execute(sa.select(sa.func.count()).select_from(_ACCOUNTS).where(_UNKNOWN))
    return counted.scalar_one()


async def list_unknown(database: Database, *, limit: int = UNKNOWN_MAX) -> Sequence[dict[str, Any]]:
    """Mandates and members with usage that the directory does not know."""
    of_account = sa.and_(rollups.c.mandate_no == accounts.c.mandate_no, rollups.c.member_account_no == accounts.c.no)
    mandate, user, mandate_unknown = mandates.c.id, accounts.c.user_id, directory_mandates.c.id.is_(None)
    usage_count = sa.cast(sa.func.coalesce(sa.func.sum(rollups.c.count), 0), sa.BigInteger)
    read = (
        sa.select(
            mandate.label("mandateId"),
            user.label("userId"),
            mandate_unknown.label("mandateUnknown"),
            usage_count.label("usageCount"),
        )
        .select_from(_ACCOUNTS.outerjoin(rollups, of_account))
        .where(_UNKNOWN)
        .group_by(mandate, user, mandate_unknown)
        .order_by(mandate, user)
        .limit(limit)
    )
    async with database.reading() as connection:
        return [dict(row) for row in (await connection.execute(read)).mappings()]
