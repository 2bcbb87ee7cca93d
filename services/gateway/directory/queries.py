"""Reads of the directory: entries by key, lists by cursor or by page, names for many ids. Each within a view."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.database import Database
from services.chassis.lists.columns import Column, Columns, ColumnType
from services.chassis.lists.conditions import conditions_of
from services.chassis.lists.order import order_of
from services.chassis.lists.pagination import PageRequest
from services.chassis.lists.reading import list_reading
from services.chassis.statements import one_of
from services.gateway import tables
from services.gateway.directory.bodies import InvitationAnswer
from services.gateway.directory.domain.entries import KIND_BY_NAME, Entry, Kind, User
from services.gateway.directory.repository import TABLES, has_key

__all__ = [
    "View",
    "columns_of",
    "entry",
    "entry_slice",
    "instance_mandate",
    "invitation",
    "list_invitations",
    "members_of",
    "page_of_entries",
    "users_named",
]

# How long one statement of a list may take the database.
LIST_STATEMENT_S = 4.0

_Condition = sa.ColumnElement[bool]


@dataclass(frozen=True, slots=True)
class View:
    """What a list may show: the administered mandates' entries (None: all), narrowed to a mandate or a user."""

    administered: tuple[str, ...] | None
    mandate_id: str | None = None
    user_id: str | None = None


def columns_of(kind: Kind, view: View) -> Columns:
    """The columns that a list of the kind has in the view, by their JSON names."""
    table = TABLES[kind.name]
    named: dict[str, sa.ColumnElement[Any]] = {
        str(field.alias): table.c[name]
        for name, field in kind.entry.model_fields.items()
        if not _is_hidden(table.c[name], view)
    }
    if kind.name == "user":
        named["displayName"] = _display_name()
    return Columns.of(_column(name, value) for name, value in named.items())


def _column(name: str, value: sa.ColumnElement[Any]) -> Column:
    kept = value if isinstance(value, sa.Column) else None
    return Column(
        name,
        _TYPES[value.type.python_type],
        value,
        nullable=kept is not None and bool(kept.nullable),
        searchable=isinstance(value.type, sa.Text),
    )


async def entry(database: Database, kind: Kind, key: Sequence[str], view: View) -> Entry | None:
    """The entry of that key, or None when there is none in the view."""
    statement = _select(kind, view).where(*has_key(kind, key))
    async with database.reading() as connection:
        row = (await connection.execute(statement)).mappings().one_or_none()
    return None if row is None else kind.entry.of_row(dict(row))


async def entry_slice(
    database: Database, kind: Kind, view: View, *, after: Sequence[str] | None, limit: int
) -> tuple[list[Entry], bool]:
    """Up to `limit` entries behind a key, in the order of their keys, and whether there are more."""
    table = TABLES[kind.name]
    key = [table.c[column] for column in kind.key]
    statement = _select(kind, view).order_by(*key).limit(limit + 1)
    if after is not None:
        statement = statement.where(sa.tuple_(*key) > sa.tuple_(*after))
    async with database.reading() as connection:
        rows = (await connection.execute(statement)).mappings().all()
    return [kind.entry.of_row(dict(row)) for row in rows[:limit]], len(rows) > limit


async def page_of_entries(database: Database, kind: Kind, view: View, request: PageRequest) -> tuple[list[Entry], int]:
    """One page of the entries that the pagination asks for, and how many there are in all."""
    key = [TABLES[kind.name].c[column] for column in kind.key]
    columns = columns_of(kind, view)
    statement = _select(kind, view).where(*conditions_of(request.filters, request.search, columns))
    count = sa.select(sa.func.count()).select_from(statement.subquery())
    page = statement.order_by(*(term.ordered for term in order_of(request.sort, key)))
    async with list_reading(database, statement_s=LIST_STATEMENT_S) as connection:
        total = await connection.scalar(count)
        rows = await connection.execute(page.limit(request.given.page_size).offset(request.offset))
        return [kind.entry.of_row(dict(row)) for row in rows.mappings()], total or 0


async def users_named(database: Database, ids: Sequence[str], view: View) -> list[User]:
    """The users of those ids that are in the view, in id order."""
    statement = _select(KIND_BY_NAME["user"], view).where(one_of(tables.users.c.id, ids)).order_by(tables.users.c.id)
    async with database.reading() as connection:
        return [User.of_row(dict(row)) for row in (await connection.execute(statement)).mappings()]


async def members_of(database: Database, mandate_id: str) -> list[User] | None:
    """The enabled members of a mandate by what they are called; None where there is no such mandate."""
    member = tables.memberships.c
    real = sa.select(member.user_id).where(member.mandate_id == mandate_id, member.enabled, ~member.pending)
    users = _select(KIND_BY_NAME["user"], View(None)).where(tables.users.c.id.in_(real), tables.users.c.enabled)
    known = sa.select(sa.exists().where(tables.mandates.c.id == mandate_id))
    async with list_reading(database, statement_s=LIST_STATEMENT_S) as connection:
        if not await connection.scalar(known):
            return None
        rows = await connection.execute(users.order_by(_display_name(), tables.users.c.id))
        return [User.of_row(dict(row)) for row in rows.mappings()]


async def list_invitations(
    database: Database, user_id: str, *, after: str | None, limit: int
) -> tuple[list[InvitationAnswer], bool]:
    """Somebody's open invitations, up to `limit` behind a mandate, and whether more follow."""
    behind = [] if after is None else [tables.mandates.c.id > after]
    async with database.reading() as connection:
        rows = (await connection.execute(_invitations(user_id, *behind).limit(limit + 1))).mappings().all()
    return [InvitationAnswer.model_validate(dict(row)) for row in rows[:limit]], len(rows) > limit


async def invitation(connection: AsyncConnection, user_id: str, mandate_id: str) -> InvitationAnswer | None:
    """Somebody's open invitation to a mandate, or None."""
    found = await connection.execute(_invitations(user_id, tables.mandates.c.id == mandate_id))
    row = found.mappings().one_or_none()
    return None if row is None else InvitationAnswer.model_validate(dict(row))


def _invitations(user_id: str, *conditions: _Condition) -> sa.Select[Any]:
    """Rows of `InvitationAnswer`, in the order of the mandates."""
    mandate, instance = tables.mandates.c, tables.feature_instances.c
    member, access = tables.memberships.c, tables.feature_access.c
    invited = (member.user_id == user_id, member.pending, member.enabled)
    offered = (access.user_id == user_id, access.pending, access.enabled)
    name = sa.func.coalesce(sa.func.nullif(mandate.label, ""), sa.func.nullif(mandate.name, ""), mandate.id)
    roles = sa.select(member.roles).where(member.mandate_id == mandate.id, *invited).scalar_subquery()
    named = {"instanceId": instance.id, "featureCode": instance.feature_code, "label": instance.label}
    feature = sa.func.jsonb_build_object(*(part for pair in named.items() for part in pair), "roles", access.roles)
    features = (
        sa.select(sa.type_coerce(feature, JSONB))
        .select_from(tables.feature_access.join(tables.feature_instances, instance.id == access.instance_id))
        .where(instance.enabled, access.mandate_id == mandate.id, *offered)
        .order_by(instance.id)
        .correlate(tables.mandates)
    )
    asking = sa.union(sa.select(member.mandate_id).where(*invited), sa.select(access.mandate_id).where(*offered))
    return (
        sa.select(
            mandate.id.label("mandateId"),
            name.label("mandateName"),
            sa.func.coalesce(roles, sa.literal([], ARRAY(sa.Text))).label("roles"),
            sa.type_coerce(sa.func.array(features.scalar_subquery()), ARRAY(JSONB)).label("features"),
        )
        .where(mandate.enabled, mandate.id.in_(asking), *conditions)
        .order_by(mandate.id)
    )


async def instance_mandate(database: Database, instance_id: str) -> str | None:
    """The mandate of a feature instance, or None."""
    found = tables.feature_instances.c
    async with database.reading() as connection:
        mandate_id: str | None = await connection.scalar(sa.select(found.mandate_id).where(found.id == instance_id))
    return mandate_id


def _select(kind: Kind, view: View) -> sa.Select[tuple[object, ...]]:
    table = TABLES[kind.name]
    shown = [sa.null().label(column.name) if _is_hidden(column, view) else column for column in table.c]
    statement = sa.select(*shown).select_from(table)
    if kind.name == "provider_permissions":
        statement = statement.where(table.c.providers.is_not(None))
    if view.administered is not None:
        statement = statement.where(_seen_in_mandates(kind, view.administered))
    if view.mandate_id is not None:
        statement = statement.where(_in_mandates(kind, (view.mandate_id,)))
    if view.user_id is not None:
        statement = statement.where(_of_user(kind, view.user_id))
    return statement


def _is_hidden(column: sa.Column[Any], view: View) -> bool:
    """Whether the view hides the column: administrators of mandates do not see the language of a user's mails."""
    return view.administered is not None and column is tables.users.c.language


def _seen_in_mandates(kind: Kind, mandates: Sequence[str]) -> _Condition:
    """What administrators of these mandates see: of people, those who are members now, and neither former nor invited
    ones, nor those who only have access to a feature."""
    if kind.name != "user":
        return _in_mandates(kind, mandates)
    member = tables.memberships.c
    real = sa.select(member.user_id).where(one_of(member.mandate_id, mandates), member.enabled, ~member.pending)
    return TABLES[kind.name].c.id.in_(real)


def _in_mandates(kind: Kind, mandates: Sequence[str]) -> _Condition:
    """A user belongs to the mandates in which they are a member or have access to a feature, enabled or not."""
    table = TABLES[kind.name]
    if kind.name == "mandate":
        return one_of(table.c.id, mandates)
    if kind.name != "user":
        return one_of(table.c.mandate_id, mandates)
    belonging = (tables.memberships, tables.feature_access)
    return sa.or_(
        *(table.c.id.in_(sa.select(each.c.user_id).where(one_of(each.c.mandate_id, mandates))) for each in belonging)
    )


def _of_user(kind: Kind, user_id: str) -> _Condition:
    table = TABLES[kind.name]
    member, access = tables.memberships.c, tables.feature_access.c
    if kind.name == "user":
        return table.c.id == user_id
    if kind.name == "feature_instance":
        return table.c.id.in_(sa.select(access.instance_id).where(access.user_id == user_id))
    if "user_id" in table.c:
        return table.c.user_id == user_id
    mandate = table.c.id if kind.name == "mandate" else table.c.mandate_id
    return mandate.in_(sa.select(member.mandate_id).where(member.user_id == user_id))


def _display_name() -> sa.ColumnElement[Any]:
    """The SQL expression for `User.display_name`."""
    user = tables.users.c
    parts = (sa.func.nullif(user.first_name, ""), sa.func.nullif(user.last_name, ""))
    full = sa.func.nullif(sa.func.btrim(sa.func.concat_ws(" ", *parts)), "")
    return sa.func.coalesce(full, sa.func.nullif(user.username, ""), user.id, type_=sa.Text())


_TYPES: dict[type, ColumnType] = {str: "text", bool: "flag", list: "ids"}
