"""Requests that Schemathesis makes of the OpenAPI document, right ones and wrong ones, to every path as every kind of
caller: none is a failure of ours, and each answer is as it is described.

The same requests at each run of the suite; `make fuzz` makes ten times as many, and other ones each time.
"""

from __future__ import annotations

import copy
import os
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, assume, given, seed, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.generation import GenerationMode
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi import checks

from tests.integration.answers.conftest import Headers, Surface
from tests.integration.answers.test_refusals import ENDLESS

FACTOR = max(1, int(os.environ.get("RAPPEN_FUZZ", "0")))
EXAMPLES = 4 * FACTOR
pytestmark = pytest.mark.timeout(900 * FACTOR)

# What is away here: Stripe, and who would settle an order of it. That is told as it is.
AWAY = {"STRIPE_UNAVAILABLE"}
# What right requests name often, so that they get further than to a refusal; by the name of the member or parameter.
KNOWN = {
    "mandateId": ["whatever"],
    "userId": ["chief-w", "mia-w"],
    "instanceId": ["instance-w"],
    "featureInstanceId": ["instance-w"],
    "role": ["member"],
    "currency": ["CHF"],
    "expiresAt": ["2100-01-01T00:00:00Z"],
    "column": ["aicoreProvider", "createdAt", "userName"],
    "field": ["createdAt", "amount"],
}
# Entries of the directory are changed and withdrawn, so those are of a mandate that nobody else asks about.
ENTRIES = {**KNOWN, "mandateId": ["spare-w"], "id": ["spare-w"], "userId": ["spare-w"], "instanceId": ["spare-w"]}
CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]


# What httpx takes of a URL; ours are refused from a fraction of that on, which has tests of its own.
URL_MAX = 60_000


@schemathesis.serializer("application/ndjson", "application/x-ndjson")
def _lines(context: schemathesis.SerializationContext, value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")


@dataclass(frozen=True)
class World:
    """The document as Schemathesis has it, and who calls."""

    base_url: str
    operations: list[APIOperation[Any, Any]]
    access: dict[str, str]
    callers: dict[str, Headers]

    def callers_of(self, operation: APIOperation[Any, Any]) -> list[Headers]:
        """Those who may get further than to 403, and a few who may not."""
        names = {"program": ["program"], "system-admin": ["root", "chief"], "nobody": ["nobody"]}
        others = ["root", "chief", "mia", "program"]
        return [self.callers[name] for name in names.get(self.access[operation.label], others)]


@pytest.fixture(scope="module")
async def world(surface: Surface) -> World:
    root = surface.issuer.person("root", system_admin=True)
    for path, body in (
        ("mandates/whatever", {"label": "Whatever AG"}),
        ("mandates/spare-w", {"label": "Spare AG"}),
        ("users/chief-w", {"username": "chief"}),
        ("users/mia-w", {"username": "mia"}),
        ("memberships/whatever/chief-w", {"roles": ["admin"]}),
        ("memberships/whatever/mia-w", {"roles": ["member"]}),
        ("feature-instances/instance-w", {"mandateId": "whatever", "featureCode": "chat"}),
        ("feature-access/instance-w/mia-w", {"roles": ["user"]}),
    ):
        answer = await surface.http.put(f"/api/directory/{path}", json=body, headers=root)
        assert answer.status_code == 200, answer.text
    document = copy.deepcopy(surface.document)
    access = {}
    for path, methods in document["paths"].items():
        for method, operation in list(methods.items()):
            # Tokens are ours to give, and what never ends has tests of its own.
            del operation["security"]
            access[f"{method.upper()} {path}"] = operation["x-access"]
            if operation["operationId"] in ENDLESS:
                del methods[method]
    del document["components"]["securitySchemes"]
    found = [each.ok() for each in schemathesis.openapi.from_dict(document).get_all_operations()]
    callers = {
        "root": root,
        "chief": surface.issuer.person("chief-w"),
        "mia": surface.issuer.person("mia-w"),
        "program": surface.issuer.service_account("usage:write usage:check"),
        "nobody": {},
    }
    return World(str(surface.http.base_url).rstrip("/"), found, access, callers)


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=60, trust_env=False) as http:
        yield http


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["right", "wrong"])
def test_every_answer_is_one_that_is_described(world: World, client: httpx.Client, mode: GenerationMode) -> None:
    statuses: Counter[int] = Counter()
    faults = []
    for operation in world.operations:
        if mode is GenerationMode.NEGATIVE and not _can_be_wrong(operation):
            continue
        try:
            statuses += _tried(world, client, operation, mode)
        except FailureGroup as fault:
            faults.append(f"{operation.label}: {fault} {fault.exceptions}")
    assert not faults, "\n\n".join(faults)
    assert {400, 403, 404, 422} <= statuses.keys()
    # Right requests often get what they ask for, wrong ones hardly ever.
    answered = sum(count for status, count in statuses.items() if status < 300) / statuses.total()
    assert (answered > 0.1) if mode is GenerationMode.POSITIVE else (answered < 0.1), statuses


def _can_be_wrong(operation: APIOperation[Any, Any]) -> bool:
    """Whether there is anything to send but the language, which is any text."""
    parameters = [*operation.path_parameters, *operation.query, *operation.headers]
    return bool(operation.body) or any(each.name != "Accept-Language" for each in parameters)


def _tried(world: World, client: httpx.Client, operation: APIOperation[Any, Any], mode: GenerationMode) -> Counter[int]:
    statuses: Counter[int] = Counter()
    known = ENTRIES if operation.path.startswith("/api/directory/") else KNOWN

    @seed(random.SystemRandom().randrange(2**63) if FACTOR > 1 else 0)
    @settings(
        max_examples=EXAMPLES,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(generation_mode=mode), st.sampled_from(world.callers_of(operation)), st.randoms())
    def try_one(case: schemathesis.Case, caller: Headers, choose: random.Random) -> None:
        if mode is GenerationMode.POSITIVE:
            for part in ("path_parameters", "query", "body"):
                setattr(case, part, _named(getattr(case, part), known, choose))
        answer = _sent(world, client, case, caller)
        statuses[answer.status_code] += 1
        if answer.status_code == 503 and answer.json()["code"] in AWAY:
            return
        wrong_is_refused = [checks.negative_data_rejection] if mode is GenerationMode.NEGATIVE else []
        case.validate_response(answer, checks=[*CHECKS, *wrong_is_refused])

    try_one()
    return statuses


def _sent(world: World, client: httpx.Client, case: schemathesis.Case, caller: Headers) -> httpx.Response:
    """Through the client whose answers are held against the document in our own way too."""
    prepared = requests.Request(**case.as_transport_kwargs(base_url=world.base_url)).prepare()
    assume(len(prepared.url or "") < URL_MAX)
    headers = {**prepared.headers, **caller}
    return client.request(prepared.method or "", prepared.url or "", headers=headers, content=prepared.body)


def _named(given_: Any, known: dict[str, list[str]], choose: random.Random, name: str | None = None) -> Any:
    """The same with most names of things replaced by those of things that are there."""
    if isinstance(given_, dict):
        return {key: _named(each, known, choose, key) for key, each in given_.items()}
    if isinstance(given_, list):
        return [_named(each, known, choose) for each in given_]
    if isinstance(given_, str) and name in known and choose.random() < 0.8:
        return choose.choice(known[name])
    return given_
