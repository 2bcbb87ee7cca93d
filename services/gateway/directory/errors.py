"""Refusals of the directory."""

from services.chassis.problems import InvalidBody, Problem
from services.chassis.validation import FieldFault, both
from services.gateway.directory.domain.roles import UnknownRole

__all__ = [
    "AmbiguousEntry",
    "InstanceElsewhere",
    "InvalidImport",
    "MemberLimitReached",
    "NotFound",
    "UnknownReference",
    "UnknownRoleNamed",
]


class NotFound(Problem):
    """No such entry, or none that the caller may see."""

    status = 404
    code = "NOT_FOUND"
    title = "Not found"
    texts = both("There is no such entry.", "Diesen Eintrag gibt es nicht.")


_GERMAN_KINDS = {
    "mandate": "das Mandat",
    "user": "die Person",
    "feature_instance": "die Feature-Instanz",
}


class UnknownReference(Problem):
    """An entry refers to a mandate, user or feature instance that the directory does not have."""

    status = 404
    code = "UNKNOWN_REFERENCE"
    title = "Not found"
    texts = both(
        "The directory has no {kind} {id}; make it first.",
        "Das Verzeichnis kennt {kind} {id} nicht; bitte zuerst anlegen.",
    )

    def __init__(self, kind: str, id_: str) -> None:
        super().__init__(kind=both(kind.replace("_", " "), _GERMAN_KINDS[kind]), id=id_)


class InstanceElsewhere(Problem):
    """A feature instance belongs to one mandate for ever, because its usage is charged there."""

    status = 409
    code = "INSTANCE_OF_ANOTHER_MANDATE"
    title = "Conflict"
    texts = both(
        "This feature instance belongs to another mandate.", "Diese Feature-Instanz gehört zu einem anderen Mandat."
    )


class MemberLimitReached(Problem):
    """The mandate's plan allows no more members."""

    status = 409
    code = "MEMBER_LIMIT_REACHED"
    title = "Conflict"
    texts = both(
        "The plan allows no more than {limit} members; remove one, or change to a larger plan.",
        "Der Plan erlaubt höchstens {limit} Mitglieder; bitte eines entfernen oder einen grösseren Plan wählen.",
    )

    def __init__(self, limit: int) -> None:
        super().__init__(limit=str(limit))


class AmbiguousEntry(Problem):
    """The body says another id than the path."""

    status = 422
    code = "AMBIGUOUS_ENTRY"
    title = "Invalid request"
    texts = both("The body names another {field} than the path.", "Inhalt und Pfad nennen nicht dasselbe: {field}.")

    def __init__(self, field: str) -> None:
        texts = both("another one than in the path", "ein anderer Wert als im Pfad")
        super().__init__(field=field, errors=[FieldFault(field, texts)])


class UnknownRoleNamed(InvalidBody):
    """A role that is none of those configured: it would be stored unnoticed and give no rights."""

    def __init__(self, unknown: UnknownRole) -> None:
        super().__init__([FieldFault(unknown.field, unknown.texts)], code="UNKNOWN_ROLE")


class InvalidImport(Problem):
    """Lines of the import cannot be taken, so none was."""

    status = 422
    code = "INVALID_IMPORT"
    title = "Invalid import"
    texts = both(
        "Nothing was imported: {count} faults, the first in line {line}.",
        "Nichts wurde importiert: {count} Fehler, der erste in Zeile {line}.",
    )
