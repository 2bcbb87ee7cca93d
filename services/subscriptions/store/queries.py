"""Reads of the store: what of the directory's copy a caller may know, and what a mandate uses."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.database import Database
from services.chassis.statements import one_of
from services.subscriptions.store.domain import OPEN
from services.subscriptions.tables import (
    activations,
    directory_feature_access,
    directory_feature_instances,
    directory_mandates,
    directory_members,
    directory_users,
    personal_mandates,
    removals,
)

__all__ = [
    "Instance",
    "MandateEntry",
    "PersonalMandate",
    "activation_state",
    "holders_of",
    "instances_in_use",
    "instances_of",
    "is_removed",
    "mandates_known",
    "personal_mandate",
    "username_of",
]

_mandate, _instance, _access = directory_mandates.c, directory_feature_instances.c, directory_feature_access.c
_activation, _removal = activations.c, removals.c


class MandateEntry(NamedTuple):
    """A mandate as the directory has it."""

    id: str
    name: str
    label: str
    enabled: bool
    is_system: bool


def _named(column: sa.ColumnElement[str | None], otherwise: sa.ColumnElement[str]) -> sa.ColumnElement[str]:
    return sa.func.coalesce(sa.func.nullif(column, ""), otherwise)


# Made once, because who waits looks again and again.
_STATE_OF = sa.select(_activation.state, _activation.failure).where(_activation.instance_id == sa.bindparam("id_"))
_NAME = _named(_mandate.name, _mandate.id)
_LABEL = _named(_mandate.label, _NAME)


async def mandates_known(connection: AsyncConnection, mandate_ids: Collection[str]) -> dict[str, MandateEntry]:
    """Which of these mandates this service knows, in the order of their ids."""
    read = (
        sa.select(_mandate.id, _NAME.label("name"), _LABEL.label("label"), _mandate.enabled, _mandate.is_system)
        .where(one_of(_mandate.id, mandate_ids))
        .order_by(_mandate.id)
    )
    return {row["id"]: MandateEntry(**row) for row in (await connection.execute(read)).mappings()}


class PersonalMandate(NamedTuple):
    """A user's personal mandate; `entered` once the directory has it with its membership, `usable` while both are
    enabled and the user administers it."""

    mandate_id: str
    entered: bool
    usable: bool


async def personal_mandate(database: Database, user_id: str) -> PersonalMandate | None:
    """The personal mandate that the user has or had; None where there never was one."""
    member = directory_members.c
    read = (
        sa.select(
            personal_mandates.c.mandate_id,
            (_mandate.id.is_not(None) & member.user_id.is_not(None)).label("entered"),
            sa.func.coalesce(
                _mandate.enabled
                & ~_mandate.is_system
                & member.enabled
                & (sa.literal("admin") == sa.any_(member.roles)),
                sa.false(),
            ).label("usable"),
        )
        .select_from(
            personal_mandates.outerjoin(directory_mandates, _mandate.id == personal_mandates.c.mandate_id).outerjoin(
                directory_members,
                sa.and_(member.mandate_id == personal_mandates.c.mandate_id, member.user_id == user_id),
            )
        )
        .where(personal_mandates.c.user_id == user_id)
    )
    async with database.reading() as connection:
        row = (await connection.execute(read)).mappings().first()
    return None if row is None else PersonalMandate(**row)


async def username_of(connection: AsyncConnection, user_id: str) -> str | None:
    """The user's name, where the directory has one."""
    read = sa.select(sa.func.nullif(directory_users.c.username, "")).where(directory_users.c.id == user_id)
    name: str | None = await connection.scalar(read)
    return name


class Instance(NamedTuple):
    """A feature instance that the user has access to."""

    id: str
    feature_code: str
    mandate_id: str
    mandate_name: str
    label: str | None
    roles: list[str]


async def instances_of(connection: AsyncConnection, user_id: str, *, instance_id: str | None = None) -> list[Instance]:
    """The user's enabled accesses to enabled instances of enabled mandates, without what is only on its way to them or
    away from them; all of them, or that to one instance."""
    on_its_way = sa.exists().where(
        sa.cast(_activation.instance_id, sa.Text) == _instance.id,
        _activation.mandate_id == _instance.mandate_id,
        _activation.state.in_(OPEN),
    )
    leaving = sa.exists().where(
        _removal.instance_id == _instance.id,
        sa.or_(_removal.user_id == user_id, _removal.instance_removed),
        _removal.done_at.is_(None),
    )
    read = (
        sa.select(
            _instance.id,
            _instance.feature_code,
            _instance.mandate_id,
            _LABEL.label("mandate_name"),
            _instance.label,
            _access.roles,
        )
        .select_from(
            directory_feature_access.join(directory_feature_instances, _instance.id == _access.instance_id).join(
                directory_mandates, _mandate.id == _instance.mandate_id
            )
        )
        .where(_access.user_id == user_id, _access.enabled, _instance.enabled, _mandate.enabled, ~on_its_way, ~leaving)
        .order_by(_LABEL, _instance.mandate_id, _instance.id)
    )
    if instance_id is not None:
        read = read.where(_instance.id == instance_id)
    return [Instance(**row) for row in (await connection.execute(read)).mappings()]


async def holders_of(connection: AsyncConnection, instance_id: str) -> dict[str, list[str]]:
    """Who has access to an instance, with their roles; without those whose access is being removed."""
    leaving = sa.exists().where(
        _removal.instance_id == instance_id, _removal.user_id == _access.user_id, _removal.done_at.is_(None)
    )
    read = sa.select(_access.user_id, _access.roles).where(
        _access.instance_id == instance_id, _access.enabled, ~leaving
    )
    return {row.user_id: row.roles for row in await connection.execute(read)}


async def instances_in_use(connection: AsyncConnection, mandate_ids: Collection[str]) -> Mapping[str, int]:
    """How many feature instances each of these mandates uses: those that the directory has enabled, and those that are
    being provisioned and that it does not have yet."""
    there = sa.select(_instance.mandate_id).where(one_of(_instance.mandate_id, mandate_ids), _instance.enabled)
    entered = sa.exists().where(_instance.id == sa.cast(_activation.instance_id, sa.Text))
    coming = sa.select(_activation.mandate_id).where(
        one_of(_activation.mandate_id, mandate_ids), _activation.state == "PROVISIONING", ~entered
    )
    used = sa.union_all(there, coming).subquery()
    counted = sa.select(used.c.mandate_id, sa.func.count().label("instances")).group_by(used.c.mandate_id)
    found = {row.mandate_id: row.instances for row in await connection.execute(counted)}
    return {mandate_id: found.get(mandate_id, 0) for mandate_id in mandate_ids}


async def activation_state(database: Database, instance_id: object) -> tuple[str, str | None]:
    """The state of an activation, and why it failed."""
    async with database.reading() as connection:
        row = (await connection.execute(_STATE_OF, {"id_": instance_id})).one()
    return row.state, row.failure


async def is_removed(database: Database, removal_id: object) -> bool:
    """Whether the directory has carried out a removal."""
    read = sa.select(_removal.done_at).where(_removal.id == removal_id)
    async with database.reading() as connection:
        return (await connection.execute(read)).scalar_one() is not None
