"""Directory changes as billing receives them."""

import itertools
from datetime import UTC, datetime
from typing import Any

from rappen_contracts.directory.v1 import DirectoryChanged, DirectoryEntry, Mandate, Membership, ProviderPermissions
from rappen_contracts.registry import DIRECTORY_CHANGED_V1
from services.chassis.consumer import Received
from tests.support.facts import received_fact

__all__ = ["directory_change", "directory_events"]

_versions = itertools.count(1)


def directory_change(entry: DirectoryEntry, mandate_id: str | None, version: int | None = None) -> Received:
    """One change, newer than all before unless a version is given."""
    changed = DirectoryChanged(mandate_id=mandate_id, version=version or next(_versions), entry=entry, cause="tests")
    return received_fact(DIRECTORY_CHANGED_V1, changed, at=datetime.now(UTC), key=mandate_id or "")


def directory_events(
    mandate: str,
    members: dict[str, list[str]],
    *,
    enabled: bool = True,
    is_system: bool = False,
    name: str | None = None,
    label: str | None = None,
    providers: dict[str, list[str]] | None = None,
    disabled: tuple[str, ...] = (),
) -> list[Received]:
    """A mandate, its members by user with their roles, and what its roles may use."""
    entries: list[Any] = [
        Mandate(id=mandate, name=name, label=label, enabled=enabled, is_system=is_system),
        *(
            Membership(mandate_id=mandate, user_id=user, roles=roles, enabled=user not in disabled)
            for user, roles in members.items()
        ),
        *(
            ProviderPermissions(mandate_id=mandate, role=role, providers=allowed)
            for role, allowed in (providers or {}).items()
        ),
    ]
    return [directory_change(entry, mandate) for entry in entries]
