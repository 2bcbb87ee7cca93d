"""The directory over HTTP: six kinds of entries, each listed, read, put and disabled; the import; names for many ids.

A system administrator does everything. A mandate administrator reads what belongs to their mandates and changes the
memberships and feature accesses there, nothing else; whom they do not know they invite, and learn nothing by it.
"""

from collections.abc import Awaitable, Callable, Mapping
from types import GenericAlias
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from pydantic import ValidationError, create_model

from rappen_contracts.types import Identifier, Name
from services.chassis.caller import Caller, Forbidden
from services.chassis.operations import CHANGES_PER_MINUTE, Access, Repeat, operation
from services.chassis.problems import InvalidBody
from services.chassis.validation import faults_of
from services.gateway.directory import queries
from services.gateway.directory.bodies import (
    Imported,
    ListQuery,
    Lookup,
    LookupAnswer,
    PageAnswer,
    ProvidersReset,
    SliceAnswer,
)
from services.gateway.directory.changes import CHANGED_BY_MANDATE_ADMINS, TheDirectory
from services.gateway.directory.domain.entries import KINDS, Entry, Kind
from services.gateway.directory.errors import AmbiguousEntry, NotFound
from services.gateway.directory.list_entries import list_entries
from services.gateway.directory.queries import View
from services.gateway.edge.admission import Admitted, PublicRoute, body_of, read_model, read_object

__all__ = ["api"]

IMPORT_BYTES_MAX = 32 * 1024 * 1024

api = APIRouter(route_class=PublicRoute)

# The key of an entry, by the names in the path.
Key = Mapping[str, str]
_Id = Annotated[Identifier, Path(alias="id")]
_MandateId = Annotated[Identifier, Path(alias="mandateId")]
_UserId = Annotated[Identifier, Path(alias="userId")]
_InstanceId = Annotated[Identifier, Path(alias="instanceId")]


async def _by_id(id_: _Id) -> Key:
    return {"id": id_}


async def _by_member(mandate_id: _MandateId, user_id: _UserId) -> Key:
    return {"mandateId": mandate_id, "userId": user_id}


async def _by_user_of_instance(instance_id: _InstanceId, user_id: _UserId) -> Key:
    return {"instanceId": instance_id, "userId": user_id}


async def _by_role(mandate_id: _MandateId, role: Name) -> Key:
    return {"mandateId": mandate_id, "role": role}


_KEYS: Mapping[tuple[str, ...], Callable[..., Awaitable[Key]]] = {
    ("id",): _by_id,
    ("mandate_id", "user_id"): _by_member,
    ("instance_id", "user_id"): _by_user_of_instance,
    ("mandate_id", "role"): _by_role,
}


@api.post(
    "/api/directory/users/lookup",
    **operation(
        "directory-lookup-users",
        "Names for up to 1,000 user ids; who is unknown, or no member of the caller's mandates, is left out.",
        access=Access.MANDATE_ADMIN,
        body=Lookup,
        answer=LookupAnswer,
        refuses=(413, 415, 422),
        repeat=Repeat.READ,
    ),
)
async def lookup(call: Admitted, directory: TheDirectory) -> dict[str, Any]:
    """Who may be seen."""
    view = _view_of(call.caller)
    given = await read_model(call, Lookup)
    users = await queries.users_named(directory.database, given.ids, view)
    return {"items": [{"id": user.id, "username": user.username, "displayName": user.display_name} for user in users]}


@api.post(
    "/api/directory/import",
    **operation(
        "directory-import",
        'Make or change many entries, all or none: one JSON object a line, {"kind": "mandate", "id": ..., ...}.',
        access=Access.SYSTEM_ADMIN,
        limit=CHANGES_PER_MINUTE,
        body=str,
        media_types=("application/x-ndjson", "application/ndjson"),
        body_bytes_max=IMPORT_BYTES_MAX,
        answer=Imported,
        refuses=(413, 415, 422),
        repeat=Repeat.SAME,
        long=True,
    ),
)
async def import_entries(call: Admitted, directory: TheDirectory) -> dict[str, int]:
    """Imports all lines or none."""
    lines, changed = await directory.take_import(await body_of(call), request=call.request)
    return {"lines": lines, "changed": changed}


def _add_list(kind: Kind) -> None:
    # The type is created here, which a type checker cannot follow.
    entries: Any = GenericAlias(list, (kind.entry,))
    by_cursor = create_model(f"{kind.entry.__name__}Slice", __base__=SliceAnswer, items=(entries, ...))
    by_page = create_model(f"{kind.entry.__name__}Page", __base__=PageAnswer, items=(entries, ...))

    @api.get(
        f"/api/directory/{kind.path}",
        **operation(
            f"directory-list-{kind.path}",
            "The entries by cursor and limit, or by pagination.",
            access=Access.MANDATE_ADMIN,
            answer=by_cursor | by_page,
            refuses=(400, 422),
        ),
    )
    async def list_all(call: Admitted, directory: TheDirectory, query: Annotated[ListQuery, Query()]) -> dict[str, Any]:
        view = _view_of(call.caller, query)
        return await list_entries(directory.database, kind, view, query, page_size_max=directory.page_size_max)


def _add_get(kind: Kind) -> None:
    @api.get(
        _entry_path(kind),
        **operation(
            f"directory-get-{kind.path}",
            "One entry.",
            access=Access.MANDATE_ADMIN,
            answer=kind.entry,
            refuses=(404, 422),
        ),
    )
    async def get_one(
        call: Admitted, directory: TheDirectory, named: Annotated[Key, Depends(_KEYS[kind.key])]
    ) -> Entry:
        view, key = _view_of(call.caller), list(named.values())
        if kind.name == "mandate" or kind.key[0] == "mandate_id":
            call.caller.require_admin(key[0])
        entry = await queries.entry(directory.database, kind, key, view)
        if entry is None:
            raise NotFound
        return entry


def _add_put(kind: Kind) -> None:
    @api.put(
        _entry_path(kind),
        **operation(
            f"directory-put-{kind.path}",
            "Make the entry as given; what it refers to must exist.",
            access=_changed_by(kind),
            limit=CHANGES_PER_MINUTE,
            body=kind.body,
            answer=kind.entry,
            refuses=(404, 409, 413, 415, 422),
        ),
    )
    async def put(call: Admitted, directory: TheDirectory, named: Annotated[Key, Depends(_KEYS[kind.key])]) -> Entry:
        await directory.require(call.caller, kind, list(named.values()))
        entry = _entry(kind, await read_object(call), named)
        return await directory.put(call.caller, kind, entry, request=call.request)


def _add_delete(kind: Kind) -> None:
    """Ends an entry without removing what refers to it."""
    resets = kind.name == "provider_permissions"

    @api.delete(
        _entry_path(kind),
        **operation(
            f"directory-delete-{kind.path}",
            "Give the role the platform's default providers again." if resets else "Disable the entry.",
            access=_changed_by(kind),
            limit=CHANGES_PER_MINUTE,
            answer=ProvidersReset if resets else kind.entry,
            refuses=(404, 422),
        ),
    )
    async def delete(
        call: Admitted, directory: TheDirectory, named: Annotated[Key, Depends(_KEYS[kind.key])]
    ) -> Entry | dict[str, Any]:
        key = list(named.values())
        await directory.require(call.caller, kind, key)
        if resets:
            await directory.reset_providers(*key, request=call.request)
            return {**named, "providers": None}
        return await directory.disable(kind, key, request=call.request)


def _changed_by(kind: Kind) -> Access:
    return Access.MANDATE_ADMIN if kind.name in CHANGED_BY_MANDATE_ADMINS else Access.SYSTEM_ADMIN


def _entry_path(kind: Kind) -> str:
    names = [str(kind.entry.model_fields[column].alias) for column in kind.key]
    return "/".join([f"/api/directory/{kind.path}", *(f"{{{name}}}" for name in names)])


def _view_of(caller: Caller, query: ListQuery | None = None) -> View:
    """The part of the directory the caller may see; refuses callers who administer nothing, and mandates that are not
    theirs."""
    mandate_id, user_id = (query.mandate_id, query.user_id) if query is not None else (None, None)
    if caller.system_admin:
        return View(None, mandate_id, user_id)
    if not caller.administered:
        raise Forbidden
    if mandate_id is not None:
        caller.require_admin(mandate_id)
    return View(tuple(caller.administered), mandate_id, user_id)


def _entry(kind: Kind, body: dict[str, Any], named: Key) -> Entry:
    """The entry of the path with what the body says; an entry that was read may be sent back as it was."""
    for name, value in named.items():
        if body.get(name, value) != value:
            raise AmbiguousEntry(name)
    try:
        # The directory decides whether it is an invitation.
        return kind.entry.model_validate({**body, **named, "pending": False})
    except ValidationError as error:
        raise InvalidBody(faults_of(error)) from None


for _kind in KINDS:
    _add_list(_kind)
    _add_get(_kind)
    _add_put(_kind)
    _add_delete(_kind)
