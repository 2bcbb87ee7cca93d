"""Queries, bodies and answers of the directory beside its entries."""

from typing import Annotated

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from rappen_contracts.types import Identifier
from services.chassis.lists.bodies import PageInfo
from services.chassis.lists.pagination import PaginationText
from services.gateway.directory.domain.entries import Wire

__all__ = [
    "Imported",
    "InvitationAnswer",
    "InvitationQuery",
    "InvitationSlice",
    "ListQuery",
    "Lookup",
    "LookupAnswer",
    "Member",
    "PageAnswer",
    "ProvidersReset",
    "SliceAnswer",
]

LOOKUP_IDS_MAX = 1000


class _Query(Wire):
    # Query values are text, which becomes numbers here.
    model_config = ConfigDict(frozen=True, strict=False, extra="ignore", alias_generator=to_camel)


class ListQuery(_Query):
    """How a list is asked for."""

    mandate_id: Identifier | None = None
    user_id: Identifier | None = None
    cursor: Annotated[str, Field(min_length=1, max_length=1000)] | None = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 50
    pagination: PaginationText | None = None


class InvitationQuery(_Query):
    """Which part of the list."""

    cursor: Identifier | None = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 50


class InvitedFeature(Wire):
    """A feature instance that an invitation offers."""

    instance_id: str
    feature_code: str
    label: str | None
    roles: list[str]


class InvitationAnswer(Wire):
    """A mandate that asks the caller to join, as what; without roles it only offers features."""

    mandate_id: str
    mandate_name: str
    roles: list[str]
    features: list[InvitedFeature]


class SliceAnswer(Wire):
    """Entries by cursor."""

    next_cursor: str | None


class InvitationSlice(SliceAnswer):
    """Invitations by cursor."""

    items: list[InvitationAnswer]


class PageAnswer(Wire):
    """A page of a list."""

    pagination: PageInfo


class Lookup(Wire):
    """Whose names are wanted."""

    ids: Annotated[list[Identifier], Field(max_length=LOOKUP_IDS_MAX)]


class NamedUser(Wire):
    """A user's names."""

    id: str
    username: str | None
    display_name: str


class LookupAnswer(Wire):
    """The users that exist and may be seen."""

    items: list[NamedUser]


class Member(Wire):
    """A member of a mandate, by name; a text that nobody knows is empty."""

    id: str
    username: str
    email: str
    first_name: str
    last_name: str
    display_name: str


class Imported(Wire):
    """How many lines there were, and how many entries they made or changed."""

    lines: int
    changed: int


class ProvidersReset(Wire):
    """A role with the platform's default providers."""

    mandate_id: str
    role: str
    providers: None
