"""Changes of the directory as `directory.changed` events."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, get_args
from uuid import uuid4

from rappen_contracts.directory import v1
from rappen_contracts.registry import DIRECTORY_CHANGED_V1
from services.chassis.outbox import OutboxRow, outbox_row
from services.gateway.directory.domain.entries import Kind, User
from services.gateway.directory.repository import Row

__all__ = ["directory_changed"]

TOPIC = DIRECTORY_CHANGED_V1.name


def directory_changed(kind: Kind, rows: Sequence[Row], *, cause: str, now: datetime) -> list[OutboxRow]:
    """One outbox row for each changed entry; the key is its mandate, a user's the user's own id.

    An invitation is not published: until it is accepted it means nothing to the other services.
    """
    return [_outbox_row(kind, row, cause, now) for row in rows if not row.get("pending", False)]


def _outbox_row(kind: Kind, row: Row, cause: str, now: datetime) -> OutboxRow:
    entry = _entry(kind, row)
    mandate_id = None if isinstance(entry, v1.User) else entry.id if isinstance(entry, v1.Mandate) else entry.mandate_id
    key = entry.id if isinstance(entry, v1.User) else str(mandate_id)
    data = v1.DirectoryChanged(mandate_id=mandate_id, version=row["version"], entry=entry, cause=cause)
    return outbox_row(DIRECTORY_CHANGED_V1, data, event_id=uuid4(), occurred_at=now, key=key)


def _entry(kind: Kind, row: Row) -> v1.DirectoryEntry:
    """The contract's form; of a user it leaves out what only the directory needs to know."""
    if kind.name == "user":
        user = User.of_row(row)
        return v1.User(id=user.id, username=user.username, display_name=user.display_name, enabled=user.enabled)
    model = _MODELS[kind.name]
    entry: v1.DirectoryEntry = model.model_validate({name: row[name] for name in model.model_fields if name != "kind"})
    return entry


# The contract's model of each kind, by its name.
_MODELS: Mapping[str, Any] = {
    model.model_fields["kind"].default: model for model in get_args(get_args(v1.DirectoryEntry)[0])
}
