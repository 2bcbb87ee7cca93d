"""The six kinds of directory entries: what each holds, how it is named, what is refused.

A body is what a PUT carries; an entry is the body with its key. The names on the wire are camelCase.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
    computed_field,
)
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from rappen_contracts.types import Identifier, Name

__all__ = [
    "KINDS",
    "KIND_BY_NAME",
    "Entry",
    "FeatureAccess",
    "FeatureInstance",
    "Kind",
    "Mandate",
    "Membership",
    "ProviderPermissions",
    "User",
    "Wire",
]

NAMES_MAX = 50
_EMAIL = r"[^\s@\x00-\x1f]+@[^\s@\x00-\x1f]+"
_LANGUAGE = r"[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*"


def _no_nul(text: str) -> str:
    if "\x00" in text:
        raise PydanticCustomError("BAD_TEXT", "text must not contain NUL")
    return text


def _form(pattern: str, en: str, de: str) -> Callable[[str], str]:
    """Refuses a text that does not match, with a readable description: the pattern itself is only in the JSON
    Schema."""
    form = re.compile(pattern, re.ASCII)

    def check(text: str) -> str:
        if not form.fullmatch(text):
            raise PydanticCustomError("form", en, {"de": de})
        return text

    return check


# The constraint comes first: it is what refuses a lone surrogate.
Label = Annotated[str, StringConstraints(max_length=200), AfterValidator(_no_nul)]
Email = Annotated[
    str,
    StringConstraints(max_length=254),
    AfterValidator(_form(_EMAIL, "an e-mail address is expected", "eine E-Mail-Adresse wird erwartet")),
    WithJsonSchema({"type": "string", "maxLength": 254, "pattern": f"^{_EMAIL}$"}),
]
Language = Annotated[
    str,
    StringConstraints(max_length=35),
    AfterValidator(
        _form(_LANGUAGE, "a language such as de or de-CH is expected", "eine Sprache wie de oder de-CH wird erwartet")
    ),
    WithJsonSchema({"type": "string", "maxLength": 35, "pattern": f"^{_LANGUAGE}$"}),
]


def _once_each(names: list[str]) -> list[str]:
    """Sorted and without repeats, so that the same set is the same entry."""
    return sorted(set(names))


Names = Annotated[list[Name], Field(max_length=NAMES_MAX), AfterValidator(_once_each)]


class Wire(BaseModel):
    """Base of what travels as JSON: strict types, unknown names ignored."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="ignore", alias_generator=to_camel, validate_by_name=False
    )


class Entry(Wire):
    """An entry of the directory."""

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Self:
        """The entry of a database row."""
        return cls.model_validate({name: row[name] for name in cls.model_fields}, by_name=True, by_alias=False)

    def row(self) -> dict[str, Any]:
        """The columns of the entry."""
        return {name: getattr(self, name) for name in type(self).model_fields}


class MandateBody(Wire):
    """A tenant; `isSystem` marks one of the operator's own."""

    name: Label | None = None
    label: Label | None = None
    enabled: bool = True
    is_system: bool = False


class _Identified(Wire):
    id: Identifier


class Mandate(MandateBody, Entry, _Identified):
    """A tenant with its id."""


class UserBody(Wire):
    """A person."""

    username: Label | None = None
    email: Email | None = None
    first_name: Label | None = None
    last_name: Label | None = None
    language: Language | None = None
    enabled: bool = True


class User(UserBody, Entry, _Identified):
    """A person with the id that tokens carry, and the name to show."""

    @computed_field(alias="displayName")  # type: ignore[prop-decorator]
    @property
    def display_name(self) -> str:
        """First and last name, else the user name, else the id."""
        return " ".join(filter(None, (self.first_name, self.last_name))).strip() or self.username or self.id


class RolesBody(Wire):
    """Roles, compared whole; `admin` administers."""

    roles: Names
    enabled: bool = True


class _Consented(Wire):
    # Set by the directory alone: an invitation by a mandate's administrator, until the person accepts it.
    pending: bool = Field(default=False, exclude_if=lambda pending: not pending)


class _MemberKey(Wire):
    mandate_id: Identifier
    user_id: Identifier


class Membership(_Consented, RolesBody, Entry, _MemberKey):
    """A user's roles in a mandate; `pending` is there, and true, while it is an invitation."""


class FeatureInstanceBody(Wire):
    """One activated copy of a feature; its mandate never changes."""

    mandate_id: Identifier
    feature_code: Name
    label: Label | None = None
    enabled: bool = True


class FeatureInstance(FeatureInstanceBody, Entry, _Identified):
    """One activated copy of a feature with its id."""


class _AccessKey(Wire):
    instance_id: Identifier
    user_id: Identifier


class FeatureAccess(_Consented, RolesBody, Entry, _AccessKey):
    """A user's roles on a feature instance; `pending` is there, and true, while it is an invitation."""


class ProvidersBody(Wire):
    """The AI providers that a role may use."""

    providers: Names


class _RoleKey(Wire):
    mandate_id: Identifier
    role: Name


class ProviderPermissions(ProvidersBody, Entry, _RoleKey):
    """The AI providers that a role may use in a mandate."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of entries: `name` in events and imports, `path` in addresses, the names of its key."""

    name: str
    path: str
    key: tuple[str, ...]
    body: type[Wire]
    entry: type[Entry]

    def key_of(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        """The key of an entry or row."""
        return tuple(row[column] for column in self.key)


# A kind may refer only to the kinds before it.
KINDS = (
    Kind("mandate", "mandates", ("id",), MandateBody, Mandate),
    Kind("user", "users", ("id",), UserBody, User),
    Kind("membership", "memberships", ("mandate_id", "user_id"), RolesBody, Membership),
    Kind("feature_instance", "feature-instances", ("id",), FeatureInstanceBody, FeatureInstance),
    Kind("feature_access", "feature-access", ("instance_id", "user_id"), RolesBody, FeatureAccess),
    Kind("provider_permissions", "provider-permissions", ("mandate_id", "role"), ProvidersBody, ProviderPermissions),
)
KIND_BY_NAME = {kind.name: kind for kind in KINDS}
