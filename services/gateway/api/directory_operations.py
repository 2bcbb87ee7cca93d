"""How the directory's operations are described: the same four for each kind, the import and the lookup."""

from types import GenericAlias
from typing import Any

from pydantic import create_model

from services.gateway.api.documents.directory import (
    Imported,
    ListQuery,
    Lookup,
    LookupAnswer,
    PageAnswer,
    ProvidersReset,
    SliceAnswer,
)
from services.gateway.api.operations import CHANGES_PER_MINUTE, Body, Operation, Repeat, Who
from services.gateway.domain.entries import Kind

__all__ = [
    "CHANGED_BY_MANDATE_ADMINS",
    "IMPORT",
    "IMPORT_BODY",
    "LOOKUP",
    "LOOKUP_BODY",
    "delete_operation",
    "get_operation",
    "list_operation",
    "put_operation",
]

# What an administrator of a mandate may change there.
CHANGED_BY_MANDATE_ADMINS = ("membership", "feature_access")

IMPORT_BODY = Body(str, ("application/x-ndjson", "application/ndjson"), bytes_max=32 * 1024 * 1024)
IMPORT = Operation(
    "POST",
    "/api/directory/import",
    "directory-import",
    'Make or change many entries, all or none: one JSON object a line, {"kind": "mandate", "id": ..., ...}.',
    who=Who.SYSTEM_ADMIN,
    limit=CHANGES_PER_MINUTE,
    body=IMPORT_BODY,
    answer=Imported,
    refusals=(413, 415, 422),
    repeat=Repeat.SAME,
    long=True,
)
LOOKUP_BODY = Body(Lookup)
LOOKUP = Operation(
    "POST",
    "/api/directory/users/lookup",
    "directory-lookup-users",
    "Names for up to 1,000 user ids; who is unknown, or no member of the caller's mandates, is left out.",
    who=Who.MANDATE_ADMIN,
    body=LOOKUP_BODY,
    answer=LookupAnswer,
    refusals=(413, 415, 422),
    repeat=Repeat.READ,
)


def list_operation(kind: Kind) -> Operation:
    """GET of the list."""
    # The type is made here, out of sight of a type checker.
    entries: Any = GenericAlias(list, (kind.entry,))
    by_cursor = create_model(f"{kind.entry.__name__}Slice", __base__=SliceAnswer, items=(entries, ...))
    by_page = create_model(f"{kind.entry.__name__}Page", __base__=PageAnswer, items=(entries, ...))
    return Operation(
        "GET",
        f"/api/directory/{kind.path}",
        f"directory-list-{kind.path}",
        "The entries by cursor and limit, or by pagination.",
        who=Who.MANDATE_ADMIN,
        query=ListQuery,
        answer=by_cursor | by_page,
        refusals=(400, 422),
    )


def get_operation(kind: Kind) -> Operation:
    """GET of one entry."""
    return Operation(
        "GET",
        _entry_path(kind),
        f"directory-get-{kind.path}",
        "One entry.",
        who=Who.MANDATE_ADMIN,
        answer=kind.entry,
        refusals=(404, 422),
    )


def put_operation(kind: Kind) -> Operation:
    """PUT of one entry."""
    return Operation(
        "PUT",
        _entry_path(kind),
        f"directory-put-{kind.path}",
        "Make the entry as given; what it refers to must exist.",
        who=_changed_by(kind),
        limit=CHANGES_PER_MINUTE,
        body=Body(kind.body),
        answer=kind.entry,
        refusals=(404, 409, 413, 415, 422),
    )


def delete_operation(kind: Kind) -> Operation:
    """DELETE of one entry, which ends it without removing what refers to it."""
    resets = kind.name == "provider_permissions"
    return Operation(
        "DELETE",
        _entry_path(kind),
        f"directory-delete-{kind.path}",
        "Give the role the platform's default providers again." if resets else "Disable the entry.",
        who=_changed_by(kind),
        limit=CHANGES_PER_MINUTE,
        answer=ProvidersReset if resets else kind.entry,
        refusals=(404, 422),
    )


def _changed_by(kind: Kind) -> Who:
    return Who.MANDATE_ADMIN if kind.name in CHANGED_BY_MANDATE_ADMINS else Who.SYSTEM_ADMIN


def _entry_path(kind: Kind) -> str:
    names = [str(kind.entry.model_fields[column].alias) for column in kind.key]
    return "/".join([f"/api/directory/{kind.path}", *(f"{{{name}}}" for name in names)])
