"""What is wrong with a field: its stable code, and a sentence of our own, because no text of a library and no pattern
is shown to the sender."""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from pydantic_core.core_schema import ErrorType

from rappen_contracts.errors import ContractError
from rappen_contracts.usage.v1 import TOKEN_KINDS

__all__ = ["code_of", "refusal", "sentence"]

_CODES = {
    "missing": "MISSING_FIELD",
    "greater_than_equal": "NEGATIVE",
    "less_than_equal": "TOO_LARGE",
    "int_parsing_size": "TOO_LARGE",
    "finite_number": "NOT_FINITE",
    "string_too_long": "TOO_LONG",
    "string_too_short": "TOO_SHORT",
    "string_pattern_mismatch": "BAD_ID",
    "string_unicode": "BAD_TEXT",
    "too_long": "TOO_MANY_ENTRIES",
    "literal_error": "UNKNOWN_VALUE",
    "union_tag_invalid": "UNKNOWN_VALUE",
    "union_tag_not_found": "MISSING_FIELD",
}

_LIBRARY = frozenset(get_args(ErrorType))
_ID_CHARACTERS = "A-Za-z0-9._:@|"
_WHOLE = "must be a whole number"
# By the library's name of the fault; `{}` is the limit, and the name of the limit stands behind it.
_SENTENCES: Mapping[str, tuple[str, str]] = {
    "missing": ("is required", ""),
    "none_required": ("must be null", ""),
    "extra_forbidden": ("there is no such field", ""),
    "string_type": ("must be text", ""),
    "string_unicode": ("must be valid Unicode text", ""),
    "string_too_short": ("must have at least {} characters", "min_length"),
    "string_too_long": ("may have at most {} characters", "max_length"),
    "int_type": (_WHOLE, ""),
    "int_parsing": (_WHOLE, ""),
    "int_from_float": (_WHOLE, ""),
    "int_parsing_size": ("is too large a number", ""),
    "float_type": ("must be a number", ""),
    "float_parsing": ("must be a number", ""),
    "decimal_type": ("must be a number", ""),
    "decimal_parsing": ("must be a number", ""),
    "finite_number": ("must be a finite number", ""),
    "greater_than": ("must be more than {}", "gt"),
    "greater_than_equal": ("must be at least {}", "ge"),
    "less_than": ("must be less than {}", "lt"),
    "less_than_equal": ("must be at most {}", "le"),
    "bool_type": ("must be true or false", ""),
    "bool_parsing": ("must be true or false", ""),
    "dict_type": ("must be an object", ""),
    "model_type": ("must be an object", ""),
    "model_attributes_type": ("must be an object", ""),
    "list_type": ("must be an array", ""),
    "too_short": ("must have at least {} entries", "min_length"),
    "too_long": ("may have at most {} entries", "max_length"),
    "union_tag_not_found": ("needs a kind", ""),
    "union_tag_invalid": ("no such kind", ""),
    "json_type": ("must be JSON text", ""),
    "json_invalid": ("must be valid JSON", ""),
}


def code_of(fault: ErrorDetails) -> str:
    """The code of a fault in data of the contracts."""
    kind = fault["type"]
    if kind == "extra_forbidden":
        # Tokens alone take no other names; in other models it is an unknown field like any other fault of form.
        return "UNKNOWN_TOKEN_KIND" if "tokens" in fault["loc"][:-1] else "WRONG_TYPE"
    return _CODES.get(kind) or (kind if kind.isupper() else "WRONG_TYPE")


def sentence(fault: ErrorDetails) -> str:
    """What is wrong, without the field and without anything of the value; the words of our own faults stay."""
    kind = fault["type"]
    context: Mapping[str, Any] = fault.get("ctx") or {}
    if kind not in _LIBRARY:
        return fault["msg"]
    if code_of(fault) == "UNKNOWN_TOKEN_KIND":
        return f"no such kind; there are {', '.join(TOKEN_KINDS)}"
    if kind == "literal_error":
        return f"must be {str(context.get('expected', '')).replace(chr(39), '')}"
    if kind == "string_pattern_mismatch":
        if _ID_CHARACTERS in str(context.get("pattern", "")):
            return "must be 1 to 64 characters of A-Z a-z 0-9 . _ : @ | -"
        return "has a form that is not allowed"
    text, limit = _SENTENCES.get(kind, ("is not valid", ""))
    return text.format(context.get(limit, ""))


def refusal(error: ValidationError, model: type[BaseModel]) -> ContractError:
    """The first fault with its field; nothing of the payload is repeated, because details travel and are logged."""
    fault = error.errors(include_url=False, include_input=False)[0]
    code = code_of(fault)
    # The keys of free objects (metadata, quantities) are the publisher's text; pydantic repeats an unknown tag.
    ours = _names(model)
    field = ".".join(str(part) if isinstance(part, int) or part in ours else "*" for part in fault["loc"]) or "data"
    return ContractError(code, f"{field}: {sentence(fault)}")


@cache
def _names(model: type[BaseModel]) -> frozenset[str]:
    """Every field name and literal value that the contract itself defines, at any depth."""
    return frozenset(_walk_names(model))


def _walk_names(annotation: object) -> Iterator[str]:
    if isinstance(annotation, str):
        yield annotation
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, field in annotation.model_fields.items():
            yield name
            yield from _walk_names(field.annotation)
    else:
        for argument in get_args(annotation):
            yield from _walk_names(argument)
