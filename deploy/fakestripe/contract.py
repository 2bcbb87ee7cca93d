"""The parameters Stripe accepts, read from the pinned SDK: its TypedDicts are generated from Stripe's API.

So the fake refuses what the real API of this version refuses, and follows the SDK when that is upgraded.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import stripe
import stripe.params
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic_core import CoreConfig, ErrorDetails, SchemaValidator
from stripe import RequestOptions

from deploy.fakestripe.store import Json
from deploy.fakestripe.wire import StripeError, invalid, missing

API_VERSION: str = stripe.api_version

# Options of the SDK's calls are declared beside the parameters but never sent as such.
_OPTIONS = frozenset(RequestOptions.__annotations__)
# Two names the SDK imports for type checkers only.
_TYPE_CHECKING_NAMES = {"Mapping": Mapping, "StripeContext": object}
# What every reader of JSON can hold exactly.
MAX_INTEGER = 2**53
_CODES = {
    "int_parsing": "parameter_invalid_integer",
    "string_type": "parameter_invalid_string",
    "literal_error": "parameter_invalid_string",
}


class Contract:
    """Checks requests against the SDK's parameter types; each type is prepared when it is first used."""

    def __init__(self) -> None:
        self._validators: dict[str, SchemaValidator] = {}

    def check(self, name: str, params: Json) -> Json:
        """Return the parameters with their types, or raise Stripe's 400 for the first that does not belong."""
        for option in _OPTIONS & params.keys():
            raise _unknown([option])
        try:
            checked = self._validator(name).validate_python([params])[0]
        except ValidationError as error:
            raise _refusal(params, error.errors(include_url=False)) from error
        plain: Json = _plain(checked)
        return plain

    def _validator(self, name: str) -> SchemaValidator:
        validator = self._validators.get(name)
        if validator is None:
            kind: Any = stripe.params
            for part in name.split("."):
                kind = getattr(kind, part)
            # A list around the type is what lets a configuration be given for a TypedDict that is not ours.
            config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
            adapter = TypeAdapter(list[kind], config=config)
            adapter.rebuild(force=True, _types_namespace=_TYPE_CHECKING_NAMES)
            schema = _with_words_closed(adapter.core_schema)
            validator = SchemaValidator(schema, CoreConfig(extra_fields_behavior="forbid"))
            self._validators[name] = validator
        return validator


def _with_words_closed(schema: Any) -> Any:
    """Take any text out of what is declared as one of several words or text.

    The SDK leaves it open for words of later versions; in its own version Stripe refuses all others.
    """
    if isinstance(schema, list | tuple):
        return type(schema)(map(_with_words_closed, schema))
    if not isinstance(schema, dict):
        return schema
    made = {name: _with_words_closed(child) for name, child in schema.items()}
    # An empty word only says that the text may be unset.
    if made.get("type") == "union" and any(any(each.get("expected", ())) for each in made["choices"]):
        made["choices"] = [each for each in made["choices"] if each["type"] != "str"]
    return made


def _plain(value: Any) -> Any:
    """Turn the checked values into JSON; Stripe writes exact decimals as strings."""
    if isinstance(value, dict):
        return {key: _plain(child) for key, child in value.items()}
    if isinstance(value, list):
        return [_plain(child) for child in value]
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        raise invalid(f"Invalid integer: {value} is too large.", code="parameter_invalid_integer")
    return str(value) if isinstance(value, Decimal) else value


def _refusal(params: Json, errors: list[ErrorDetails]) -> StripeError:
    unknown = [_name(params, error["loc"]) for error in errors if error["type"] == "extra_forbidden"]
    if "payment_method_types" in unknown:
        message = (
            "The payment_method_types parameter is no longer supported. Use dynamic payment methods or"
            " allowed_payment_method_types instead."
        )
        return invalid(message, "payment_method_types", "payment_method_types_no_longer_supported")
    if unknown:
        return _unknown(unknown)
    for error in errors:
        if error["type"] == "missing":
            parent = _name(params, error["loc"][:-1])
            return missing(f"{parent}[{error['loc'][-1]}]" if parent else str(error["loc"][-1]))
    # Each branch of a union reports its own failure: the deepest one is about the value that was meant.
    error = max(errors, key=lambda candidate: len(candidate["loc"]))
    name = _name(params, error["loc"])
    if error["type"] != "literal_error":
        return invalid(f"Invalid {name}: {error['msg']}", name, _CODES.get(error["type"]))
    alike = [each["ctx"]["expected"] for each in errors if "ctx" in each and _name(params, each["loc"]) == name]
    return invalid(f"Invalid {name}: must be one of {', '.join(alike)}", name, _CODES[error["type"]])


def _unknown(names: list[str]) -> StripeError:
    noun = "parameter" if len(names) == 1 else "parameters"
    return invalid(f"Received unknown {noun}: {', '.join(names)}", names[0], "parameter_unknown")


def _name(params: Json, location: tuple[int | str, ...]) -> str:
    """Write a location the way it is sent, `items[0][price]`, without the steps that name branches of a union."""
    node: Any = params
    steps: list[str] = []
    for step in location[1:]:
        known = step in node if isinstance(node, dict) else isinstance(node, list) and isinstance(step, int)
        if known:
            node = node[step]
            steps.append(str(step))
    return "".join(step if position == 0 else f"[{step}]" for position, step in enumerate(steps))
