"""The OpenAPI document of the public surface: the services' documents merged, with what the gateway adds to each
operation."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from services.chassis.operations import EXTENSION, Access, add_schemas
from services.gateway.access.scopes import SCOPES
from services.gateway.edge.admission import RATE_LIMIT_HEADERS
from services.gateway.edge.errors import IDEMPOTENCY_KEY_HEADER
from services.gateway.edge.operations import Operation, operations_of

__all__ = ["build_document"]

_PARAMETER = re.compile(r"\{\w+\}")
_PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}}
_WHO: Mapping[Access, str] = {
    Access.NOBODY: "everybody, without a token",
    Access.PERSON: "any person",
    Access.MEMBER: "members of the mandate, and system administrators",
    Access.MANDATE_ADMIN: "administrators of the mandate, and system administrators",
    Access.SYSTEM_ADMIN: "system administrators",
    Access.SERVICE_ACCOUNT: "service accounts",
    Access.PERSON_OR_SERVICE_ACCOUNT: "any person, and service accounts",
    Access.MEMBER_OR_SERVICE_ACCOUNT: "members of the mandate, system administrators, and service accounts",
}
# The refusals of every operation, and the further ones of every operation that needs a token.
_REFUSALS: Mapping[int, str] = {500: "Internal Server Error", 503: "Service Unavailable"}
_REFUSALS_OF_CALLERS: Mapping[int, str] = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    429: "Too Many Requests",
}

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


def build_document(documents: Iterable[Mapping[str, Any]], *, version: str, context_header: str) -> dict[str, Any]:
    """The document, OpenAPI 3.1; raises `ValueError` where the documents contradict each other."""
    schemas: dict[str, Any] = {}
    paths: dict[str, dict[str, Any]] = {}
    # By what OpenAPI holds them to be: two that differ in the names of their parameters alone are the same.
    templates: dict[str, str] = {}
    tags: list[str] = []
    for document in documents:
        add_schemas(schemas, document["components"]["schemas"])
        for operation in operations_of(document):
            method = operation.method.lower()
            if method in paths.setdefault(operation.path, {}):
                raise ValueError(f"two services answer {operation.method} {operation.path}")
            template = templates.setdefault(_PARAMETER.sub("{}", operation.path), operation.path)
            if template != operation.path:
                raise ValueError(f"{template} and {operation.path} are one path")
            paths[operation.path][method] = _described(operation, context_header)
            tags += operation.described["tags"]
    scopes = "; ".join(f"`{scope}`: {text}" for scope, text in SCOPES.items())
    bearer = {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": f"Scopes of service accounts: {scopes}.",
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Rappen", "version": version, "description": "Billing for AI products."},
        "tags": [{"name": tag} for tag in dict.fromkeys(tags)],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "headers": _HEADERS,
            "securitySchemes": {"bearer": bearer},
        },
    }


def _described(operation: Operation, context_header: str) -> dict[str, Any]:
    """An operation as its service describes it, with what the gateway adds: its rules as OpenAPI expresses them."""
    own = {name: value for name, value in operation.described.items() if name != EXTENSION}
    scope = operation.rules.scope
    return {
        **own,
        "description": _description(operation),
        "parameters": [
            *(_parameter(each) for each in own.get("parameters", [])),
            *_header_parameters(operation, context_header),
        ],
        "responses": _responses(operation),
        # The scope is what a service account needs; people have none.
        "security": [] if operation.rules.access is Access.NOBODY else [{"bearer": [] if scope is None else [scope]}],
        "x-access": operation.rules.access.value,
    }


def _description(operation: Operation) -> str:
    who, scope, limit = f"For {_WHO[operation.rules.access]}", operation.rules.scope, operation.rules.limit
    if scope is not None:
        who += f"; a service account needs the scope `{scope}`"
    return f"{who}." if limit is None else f"{who}. A person has {limit} requests a minute."


def _parameter(described: Mapping[str, Any]) -> dict[str, Any]:
    """A parameter in its shortest form: a query has no null, and JSON in it is a content for OpenAPI."""
    schema = described["schema"]
    choices = [choice for choice in schema.get("anyOf", []) if choice != {"type": "null"}]
    if len(choices) == 1:
        schema = {**{name: value for name, value in schema.items() if name not in ("anyOf", "title")}, **choices[0]}
    kept = {name: value for name, value in described.items() if name != "schema"}
    if "contentSchema" in schema:
        return {**kept, "content": {schema["contentMediaType"]: {"schema": schema["contentSchema"]}}}
    return {**kept, "schema": schema}


def _header_parameters(operation: Operation, context_header: str) -> list[dict[str, Any]]:
    headers = [("Accept-Language", "The language of texts: de or en.", {"type": "string"})]
    if operation.rules.context:
        pattern = {"type": "string", "pattern": r"^[A-Za-z0-9._:@|\-]{1,64}$"}
        headers.append((context_header, "The mandate that the caller works in.", pattern))
    if operation.keyed:
        key = {"type": "string", "pattern": r"^[\x21-\x7e]{1,255}$"}
        headers.append((IDEMPOTENCY_KEY_HEADER, "A repeat with the same key is the same request, done once.", key))
    return [
        {"name": name, "in": "header", "required": False, "description": text, "schema": schema}
        for name, text, schema in headers
    ]


def _responses(operation: Operation) -> dict[str, Any]:
    common = {**_REFUSALS, **({} if operation.rules.access is Access.NOBODY else _REFUSALS_OF_CALLERS)}
    refusals = {str(status): {"description": phrase, "content": _PROBLEM} for status, phrase in common.items()}
    responses = {**refusals, **operation.described["responses"]}
    return {
        status: {**described, "headers": _answered(operation, int(status))}
        for status, described in sorted(responses.items())
    }


def _answered(operation: Operation, status: int) -> dict[str, Any]:
    """The headers of an answer; those of the limit are there where the caller has one."""
    names = ["X-Request-Id"]
    if operation.rules.limit is not None and status != 401:
        names += RATE_LIMIT_HEADERS
    if status in (429, 503):
        names.append("Retry-After")
    if operation.named and (status < 300 or status == 503):
        names.append(IDEMPOTENCY_KEY_HEADER)
    if status == 401:
        names.append("WWW-Authenticate")
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}
