"""Writes to the directory, set-based: one statement for any number of entries of a kind, and only what changes.

A version is drawn while the entry's row is locked, so that for each entry a later change has a higher version.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts.directory.v1 import DirectoryRequested
from services.chassis.database import extend_timeouts
from services.chassis.requests import LONG_ANSWER_S
from services.chassis.statements import one_of
from services.gateway import tables
from services.gateway.directory.domain.entries import Kind

__all__ = [
    "TABLES",
    "accept",
    "add_user",
    "allow_long_answer",
    "claim_request",
    "disable",
    "has_key",
    "instance_mandates",
    "is_consented",
    "lock_members",
    "missing",
    "reset_providers",
    "upsert",
]

TABLES: Mapping[str, sa.Table] = {
    "mandate": tables.mandates,
    "user": tables.users,
    "membership": tables.memberships,
    "feature_instance": tables.feature_instances,
    "feature_access": tables.feature_access,
    "provider_permissions": tables.provider_permissions,
}
# Columns that every table has and no entry shows.
_BOOKKEEPING = ("version", "changed_at")
_CHANGE: Mapping[str, Any] = {"version": tables.directory_version.next_value(), "changed_at": sa.func.now()}

Row = Mapping[str, Any]


def has_key(kind: Kind, key: Sequence[str]) -> list[sa.ColumnElement[bool]]:
    """The condition that a row has this key."""
    table = TABLES[kind.name]
    return [table.c[column] == value for column, value in zip(kind.key, key, strict=True)]


async def lock_members(connection: AsyncConnection, mandate_id: str, user_id: str) -> tuple[int, bool]:
    """How many others are enabled members of the mandate or invited to be, and whether this user is; who asks for the
    same mandate waits until the end of the transaction."""
    await connection.execute(
        sa.text("SELECT pg_advisory_xact_lock(hashtextextended('members of ' || :mandate_id, 0))"),
        {"mandate_id": mandate_id},
    )
    members = tables.memberships.c
    is_user = members.user_id == user_id
    counted = sa.select(sa.func.count().filter(~is_user), sa.func.coalesce(sa.func.bool_or(is_user), sa.false())).where(
        members.mandate_id == mandate_id, members.enabled
    )
    others, is_member = (await connection.execute(counted)).one()
    return others, is_member


async def upsert(connection: AsyncConnection, kind: Kind, rows: Sequence[Row]) -> list[Row]:
    """Makes the entries as given; returns those that are new or changed, with their versions. No key comes twice."""
    if not rows:
        return []
    table = TABLES[kind.name]
    columns = [column for column in table.columns if column.name not in _BOOKKEEPING and column.computed is None]
    given = (
        sa.func.jsonb_to_recordset(sa.literal([dict(row) for row in rows], JSONB))
        .table_valued(*(sa.column(column.name, column.type) for column in columns), name="given")
        .render_derived(with_types=True)
    )
    # Rows are locked in the order of their keys, so that two imports at once wait for each other and never in a circle.
    source = sa.select(*(given.c[column.name] for column in columns), tables.directory_version.next_value()).order_by(
        *(given.c[name] for name in kind.key)
    )
    statement = insert(table).from_select([*(column.name for column in columns), "version"], source)
    # An instance keeps its mandate: a row that names another one was refused before.
    changing = [column.name for column in columns if column.name not in {*kind.key, "mandate_id"}]
    new = statement.excluded
    values: dict[str, sa.ColumnElement[Any]] = {name: new[name] for name in changing}
    if "pending" in values:
        # An entry that was accepted meanwhile does not become an invitation again.
        values["pending"] = new.pending & (table.c.pending | ~table.c.enabled)
    differs = sa.tuple_(*(table.c[name] for name in changing)).is_distinct_from(sa.tuple_(*values.values()))
    changed = await connection.execute(
        statement.on_conflict_do_update(index_elements=kind.key, set_={**values, **_CHANGE}, where=differs).returning(
            *columns, table.c.version
        )
    )
    return sorted(map(dict, changed.mappings()), key=lambda row: row["version"])


async def disable(connection: AsyncConnection, kind: Kind, key: Sequence[str]) -> tuple[Row, bool] | None:
    """Disables one entry; returns it and whether that changed it, or None when there is no such entry."""
    table, same = TABLES[kind.name], has_key(kind, key)
    row = await _one_or_none(connection, sa.select(table).where(*same).with_for_update())
    if row is None or not row["enabled"]:
        return None if row is None else (row, False)
    ended = sa.update(table).values(enabled=False, **_CHANGE).where(*same).returning(table)
    return await _one(connection, ended), True


async def is_consented(connection: AsyncConnection, kind: Kind, row: Row, administered: Collection[str]) -> bool:
    """Whether the user of a membership or access has it already, or is a member of one of these mandates.

    Of anybody else it makes no difference whether they exist: the same statements find the same nothing.
    """
    table, member = TABLES[kind.name].c, tables.memberships.c
    standing = await connection.scalar(
        sa.select(table.enabled & ~table.pending).where(*has_key(kind, kind.key_of(row))).with_for_update()
    )
    known = sa.exists().where(
        member.user_id == row["user_id"], one_of(member.mandate_id, administered), member.enabled, ~member.pending
    )
    return bool(await connection.scalar(sa.select(known))) or bool(standing)


async def accept(connection: AsyncConnection, kind: Kind, mandate_id: str, user_id: str) -> list[Row]:
    """Makes the pending entries of a user in a mandate real; returns them."""
    table = TABLES[kind.name]
    of_user = (table.c.mandate_id == mandate_id, table.c.user_id == user_id, table.c.pending, table.c.enabled)
    accepted = await connection.execute(
        sa.update(table).values(pending=False, **_CHANGE).where(*of_user).returning(table)
    )
    return [dict(row) for row in accepted.mappings()]


async def reset_providers(connection: AsyncConnection, mandate_id: str, role: str) -> Row | None:
    """Gives a role the platform's default again; None when it has nothing else."""
    table = tables.provider_permissions
    own = (table.c.mandate_id == mandate_id, table.c.role == role, table.c.providers.is_not(None))
    if await _one_or_none(connection, sa.select(table).where(*own).with_for_update()) is None:
        return None
    return await _one(connection, sa.update(table).values(providers=None, **_CHANGE).where(*own).returning(table))


async def add_user(connection: AsyncConnection, user_id: str) -> list[Row]:
    """Enters somebody who is not in the directory yet, by the id alone; returns the new row, none where they are."""
    table = tables.users
    new = insert(table).values(id=user_id, enabled=True, version=tables.directory_version.next_value())
    added = await connection.execute(new.on_conflict_do_nothing(index_elements=[table.c.id]).returning(table))
    return [dict(row) for row in added.mappings()]


async def claim_request(connection: AsyncConnection, request: DirectoryRequested, *, now: datetime) -> bool:
    """Notes that the request is applied by this transaction; False where it was before."""
    table = tables.directory_requests
    claim = insert(table).values(
        request_id=request.request_id,
        mandate_id=request.mandate_id,
        requested_by=request.requested_by,
        cause=request.cause,
        applied_at=now,
    )
    claimed = await connection.execute(claim.on_conflict_do_nothing(index_elements=[table.c.request_id]))
    return claimed.rowcount > 0


async def missing(connection: AsyncConnection, kind: Kind, ids: Collection[str]) -> set[str]:
    """Which of the ids no entry of the kind has."""
    if not ids:
        return set()
    id_ = TABLES[kind.name].c.id
    return set(ids) - set(await connection.scalars(sa.select(id_).where(one_of(id_, ids))))


async def instance_mandates(connection: AsyncConnection, ids: Collection[str]) -> dict[str, str]:
    """The mandates of the feature instances that exist, by instance id."""
    if not ids:
        return {}
    instance = tables.feature_instances.c
    rows = await connection.execute(sa.select(instance.id, instance.mandate_id).where(one_of(instance.id, ids)))
    return {row.id: row.mandate_id for row in rows}


async def allow_long_answer(connection: AsyncConnection) -> None:
    """Lets the statements of this transaction take as long as the answer may."""
    await extend_timeouts(connection, LONG_ANSWER_S)


async def _one(connection: AsyncConnection, statement: sa.Executable) -> Row:
    return dict((await connection.execute(statement)).mappings().one())


async def _one_or_none(connection: AsyncConnection, statement: sa.Executable) -> Row | None:
    row = (await connection.execute(statement)).mappings().one_or_none()
    return None if row is None else dict(row)
