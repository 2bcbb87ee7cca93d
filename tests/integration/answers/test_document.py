"""The OpenAPI document held against what the paths really do; each answer by itself is held by `tests/conftest.py`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from tests.integration.answers.conftest import Headers, Surface
from tests.integration.answers.test_refusals import operations
from tests.support.described import public_document

# Who is let in, by what the document says; every other caller is refused.
ACCESS = {
    "nobody": {"root", "chief", "mia", "stranger", "program", "powerless", "anonymous"},
    "person": {"root", "chief", "mia", "stranger"},
    "member": {"root", "chief", "mia"},
    "mandate-admin": {"root", "chief"},
    "system-admin": {"root"},
    "program": {"program"},
    "person-or-program": {"root", "chief", "mia", "stranger", "program"},
    "member-or-program": {"root", "chief", "mia", "program"},
}
# What depends on the caller and what they ask about: only who is invited can accept, and nobody here is; a stranger has
# nothing to look ahead on; and whoever administers no mandate is given one when they ask for theirs.
BY_OBJECT = {"directory-accept-invitation", "billing-view-runway", "store-list-mandates"}


def callers(surface: Surface) -> dict[str, Headers]:
    return {
        "root": surface.issuer.person("root", system_admin=True),
        "chief": surface.issuer.person("chief"),
        "mia": surface.issuer.person("mia"),
        "stranger": surface.issuer.person("stranger"),
        "program": surface.issuer.service_account("usage:write usage:check"),
        "powerless": surface.issuer.service_account("openid"),
        "anonymous": {},
    }


def path_of(method: str, path: str) -> str:
    """The path in the mandate that the callers belong to; nothing that is there is disabled."""
    of_mandate = "/mandates/" in path or "/admin/accounts/" in path
    id_ = "m" if of_mandate and method != "DELETE" else "gone"
    values = {"mandateId": "m", "instanceId": "i", "role": "member" if method == "GET" else "gone"}
    return re.sub(r"\{(\w+)\}", lambda found: values.get(found[1], id_), path)


def query_of(operation: dict[str, Any]) -> dict[str, str]:
    needed = {each["name"] for each in operation["parameters"] if each["in"] == "query" and each["required"]}
    return {"mandateId": "m"} if "mandateId" in needed else {}


async def test_what_answers_are_held_against_is_what_the_gateway_serves(surface: Surface) -> None:
    served, held = dict(surface.document), dict(public_document())
    assert served.pop("info")["title"] == held.pop("info")["title"]
    assert served == held


async def test_who_is_let_in_is_who_the_document_says(surface: Surface) -> None:
    for method, path, operation in operations(surface.document):
        if operation["operationId"] in BY_OBJECT:
            continue
        expected = ACCESS[operation["x-access"]]
        for name, headers in callers(surface).items():
            answer = await surface.http.request(
                method, path_of(method, path), headers=headers, params=query_of(operation)
            )
            sent = (method, path, name, operation["x-access"], answer.status_code, answer.text[:300])
            refused = answer.status_code == 401 if name == "anonymous" else answer.status_code == 403
            assert refused != (name in expected), sent


async def test_what_is_read_is_as_it_is_described(surface: Surface) -> None:
    root = callers(surface)["root"]
    prices = {
        "format": "rappen.prices.v1",
        "prices": [
            {
                "provider": "acme",
                "model": "m1",
                "currency": "CHF",
                "valid_from": "2026-01-01T00:00:00Z",
                "lists": [{"prices": {"input": "0.001"}}],
            }
        ],
    }
    rate = {"currency": "USD", "rate": "0.8", "validFrom": "2026-01-01T00:00:00Z"}
    posts: tuple[tuple[str, dict[str, Any]], ...] = (
        ("/api/billing/admin/prices", prices),
        ("/api/billing/admin/rates", rate),
        ("/api/billing/admin/credit/{mandateId}", {"amount": 5}),
        ("/api/directory/users/lookup", {"ids": ["mia", "chief"]}),
    )
    for path, body in posts:
        answer = await surface.http.post(path_of("POST", path), json=body, headers=root)
        assert answer.status_code == 200, answer.text
    found = 0
    for method, path, operation in operations(surface.document):
        if method != "GET":
            continue
        forms: list[dict[str, str]] = [{}]
        if any(each["name"] == "pagination" for each in operation["parameters"]):
            page = '{"sort": [{"field": "enabled"}], "filters": {"enabled": [true, null]}}'
            forms.append({"pagination": page} if "provider-permissions" not in path else {"pagination": "{}"})
        for form in forms:
            query = {**query_of(operation), **form}
            answer = await surface.http.get(path_of(method, path), headers=root, params=query)
            found += answer.status_code == 200
    assert found > 20


def test_no_body_and_no_answer_is_untyped(surface: Surface) -> None:
    untyped = [place for place, schema in _schemas(surface.document, "") if _is_untyped(schema)]
    assert untyped == []


def _schemas(node: Any, place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every place of the document at which a schema stands."""
    if isinstance(node, list):
        for number, each in enumerate(node):
            yield from _schemas(each, f"{place}/{number}")
    elif isinstance(node, dict):
        for name, each in node.items():
            here = f"{place}/{name}"
            if name in ("if", "then", "else", "not"):
                continue  # Conditions on what is typed already.
            if name in ("schema", "items", "additionalProperties") and isinstance(each, dict):
                yield here, each
            if name in ("properties", "schemas", "$defs") and isinstance(each, dict):
                yield from ((f"{here}/{key}", schema) for key, schema in each.items())
            if name in ("anyOf", "oneOf", "allOf"):
                yield from ((f"{here}/{number}", schema) for number, schema in enumerate(each))
            yield from _schemas(each, here)


def _is_untyped(schema: dict[str, Any]) -> bool:
    if not schema.keys() & {"type", "$ref", "anyOf", "oneOf", "allOf", "enum", "const"}:
        return True
    if schema.get("type") == "object":
        return "properties" not in schema and not isinstance(schema.get("additionalProperties"), dict)
    return schema.get("type") == "array" and not isinstance(schema.get("items"), dict)


def test_what_is_one_of_a_few_is_an_enumeration(surface: Surface) -> None:
    names = re.compile(
        r"(^status|[sS]tate|reason|[mM]odel|^billingPeriod|^budgetPer|Type|^lateEvents|^direction|^operator|^format)$"
    )
    # A word of somebody else's: an AI model, cost and count of each, an HTTP status, the type of an event of Stripe.
    free = {"model", "aicoreModel", "costByModel", "countByModel", "status", "type"}
    # Why somebody cancels usage or gives credit, in their own words.
    in_own_words = {(name, "reason") for name in ("Reversal", "UsageVoided", "Promotion", "PromotionOffer")}
    for name, schema in surface.document["components"]["schemas"].items():
        for field, property_ in schema.get("properties", {}).items():
            text = str(property_)
            if (name, field) in in_own_words:
                assert "enum" not in text
            elif names.search(field) and not (field in free and "enum" not in text):
                assert "enum" in text or "$ref" in text or "const" in text, (name, field, property_)
    subscription = surface.document["components"]["schemas"]["SubscriptionAnswer"]["properties"]["status"]
    assert "EXPIRED" in str(subscription)


async def test_a_key_is_described_where_a_repeat_with_it_is_the_same_request(surface: Surface) -> None:
    keyed = {
        operation["operationId"]
        for _, _, operation in operations(surface.document)
        if any(each["name"] == "Idempotency-Key" for each in operation["parameters"])
    }
    assert keyed == {
        "billing-authorize-hold",
        "billing-credit",
        "billing-change-model",
        "billing-give-promotion",
        "billing-redeem",
        "billing-rerate",
        "payments-create-checkout",
        "payments-set-up-method",
        "store-activate",
        "subscriptions-start",
    }
    headers = {**callers(surface)["root"], "Idempotency-Key": "once"}
    ids = {
        (await surface.http.post("/api/billing/admin/credit/m", json={"amount": 1}, headers=headers)).json()["id"]
        for _ in range(2)
    }
    assert len(ids) == 1


def test_scopes_are_named_with_the_operations_that_need_them(surface: Surface) -> None:
    rules = [rule for _, _, each in operations(surface.document) for rule in each["security"]]
    needed = {scope for rule in rules for scope in rule["bearer"]}
    assert needed == {"usage:write", "usage:check"}
    described = surface.document["components"]["securitySchemes"]["bearer"]["description"]
    assert all(f"`{scope}`" in described for scope in needed)
