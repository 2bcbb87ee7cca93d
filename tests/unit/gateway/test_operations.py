"""The operations as the documents describe them, and the one document that is made of all."""

from __future__ import annotations

from typing import Any

import pytest

from services.chassis.operations import EXTENSION
from services.gateway.edge.document import build_document
from services.gateway.edge.operations import SERVICES, Body, Operation, operations_of, read_document


def document(path: str, **schemas: Any) -> dict[str, Any]:
    described = {"operationId": "a-b", "tags": ["a"], "responses": {"200": {"description": "OK"}}, EXTENSION: {}}
    return {"paths": {path: {"get": described}}, "components": {"schemas": schemas}}


def merged(*documents: dict[str, Any]) -> dict[str, Any]:
    return build_document(documents, version="1", context_header="X-Mandate-Id")


def test_what_the_gateway_has_to_know_of_an_operation_is_in_its_document() -> None:
    found: dict[str, Operation] = {
        each.id: each for name in (*SERVICES, "gateway") for each in operations_of(read_document(name))
    }
    assert found["billing-check"].rules.limit is None
    assert found["billing-check"].rules.scope == "usage:check"
    assert found["billing-credit"].rules.limit == 10
    assert found["billing-list-transactions"].rules.context
    assert found["billing-import-prices"].service_s > 50 > found["billing-credit"].service_s
    assert found["billing-get-balance"].body is None
    assert found["billing-change-settings"].body == Body(required=False)
    assert found["payments-receive-stripe-event"].body == Body(type_checked=False)
    assert found["directory-import"].body == Body(("application/ndjson", "application/x-ndjson"), 32 * 1024 * 1024)
    assert found["usage-record"].rules.limit is None


def test_the_same_schema_in_two_documents_is_one() -> None:
    made = merged(document("/a", Money={"type": "string"}), document("/b", Money={"type": "string"}))
    assert made["components"]["schemas"] == {"Money": {"type": "string"}}
    assert list(made["paths"]) == ["/a", "/b"]


def test_two_schemas_of_one_name_are_an_error() -> None:
    with pytest.raises(ValueError, match="two schemas are named Money"):
        merged(document("/a", Money={"type": "string"}), document("/b", Money={"type": "number"}))


def test_an_operation_that_two_services_answer_is_an_error() -> None:
    with pytest.raises(ValueError, match="two services answer GET /a"):
        merged(document("/a"), document("/a"))


def test_two_names_of_one_path_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"/a/\{x\} and /a/\{y\} are one path"):
        merged(document("/a/{x}"), document("/a/{y}"))
