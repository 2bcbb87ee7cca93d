"""Operations as the services' OpenAPI documents describe them: all that the gateway needs to route, guard and
forward."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from fastapi.routing import APIRoute

from services.chassis.documents import document_file
from services.chassis.operations import EXTENSION, Repeat, Rules
from services.chassis.requests import ANSWER_S, LONG_ANSWER_S

__all__ = ["LONG_SERVICE_S", "SERVICES", "SERVICE_S", "Body", "Operation", "operations_of", "read_document"]

SERVICES = ("billing", "payments", "subscriptions")
# How long a service may take to answer, in seconds; it gives up by itself before that.
SERVICE_S = ANSWER_S + 1.0
LONG_SERVICE_S = LONG_ANSWER_S + 3.0
METHODS = ("get", "post", "put", "delete")


@dataclass(frozen=True, slots=True)
class Body:
    """What a request may carry. `type_checked` says whether another media type is refused here."""

    media_types: tuple[str, ...] = ("application/json",)
    bytes_max: int = Rules().body_bytes_max
    required: bool = True
    type_checked: bool = True


@dataclass(frozen=True, slots=True)
class Operation:
    """One method on one path. `described` is its entry in the OpenAPI document."""

    id: str
    method: str
    path: str
    rules: Rules
    body: Body | None
    described: Mapping[str, Any]
    # The effect of repeating it.
    repeats: Repeat
    # How long a service behind the gateway may take for it.
    service_s: float
    # Whether a repeat with the same Idempotency-Key is the same request.
    keyed: bool
    # Whether answers name the idempotency key by which the change can be repeated when its answer is lost.
    named: bool

    @classmethod
    def of_document(cls, method: str, path: str, described: Mapping[str, Any]) -> "Operation":
        """The operation of a document."""
        rules = Rules.model_validate(described[EXTENSION])
        repeats = rules.repeat or (Repeat.READ if method.upper() == "GET" else Repeat.SAME)
        return cls(
            id=described["operationId"],
            method=method.upper(),
            path=path,
            rules=rules,
            body=_body(described.get("requestBody"), rules),
            described=described,
            repeats=repeats,
            service_s=LONG_SERVICE_S if rules.long else SERVICE_S,
            keyed=repeats is Repeat.KEY,
            named=repeats in (Repeat.KEY, Repeat.SAME),
        )

    @classmethod
    def of_route(cls, route: APIRoute) -> "Operation":
        """The operation of one of our own routes, which was declared with `operation`."""
        (method,) = sorted(route.methods or [])
        described = {**(route.openapi_extra or {}), "operationId": route.operation_id}
        return cls.of_document(method, route.path, described)


def read_document(service: str) -> dict[str, Any]:
    """The committed OpenAPI document of a service."""
    document: dict[str, Any] = orjson.loads(document_file(service).read_bytes())
    return document


def operations_of(document: Mapping[str, Any]) -> list[Operation]:
    """The operations of a document."""
    return [
        Operation.of_document(method, path, methods[method])
        for path, methods in document["paths"].items()
        for method in METHODS
        if method in methods
    ]


def _body(described: Mapping[str, Any] | None, rules: Rules) -> Body | None:
    if described is None:
        return None
    return Body(
        media_types=tuple(described["content"]),
        bytes_max=rules.body_bytes_max,
        required=described.get("required", False),
        type_checked=rules.body_type_checked,
    )
