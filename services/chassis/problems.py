"""Refusals over HTTP: RFC 9457 problem documents with a stable code, a readable detail and the request's id.

Everything that people read is there in English and German.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from services.chassis.validation import FieldFault, Texts, both, faults_of, say, summary

__all__ = [
    "IdempotencyMismatch",
    "InvalidBody",
    "OutcomeUnknown",
    "Problem",
    "Unavailable",
    "invalid_body",
    "problem_of_status",
]

TYPE_BASE = "urn:rappen:problem:"


class Problem(Exception):  # noqa: N818 - the field's term is problem, not error.
    """An expected refusal. A subclass sets what differs from its base class: status, code, title, texts.

    `code` replaces the code of the class for one refusal, `errors` are the fields at fault, `headers` go with the
    answer, `extra` are further members of the document. The other keyword arguments fill the placeholders of the texts:
    with a phrase in both languages (`Texts`), or with a value that is the same in each.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "INTERNAL"
    title: ClassVar[str] = "Internal error"
    texts: ClassVar[Texts] = both("Something went wrong on our side.", "Bei uns ist etwas schiefgegangen.")

    def __init__(
        self,
        *,
        code: str | None = None,
        errors: Sequence[FieldFault] = (),
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
        **values: object,
    ) -> None:
        super().__init__(self.code)
        self.actual_code = code or self.code
        self.errors = list(errors)
        self.headers = dict(headers or {})
        self.extra = dict(extra or {})
        self.values = values

    def detail(self, language: str) -> str:
        """The sentence for people, in that language."""
        values = {
            name: say(value, language) if isinstance(value, Mapping) else value for name, value in self.values.items()
        }
        return say(self.texts, language).format(**values)

    def document(self, language: str, request_id: str) -> dict[str, Any]:
        """The problem document of this refusal, in that language."""
        document: dict[str, Any] = {
            "type": TYPE_BASE + self.actual_code.lower().replace("_", "-"),
            "title": _GERMAN_TITLES.get(self.status, _GERMAN_TITLES[500]) if language == "de" else self.title,
            "status": self.status,
            "detail": self.detail(language),
            "code": self.actual_code,
            "requestId": request_id,
            **self.extra,
        }
        if self.errors or self.status == 422:
            document["errors"] = [fault.wire(language) for fault in self.errors]
        return document


class Unavailable(Problem):
    """A dependency is away; trying again later can succeed."""

    status = 503
    code = "UNAVAILABLE"
    title = "Temporarily unavailable"
    texts = both(
        "A part of the platform is not reachable; please try again.",
        "Ein Teil der Plattform ist nicht erreichbar; bitte noch einmal versuchen.",
    )


class OutcomeUnknown(Problem):
    """A change was begun and its outcome is unknown, so the answer does not promise that it can be tried again."""

    status = 503
    code = "OUTCOME_UNKNOWN"
    title = "Outcome unknown"
    texts = both(
        "No answer came in time, so it is not known whether the change was made; please look before repeating it.",
        "Es kam rechtzeitig keine Antwort, deshalb ist nicht bekannt, ob die Änderung gemacht wurde; bitte vor"
        " einer Wiederholung nachsehen.",
    )


class InvalidBody(Problem):
    """Fields of the request have the wrong type or range."""

    status = 422
    code = "VALIDATION"
    title = "Invalid request"
    texts = both("The request is not valid: {summary}.", "Die Anfrage ist ungültig: {summary}.")

    def __init__(self, errors: Sequence[FieldFault], *, code: str | None = None) -> None:
        super().__init__(code=code, errors=errors, summary=summary(errors))


class IdempotencyMismatch(Problem):
    """An Idempotency-Key that was used for another request."""

    status = 422
    code = "IDEMPOTENCY_MISMATCH"
    title = "Idempotency key used before"
    texts = both(
        "This Idempotency-Key was used for another request.",
        "Dieser Idempotency-Key wurde schon für eine andere Anfrage verwendet.",
    )


_STATUS_TEXTS: dict[int, tuple[str, str, str, str]] = {
    400: ("BAD_REQUEST", "Bad request", "The request is malformed.", "Die Anfrage ist fehlerhaft."),
    401: ("UNAUTHENTICATED", "Not authenticated", "A valid token is needed.", "Ein gültiges Token ist nötig."),
    403: ("FORBIDDEN", "Not allowed", "This is not allowed.", "Das ist nicht erlaubt."),
    404: ("NOT_FOUND", "Not found", "There is nothing here.", "Hier ist nichts."),
    405: ("METHOD_NOT_ALLOWED", "Method not allowed", "Use another method.", "Eine andere Methode ist nötig."),
    413: ("TOO_LARGE", "Too large", "The request is too large.", "Die Anfrage ist zu gross."),
    415: ("UNSUPPORTED_MEDIA_TYPE", "Unsupported type", "Send JSON.", "Bitte JSON senden."),
}


# A title names the kind of refusal, for which the status is enough.
_GERMAN_TITLES: Mapping[int, str] = {
    400: "Fehlerhafte Anfrage",
    401: "Nicht angemeldet",
    402: "Zahlung nötig",
    403: "Nicht erlaubt",
    404: "Nicht gefunden",
    405: "Methode nicht erlaubt",
    408: "Zu langsam",
    409: "Konflikt",
    413: "Zu gross",
    415: "Falscher Inhaltstyp",
    422: "Ungültige Anfrage",
    429: "Zu viele Anfragen",
    500: "Interner Fehler",
    503: "Zurzeit nicht verfügbar",
}


def problem_of_status(status: int, headers: Mapping[str, str] | None) -> Problem:
    """The refusal that says no more than a status does, such as the web framework's."""
    code, title, english, german = _STATUS_TEXTS.get(status, _STATUS_TEXTS[400])
    plain = type("Plain", (Problem,), {"status": status, "title": title, "texts": both(english, german)})
    problem: Problem = plain(code=code, headers=headers)
    return problem


def invalid_body(error: RequestValidationError | ValidationError, *, code: str | None = None) -> Problem:
    """The refusal of a body with every fault of its fields; values are not repeated."""
    if isinstance(error, ValidationError):
        return InvalidBody(faults_of(error), code=code)
    # FastAPI puts in front where the value was: body, query, path or header.
    return InvalidBody(faults_of({**fault, "loc": fault["loc"][1:]} for fault in error.errors()), code=code)
