"""Money goes to mandates that the directory knows, and in amounts that somebody can have meant."""

import json
from decimal import Decimal
from typing import Any

import pytest

from tests.integration.billing.conftest import BillingApi
from tests.support.callers import admin_of, checker, system_admin
from tests.support.charging import charge
from tests.support.events import new_mandate, usage_record
from tests.support.ledger import Books

CREDIT = "/api/billing/admin/credit/{}"
SETTINGS = "/api/billing/admin/settings/{}"
TERMS = "/api/billing/admin/terms/{}"
CEILING = Decimal(100_000)
LIMIT_CEILING = Decimal(1_000_000)


def chf(amount: Decimal) -> dict[str, str]:
    return {"amount": str(amount), "currency": "CHF"}


@pytest.mark.parametrize("used", [False, True])
async def test_a_mandate_that_the_directory_does_not_know_is_404_everywhere(
    api: BillingApi, books: Books, used: bool
) -> None:
    mandate = new_mandate()
    if used:
        # Usage makes books for it, which does not make it a mandate.
        await charge(api.database, usage_record(mandate))
    terms = {"markupPercent": None, "creditLimit": chf(Decimal(5))}
    for method, path, body in (
        ("POST", CREDIT, {"amount": 100}),
        ("POST", CREDIT, {"amount": 100, "userId": "user-1"}),
        ("POST", CREDIT, {"amount": -1}),
        ("GET", SETTINGS, None),
        ("POST", SETTINGS, {"notifyOnWarning": False}),
        ("PUT", TERMS, terms),
        ("POST", "/api/billing/admin/model/{}", {"billingModel": "UNLIMITED"}),
        ("GET", "/api/billing/admin/accounts/{}", None),
        ("GET", "/api/billing/balance/{}", None),
        ("GET", "/internal/top-up-target/{}", None),
    ):
        request = {} if body is None else {"json": body}
        answer = await api.call(system_admin(), method, path.format(mandate), **request)
        assert (answer.status_code, answer.json()["code"]) == (404, "MANDATE_UNKNOWN"), (method, path, answer.text)
    markup = await api.call(checker(), "GET", f"/api/billing/markup?mandateId={mandate}")
    assert (markup.status_code, markup.json()["code"]) == (404, "MANDATE_UNKNOWN")
    kept = await books.value(
        "SELECT count(*) FROM transactions t JOIN mandates m ON m.no = t.mandate_no"
        " WHERE m.id = $1 AND t.contra_account = 'ADMIN'",
        mandate,
    )
    assert kept == 0
    await api.directory(mandate, {"user-1": ["member"]})
    answer = await api.call(system_admin(), "POST", CREDIT.format(mandate), json={"amount": 100})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("amount", [CEILING, -CEILING])
async def test_a_credit_or_deduction_has_a_ceiling(
    api: BillingApi, mandate: str, books: Books, amount: Decimal
) -> None:
    more = amount + Decimal("0.000001").copy_sign(amount)
    for given in (more, amount * 1000):
        body = f'{{"amount": {given}}}'.encode()
        answer = await api.call(system_admin(), "POST", CREDIT.format(mandate), content=body)
        problem = answer.json()
        assert (answer.status_code, problem["code"]) == (422, "AMOUNT_ABOVE_CEILING")
        assert "100000 CHF" in problem["detail"]
        assert problem["errors"][0]["field"] == "amount"
    taken = f'{{"amount": {amount}}}'.encode()
    answer = await api.call(system_admin(), "POST", CREDIT.format(mandate), content=taken)
    assert (answer.status_code, answer.json()["amount"]) == (200, 100_000)
    assert await books.failing() == {}


@pytest.mark.parametrize("name", ["defaultUserCredit", "rechargeAmountCHF"])
async def test_amounts_in_settings_have_the_same_ceiling(
    api: BillingApi, mandate: str, books: Books, name: str
) -> None:
    answer = await api.call(system_admin(), "POST", SETTINGS.format(mandate), json={name: 100_001})
    assert (answer.status_code, answer.json()["code"]) == (422, "AMOUNT_ABOVE_CEILING")
    assert answer.json()["errors"][0]["field"] == name
    answer = await api.call(system_admin(), "POST", SETTINGS.format(mandate), json={name: 100_000})
    assert (answer.status_code, answer.json()[name]) == (200, 100_000)
    # What was set when the ceiling was another one may be sent back with the rest.
    column = {"defaultUserCredit": "default_user_credit", "rechargeAmountCHF": "recharge_amount"}[name]
    await books.fetch(f"UPDATE mandates SET {column} = 200000000000 WHERE id = $1", mandate)
    whole: dict[str, Any] = (await api.call(admin_of(mandate), "GET", SETTINGS.format(mandate))).json()
    answer = await api.call(admin_of(mandate), "POST", SETTINGS.format(mandate), json=whole)
    assert (answer.status_code, answer.json()[name]) == (200, 200_000)


async def test_a_credit_limit_has_a_ceiling_of_its_own(api: BillingApi, mandate: str) -> None:
    for amount, status in ((LIMIT_CEILING, 200), (LIMIT_CEILING + Decimal("0.000001"), 422), (Decimal("9" * 14), 422)):
        terms = {"markupPercent": None, "creditLimit": chf(amount)}
        answer = await api.call(system_admin(), "PUT", TERMS.format(mandate), json=terms)
        assert answer.status_code == status, answer.text
        if status == 422:
            assert answer.json()["errors"][0]["field"] == "creditLimit.amount"
    assert json.loads(answer.content)["code"] in ("AMOUNT_ABOVE_CEILING", "VALIDATION")
