"""What is wrong with a value, as sentences of ours in English and German, never as a library or a pattern says it.

Everything a request is read with ends here: the faults of pydantic by their types, the contracts' by their codes, and
those of our own validators, which say both languages themselves (`value_fault`, `Form`).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, get_args

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError
from pydantic_core import CoreSchema, PydanticCustomError, core_schema
from pydantic_core.core_schema import ErrorType

from rappen_contracts.usage.v1 import TOKEN_KINDS

__all__ = [
    "FieldFault",
    "Form",
    "Texts",
    "both",
    "configuration_faults",
    "contract_texts",
    "faults_of",
    "say",
    "summary",
    "value_fault",
]

# A sentence or phrase by language, `en` and `de`.
Texts = Mapping[str, str]

FAULTS_MAX = 50
FIELD_PART_MAX = 120


def both(en: str, de: str) -> Texts:
    """A text in English and in German."""
    return {"en": en, "de": de}


def say(texts: Texts, language: str) -> str:
    """The text in that language, else in English."""
    return texts.get(language, texts["en"])


@dataclass(frozen=True, slots=True)
class FieldFault:
    """What is wrong with one field of a request."""

    field: str
    texts: Texts

    def wire(self, language: str) -> dict[str, str]:
        """The fault as it stands in a problem document."""
        return {"field": self.field, "message": say(self.texts, language)}


def value_fault(kind: str, *, en: str, de: str) -> PydanticCustomError:
    """What a validator of ours raises: its kind, and what it says in both languages, without braces."""
    return PydanticCustomError(kind, en, {"de": de})


@dataclass(frozen=True, slots=True)
class Form:
    """The form of a text, checked by a pattern that only the JSON Schema shows; people read what it means."""

    pattern: str
    en: str
    de: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """The check, behind the type's own."""
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """The pattern, for machines."""
        return {**handler(schema), "pattern": self.pattern}

    def _check(self, text: str) -> str:
        if not re.fullmatch(self.pattern.removeprefix("^").removesuffix("$"), text, re.ASCII):
            raise value_fault("form", en=self.en, de=self.de)
        return text


def faults_of(error: ValidationError | Iterable[Mapping[str, Any]], *, prefix: str | None = None) -> list[FieldFault]:
    """The first faults with their fields; values are not repeated."""
    listed: Iterable[Mapping[str, Any]] = (
        error.errors(include_url=False, include_input=False) if isinstance(error, ValidationError) else error
    )
    return [FieldFault(_field(fault["loc"], prefix), _texts(fault)) for fault in islice(listed, FAULTS_MAX)]


def configuration_faults(error: ValidationError) -> list[tuple[Sequence[str], str]]:
    """What an operator reads about a configuration, in English: the place of each fault, and its text.

    A ValueError in the validator of a setting was written for the operator; no request is read by such a validator.
    """
    listed = error.errors(include_url=False, include_input=False)
    return [
        (
            [str(part) for part in fault["loc"]],
            str(fault["ctx"]["error"]) if fault["type"] == "value_error" else say(_texts(fault), "en"),
        )
        for fault in listed
    ]


def summary(faults: Sequence[FieldFault]) -> Texts:
    """The first three faults in one phrase, in each language."""
    return {
        language: "; ".join(f"{fault.field}: {say(fault.texts, language)}" for fault in faults[:3])
        for language in ("en", "de")
    }


def contract_texts(code: str, detail: str) -> Texts:
    """A refusal of the contracts in both languages; its English says more, its field is in both."""
    german = _CONTRACT_GERMAN.get(code, _FALLBACK["de"])
    place, behind, _ = detail.partition(": ")
    return {"en": detail, "de": f"{place}: {german}" if behind and " " not in place else german}


def _field(location: Sequence[int | str], prefix: str | None) -> str:
    # A part with brackets is pydantic's name for a branch or a key, not a name that anybody sent.
    parts = [str(part)[:FIELD_PART_MAX] for part in location if not (isinstance(part, str) and _BRANCH.search(part))]
    field = ".".join([*([prefix] if prefix else []), *parts])
    return field.encode("utf-8", "replace").decode() or "body"


def _texts(fault: Mapping[str, Any]) -> Texts:
    kind, context = str(fault["type"]), fault.get("ctx") or {}
    if kind == "extra_forbidden" and "tokens" in fault["loc"][:-1]:
        kinds = ", ".join(TOKEN_KINDS)
        return both(f"no such kind; there are {kinds}", f"diese Art gibt es nicht; es gibt {kinds}")
    if kind == "string_pattern_mismatch" and _IDENTIFIER_MARK in str(context.get("pattern", "")):
        return _IDENTIFIER
    if kind in _LENGTHS and context.get("field_type") == "Value":
        # A text whose characters are checked first; what has entries is named by its type.
        kind = f"string_{kind}"
    if kind not in _LIBRARY_KINDS:
        # One of ours: it says what it means.
        english = str(fault["msg"]).encode("utf-8", "replace").decode()
        return {"en": english, "de": str(context.get("de") or _CONTRACT_GERMAN.get(kind) or _FALLBACK["de"])}
    texts = _LIBRARY.get(kind, _FALLBACK)
    german = {**context, "expected": str(context.get("expected", "")).replace(" or ", " oder ")}
    return {"en": texts["en"].format_map(context), "de": texts["de"].format_map(german)}


_LENGTHS = frozenset(["too_short", "too_long"])
_BRANCH = re.compile(r"[\[\]()]")
_LIBRARY_KINDS = frozenset(get_args(ErrorType))
_FALLBACK = both("is not valid", "ist nicht gültig")
# A part by which the pattern of ids is recognised: no other pattern has it.
_IDENTIFIER_MARK = "._:@|"
_IDENTIFIER = both(
    "an id is 1 to 64 letters, digits or the characters . _ : @ | -",
    "eine Id besteht aus 1 bis 64 Buchstaben, Ziffern oder den Zeichen . _ : @ | -",
)

_TEXT = both("text is expected", "Text wird erwartet")
_OBJECT = both("a JSON object is expected", "ein JSON-Objekt wird erwartet")
_LIST = both("a list is expected", "eine Liste wird erwartet")
_FLAG = both("true or false is expected", "true oder false wird erwartet")
_WHOLE = both("a whole number is expected", "eine ganze Zahl wird erwartet")
_NUMBER = both("a number is expected", "eine Zahl wird erwartet")
_TOO_LARGE = both("is too large", "ist zu gross")
_TIME = both("a time with an offset is expected, as RFC 3339 says", "eine Zeit mit Offset nach RFC 3339 wird erwartet")

# By pydantic's type of the fault; what is not here reads as `_FALLBACK`.
_LIBRARY: Mapping[str, Texts] = {
    "missing": both("is required", "fehlt"),
    "string_type": _TEXT,
    "string_unicode": both("text must be valid Unicode", "Text muss gültiges Unicode sein"),
    "string_too_short": both("is shorter than {min_length} characters", "ist kürzer als {min_length} Zeichen"),
    "string_too_long": both("is longer than {max_length} characters", "ist länger als {max_length} Zeichen"),
    "string_pattern_mismatch": both(
        "has a form or characters that are not allowed here", "hat eine Form oder Zeichen, die hier nicht erlaubt sind"
    ),
    "bool_type": _FLAG,
    "bool_parsing": _FLAG,
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_from_float": _WHOLE,
    "int_parsing_size": _TOO_LARGE,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "decimal_type": _NUMBER,
    "decimal_parsing": _NUMBER,
    "finite_number": _NUMBER,
    "greater_than": both("must be more than {gt}", "muss grösser als {gt} sein"),
    "greater_than_equal": both("must be at least {ge}", "muss mindestens {ge} sein"),
    "less_than": both("must be less than {lt}", "muss kleiner als {lt} sein"),
    "less_than_equal": both("must be at most {le}", "darf höchstens {le} sein"),
    "list_type": _LIST,
    "tuple_type": _LIST,
    "too_short": both("has fewer entries than {min_length}", "hat weniger Einträge als {min_length}"),
    "too_long": both("has more entries than {max_length}", "hat mehr Einträge als {max_length}"),
    "dict_type": _OBJECT,
    "mapping_type": _OBJECT,
    "model_type": _OBJECT,
    "model_attributes_type": _OBJECT,
    "dataclass_type": _OBJECT,
    "literal_error": both("{expected} is expected", "{expected} wird erwartet"),
    "enum": both("{expected} is expected", "{expected} wird erwartet"),
    "extra_forbidden": both("there is no such field", "dieses Feld gibt es nicht"),
    "json_invalid": both("is not valid JSON", "ist kein gültiges JSON"),
    "json_type": both("JSON text is expected", "JSON-Text wird erwartet"),
    "datetime_type": _TIME,
    "datetime_parsing": _TIME,
    "datetime_from_date_parsing": _TIME,
    "timezone_aware": _TIME,
}

# What the contracts refuse, by its code; their own English is in the refusal.
_CONTRACT_GERMAN: Mapping[str, str] = {
    "BAD_ATTRIBUTE": "ein Attribut des Ereignisses hat den falschen Typ",
    "BAD_BASE64": "data_base64 ist kein gültiges Base64",
    "BAD_CONTENT_TYPE": "der Inhaltstyp ist kein JSON",
    "BAD_DECIMAL": "eine Dezimalzahl besteht aus Ziffern mit Vorzeichen, Punkt und Exponent, wo sie nötig sind",
    "BAD_HEADER": "ein Header ist nicht lesbar",
    "BAD_ID": _IDENTIFIER["de"],
    "BAD_SOURCE": "source ist keine gültige URI-Referenz",
    "BAD_SPECVERSION": "specversion ist 1.0",
    "BAD_TEXT": "Text darf weder NUL noch halbe Zeichen enthalten",
    "BAD_TIME": _TIME["de"],
    "BAD_UUID": "das ist keine UUID",
    "DATA_TWICE": "data und data_base64 stehen beide da",
    "DUPLICATE_HEADER": "ein Header hat zwei Werte",
    "DUPLICATE_KEY": "ein Objekt hat einen Schlüssel zweimal",
    "EMPTY": "es ist nichts darin",
    "MISSING_ATTRIBUTE": "ein nötiges Attribut des Ereignisses fehlt",
    "MISSING_FIELD": "ein nötiges Feld fehlt",
    "NAIVE_TIME": "eine Zeit braucht einen Offset",
    "NEGATIVE": "darf nicht negativ sein",
    "NOT_AN_ARRAY": "ein JSON-Array wird erwartet",
    "NOT_AN_OBJECT": _OBJECT["de"],
    "NOT_A_STRING": "eine Dezimalzahl wird als JSON-Text geschrieben",
    "NOT_FINITE": "eine endliche Zahl wird erwartet",
    "NOT_JSON": "das ist kein gültiges JSON",
    "NOT_UTF8": "das ist kein UTF-8",
    "RECORD_TOO_LARGE": "das Ereignis ist zu gross",
    "TIME_OUT_OF_RANGE": "die Zeit liegt nicht in den Jahren 2000 bis 2199",
    "TIME_IN_FUTURE": "die Zeit liegt zu weit in der Zukunft",
    "TOO_DEEP": "das JSON ist zu tief verschachtelt",
    "TOO_LARGE": _TOO_LARGE["de"],
    "TOO_LONG": "der Text ist zu lang",
    "TOO_MANY_DECIMALS": "hat zu viele Nachkommastellen",
    "TOO_MANY_ENTRIES": "hat zu viele Einträge",
    "TOO_MANY_EVENTS": "das sind zu viele Ereignisse",
    "TOO_SHORT": "der Text ist zu kurz",
    "TOTAL_MISMATCH": "die Summe stimmt nicht mit ihren Teilen überein",
    "UNDECODABLE": "das Ereignis ist nicht lesbar",
    "UNKNOWN_CURRENCY": "diese Währung ist nicht bekannt",
    "UNKNOWN_TOKEN_KIND": f"diese Art von Tokens gibt es nicht; es gibt {', '.join(TOKEN_KINDS)}",
    "UNKNOWN_TYPE": "diese Art von Ereignis wird hier nicht angenommen",
    "UNKNOWN_VALUE": "dieser Wert ist nicht bekannt",
    "UNKNOWN_VERSION": "diese Hauptversion des Ereignisses ist nicht bekannt",
    "WRONG_TYPE": "hat den falschen Typ",
}
