"""Writes to the directory, set-based: one statement for any number of entries of a kind, and only what changes.

A version is drawn while the entry's row is locked, so that for each entry a later change has a higher version.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import asyncpg
import orjson
import sqlalchemy as sa

from services.gateway import tables
from services.gateway.domain.entries import Kind

__all__ = ["accept", "disable", "instance_mandates", "is_consented", "missing", "reset_providers", "upsert"]

TABLES: Mapping[str, sa.Table] = {
    "mandate": tables.mandates,
    "user": tables.users,
    "membership": tables.memberships,
    "feature_instance": tables.feature_instances,
    "feature_access": tables.feature_access,
    "provider_permissions": tables.provider_permissions,
}
# What is the same in every table and never in an entry.
_BOOKKEEPING = ("version", "changed_at")

Row = Mapping[str, Any]


async def upsert(connection: asyncpg.Connection, kind: Kind, rows: Sequence[Row]) -> list[Row]:
    """Makes the entries as given; returns those that are new or changed, with their versions. No key comes twice."""
    if not rows:
        return []
    table = TABLES[kind.name]
    columns = [column for column in table.columns if column.name not in _BOOKKEEPING and column.computed is None]
    names = ", ".join(column.name for column in columns)
    types = ", ".join(f"{column.name} {_TYPES[column.type.python_type]}" for column in columns)
    # An instance keeps its mandate: a row that names another one was refused before.
    changing = [column.name for column in columns if column.name not in {*kind.key, "mandate_id"}]
    key = ", ".join(kind.key)
    kept = ", ".join(f"kept.{name}" for name in changing)
    # What is real meanwhile does not become an invitation again.
    values = {name: f"excluded.{name}" for name in changing}
    if "pending" in values:
        values["pending"] = "(excluded.pending AND (kept.pending OR NOT kept.enabled))"
    given = ", ".join(values.values())
    changes = ", ".join(f"{name} = {value}" for name, value in values.items())
    # Names come from our own tables, never from a caller. Rows are locked in the order of their keys, so that two
    # imports at once wait for each other and never in a circle.
    statement = f"""
        INSERT INTO {table.name} AS kept ({names}, version)
        SELECT {names}, nextval('directory_version')
        FROM jsonb_to_recordset($1::jsonb) AS given ({types}) ORDER BY {key}
        ON CONFLICT ({key}) DO UPDATE SET {changes}, version = nextval('directory_version'), changed_at = now()
        WHERE ROW({kept}) IS DISTINCT FROM ROW({given})
        RETURNING {names}, version"""
    changed: list[Row] = await connection.fetch(statement, orjson.dumps([dict(row) for row in rows]).decode())
    return sorted(changed, key=lambda row: row["version"])


async def disable(connection: asyncpg.Connection, kind: Kind, key: Sequence[str]) -> tuple[Row, bool] | None:
    """Disables one entry; returns it and whether that changed it, or None when there is no such entry."""
    table = TABLES[kind.name].name
    where = " AND ".join(f"{column} = ${number}" for number, column in enumerate(kind.key, 1))
    row = await connection.fetchrow(f"SELECT * FROM {table} WHERE {where} FOR UPDATE", *key)
    if row is None:
        return None
    if not row["enabled"]:
        return row, False
    changed = await connection.fetchrow(
        f"UPDATE {table} SET enabled = false, version = nextval('directory_version'), changed_at = now()"
        f" WHERE {where} RETURNING *",
        *key,
    )
    return changed, True


async def is_consented(connection: asyncpg.Connection, kind: Kind, row: Row, administered: Collection[str]) -> bool:
    """Whether the user of a membership or access has it already, or is a member of one of these mandates.

    Of anybody else it makes no difference whether they exist: the same statements find the same nothing.
    """
    key = kind.key_of(row)
    where = " AND ".join(f"{column} = ${number}" for number, column in enumerate(kind.key, 1))
    standing = await connection.fetchval(
        f"SELECT enabled AND NOT pending FROM {TABLES[kind.name].name} WHERE {where} FOR UPDATE", *key
    )
    member = await connection.fetchval(
        "SELECT EXISTS (SELECT FROM memberships"
        " WHERE user_id = $1 AND mandate_id = ANY ($2) AND enabled AND NOT pending)",
        row["user_id"],
        list(administered),
    )
    return bool(standing) or bool(member)


async def accept(connection: asyncpg.Connection, kind: Kind, mandate_id: str, user_id: str) -> list[Row]:
    """Makes the pending entries of a user in a mandate real; returns them."""
    accepted: list[Row] = await connection.fetch(
        f"UPDATE {TABLES[kind.name].name} SET pending = false, version = nextval('directory_version'),"
        " changed_at = now() WHERE mandate_id = $1 AND user_id = $2 AND pending AND enabled RETURNING *",
        mandate_id,
        user_id,
    )
    return accepted


async def reset_providers(connection: asyncpg.Connection, mandate_id: str, role: str) -> Row | None:
    """Gives a role the platform's default again; None when it has nothing else."""
    key = (mandate_id, role)
    where = "mandate_id = $1 AND role = $2 AND providers IS NOT NULL"
    if await connection.fetchrow(f"SELECT FROM provider_permissions WHERE {where} FOR UPDATE", *key) is None:
        return None
    changed: Row | None = await connection.fetchrow(
        "UPDATE provider_permissions SET providers = NULL, version = nextval('directory_version'), changed_at = now()"
        f" WHERE {where} RETURNING *",
        *key,
    )
    return changed


async def missing(connection: asyncpg.Connection, kind: Kind, ids: Collection[str]) -> set[str]:
    """Which of the ids no entry of the kind has."""
    if not ids:
        return set()
    table = TABLES[kind.name].name
    rows = await connection.fetch(
        f"SELECT id FROM unnest($1::text[]) AS given (id) WHERE NOT EXISTS"
        f" (SELECT FROM {table} AS kept WHERE kept.id = given.id)",
        list(ids),
    )
    return {row["id"] for row in rows}


async def instance_mandates(connection: asyncpg.Connection, ids: Collection[str]) -> dict[str, str]:
    """The mandates of the feature instances that exist, by instance id."""
    if not ids:
        return {}
    rows = await connection.fetch("SELECT id, mandate_id FROM feature_instances WHERE id = ANY($1)", list(ids))
    return {row["id"]: row["mandate_id"] for row in rows}


_TYPES = {str: "text", bool: "boolean", list: "text[]"}
