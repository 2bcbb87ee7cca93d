"""Refusals that every operation shares, and the answers for a change whose outcome is unknown."""

import re

from services.chassis.problems import OutcomeUnknown, Problem
from services.chassis.validation import both

__all__ = [
    "IDEMPOTENCY_KEY",
    "IDEMPOTENCY_KEY_HEADER",
    "IDEMPOTENCY_KEY_LENGTH_MAX",
    "BodyTooLarge",
    "BodyTooSlow",
    "InvalidIdempotencyKey",
    "RepeatAsItWas",
    "RepeatWithKey",
    "UnsupportedMediaType",
]

IDEMPOTENCY_KEY_HEADER = "Idempotency-Key"
IDEMPOTENCY_KEY_LENGTH_MAX = 255
IDEMPOTENCY_KEY = re.compile(rf"[\x21-\x7e]{{1,{IDEMPOTENCY_KEY_LENGTH_MAX}}}")


class _Unanswered(OutcomeUnknown):
    """The outcome is unknown; the answer names the key that the service got, from the caller or from the gateway."""

    def __init__(self, key: str) -> None:
        headers = {"Retry-After": "1", IDEMPOTENCY_KEY_HEADER: key}
        super().__init__(headers=headers, extra={"idempotencyKey": key}, key=key)


class RepeatWithKey(_Unanswered):
    """Outcome unknown, of an operation that makes a change once for each idempotency key."""

    texts = both(
        "No answer came in time, so it is not known whether the change was made. Repeat it unchanged with"
        " Idempotency-Key {key}: it is then made once and answered as at first.",
        "Es kam rechtzeitig keine Antwort, deshalb ist nicht bekannt, ob die Änderung gemacht wurde. Bitte"
        " unverändert mit Idempotency-Key {key} wiederholen: So wird sie nur einmal gemacht und wie beim ersten Mal"
        " beantwortet.",
    )


class RepeatAsItWas(_Unanswered):
    """Outcome unknown, of an operation whose change sets a state, so that repeating it has no further effect."""

    texts = both(
        "No answer came in time, so it is not known whether the change was made. Repeating it unchanged is safe:"
        " made twice, it has the same effect as once.",
        "Es kam rechtzeitig keine Antwort, deshalb ist nicht bekannt, ob die Änderung gemacht wurde. Sie"
        " unverändert zu wiederholen ist gefahrlos: Zweimal gemacht wirkt sie wie einmal.",
    )


class InvalidIdempotencyKey(Problem):
    """The Idempotency-Key is too long or has characters that a key cannot have."""

    status = 400
    code = "INVALID_IDEMPOTENCY_KEY"
    title = "Bad request"
    texts = both(
        "Idempotency-Key has 1 to {length_max} visible ASCII characters and no spaces.",
        "Idempotency-Key hat 1 bis {length_max} sichtbare ASCII-Zeichen und keine Leerzeichen.",
    )


class BodyTooLarge(Problem):
    """The body is larger than this operation takes."""

    status = 413
    code = "BODY_TOO_LARGE"
    title = "Too large"
    texts = both("At most {bytes_max} bytes are taken here.", "Hier werden höchstens {bytes_max} Bytes angenommen.")


class BodyTooSlow(Problem):
    """The body was not sent in its time."""

    status = 408
    code = "BODY_TOO_SLOW"
    title = "Request timeout"
    texts = both(
        "The body did not arrive within {seconds} seconds; nothing was done.",
        "Der Inhalt kam nicht innerhalb von {seconds} Sekunden an; es wurde nichts gemacht.",
    )


class UnsupportedMediaType(Problem):
    """The body has another content type than this operation takes."""

    status = 415
    code = "UNSUPPORTED_MEDIA_TYPE"
    title = "Unsupported media type"
    texts = both("Send {expected}.", "Bitte {expected} senden.")
