"""Operations: what a route says of itself beside FastAPI's own words, once, where it is answered.

A route is declared with `**operation(...)`. What FastAPI knows (operation id, summary, models, statuses) is given to
it; who may call, how often, and what a repeat means go into the OpenAPI document under `x-rappen`. Each service's
document is committed beside it (`openapi.json`), and the gateway routes, guards, limits and documents from those.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import FastAPI, Response
from fastapi.encoders import jsonable_encoder
from pydantic import BaseModel, BeforeValidator, ConfigDict, TypeAdapter, field_serializer
from pydantic.alias_generators import to_camel

__all__ = [
    "BODY_BYTES_MAX",
    "CHANGES_PER_MINUTE",
    "EXTENSION",
    "Access",
    "ProblemDocument",
    "Repeat",
    "Rules",
    "add_schemas",
    "operation",
    "reference",
    "service_document",
]

READS_PER_MINUTE = 60
CHANGES_PER_MINUTE = 20
BODY_BYTES_MAX = 4 * 1024 * 1024
# The member of an operation in a document that holds its `Rules`.
EXTENSION = "x-rappen"
_REF = "#/components/schemas/{model}"


class Access(StrEnum):
    """The kind of caller an operation is for; what they see is decided by what they ask.

    The gateway distinguishes people from service accounts, system administrators from others and, where the path names
    the mandate, its members and administrators from others, before an answer reveals anything else.
    """

    NOBODY = "nobody"
    PERSON = "person"
    MEMBER = "member"
    MANDATE_ADMIN = "mandate-admin"
    SYSTEM_ADMIN = "system-admin"
    SERVICE_ACCOUNT = "program"
    PERSON_OR_SERVICE_ACCOUNT = "person-or-program"
    MEMBER_OR_SERVICE_ACCOUNT = "member-or-program"


class Repeat(StrEnum):
    """What it means to send an operation's request once more, when its first answer was lost."""

    # It only reads.
    READ = "read"
    # What was made is refused the second time, so look before repeating.
    LOOK = "look"
    # Made twice, it has the same effect as once.
    SAME = "same"
    # With the same Idempotency-Key it is made once, and answered as at first.
    KEY = "key"


class Rules(BaseModel):
    """By what an operation is guarded and forwarded. `limit` is a person's requests a minute, None for no limit."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, validate_by_name=True, serialize_by_alias=True
    )

    access: Access = Access.PERSON
    # What a service account's token must allow.
    scope: str | None = None
    # Written as 0 for no limit, because a document of FastAPI has no null.
    limit: Annotated[int | None, BeforeValidator(lambda given: given or None)] = READS_PER_MINUTE
    # None stands for READ with GET, and for SAME with every other method.
    repeat: Repeat | None = None
    # The parameter of the path that names the mandate, where the path names one.
    mandate_parameter: str = "mandateId"
    # Whether the header that names the context mandate counts; elsewhere it is ignored.
    context: bool = False
    # Whether its work grows with a mandate or a file, so that it may take longer than others.
    long: bool = False
    # Whether its answer is of any length, and is passed on piece by piece.
    streams: bool = False
    body_bytes_max: int = BODY_BYTES_MAX
    # Whether the media type is the gateway's to refuse; else the service judges it.
    body_type_checked: bool = True

    @field_serializer("limit")
    def _no_null(self, limit: int | None) -> int:
        return limit or 0


def operation(
    operation_id: str,
    summary: str,
    *,
    answer: Any,
    answer_type: str = "application/json",
    status: int = 200,
    more_answers: Mapping[int, Any] | None = None,
    refuses: Sequence[int] = (),
    problems: Mapping[int, Any] | None = None,
    body: Any = None,
    media_types: Sequence[str] = ("application/json",),
    **rules: Any,
) -> dict[str, Any]:
    """The arguments of a route: its id, tag first; what it answers; the statuses of its problem documents; `Rules`.

    `answer_type` is the media type of an answer that is no JSON, and has no model.
    `problems` are the problem documents that have members of their own, by status.
    `body` is for a route that reads its bytes itself; that of any other is the parameter of its function. Refusals that
    every operation has are the gateway's to document.
    """
    extra: dict[str, Any] = {EXTENSION: Rules(**rules).model_dump(mode="json", exclude_defaults=True)}
    if body is not None:
        schema = reference(body)
        extra["requestBody"] = {"required": True, "content": {each: {"schema": schema} for each in media_types}}
    responses: dict[int | str, dict[str, Any]] = {
        code: {"model": model, "description": _phrase(code)} for code, model in (more_answers or {}).items()
    }
    plain = {"$ref": _REF.format(model="ProblemDocument")}
    refusals = {**dict.fromkeys(refuses, plain), **{code: reference(model) for code, model in (problems or {}).items()}}
    for code, schema in refusals.items():
        problem = {"application/problem+json": {"schema": schema}}
        responses[code] = {"description": _phrase(code), "content": problem}
    if answer_type != "application/json":
        responses[status] = {"content": {answer_type: {"schema": {"type": "string"}}}}
    return {
        **({} if answer_type == "application/json" else {"response_class": Response}),
        "operation_id": operation_id,
        "summary": summary,
        "tags": [operation_id.split("-", 1)[0]],
        "response_model": answer,
        "response_description": _phrase(status),
        "status_code": status,
        "responses": responses,
        "openapi_extra": extra,
    }


def _phrase(status: int) -> str:
    """What RFC 9110 calls a status; older versions of Python have two other names."""
    return {413: "Content Too Large", 422: "Unprocessable Content"}.get(status) or HTTPStatus(status).phrase


def reference(model: Any) -> dict[str, Any]:
    """The schema of what FastAPI does not see (a body of bytes, JSON in a query): of a model a reference to it.

    `service_document` moves the definitions that come with it to where they are referred to.
    """
    schema = TypeAdapter(model).json_schema(ref_template=_REF)
    if not (isinstance(model, type) and issubclass(model, BaseModel)) or "$ref" in schema:
        return schema
    definitions = schema.pop("$defs", {})
    return {"$ref": _REF.format(model=model.__name__), "$defs": {**definitions, model.__name__: schema}}


class FieldFault(BaseModel):
    """One fault and where it is."""

    field: str
    message: str


class ProblemDocument(BaseModel):
    """RFC 9457; `errors` with 422 alone, `idempotencyKey` where it is not known what became of a change."""

    model_config = ConfigDict(alias_generator=to_camel)

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: list[FieldFault] = []
    idempotency_key: str | None = None


def service_document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of an application's operations, in an order that does not depend on that of its routes."""
    made = app.openapi()
    schemas: dict[str, Any] = made.setdefault("components", {}).setdefault("schemas", {})
    paths: dict[str, dict[str, Any]] = {}
    for path, methods in sorted(made["paths"].items()):
        for method, described in sorted(methods.items()):
            if EXTENSION in described:
                paths.setdefault(path, {})[method] = described
                _lift_definitions(described, schemas)
                described["responses"] = {
                    code: answer for code, answer in described["responses"].items() if not _is_of_fastapi(answer)
                }
    # Without nulls, as FastAPI writes the schemas that it finds.
    problem = jsonable_encoder(TypeAdapter(ProblemDocument).json_schema(ref_template=_REF), exclude_none=True)
    add_schemas(schemas, {**problem.pop("$defs"), "ProblemDocument": problem})
    # FastAPI's own form of a refusal, which no operation of ours answers.
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    components = {"schemas": dict(sorted(schemas.items()))}
    document: dict[str, Any] = _with_whole_numbers({**made, "paths": paths, "components": components})
    return document


def add_schemas(schemas: dict[str, Any], more: Mapping[str, Any]) -> None:
    """Adds schemas by their names; raises `ValueError` for a name that stands for another schema already."""
    for name, schema in more.items():
        if schemas.setdefault(name, schema) != schema:
            raise ValueError(f"two schemas are named {name}: one of the models needs another name")


def _with_whole_numbers(node: Any) -> Any:
    """The document with its limits as they were declared: FastAPI makes floats of them."""
    if isinstance(node, dict):
        return {name: _with_whole_numbers(each) for name, each in node.items()}
    if isinstance(node, list):
        return [_with_whole_numbers(each) for each in node]
    return int(node) if isinstance(node, float) and node.is_integer() else node


def _lift_definitions(node: Any, schemas: dict[str, Any]) -> None:
    """Moves the definitions inside an operation to the schemas of the document."""
    if isinstance(node, dict):
        definitions = node.pop("$defs", {})
        for each in [*node.values(), *definitions.values()]:
            _lift_definitions(each, schemas)
        add_schemas(schemas, definitions)
    elif isinstance(node, list):
        for each in node:
            _lift_definitions(each, schemas)


def _is_of_fastapi(answer: Mapping[str, Any]) -> bool:
    schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
    return bool(schema.get("$ref") == _REF.format(model="HTTPValidationError"))
