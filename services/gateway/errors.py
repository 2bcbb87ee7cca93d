"""Every refusal of the gateway, one class each."""
# ruff: noqa: RUF012

import re

from services.chassis.problems import InvalidBody, OutcomeUnknown, Problem
from services.chassis.validation import FieldFault
from services.gateway.directory.domain.roles import UnknownRole

__all__ = [
    "IDEMPOTENCY_KEY",
    "IDEMPOTENCY_KEY_HEADER",
    "IDEMPOTENCY_KEY_LENGTH_MAX",
    "AmbiguousEntry",
    "BodyTooLarge",
    "BodyTooSlow",
    "InstanceElsewhere",
    "InvalidContext",
    "InvalidEvents",
    "InvalidIdempotencyKey",
    "InvalidImport",
    "InvalidPagination",
    "InvalidToken",
    "NotFound",
    "RateLimited",
    "RepeatAsItWas",
    "RepeatWithKey",
    "TokenNeeded",
    "TooManyInFlight",
    "UnknownReference",
    "UnknownRoleNamed",
    "UnsupportedMediaType",
    "UserDisabled",
]

IDEMPOTENCY_KEY_HEADER = "Idempotency-Key"
IDEMPOTENCY_KEY_LENGTH_MAX = 255
IDEMPOTENCY_KEY = re.compile(rf"[\x21-\x7e]{{1,{IDEMPOTENCY_KEY_LENGTH_MAX}}}")

# ---- What became of a change


class _Unanswered(OutcomeUnknown):
    """The answer names the key that the service was given, by the caller or by the gateway."""

    def __init__(self, key: str) -> None:
        headers = {"Retry-After": "1", IDEMPOTENCY_KEY_HEADER: key}
        super().__init__(headers=headers, extra={"idempotencyKey": key}, key=key)


class RepeatWithKey(_Unanswered):
    """The service makes a change of one key once."""

    texts = {
        "en": "No answer came in time, so it is not known whether the change was made. Repeat it unchanged with"
        " Idempotency-Key {key}: it is then made once and answered as at first.",
        "de": "Es kam rechtzeitig keine Antwort, deshalb ist nicht bekannt, ob die Änderung gemacht wurde. Bitte"
        " unverändert mit Idempotency-Key {key} wiederholen: So wird sie nur einmal gemacht und wie beim ersten Mal"
        " beantwortet.",
    }


class RepeatAsItWas(_Unanswered):
    """The change says how things are to be; made twice they are the same."""

    texts = {
        "en": "No answer came in time, so it is not known whether the change was made. Repeating it unchanged is safe:"
        " made twice, it has the same effect as once.",
        "de": "Es kam rechtzeitig keine Antwort, deshalb ist nicht bekannt, ob die Änderung gemacht wurde. Sie"
        " unverändert zu wiederholen ist gefahrlos: Zweimal gemacht wirkt sie wie einmal.",
    }


# ---- Who calls


class TokenNeeded(Problem):
    """There is no bearer token."""

    status = 401
    code = "UNAUTHENTICATED"
    title = "Not authenticated"
    texts = {"en": "A bearer token is needed.", "de": "Ein Bearer-Token ist nötig."}

    def __init__(self) -> None:
        super().__init__(headers={"WWW-Authenticate": "Bearer"})


class InvalidToken(Problem):
    """The bearer token does not hold; why is for nobody but its issuer."""

    status = 401
    code = "INVALID_TOKEN"
    title = "Invalid token"
    texts = {"en": "The token is not valid or has expired.", "de": "Das Token ist ungültig oder abgelaufen."}

    def __init__(self) -> None:
        super().__init__(headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})


class UserDisabled(Problem):
    """The directory has disabled this person."""

    status = 403
    code = "USER_DISABLED"
    title = "Not allowed"
    texts = {"en": "This account is disabled.", "de": "Dieses Konto ist gesperrt."}


class InvalidContext(Problem):
    """The header that names the context mandate holds no id."""

    status = 400
    code = "INVALID_CONTEXT"
    title = "Bad request"
    texts = {"en": "{header} is not the id of a mandate.", "de": "{header} ist keine Mandats-Id."}


class RateLimited(Problem):
    """The caller has used up this operation's requests of the minute."""

    status = 429
    code = "RATE_LIMITED"
    title = "Too many requests"
    texts = {
        "en": "Too many requests; try again in {seconds} seconds.",
        "de": "Zu viele Anfragen; bitte in {seconds} Sekunden noch einmal versuchen.",
    }


# ---- What is asked

_GERMAN_KINDS = {
    "mandate": "das Mandat",
    "user": "die Person",
    "feature_instance": "die Feature-Instanz",
}


class NotFound(Problem):
    """No such entry, or none that the caller may see."""

    status = 404
    code = "NOT_FOUND"
    title = "Not found"
    texts = {"en": "There is no such entry.", "de": "Diesen Eintrag gibt es nicht."}


class UnknownReference(Problem):
    """An entry refers to a mandate, user or feature instance that the directory does not have."""

    status = 404
    code = "UNKNOWN_REFERENCE"
    title = "Not found"
    texts = {
        "en": "The directory has no {kind} {id}; make it first.",
        "de": "Das Verzeichnis kennt {kind} {id} nicht; bitte zuerst anlegen.",
    }

    def __init__(self, kind: str, id_: str) -> None:
        super().__init__(kind={"en": kind.replace("_", " "), "de": _GERMAN_KINDS[kind]}, id=id_)


class InvalidPagination(Problem):
    """The list's paging, sorting or filtering is malformed or names an unknown column."""

    status = 400
    code = "INVALID_PAGINATION"
    title = "Bad request"
    texts = {"en": "The list cannot be read so: {fault}.", "de": "So lässt sich die Liste nicht lesen: {fault}."}


class InvalidIdempotencyKey(Problem):
    """The key that makes a repeat one request is too long, or no key at all."""

    status = 400
    code = "INVALID_IDEMPOTENCY_KEY"
    title = "Bad request"
    texts = {
        "en": "Idempotency-Key has 1 to {length_max} visible ASCII characters and no spaces.",
        "de": "Idempotency-Key hat 1 bis {length_max} sichtbare ASCII-Zeichen und keine Leerzeichen.",
    }


class InstanceElsewhere(Problem):
    """A feature instance belongs to one mandate for ever: its ledger rows do."""

    status = 409
    code = "INSTANCE_OF_ANOTHER_MANDATE"
    title = "Conflict"
    texts = {
        "en": "This feature instance belongs to another mandate.",
        "de": "Diese Feature-Instanz gehört zu einem anderen Mandat.",
    }


class AmbiguousEntry(Problem):
    """The body says another id than the path."""

    status = 422
    code = "AMBIGUOUS_ENTRY"
    title = "Invalid request"
    texts = {
        "en": "The body names another {field} than the path.",
        "de": "Inhalt und Pfad nennen nicht dasselbe: {field}.",
    }

    def __init__(self, field: str) -> None:
        texts = {"en": "another one than in the path", "de": "ein anderer Wert als im Pfad"}
        super().__init__(field=field, errors=[FieldFault(field, texts)])


class UnknownRoleNamed(InvalidBody):
    """A role that is none of those configured: it would stand unseen and give nothing."""

    def __init__(self, unknown: UnknownRole) -> None:
        super().__init__([FieldFault(unknown.field, unknown.texts)], code="UNKNOWN_ROLE")


class InvalidImport(Problem):
    """Lines of the import cannot be taken, so none was."""

    status = 422
    code = "INVALID_IMPORT"
    title = "Invalid import"
    texts = {
        "en": "Nothing was imported: {count} faults, the first in line {line}.",
        "de": "Nichts wurde importiert: {count} Fehler, der erste in Zeile {line}.",
    }


class InvalidEvents(Problem):
    """No event of the request is one; each fault is in `results`."""

    status = 422
    code = "INVALID_EVENTS"
    title = "Invalid events"
    texts = {"en": "No event was accepted: {first}.", "de": "Kein Ereignis wurde angenommen: {first}."}


class TooManyInFlight(Problem):
    """More events wait for Kafka than may."""

    status = 429
    code = "TOO_MANY_IN_FLIGHT"
    title = "Too many requests"
    texts = {
        "en": "Too many events are being written; try again in a second.",
        "de": "Zu viele Ereignisse werden gerade geschrieben; bitte in einer Sekunde noch einmal versuchen.",
    }

    def __init__(self) -> None:
        super().__init__(headers={"Retry-After": "1"})


class BodyTooLarge(Problem):
    """The body is larger than this operation takes."""

    status = 413
    code = "BODY_TOO_LARGE"
    title = "Too large"
    texts = {
        "en": "At most {bytes_max} bytes are taken here.",
        "de": "Hier werden höchstens {bytes_max} Bytes angenommen.",
    }


class BodyTooSlow(Problem):
    """The body was not sent in its time."""

    status = 408
    code = "BODY_TOO_SLOW"
    title = "Request timeout"
    texts = {
        "en": "The body did not arrive within {seconds} seconds; nothing was done.",
        "de": "Der Inhalt kam nicht innerhalb von {seconds} Sekunden an; es wurde nichts gemacht.",
    }


class UnsupportedMediaType(Problem):
    """The body has another content type than this operation takes."""

    status = 415
    code = "UNSUPPORTED_MEDIA_TYPE"
    title = "Unsupported media type"
    texts = {"en": "Send {expected}.", "de": "Bitte {expected} senden."}
