"""Balances, manual credit and accounts over HTTP: who may, what it does, what it answers."""

import json
from decimal import Decimal

import pytest

from tests.integration.billing.conftest import BillingApi
from tests.support.callers import admin_of, checker, member_of, system_admin
from tests.support.events import new_mandate
from tests.support.ledger import Books

CREDIT = "/api/billing/admin/credit/{}"


async def credit(api: BillingApi, mandate: str, amount: str, user_id: str | None = None) -> dict[str, object]:
    body = {"amount": Decimal(amount), **({"userId": user_id} if user_id else {})}
    text = json.dumps(body, default=float).replace(str(float(Decimal(amount))), amount)
    answer = await api.call(system_admin(), "POST", CREDIT.format(mandate), content=text)
    assert answer.status_code == 200, answer.text
    return json.loads(answer.text, parse_float=Decimal)


async def test_without_a_signed_context_nothing_is_answered(api: BillingApi, mandate: str) -> None:
    answer = await api.call(None, "GET", "/api/billing/balance")
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_credit_is_exact_and_shows_in_the_balance(api: BillingApi, mandate: str, books: Books) -> None:
    row = await credit(api, mandate, "0.100001")
    assert row["amount"] == Decimal("0.100001")
    assert (row["transactionType"], row["referenceType"], row["createdByUserId"]) == ("CREDIT", "ADMIN", "root")
    assert row["description"] == "Manual credit"
    answer = await api.call(member_of(mandate), "GET", f"/api/billing/balance/{mandate}")
    balance = json.loads(answer.text, parse_float=Decimal)
    assert balance["balance"] == Decimal("0.100001")
    assert balance["billingModel"] == "PREPAY_MANDATE"
    assert balance["currency"] == "CHF"
    assert '"balance":0.100001' in answer.text
    assert await books.failing() == {}


async def test_a_deduction_is_a_debit_of_a_positive_amount(api: BillingApi, mandate: str) -> None:
    row = await credit(api, mandate, "-2.5")
    assert (row["transactionType"], row["amount"], row["balanceAfter"]) == ("DEBIT", Decimal("2.5"), Decimal("-2.5"))


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ('{"amount": 0}', 400),
        ('{"amount": 0.000000}', 400),
        ('{"amount": 0.0000001}', 422),
        ('{"amount": "1"}', 422),
        ('{"amount": true}', 422),
        ('{"amount": NaN}', 422),
        ('{"amount": 1e400}', 422),
        ('{"amount": 1e999999999}', 422),
        ('{"amount": 1e-999999999}', 422),
        ('{"amount": -1E99999999999999999999}', 422),
        ('{"amount": 1, "more": 1e999999999}', 422),
        ('{"amount": 123456789012345}', 422),
        ('{"amount": 1, "userId": "stranger"}', 422),
        ('{"amount": 1, "userId": 5}', 422),
        ('{"amount": 1, "description": "\\u0000"}', 422),
        ("{}", 422),
        ("[]", 422),
        ("", 422),
        ("{", 422),
    ],
)
async def test_a_bad_credit_is_a_problem_and_changes_nothing(
    api: BillingApi, mandate: str, books: Books, body: str, status: int
) -> None:
    answer = await api.call(system_admin(), "POST", CREDIT.format(mandate), content=body)
    problem = answer.json()
    assert (answer.status_code, problem["status"]) == (status, status)
    assert isinstance(problem["detail"], str)
    assert problem["code"]
    assert await books.charged([mandate]) == 0
    assert (
        await books.value(
            "SELECT count(*) FROM transactions t JOIN mandates m ON m.no = t.mandate_no WHERE m.id = $1", mandate
        )
        == 0
    )


async def test_only_the_system_administrator_credits(api: BillingApi, mandate: str) -> None:
    for caller in (member_of(mandate), admin_of(mandate), checker()):
        answer = await api.call(caller, "POST", CREDIT.format(mandate), json={"amount": 1})
        assert answer.status_code == 403
        assert answer.json()["code"] == "FORBIDDEN"


async def test_an_idempotency_key_credits_once(api: BillingApi, mandate: str) -> None:
    key = {"Idempotency-Key": "first"}
    first = await api.call(system_admin(), "POST", CREDIT.format(mandate), json={"amount": 5}, headers=key)
    again = await api.call(system_admin(), "POST", CREDIT.format(mandate), json={"amount": 5}, headers=key)
    other = await api.call(system_admin(), "POST", CREDIT.format(mandate), json={"amount": 6}, headers=key)
    assert first.json()["id"] == again.json()["id"]
    assert (other.status_code, other.json()["code"]) == (422, "IDEMPOTENCY_MISMATCH")


async def test_a_foreign_mandate_is_refused_whether_it_exists_or_not(api: BillingApi, mandate: str) -> None:
    stranger = member_of("somewhere-else")
    for named in (mandate, new_mandate()):
        for path in ("balance/{}", "admin/settings/{}", "admin/accounts/{}"):
            answer = await api.call(stranger, "GET", f"/api/billing/{path.format(named)}")
            assert answer.status_code == 403
    assert (await api.call(system_admin(), "GET", f"/api/billing/balance/{new_mandate()}")).status_code == 404


async def test_reading_a_balance_makes_no_account(api: BillingApi, books: Books) -> None:
    mandate = new_mandate()
    await api.directory(mandate, {})
    answer = await api.call(member_of(mandate), "GET", f"/api/billing/balance/{mandate}")
    assert answer.json()["balance"] == 0
    assert (
        await books.value(
            "SELECT count(*) FROM accounts a JOIN mandates m ON m.no = a.mandate_no WHERE m.id = $1", mandate
        )
        == 0
    )


async def test_accounts_list_the_pool_first(api: BillingApi, mandate: str) -> None:
    await credit(api, mandate, "10")
    answer = await api.call(admin_of(mandate), "GET", f"/api/billing/admin/accounts/{mandate}")
    accounts = answer.json()
    assert [account["accountType"] for account in accounts] == ["MANDATE", "USER", "USER", "USER"]
    assert accounts[0]["userId"] is None
    assert accounts[0]["balance"] == 10
    assert {"id", "mandateId", "warningThreshold", "enabled", "creditLimit", "heldAmount"} <= accounts[0].keys()


async def test_a_warning_threshold_is_a_share_of_the_last_credit(api: BillingApi, mandate: str) -> None:
    await credit(api, mandate, "50")
    await credit(api, mandate, "-45.5")
    balance = (await api.call(member_of(mandate), "GET", f"/api/billing/balance/{mandate}")).json()
    assert (balance["balance"], balance["warningThreshold"], balance["isWarning"]) == (4.5, 5.0, True)


async def test_own_budgets_get_their_opening_credit_once(api: BillingApi, mandate: str, books: Books) -> None:
    await credit(api, mandate, "0.000005")
    switched = await api.call(
        system_admin(), "POST", f"/api/billing/admin/model/{mandate}", json={"billingModel": "PREPAY_USER"}
    )
    assert switched.json() == {
        "oldModel": "PREPAY_MANDATE",
        "newModel": "PREPAY_USER",
        "migratedAmount": {"amount": "0.000005", "currency": "CHF"},
        "userCount": 3,
    }
    await api.directory(mandate, {"admin-1": ["admin"], "user-1": ["member"], "user-2": ["member"], "user-3": ["x"]})
    accounts = (await api.call(admin_of(mandate), "GET", f"/api/billing/admin/accounts/{mandate}")).json()
    assert [account["balance"] for account in accounts] == [0, 10.000002, 10.000002, 10.000001, 10]
    back = await api.call(
        system_admin(), "POST", f"/api/billing/admin/model/{mandate}", json={"billingModel": "PREPAY_MANDATE"}
    )
    assert back.json()["migratedAmount"]["amount"] == "40.000005"
    again = await api.call(
        system_admin(), "POST", f"/api/billing/admin/model/{mandate}", json={"billingModel": "PREPAY_USER"}
    )
    assert again.json()["migratedAmount"]["amount"] == "40.000005"
    assert await books.failing() == {}


async def test_a_credit_in_own_budgets_needs_to_know_whose(api: BillingApi, mandate: str) -> None:
    await api.call(system_admin(), "POST", f"/api/billing/admin/model/{mandate}", json={"billingModel": "PREPAY_USER"})
    answer = await api.call(system_admin(), "POST", CREDIT.format(mandate), json={"amount": 1})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "userId")
    row = await credit(api, mandate, "1", "user-2")
    assert row["balanceAfter"] == 11


async def test_postpaid_needs_an_address(api: BillingApi, mandate: str) -> None:
    path = f"/api/billing/admin/model/{mandate}"
    refused = await api.call(system_admin(), "POST", path, json={"billingModel": "CREDIT_POSTPAY"})
    assert (refused.status_code, refused.json()["code"]) == (409, "BILLING_ADDRESS_MISSING")
    address = {"company": "Acme AG", "street": "Weg 1", "zip": "8000", "city": "Zürich"}
    await api.call(
        admin_of(mandate), "POST", f"/api/billing/admin/settings/{mandate}", json={"billingAddress": address}
    )
    assert (await api.call(system_admin(), "POST", path, json={"billingModel": "CREDIT_POSTPAY"})).status_code == 200


async def test_transactions_are_shown_within_the_scope_only(api: BillingApi, mandate: str) -> None:
    await credit(api, mandate, "1")
    await credit(api, mandate, "2", "user-1")
    path = "/api/billing/transactions"
    assert len((await api.call(admin_of(mandate), "GET", path)).json()) == 2
    assert (await api.call(member_of(mandate, user_id="user-2"), "GET", path)).json() == []
    assert (await api.call(member_of("elsewhere"), "GET", path)).json() == []
    newest = (await api.call(admin_of(mandate), "GET", path, params={"limit": 1})).json()
    assert newest[0]["amount"] == 2
    second = (await api.call(admin_of(mandate), "GET", path, params={"limit": 1, "offset": 1})).json()
    assert second[0]["amount"] == 1


@pytest.mark.parametrize("query", [{"limit": "0"}, {"limit": "501"}, {"limit": "x"}, {"offset": "-1"}, {"limit": "٣"}])
async def test_malformed_pages_are_refused(api: BillingApi, mandate: str, query: dict[str, str]) -> None:
    answer = await api.call(admin_of(mandate), "GET", "/api/billing/transactions", params=query)
    assert (answer.status_code, answer.json()["code"]) == (400, "MALFORMED_PARAMETER")
