"""The roles that a membership, an access and a mandate's provider permissions may name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["RoleNames", "UnknownRole"]


@dataclass(frozen=True, slots=True)
class UnknownRole:
    """An entry that names an unknown role: the field, and the roles that exist."""

    field: str
    texts: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RoleNames:
    """The configured roles. A misspelt role would otherwise be stored unnoticed, and its holder would have no
    rights."""

    members: Sequence[str]
    accesses: Sequence[str]

    def unknown(self, kind_name: str, row: Mapping[str, Any]) -> UnknownRole | None:
        """The first role of an entry that does not exist; None when all do."""
        allowed = self.accesses if kind_name == "feature_access" else self.members
        named = {"role": row["role"]} if kind_name == "provider_permissions" else {}
        if kind_name in ("membership", "feature_access"):
            named = {f"roles.{place}": role for place, role in enumerate(row["roles"])}
        for field, role in named.items():
            if role not in allowed:
                known = ", ".join(allowed)
                return UnknownRole(field, {"en": f"roles here are {known}", "de": f"Rollen sind hier {known}"})
        return None
