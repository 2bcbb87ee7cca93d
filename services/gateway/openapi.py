"""The OpenAPI document of the public surface, built from the same descriptions that route and guard it."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from pydantic import TypeAdapter

from services.gateway.api.documents.common import ProblemDocument
from services.gateway.api.operations import Operation, Who
from services.gateway.domain.pagination import Pagination
from services.gateway.errors import IDEMPOTENCY_KEY_HEADER
from services.gateway.limits import RATE_LIMIT_HEADERS
from services.gateway.scopes import SCOPES

__all__ = ["build_document"]

_REF = "#/components/schemas/{model}"
_PROBLEM = {"application/problem+json": {"schema": {"$ref": _REF.format(model="ProblemDocument")}}}
# A pagination is JSON inside the query, of which OpenAPI says its media type.
_PAGINATION = "pagination"

_HEADERS: dict[str, Any] = {
    "X-Request-Id": {
        "description": "The id under which the request is logged: the caller's, or a new one.",
        "required": True,
        "schema": {"type": "string", "minLength": 1, "maxLength": 64},
    },
    "RateLimit": {
        "description": "What is left of the limit: `r` requests, all again in `t` seconds.",
        "schema": {"type": "string"},
    },
    "RateLimit-Policy": {"description": "The limit: `q` requests in `w` seconds.", "schema": {"type": "string"}},
    IDEMPOTENCY_KEY_HEADER: {
        "description": "The key of the change, the caller's or a new one, for a repeat when its answer was lost.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 255},
    },
    "Retry-After": {
        "description": "After how many seconds trying again can succeed.",
        "schema": {"type": "integer", "minimum": 1},
    },
    "WWW-Authenticate": {"description": "That a bearer token is needed.", "schema": {"type": "string"}},
}

_Schemas = dict[tuple[str, str], dict[str, Any]]


def build_document(operations: Sequence[Operation], *, version: str, context_header: str) -> dict[str, Any]:
    """The document, OpenAPI 3.1."""
    schemas, definitions = _schemas(operations)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        described = _operation(operation, schemas)
        described["parameters"] = [
            *_path(operation, schemas),
            *_query(operation, schemas, definitions),
            *_headers(operation, context_header),
        ]
        paths.setdefault(operation.path, {})[operation.method.lower()] = described
    return {
        "openapi": "3.1.0",
        "info": {"title": "Rappen", "version": version, "description": "Billing for AI products."},
        "tags": [{"name": tag} for tag in dict.fromkeys(operation.tag for operation in operations)],
        "paths": paths,
        "components": {
            "schemas": definitions,
            "headers": _HEADERS,
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "Scopes of programs: "
                    + "; ".join(f"`{scope}`: {text}" for scope, text in SCOPES.items())
                    + ".",
                }
            },
        },
    }


def _schemas(operations: Sequence[Operation]) -> tuple[_Schemas, dict[str, Any]]:
    """The schema of each part of each operation, and the models that they share."""
    inputs: list[tuple[tuple[str, str], Any, TypeAdapter[Any]]] = [
        (("", "problem"), "serialization", TypeAdapter(ProblemDocument)),
        (("", _PAGINATION), "validation", TypeAdapter(Pagination)),
    ]
    for operation in operations:
        inputs += [
            ((operation.id, f"path {name}"), "validation", TypeAdapter(operation.path_type(name)))
            for name in operation.path_names
        ]
        if operation.query is not None:
            inputs.append(((operation.id, "query"), "validation", TypeAdapter(operation.query)))
        if operation.body is not None:
            inputs.append(((operation.id, "body"), "validation", TypeAdapter(operation.body.model)))
        for status, answer in {operation.status: operation.answer, **operation.more_answers}.items():
            inputs.append(((operation.id, f"answer {status}"), "serialization", TypeAdapter(answer)))
    found, shared = TypeAdapter.json_schemas(inputs, ref_template=_REF)
    return {key: dict(schema) for (key, _), schema in found.items()}, shared["$defs"]


def _operation(operation: Operation, schemas: _Schemas) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.id,
        "tags": [operation.tag],
        "summary": operation.summary,
        "description": _description(operation),
        "responses": _responses(operation, schemas),
        "security": [] if operation.who is Who.NOBODY else [{"bearer": _scopes(operation)}],
        "x-access": operation.who.name.lower().replace("_", "-"),
    }
    if operation.body is not None:
        schema = schemas[operation.id, "body"]
        described["requestBody"] = {
            "required": operation.body.required,
            "content": {media_type: {"schema": schema} for media_type in operation.body.media_types},
        }
    return described


def _scopes(operation: Operation) -> list[str]:
    """The scope that a program needs; people have none."""
    return [] if operation.scope is None else [operation.scope]


def _description(operation: Operation) -> str:
    who = f"For {operation.who.value}"
    if operation.scope is not None:
        who += f"; a program needs the scope `{operation.scope}`"
    return f"{who}." if operation.limit is None else f"{who}. A person has {operation.limit} requests a minute."


def _path(operation: Operation, schemas: _Schemas) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": schemas[operation.id, f"path {name}"]}
        for name in operation.path_names
    ]


def _query(operation: Operation, schemas: _Schemas, definitions: dict[str, Any]) -> list[dict[str, Any]]:
    if operation.query is None:
        return []
    schema = definitions[schemas[operation.id, "query"]["$ref"].rpartition("/")[2]]
    return [_query_parameter(name, property_, schema) for name, property_ in schema["properties"].items()]


def _query_parameter(name: str, schema: dict[str, Any], of: dict[str, Any]) -> dict[str, Any]:
    parameter: dict[str, Any] = {"name": name, "in": "query", "required": name in of.get("required", [])}
    if name == _PAGINATION:
        return {**parameter, "content": {"application/json": {"schema": {"$ref": _REF.format(model="Pagination")}}}}
    # A query has no null: a parameter is there or not.
    choices = [choice for choice in schema.get("anyOf", []) if choice != {"type": "null"}]
    return {**parameter, "schema": choices[0] if len(choices) == 1 else schema}


def _headers(operation: Operation, context_header: str) -> list[dict[str, Any]]:
    headers = [("Accept-Language", "The language of texts: de or en.", {"type": "string"})]
    if operation.context:
        pattern = {"type": "string", "pattern": r"^[A-Za-z0-9._:@|\-]{1,64}$"}
        headers.append((context_header, "The mandate that the caller works in.", pattern))
    if operation.keyed:
        key = {"type": "string", "pattern": r"^[\x21-\x7e]{1,255}$"}
        headers.append((IDEMPOTENCY_KEY_HEADER, "A repeat with the same key is the same request, done once.", key))
    return [
        {"name": name, "in": "header", "required": False, "description": text, "schema": schema}
        for name, text, schema in headers
    ]


def _responses(operation: Operation, schemas: _Schemas) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status in (operation.status, *operation.more_answers):
        schema = schemas[operation.id, f"answer {status}"]
        responses[str(status)] = {
            "description": HTTPStatus(status).phrase,
            "headers": _answered(operation, status),
            "content": {"application/json": {"schema": schema}},
        }
    refusals = {500, 503, *operation.refusals}
    if operation.who is not Who.NOBODY:
        refusals |= {400, 401, 403, 429}
    for status in sorted(refusals):
        responses[str(status)] = {
            "description": HTTPStatus(status).phrase,
            "headers": _answered(operation, status),
            "content": _PROBLEM,
        }
    return responses


def _answered(operation: Operation, status: int) -> dict[str, Any]:
    """The headers of an answer; those of the limit are there where the caller has one."""
    names = ["X-Request-Id"]
    if operation.limit is not None and status != 401:
        names += RATE_LIMIT_HEADERS
    if status in (429, 503):
        names.append("Retry-After")
    if operation.named and (status < 300 or status == 503):
        names.append(IDEMPOTENCY_KEY_HEADER)
    if status == 401:
        names.append("WWW-Authenticate")
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}
