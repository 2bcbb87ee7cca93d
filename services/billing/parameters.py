"""Path and query parameters: one annotation reads a value and describes it in the OpenAPI document.

A malformed value is refused with the parameter's name, before anything that the request asks for is looked up.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Path
from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from services.billing.errors import MalformedParameter
from services.chassis.bodies import IDENTIFIER, IDENTIFIER_SCHEMA

__all__ = ["FlagOf", "IdOf", "IntegerOf", "MandateId", "OneOf", "TextOf"]


@dataclass(frozen=True, slots=True)
class _Parameter(ABC):
    """How the value of the parameter `name` is read."""

    name: str

    @abstractmethod
    def read(self, text: str) -> Any:
        """The value, or 400."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """The reader, before the type's own."""
        return core_schema.no_info_before_validator_function(self.read, handler(source))


@dataclass(frozen=True, slots=True)
class IdOf(_Parameter):
    """An id; a value that cannot be one is refused with 400."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """The form of an id."""
        return dict(IDENTIFIER_SCHEMA)

    def read(self, text: str) -> str:
        """The id, or 400."""
        if not IDENTIFIER.fullmatch(text):
            raise MalformedParameter(self.name, en="this cannot be an id", de="das kann keine Id sein")
        return text


@dataclass(frozen=True, slots=True)
class IntegerOf(_Parameter):
    """A whole number from `least` to `most`, which has nine digits at most."""

    least: int
    most: int = 999_999_999

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Type and bounds."""
        return {"type": "integer", "minimum": self.least, "maximum": self.most}

    def read(self, text: str) -> int:
        """The number, or 400."""
        if not (text.isascii() and text.isdigit() and len(text) <= 9 and self.least <= int(text) <= self.most):
            raise MalformedParameter(
                self.name,
                en=f"a whole number from {self.least} to {self.most} is expected",
                de=f"eine ganze Zahl von {self.least} bis {self.most} wird erwartet",
            )
        return int(text)


@dataclass(frozen=True, slots=True)
class TextOf(_Parameter):
    """Text as the database can compare it; an empty one is none. `enum` names what a filter can find."""

    enum: tuple[str, ...] = ()

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Plain text, or one of a few."""
        return {"type": "string", "enum": list(self.enum)} if self.enum else {"type": "string"}

    def read(self, text: str) -> str | None:
        """The text, or 400."""
        if "\x00" in text:
            raise MalformedParameter(self.name, en="text must not contain NUL", de="Text darf kein NUL enthalten")
        return text or None


@dataclass(frozen=True, slots=True)
class OneOf(_Parameter):
    """One of a few names."""

    names: tuple[str, ...]

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """The names."""
        return {"type": "string", "enum": list(self.names)}

    def read(self, text: str) -> str:
        """The name, or 400."""
        if text not in self.names:
            names = ", ".join(self.names)
            raise MalformedParameter(self.name, en=f"one of {names} is expected", de=f"eines von {names} wird erwartet")
        return text


@dataclass(frozen=True, slots=True)
class FlagOf(_Parameter):
    """True or false, as JavaScript or Python writes it, or 1 or 0."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """True or false."""
        return {"type": "boolean"}

    def read(self, text: str) -> bool:
        """The flag, or 400."""
        flag = {"true": True, "1": True, "false": False, "0": False}.get(text.lower())
        if flag is None:
            raise MalformedParameter(self.name, en="true or false is expected", de="true oder false wird erwartet")
        return flag


MandateId = Annotated[str, Path(alias="mandateId"), IdOf("mandateId")]
