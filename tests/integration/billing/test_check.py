"""POST /api/billing/check: allowed, or the first reason against it, with exact figures."""

import asyncio
from dataclasses import replace
from decimal import Decimal
from typing import Any

import httpx
import pytest

from services.billing.api import serve_routes
from services.billing.app import application
from services.billing.checks.check_funds import CheckFunds, Question
from services.billing.pricing.repository import Tariffs
from services.billing.settings import BillingSettings
from services.chassis.caller import Caller, CallerVerifier
from services.chassis.clock import system_clock
from services.chassis.faults import FaultPoints
from tests.integration.billing.conftest import BillingApi
from tests.support.callers import admin_of, checker, member_of, system_admin
from tests.support.charging import charge
from tests.support.events import new_mandate, usage_record
from tests.support.ledger import Books
from tests.support.statements import CountedDatabase


def chf(amount: str) -> dict[str, str]:
    return {"amount": amount, "currency": "CHF"}


async def check(api: BillingApi, mandate: str, user: str = "user-1", **body: Any) -> dict[str, Any]:
    body.setdefault("estimatedCost", chf("1"))
    answer = await api.call(
        checker(), "POST", "/api/billing/check", json={"mandateId": mandate, "userId": user, **body}
    )
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def credit(api: BillingApi, mandate: str, amount: float) -> None:
    answer = await api.call(system_admin(), "POST", f"/api/billing/admin/credit/{mandate}", json={"amount": amount})
    assert answer.status_code == 200


async def test_a_covered_call_is_allowed(api: BillingApi, mandate: str) -> None:
    await credit(api, mandate, 2)
    assert await check(api, mandate) == {
        "allowed": True,
        "reason": None,
        "currentBalance": chf("2.000000"),
        "heldAmount": chf("0.000000"),
        "requiredAmount": chf("1.000000"),
        "shortfall": chf("0.000000"),
        "billingModel": "PREPAY_MANDATE",
    }


async def test_an_uncovered_call_is_refused_with_its_shortfall(api: BillingApi, mandate: str) -> None:
    await credit(api, mandate, 0.25)
    answer = await check(api, mandate)
    assert (answer["allowed"], answer["reason"], answer["shortfall"]) == (
        False,
        "INSUFFICIENT_BALANCE",
        chf("0.750000"),
    )


async def test_a_balance_of_zero_refuses_even_an_estimate_of_zero(api: BillingApi, mandate: str) -> None:
    assert (await check(api, mandate, estimatedCost=chf("0")))["reason"] == "INSUFFICIENT_BALANCE"


async def test_without_blocking_the_shortfall_is_still_told(api: BillingApi, mandate: str) -> None:
    await api.call(system_admin(), "POST", f"/api/billing/admin/settings/{mandate}", json={"blockOnZeroBalance": False})
    answer = await check(api, mandate)
    assert (answer["allowed"], answer["shortfall"]) == (True, chf("1.000000"))


async def test_reasons_come_in_their_order(api: BillingApi, mandate: str) -> None:
    assert (await check(api, mandate, "stranger", provider="openai"))["reason"] == "NOT_A_MEMBER"
    await api.directory(mandate, {"user-1": ["member"]}, providers={"member": ["anthropic"]})
    accounts = (await api.call(admin_of(mandate), "GET", f"/api/billing/admin/accounts/{mandate}")).json()
    own = next(account["id"] for account in accounts if account["userId"] == "user-1")
    path = f"/api/billing/admin/accounts/{own}"
    assert (await api.call(system_admin(), "PUT", path, json={"enabled": False})).json()["enabled"] is False
    assert (await check(api, mandate, provider="openai"))["reason"] == "ACCOUNT_DISABLED"
    await api.call(system_admin(), "PUT", path, json={"enabled": True})
    assert (await check(api, mandate, provider="openai"))["reason"] == "PROVIDER_NOT_ALLOWED"
    assert (await check(api, mandate, provider="anthropic"))["reason"] == "INSUFFICIENT_BALANCE"


async def test_a_disabled_member_or_mandate_is_no_member(api: BillingApi, mandate: str) -> None:
    await credit(api, mandate, 5)
    await api.directory(mandate, {"user-1": ["member"]}, disabled=("user-1",))
    assert (await check(api, mandate))["reason"] == "NOT_A_MEMBER"
    await api.directory(mandate, {}, enabled=False)
    assert (await check(api, mandate, "user-2"))["reason"] == "NOT_A_MEMBER"


async def test_a_role_without_rows_may_use_the_catalogue_and_others_nothing(api: BillingApi, mandate: str) -> None:
    await credit(api, mandate, 5)
    assert (await check(api, mandate, provider="openai"))["allowed"] is True
    assert (await check(api, mandate, provider="nobody-knows"))["reason"] == "PROVIDER_NOT_ALLOWED"
    await api.directory(mandate, {"guest": ["viewer"]})
    assert (await check(api, mandate, "guest", provider="openai"))["reason"] == "PROVIDER_NOT_ALLOWED"


async def test_a_credit_limit_bounds_postpaid_usage(api: BillingApi, mandate: str) -> None:
    address = {"company": "Acme AG", "street": "Weg 1", "zip": "8000", "city": "Zürich"}
    await api.call(
        admin_of(mandate), "POST", f"/api/billing/admin/settings/{mandate}", json={"billingAddress": address}
    )
    model = f"/api/billing/admin/model/{mandate}"
    assert (await api.call(system_admin(), "POST", model, json={"billingModel": "CREDIT_POSTPAY"})).status_code == 200
    assert (await check(api, mandate, estimatedCost=chf("1000000")))["allowed"] is True
    terms = {"markupPercent": None, "creditLimit": chf("5")}
    assert (await api.call(system_admin(), "PUT", f"/api/billing/admin/terms/{mandate}", json=terms)).json() == {
        "markupPercent": None,
        "creditLimit": chf("5.000000"),
    }
    assert (await check(api, mandate, estimatedCost=chf("5")))["allowed"] is True
    refused = await check(api, mandate, estimatedCost=chf("5.000001"))
    assert (refused["reason"], refused["shortfall"]) == ("CREDIT_LIMIT_EXCEEDED", chf("0.000001"))
    zero = {"markupPercent": None, "creditLimit": chf("0")}
    await api.call(system_admin(), "PUT", f"/api/billing/admin/terms/{mandate}", json=zero)
    assert (await check(api, mandate))["reason"] == "CREDIT_LIMIT_EXCEEDED"


async def test_unlimited_is_never_blocked_for_money(api: BillingApi, mandate: str) -> None:
    await api.call(system_admin(), "POST", f"/api/billing/admin/model/{mandate}", json={"billingModel": "UNLIMITED"})
    answer = await check(api, mandate, estimatedCost=chf("999"))
    assert (answer["allowed"], answer["currentBalance"]) == (True, chf("0.000000"))


async def test_an_estimate_is_priced_with_markup(api: BillingApi, mandate: str) -> None:
    await credit(api, mandate, 5)
    answer = await check(api, mandate, estimatedCost=None, estimate={"cost": chf("0.1")})
    assert answer["requiredAmount"] == chf("0.150000")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"estimate": {"provider": "none", "model": "such", "tokens": {"input": 1}}}, "PRICE_UNKNOWN"),
        ({"estimate": {"cost": {"amount": "1", "currency": "JPY"}}}, "PRICE_UNKNOWN"),
        ({"estimate": {"provider": "none"}}, "VALIDATION"),
        ({}, "VALIDATION"),
        ({"estimatedCost": chf("1"), "estimate": {"cost": chf("1")}}, "VALIDATION"),
        ({"estimatedCost": {"amount": 1, "currency": "CHF"}}, "VALIDATION"),
        ({"estimatedCost": {"amount": 1.5, "currency": "CHF"}}, "VALIDATION"),
        ({"estimatedCost": {"amount": "-1", "currency": "CHF"}}, "VALIDATION"),
        ({"estimatedCost": {"amount": "1", "currency": "USD"}}, "VALIDATION"),
        ({"estimatedCost": chf("0.0000001")}, "VALIDATION"),
        ({"estimatedCost": chf("1"), "userId": ""}, "VALIDATION"),
        ({"estimatedCost": chf("1"), "provider": "\u0000"}, "VALIDATION"),
    ],
)
async def test_what_cannot_be_checked_is_a_problem(
    api: BillingApi, mandate: str, body: dict[str, Any], code: str
) -> None:
    answer = await api.call(
        checker(), "POST", "/api/billing/check", json={"mandateId": mandate, "userId": "user-1", **body}
    )
    assert (answer.status_code, answer.json()["code"]) == (422, code), answer.text


UNREAD = {"provider": "openai", "model": "gpt-5", "tokens": {"prompt_tokens": 100_000}}


@pytest.mark.parametrize(
    ("estimate", "code", "message"),
    [
        (UNREAD, "UNKNOWN_TOKEN_KIND", "no such kind; there are input, "),
        (UNREAD | {"cost": chf("1")}, "UNKNOWN_TOKEN_KIND", "no such kind; there are input, "),
        (UNREAD | {"tokens": {"input": -1}}, "NEGATIVE", "must be at least 0"),
        ({"cost": chf("1e9")}, "TOO_LARGE", "an amount has at most 9 digits before the point"),
        ({"cost": {"amount": "1", "currency": "usd"}}, "UNKNOWN_CURRENCY", "a currency is a code of ISO 4217 in three"),
        (UNREAD | {"tokens": {}}, "VALIDATION", "cost, or provider and model with tokens or quantities"),
        (UNREAD | {"tokens": {}, "quantities": {}}, "VALIDATION", "cost, or provider and model with"),
    ],
)
async def test_an_estimate_is_refused_as_an_event_would_be(
    api: BillingApi, mandate: str, estimate: dict[str, Any], code: str, message: str
) -> None:
    body = {"mandateId": mandate, "userId": "user-1", "estimate": estimate}
    answer = await api.call(checker(), "POST", "/api/billing/check", json=body)
    document = answer.json()
    assert (answer.status_code, document["code"]) == (422, code), answer.text
    assert document["errors"][0]["message"].startswith(message)


@pytest.mark.parametrize("number", ["1e999999999", "-1e-999999999", "1e99999999999999999999", "9" * 5000])
async def test_a_number_beyond_all_use_is_422(api: BillingApi, mandate: str, number: str) -> None:
    body = f'{{"mandateId": "{mandate}", "userId": "user-1", "estimatedCost": {{"amount": "1", "currency": "CHF"}}'
    for given in (f'{body}, "n": {number}}}', body.replace('"1"', number) + "}"):
        answer = await api.call(checker(), "POST", "/api/billing/check", content=given)
        assert (answer.status_code, answer.json()["code"]) == (422, "NUMBER_OUT_OF_RANGE"), answer.text


async def test_an_unknown_mandate_is_404_to_a_program(api: BillingApi) -> None:
    body = {"mandateId": new_mandate(), "userId": "user-1", "estimatedCost": chf("1")}
    answer = await api.call(checker(), "POST", "/api/billing/check", json=body)
    assert (answer.status_code, answer.json()["code"]) == (404, "MANDATE_UNKNOWN")


async def test_usage_does_not_make_a_mandate_known(api: BillingApi, books: Books) -> None:
    mandate, body = new_mandate(), {"userId": "user-1", "estimatedCost": chf("1")}
    await charge(api.database, usage_record(mandate))
    assert await books.charged([mandate]) == 1
    answer = await api.call(checker(), "POST", "/api/billing/check", json={"mandateId": mandate, **body})
    assert (answer.status_code, answer.json()["code"]) == (404, "MANDATE_UNKNOWN")
    # Its directory entry is all that was missing.
    await api.directory(mandate, {"user-1": ["member"]})
    assert (await check(api, mandate))["reason"] == "INSUFFICIENT_BALANCE"


async def test_a_check_of_what_exists_is_one_statement(api: BillingApi, mandate: str) -> None:
    await check(api, mandate)
    counted = CountedDatabase(api.database)
    ask = CheckFunds(counted, Tariffs(), BillingSettings.model_construct(), system_clock)
    one_franc = Question(mandate, "user-1", Decimal(1), None, None)
    # The first one reads the prices, too.
    await ask(one_franc)
    for user in ("user-1", "nobody"):
        counted.calls.clear()
        await ask(replace(one_franc, user_id=user))
        assert counted.calls == ["fetch"]


@pytest.mark.parametrize("caller", [system_admin(), checker({"usage:write": True}), member_of("m")])
async def test_only_a_program_with_the_scope_checks(api: BillingApi, mandate: str, caller: Caller) -> None:
    body = {"mandateId": mandate, "userId": "user-1", "estimatedCost": chf("1")}
    assert (await api.call(caller, "POST", "/api/billing/check", json=body)).status_code == 403


async def test_a_check_makes_the_missing_account_with_its_opening_credit_once(
    api: BillingApi, mandate: str, books: Books
) -> None:
    await api.call(system_admin(), "POST", f"/api/billing/admin/model/{mandate}", json={"billingModel": "PREPAY_USER"})
    for _ in range(3):
        assert (await check(api, mandate, "user-2"))["currentBalance"] == chf("10.000000")
    assert await books.failing() == {}


async def test_the_direct_path_refuses_as_every_path_does(api: BillingApi, mandate: str) -> None:
    path, request_id = "/api/billing/check", {"X-Request-Id": "check-1"}
    for content, code in ((b"{", "MALFORMED_JSON"), (b"[]", "VALIDATION"), (b'{"mandateId": 1}', "VALIDATION")):
        answer = await api.call(checker(), "POST", path, content=content, headers=request_id)
        document = answer.json()
        assert (answer.status_code, document["code"], document["requestId"]) == (422, code, "check-1")
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["x-request-id"] == "check-1"
    assert (await api.call(None, "POST", path, content=b"{}")).status_code == 401
    other = await api.call(checker(), "GET", path)
    assert (other.status_code, other.headers["content-type"]) == (405, "application/problem+json")


async def test_the_route_of_the_check_answers_as_the_direct_path_does(api: BillingApi, mandate: str) -> None:
    app = application()
    verifier = CallerVerifier(audience="billing", secret=api.secret)
    serve_routes(
        app,
        BillingSettings.model_construct(),
        database=api.database,
        caller=verifier,
        clock=system_clock,
        faults=FaultPoints(None),
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://billing") as client:
        behind = BillingApi(client, api.secret, api.database)
        assert await check(behind, mandate) == await check(api, mandate)
        refused = await behind.call(checker(), "POST", "/api/billing/check", json={"mandateId": mandate})
        assert (refused.status_code, refused.json()["code"]) == (422, "VALIDATION")
        assert (await behind.call(member_of(mandate), "POST", "/api/billing/check", json={})).status_code == 403


async def test_checks_that_wait_together_get_each_their_own_answer(api: BillingApi) -> None:
    """More at once than are read by one statement, of members, strangers and unknown mandates, in one order."""
    mandates = [new_mandate() for _ in range(4)]
    for number, mandate in enumerate(mandates[:3]):
        await api.directory(mandate, {"user-1": ["member"]})
        await credit(api, mandate, number + 1)

    async def ask(number: int) -> tuple[int, str | None, str | None]:
        mandate, user = mandates[number % 4], "user-1" if number % 3 else "nobody"
        body = {"mandateId": mandate, "userId": user, "estimatedCost": chf("2")}
        answer = await api.call(checker(), "POST", "/api/billing/check", json=body)
        found = answer.json()
        return answer.status_code, found.get("reason"), found.get("currentBalance", {}).get("amount")

    def expected(number: int) -> tuple[int, str | None, str | None]:
        if number % 4 == 3:
            return 404, None, None
        reason = "NOT_A_MEMBER" if number % 3 == 0 else "INSUFFICIENT_BALANCE" if number % 4 == 0 else None
        return 200, reason, f"{number % 4 + 1}.000000"

    answers = await asyncio.gather(*(ask(number) for number in range(300)))
    assert answers == [expected(number) for number in range(300)]
