"""GET /api/billing/providers: which providers somebody may use, in one mandate or in all of theirs."""

from __future__ import annotations

from typing import Any

import pytest

from services.chassis.caller import Caller
from tests.integration.billing.conftest import BillingApi
from tests.support.callers import checker, member_of, system_admin
from tests.support.events import new_mandate

PATH = "/api/billing/providers"


async def listed(api: BillingApi, caller: Caller, **params: str) -> list[str]:
    answer = await api.call(caller, "GET", PATH, params=params)
    assert answer.status_code == 200, answer.text
    found: list[str] = answer.json()
    return found


@pytest.fixture
async def catalogue(api: BillingApi) -> list[str]:
    await api.price("providers-model", "0.01")
    return await listed(api, system_admin())


async def test_a_role_without_rows_has_the_catalogue_and_a_row_replaces_it(
    api: BillingApi, mandate: str, catalogue: list[str]
) -> None:
    assert "anthropic" in catalogue
    assert catalogue == sorted(set(catalogue))
    me = member_of(mandate)
    assert await listed(api, me) == catalogue
    assert await listed(api, me, mandateId=mandate) == catalogue
    await api.directory(mandate, {"user-1": ["member"]}, providers={"member": ["openai", "anthropic"]})
    assert await listed(api, me) == ["anthropic", "openai"]
    await api.directory(mandate, {"user-1": ["member"]}, providers={"member": []})
    assert await listed(api, me, mandateId=mandate) == []


async def test_any_role_and_without_a_mandate_any_mandate_allows(api: BillingApi, mandate: str) -> None:
    other = new_mandate()
    rows = {"member": ["openai"], "guest": ["mistral"]}
    await api.directory(mandate, {"user-1": ["member", "guest"]}, providers=rows)
    await api.directory(other, {"user-1": ["member"]}, providers={"member": ["anthropic"]})
    me = member_of(mandate, other)
    assert await listed(api, me) == ["anthropic", "mistral", "openai"]
    assert await listed(api, me, mandateId=other) == ["anthropic"]
    within = me.model_copy(update={"context_mandate": mandate})
    assert await listed(api, within) == ["mistral", "openai"]
    # What the query names goes before the context.
    assert await listed(api, within, mandateId=other) == ["anthropic"]


async def test_who_is_no_enabled_member_may_use_nothing(api: BillingApi, mandate: str) -> None:
    named = {"mandateId": mandate, "userId": "user-1"}
    assert await listed(api, checker(), **named) != []
    await api.directory(mandate, {"user-1": ["member"]}, disabled=("user-1",))
    assert await listed(api, checker(), **named) == []
    assert await listed(api, checker(), mandateId=mandate, userId="stranger") == []
    assert await listed(api, Caller(user_id="nobody")) == []


@pytest.mark.parametrize(
    ("caller", "params", "status", "code"),
    [
        (checker(), {"mandateId": "nowhere", "userId": "user-1"}, 404, "MANDATE_UNKNOWN"),
        (system_admin(), {"mandateId": "nowhere"}, 404, "MANDATE_UNKNOWN"),
        (member_of("elsewhere"), {"mandateId": "nowhere"}, 403, "FORBIDDEN"),
        (checker(), {"userId": "user-1"}, 400, "MALFORMED_PARAMETER"),
        (checker(), {"mandateId": "nowhere"}, 400, "MALFORMED_PARAMETER"),
        (checker({"usage:write": True}), {"mandateId": "nowhere", "userId": "user-1"}, 403, "INSUFFICIENT_SCOPE"),
        (system_admin(), {"mandateId": "a b"}, 400, "MALFORMED_PARAMETER"),
        (system_admin(), {"userId": "a b"}, 400, "MALFORMED_PARAMETER"),
    ],
)
async def test_what_is_refused(api: BillingApi, caller: Caller, params: dict[str, str], status: int, code: str) -> None:
    answer = await api.call(caller, "GET", PATH, params=params)
    found: dict[str, Any] = answer.json()
    assert (answer.status_code, found["code"]) == (status, code)
