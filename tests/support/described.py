"""Every answer of ours that a test gets is held against the public OpenAPI document: status, type, headers and body.

`tests/conftest.py` does it for whatever httpx client a test uses, at the gateway and at the services behind it alike;
a mismatch fails the test. What a test's own stand-in for a service answers is marked by its media type and passed over.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from services.chassis.operations import service_document
from services.gateway.api import application
from services.gateway.edge.document import build_document
from services.gateway.edge.operations import SERVICES, read_document

__all__ = ["FAKED_JSON", "NO_OPERATIONS", "faults_of_answer", "held_to_the_document", "public_document"]

# Extensions of a request to a port that has no operations, so that its answer is none of one.
NO_OPERATIONS = {"no_operations": True}
FAKED_JSON = "application/json; answered-by=stand-in"
# Headers that mean something to callers, and so are described wherever they are sent.
TOLD = ("x-request-id", "retry-after", "www-authenticate", "ratelimit", "ratelimit-policy")


@cache
def public_document() -> dict[str, Any]:
    """The document as the gateway serves it."""
    documents = [*map(read_document, SERVICES), service_document(application())]
    return build_document(documents, version="0", context_header="X-Mandate-Id")


@contextmanager
def held_to_the_document() -> Iterator[list[str]]:
    """Holds the answers of every client within; gives the list of what did not fit."""
    faults: list[str] = []
    send, send_async = httpx.Client.send, httpx.AsyncClient.send

    def sending(client: httpx.Client, request: httpx.Request, **options: Any) -> httpx.Response:
        answer = send(client, request, **options)
        faults.extend([] if options.get("stream") else faults_of_answer(answer))
        return answer

    async def sending_async(client: httpx.AsyncClient, request: httpx.Request, **options: Any) -> httpx.Response:
        answer = await send_async(client, request, **options)
        faults.extend([] if options.get("stream") else faults_of_answer(answer))
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpx.Client, "send", sending)
        patch.setattr(httpx.AsyncClient, "send", sending_async)
        yield faults


def faults_of_answer(answer: httpx.Response) -> list[str]:
    """What of an answer is not as the document says; nothing where its path and method are no operation's."""
    operation = _operation(answer.request.method, answer.request.url.path)
    media_type = answer.headers.get("content-type", "")
    if operation is None or media_type == FAKED_JSON or answer.request.extensions.get("no_operations"):
        return []
    described = operation["responses"].get(str(answer.status_code))
    if described is None:
        return [_told(operation, answer, "the status is not described")]
    (content_type,) = described["content"]
    if media_type.partition(";")[0] != content_type:
        return [_told(operation, answer, f"{media_type} and not {content_type}")]
    names = {name.lower() for name in described["headers"]}
    faults = [f"{name} is not described" for name in TOLD if name in answer.headers and name not in names]
    components = public_document()["components"]["headers"]
    faults += [
        f"{name} is missing"
        for name in described["headers"]
        if components[name].get("required") and name not in answer.headers
    ]
    content = answer.json() if content_type.endswith("json") else answer.text
    errors = _validator(operation["operationId"], str(answer.status_code), content_type).iter_errors(content)
    faults += [f"{error.json_path}: {error.message[:300]}" for error in errors]
    return [_told(operation, answer, fault) for fault in faults]


def _told(operation: dict[str, Any], answer: httpx.Response, fault: str) -> str:
    return f"{operation['operationId']} {answer.status_code}: {fault}: {answer.text[:300]}"


def _operation(method: str, path: str) -> dict[str, Any] | None:
    for pattern, methods in _paths():
        if pattern.fullmatch(path) and method.lower() in methods:
            found: dict[str, Any] = methods[method.lower()]
            return found
    return None


@cache
def _paths() -> list[tuple[re.Pattern[str], dict[str, Any]]]:
    """The paths as the gateway tries them: literal ones first."""
    paths = sorted(public_document()["paths"].items(), key=lambda each: ("{" in each[0], each[0]))
    return [(re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path))), methods) for path, methods in paths]


@cache
def _validator(operation_id: str, status: str, content_type: str) -> Draft202012Validator:
    (operation,) = [each for _, methods in _paths() for each in methods.values() if each["operationId"] == operation_id]
    schema = operation["responses"][status]["content"][content_type]["schema"]
    return Draft202012Validator({**_closed(schema), "components": _closed_components()})


@cache
def _closed_components() -> dict[str, Any]:
    closed: dict[str, Any] = _closed({"schemas": public_document()["components"]["schemas"]})
    return closed


def _closed(node: Any) -> Any:
    """A schema in which an object has no member that is not described, unless it says that it may."""
    if isinstance(node, list):
        return [_closed(each) for each in node]
    if not isinstance(node, dict):
        return node
    made = {name: _closed(each) for name, each in node.items()}
    if isinstance(node.get("properties"), dict) and node.get("type") == "object":
        made.setdefault("additionalProperties", False)
    return made
