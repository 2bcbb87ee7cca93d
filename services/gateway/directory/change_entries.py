"""One entry of the directory made, changed or disabled, with its event, in one transaction."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.database import Database
from services.chassis.outbox import append_outbox
from services.gateway.directory import repository
from services.gateway.directory.domain.entries import KIND_BY_NAME, Entry, Kind
from services.gateway.directory.errors import InstanceElsewhere, MemberLimitReached, NotFound, UnknownReference
from services.gateway.directory.publications import directory_changed

__all__ = ["disable_entry", "put_entry", "reset_provider_permissions"]


async def put_entry(
    database: Database,
    kind: Kind,
    entry: Entry,
    *,
    administered: Collection[str] | None,
    members_max: int | None = None,
    cause: str,
    now: datetime,
) -> tuple[Entry, bool]:
    """Creates or changes the entry; returns it as stored, and whether an event was published. What it refers to must
    exist.

    `administered` are the mandates of an administrator of mandates, None is a system administrator. Whom the former
    does not know is invited: the entry is pending, and the user is not looked for. With `members_max` a membership is
    refused where its mandate has as many enabled members already; who is invited counts.
    """
    async with database.transaction() as connection:
        if members_max is not None:
            await _require_place(connection, entry.row(), members_max)
        row = await _with_references(connection, kind, entry.row(), administered)
        changed = await repository.upsert(connection, kind, [row])
        events = directory_changed(kind, changed, cause=cause, now=now)
        await append_outbox(connection, events)
    return kind.entry.of_row(row), bool(events)


async def disable_entry(
    database: Database, kind: Kind, key: Sequence[str], *, cause: str, now: datetime
) -> tuple[Entry, bool]:
    """Disables the entry; returns it and whether an event was published."""
    async with database.transaction() as connection:
        found = await repository.disable(connection, kind, key)
        if found is None:
            raise NotFound
        row, changed = found
        events = directory_changed(kind, [row] if changed else [], cause=cause, now=now)
        await append_outbox(connection, events)
    return kind.entry.of_row(row), bool(events)


async def reset_provider_permissions(
    database: Database, mandate_id: str, role: str, *, cause: str, now: datetime
) -> None:
    """Gives the role the platform's default providers again."""
    async with database.transaction() as connection:
        row = await repository.reset_providers(connection, mandate_id, role)
        if row is None:
            raise NotFound
        kind = KIND_BY_NAME["provider_permissions"]
        await append_outbox(connection, directory_changed(kind, [row], cause=cause, now=now))


async def _with_references(
    connection: AsyncConnection, kind: Kind, row: dict[str, Any], administered: Collection[str] | None
) -> dict[str, Any]:
    """The row with what follows from its references, each of which must exist."""
    if kind.name in ("membership", "feature_instance", "provider_permissions"):
        await _require(connection, "mandate", row["mandate_id"])
    if kind.name == "feature_instance":
        standing = await repository.instance_mandates(connection, [row["id"]])
        if standing.get(row["id"], row["mandate_id"]) != row["mandate_id"]:
            raise InstanceElsewhere
    if kind.name == "feature_access":
        mandates = await repository.instance_mandates(connection, [row["instance_id"]])
        if row["instance_id"] not in mandates:
            raise UnknownReference("feature_instance", row["instance_id"])
        row["mandate_id"] = mandates[row["instance_id"]]
    if "user_id" in kind.key:
        known = administered is None or await repository.is_consented(connection, kind, row, administered)
        if known:
            await _require(connection, "user", row["user_id"])
        row["pending"] = not known
    return row


async def _require_place(connection: AsyncConnection, row: dict[str, Any], members_max: int) -> None:
    """Refuses one more member than there may be; of who is one, anything else may change."""
    others, is_member = await repository.lock_members(connection, row["mandate_id"], row["user_id"])
    if not is_member and others >= members_max:
        raise MemberLimitReached(members_max)


async def _require(connection: AsyncConnection, kind_name: str, id_: str) -> None:
    if await repository.missing(connection, KIND_BY_NAME[kind_name], [id_]):
        raise UnknownReference(kind_name, id_)
