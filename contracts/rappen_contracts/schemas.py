"""JSON Schemas (draft 2020-12) of event data, for publishers and readers in other languages."""

from typing import Any

from rappen_contracts.registry import EventVersion

__all__ = ["Schema", "event_schema"]

Schema = dict[str, Any]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
# Keywords whose values are plain data or names to schemas; everything else may hold schemas.
_DATA = frozenset(["const", "default", "enum", "examples", "required"])
_NAMED = frozenset(["$defs", "properties"])


def event_schema(event: EventVersion) -> Schema:
    """The schema of one version's data; cross-field rules that a schema cannot say are checked on reading only."""
    schema = event.model.model_json_schema(mode="validation")
    _require_tags(schema, schema)
    tidied: Schema = _tidy(schema)
    return {"$schema": _DIALECT, "$id": f"urn:{event.type.replace('.', ':')}", "title": event.type} | tidied


def _require_tags(node: object, root: Schema) -> None:
    """A tagged union needs its tag on the wire, though each model knows its own by default."""
    if isinstance(node, list):
        for entry in node:
            _require_tags(entry, root)
    if not isinstance(node, dict):
        return
    for entry in node.values():
        _require_tags(entry, root)
    union = node.get("discriminator")
    if isinstance(union, dict) and isinstance(union.get("mapping"), dict):
        for reference in union["mapping"].values():
            member = root["$defs"][reference.removeprefix("#/$defs/")]
            member["required"] = sorted({*member.get("required", []), union["propertyName"]})


def _tidy(node: Any) -> Any:
    """Without the titles that repeat each name, and without the OpenAPI keyword for tagged unions."""
    if isinstance(node, list):
        return [_tidy(entry) for entry in node]
    if not isinstance(node, dict):
        return node
    tidied: Schema = {}
    for keyword, value in node.items():
        if keyword in _NAMED:
            tidied[keyword] = {name: _tidy(entry) for name, entry in value.items()}
        elif keyword in _DATA:
            tidied[keyword] = value
        elif keyword not in {"title", "discriminator"}:
            tidied[keyword] = _tidy(value)
    return tidied
