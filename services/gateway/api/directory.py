"""The directory: six kinds of entries, each listed, read, put and disabled; the import; names for many ids.

A system administrator does everything. A mandate administrator reads what belongs to their mandates and changes the
memberships and feature accesses there, nothing else; whom they do not know they invite, and learn nothing by it.
"""

from collections.abc import Sequence
from typing import Any

from fastapi import Response
from pydantic import ValidationError

from services.chassis.caller import Caller, Forbidden
from services.chassis.clock import Clock
from services.chassis.database import Database
from services.chassis.exact_json import ExactJsonResponse
from services.chassis.problems import request_id_of
from services.chassis.readers import Readers
from services.gateway import queries
from services.gateway.api.bodies import read_body, read_model, read_object
from services.gateway.api.directory_lists import list_entries
from services.gateway.api.directory_operations import (
    CHANGED_BY_MANDATE_ADMINS,
    IMPORT,
    IMPORT_BODY,
    LOOKUP,
    LOOKUP_BODY,
    delete_operation,
    get_operation,
    list_operation,
    put_operation,
)
from services.gateway.api.documents.directory import ListQuery, Lookup
from services.gateway.api.operations import Body, Call, Surface, refusal
from services.gateway.domain.entries import KIND_BY_NAME, KINDS, Entry, Kind
from services.gateway.domain.roles import RoleNames
from services.gateway.errors import AmbiguousEntry, NotFound, UnknownRoleNamed
from services.gateway.publications import TOPIC
from services.gateway.queries import View
from services.gateway.use_cases.change_directory import disable_entry, put_entry, reset_provider_permissions
from services.gateway.use_cases.import_directory import import_directory

__all__ = ["add_directory"]


def add_directory(
    surface: Surface, *, database: Database, readers: Readers, clock: Clock, page_size_max: int, roles: RoleNames
) -> None:
    """Serves the whole directory."""
    changes = _Changes(database, readers, clock, roles)
    for kind in KINDS:
        _add_reads(surface, kind, database, page_size_max)
        _add_changes(surface, kind, changes)

    async def lookup(call: Call) -> Response:
        view = view_of(call.caller)
        given = await read_model(call.request, LOOKUP_BODY, Lookup)
        async with database.reading() as connection:
            users = await queries.users_named(connection, KIND_BY_NAME["user"], given.ids, view)
        items = [{"id": user.id, "username": user.username, "displayName": user.display_name} for user in users]
        return ExactJsonResponse({"items": items})

    async def import_all(call: Call) -> Response:
        lines, changed = await changes.take_import(call)
        return ExactJsonResponse({"lines": lines, "changed": changed})

    surface.add(LOOKUP, lookup)
    surface.add(IMPORT, import_all)


def view_of(caller: Caller, query: ListQuery | None = None) -> View:
    """What the caller may see of the directory; refuses who administers nothing, and a mandate that is not theirs."""
    mandate_id, user_id = (query.mandate_id, query.user_id) if query is not None else (None, None)
    if caller.system_admin:
        return View(None, mandate_id, user_id)
    if not caller.administered:
        raise Forbidden
    if mandate_id is not None:
        caller.require_admin(mandate_id)
    return View(tuple(caller.administered), mandate_id, user_id)


class _Changes:
    """Changes, after which every service has read them before the caller is answered."""

    def __init__(self, database: Database, readers: Readers, clock: Clock, roles: RoleNames) -> None:
        self._database = database
        self._readers = readers
        self._clock = clock
        self._roles = roles

    async def put(self, call: Call, kind: Kind, entry: Entry) -> Entry:
        unknown = self._roles.unknown(kind.name, entry.row())
        if unknown is not None:
            raise UnknownRoleNamed(unknown)
        administered = None if call.caller.system_admin else call.caller.administered
        cause, now = request_id_of(call.request), self._clock()
        stands, told = await put_entry(self._database, kind, entry, administered=administered, cause=cause, now=now)
        await self._settle(told)
        return stands

    async def disable(self, call: Call, kind: Kind, key: Sequence[str]) -> Entry:
        cause, now = request_id_of(call.request), self._clock()
        entry, told = await disable_entry(self._database, kind, key, cause=cause, now=now)
        await self._settle(told)
        return entry

    async def reset_providers(self, call: Call, mandate_id: str, role: str) -> None:
        cause, now = request_id_of(call.request), self._clock()
        await reset_provider_permissions(self._database, mandate_id, role, cause=cause, now=now)
        await self._settle(told=True)

    async def take_import(self, call: Call) -> tuple[int, int]:
        body = await read_body(call.request, IMPORT_BODY)
        cause, now = request_id_of(call.request), self._clock()
        lines, changed = await import_directory(self._database, body, roles=self._roles, cause=cause, now=now)
        await self._settle(told=changed > 0)
        return lines, changed

    async def require(self, caller: Caller, kind: Kind, key: Sequence[str]) -> None:
        """Refuses who may not change this entry, and tells a stranger nothing about a feature instance."""
        if caller.system_admin:
            return
        if kind.name not in CHANGED_BY_MANDATE_ADMINS or not caller.administered:
            raise Forbidden
        mandate_id: str | None = key[0]
        if kind.name == "feature_access":
            async with self._database.reading() as connection:
                mandate_id = await queries.instance_mandate(connection, key[0])
        if mandate_id is None or not caller.mandates.get(mandate_id, False):
            raise Forbidden

    async def _settle(self, told: bool) -> None:
        if told:
            await self._readers.caught_up(TOPIC)


def _add_reads(surface: Surface, kind: Kind, database: Database, page_size_max: int) -> None:
    async def list_all(call: Call) -> Response:
        view = view_of(call.caller, call.query)
        return await list_entries(database, kind, view, call.query, page_size_max=page_size_max)

    async def get_one(call: Call) -> Response:
        view = view_of(call.caller)
        key = list(call.path.values())
        if kind.name == "mandate" or kind.key[0] == "mandate_id":
            call.caller.require_admin(key[0])
        async with database.reading() as connection:
            entry = await queries.entry(connection, kind, key, view)
        if entry is None:
            raise NotFound
        return _answer(entry)

    surface.add(list_operation(kind), list_all)
    surface.add(get_operation(kind), get_one)


def _add_changes(surface: Surface, kind: Kind, changes: _Changes) -> None:
    put_description = put_operation(kind)
    body = put_description.body or Body(kind.body)

    async def put(call: Call) -> Response:
        await changes.require(call.caller, kind, list(call.path.values()))
        entry = _entry(kind, await read_object(call.request, body), call.path)
        return _answer(await changes.put(call, kind, entry))

    async def delete(call: Call) -> Response:
        key = list(call.path.values())
        await changes.require(call.caller, kind, key)
        if kind.name == "provider_permissions":
            await changes.reset_providers(call, *key)
            return ExactJsonResponse({**call.path, "providers": None})
        return _answer(await changes.disable(call, kind, key))

    surface.add(put_description, put)
    surface.add(delete_operation(kind), delete)


def _entry(kind: Kind, body: dict[str, Any], path: dict[str, str]) -> Entry:
    """The entry of the path with what the body says; an entry that was read may be sent back as it was."""
    for name, value in path.items():
        if body.get(name, value) != value:
            raise AmbiguousEntry(name)
    try:
        # Whether it is an invitation is for the directory to say.
        return kind.entry.model_validate({**body, **path, "pending": False})
    except ValidationError as error:
        raise refusal(error) from None


def _answer(entry: Entry) -> Response:
    return ExactJsonResponse(entry.model_dump(mode="json", by_alias=True))
