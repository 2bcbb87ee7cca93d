"""The directory: mandates, users, memberships, feature instances, accesses and provider permissions, as they are, and
as they are asked to be."""

from typing import Annotated, Literal

from pydantic import Field

from rappen_contracts.types import Contract, Count, EventId, Identifier, Name, Text

__all__ = [
    "DirectoryChanged",
    "DirectoryEntry",
    "DirectoryRequested",
    "FeatureAccess",
    "FeatureInstance",
    "Mandate",
    "Membership",
    "ProviderPermissions",
    "User",
]


class Mandate(Contract):
    """A tenant; `is_system` marks one of the operator's own, never charged automatically."""

    kind: Literal["mandate"] = "mandate"
    id: Identifier
    name: Text | None = None
    label: Text | None = None
    enabled: bool = True
    is_system: bool = False


class User(Contract):
    """A person, without what only the directory needs to know."""

    kind: Literal["user"] = "user"
    id: Identifier
    username: Text | None = None
    display_name: Text
    enabled: bool = True


class Membership(Contract):
    """A user's roles in a mandate; roles are compared whole."""

    kind: Literal["membership"] = "membership"
    mandate_id: Identifier
    user_id: Identifier
    roles: list[Name]
    enabled: bool = True


class FeatureInstance(Contract):
    """One activated copy of a feature inside a mandate."""

    kind: Literal["feature_instance"] = "feature_instance"
    id: Identifier
    mandate_id: Identifier
    feature_code: Name
    label: Text | None = None
    enabled: bool = True


class FeatureAccess(Contract):
    """A user's roles on a feature instance."""

    kind: Literal["feature_access"] = "feature_access"
    instance_id: Identifier
    mandate_id: Identifier
    user_id: Identifier
    roles: list[Name]
    enabled: bool = True


class ProviderPermissions(Contract):
    """The AI providers a role may use in a mandate; null means the platform's default again."""

    kind: Literal["provider_permissions"] = "provider_permissions"
    mandate_id: Identifier
    role: Name
    providers: list[Name] | None = None


DirectoryEntry = Annotated[
    Mandate | User | Membership | FeatureInstance | FeatureAccess | ProviderPermissions, Field(discriminator="kind")
]


class DirectoryChanged(Contract):
    """An entry as it is now. `version` grows with every change of the directory; a reader keeps the newest.

    `mandate_id` is null for users, who belong to no mandate of their own.
    """

    mandate_id: Identifier | None = None
    version: Count
    entry: DirectoryEntry
    cause: Text


class DirectoryRequested(Contract):
    """Entries that another service asks the directory to have, all or none, once for `request_id`.

    What becomes of it is published as `directory.changed`, with `request_id` as its cause. `mandate_id` is that of all
    entries.
    """

    mandate_id: Identifier
    request_id: EventId
    entries: Annotated[list[Mandate | Membership | FeatureInstance | FeatureAccess], Field(min_length=1, max_length=20)]
    requested_by: Identifier
    cause: Text
