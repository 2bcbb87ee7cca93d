"""An import of the directory as newline-delimited JSON: read completely, every fault kept with its line."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from services.gateway.directory.domain.entries import KIND_BY_NAME, Entry, Kind
from services.gateway.directory.domain.roles import RoleNames

__all__ = ["Fault", "ImportFile", "Line", "read_import"]


@dataclass(frozen=True, slots=True)
class Line:
    """One entry and the number of its line."""

    number: int
    kind: Kind
    entry: Entry


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a line: the faults of its fields, or a phrase in English and German."""

    line: int
    what: ValidationError | Mapping[str, str]


@dataclass(slots=True)
class ImportFile:
    """The lines that can be read, and the faults of the others."""

    lines: list[Line] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    # Ids of entries in faulty lines: a line that refers to one of them is not at fault itself.
    attempted: dict[str, set[str]] = field(default_factory=dict)
    _places: dict[tuple[str, ...], int] = field(default_factory=dict)

    def of(self, kind_name: str) -> list[Line]:
        """The lines with entries of one kind."""
        return [line for line in self.lines if line.kind.name == kind_name]

    def ids(self, kind_name: str) -> set[str]:
        """The ids of one kind that the file makes, or tries to."""
        return {line.entry.row()["id"] for line in self.of(kind_name)} | self.attempted.get(kind_name, set())

    def add(self, line: Line) -> None:
        """Adds a line; an entry that an earlier line has is a fault, because one of the two would be lost."""
        place = (line.kind.name, *line.kind.key_of(line.entry.row()))
        first = self._places.setdefault(place, line.number)
        if first == line.number:
            self.lines.append(line)
        else:
            texts = {"en": f"the same entry as line {first}", "de": f"derselbe Eintrag wie Zeile {first}"}
            self.faults.append(Fault(line.number, texts))

    def refuse(self, number: int, what: ValidationError | Mapping[str, str], given: object = None) -> None:
        """Notes a fault; `given` is what the line held, as far as it was JSON."""
        self.faults.append(Fault(number, what))
        if isinstance(given, dict) and isinstance(given.get("kind"), str) and isinstance(given.get("id"), str):
            self.attempted.setdefault(given["kind"], set()).add(given["id"])


def read_import(body: bytes, roles: RoleNames) -> ImportFile:
    """Reads the lines; empty ones are counted and skipped."""
    file = ImportFile()
    for number, raw in enumerate(body.split(b"\n"), 1):
        if raw.strip():
            _read_line(file, number, raw, roles)
    return file


def _read_line(file: ImportFile, number: int, raw: bytes, roles: RoleNames) -> None:
    given: Any = None
    try:
        given = json.loads(raw.decode(), object_pairs_hook=_object)
        if not isinstance(given, dict):
            raise _NoEntryError("a JSON object is expected", "ein JSON-Objekt wird erwartet")
        kind = KIND_BY_NAME.get(given["kind"]) if isinstance(given.get("kind"), str) else None
        if kind is None:
            kinds = ", ".join(KIND_BY_NAME)
            raise _NoEntryError(f"kind is one of {kinds}", f"kind ist eines von {kinds}")
        if given.get("pending", False) is not False:
            # Imported as a plain entry it would count as the person's consent.
            raise _NoEntryError(
                "an invitation that is not accepted cannot be imported",
                "eine Einladung, die nicht angenommen ist, kann nicht importiert werden",
            )
        entry = kind.entry.model_validate(_taken_over(kind, given))
        unknown = roles.unknown(kind.name, entry.row())
        if unknown is not None:
            raise _NoEntryError(*(f"{unknown.field}: {unknown.texts[language]}" for language in ("en", "de")))
        file.add(Line(number, kind, entry))
    except _NoEntryError as error:
        file.refuse(number, error.texts, given)
    except ValidationError as error:
        file.refuse(number, error, given)
    except (ValueError, RecursionError):
        file.refuse(number, {"en": "is not valid JSON", "de": "ist kein gültiges JSON"})


def _taken_over(kind: Kind, given: dict[str, Any]) -> dict[str, Any]:
    """The line in our words: other systems name a feature's administrators after it, as in `chat-admin`."""
    roles = given.get("roles")
    if kind.name != "feature_access" or not isinstance(roles, list):
        return given
    ours = ["admin" if isinstance(role, str) and role.endswith("-admin") else role for role in roles]
    return {**given, "roles": ours}


class _NoEntryError(Exception):
    """A line that is JSON but not an entry."""

    def __init__(self, en: str, de: str) -> None:
        super().__init__(en)
        self.texts = {"en": en, "de": de}


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) != len(pairs):
        raise _NoEntryError("an object has a key twice", "ein Objekt hat einen Schlüssel zweimal")
    return dict(pairs)
