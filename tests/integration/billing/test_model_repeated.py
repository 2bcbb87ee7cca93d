"""A switch of the billing model whose answer was lost is asked for again: made once, answered as at first."""

import asyncio
from typing import Any

import httpx

from tests.integration.billing.conftest import BillingApi
from tests.support.callers import system_admin
from tests.support.ledger import Books


async def switch(api: BillingApi, mandate: str, model: str, key: str | None, user: str = "root") -> httpx.Response:
    given = {} if key is None else {"Idempotency-Key": key}
    return await api.call(
        system_admin(user), "POST", f"/api/billing/admin/model/{mandate}", json={"billingModel": model}, headers=given
    )


async def credit(api: BillingApi, mandate: str) -> None:
    path = f"/api/billing/admin/credit/{mandate}"
    assert (await api.call(system_admin(), "POST", path, json={"amount": 30})).status_code == 200


async def test_a_repeat_answers_what_the_first_was_answered(api: BillingApi, mandate: str, books: Books) -> None:
    await credit(api, mandate)
    first = await switch(api, mandate, "PREPAY_USER", "key-1")
    assert first.status_code == 200
    expected: dict[str, Any] = {
        "oldModel": "PREPAY_MANDATE",
        "newModel": "PREPAY_USER",
        "migratedAmount": {"amount": "30.000000", "currency": "CHF"},
        "userCount": 3,
    }
    assert first.json() == expected
    assert (await switch(api, mandate, "PREPAY_USER", "key-1")).json() == expected
    # Without the key, or with another person's, it is another request.
    assert (await switch(api, mandate, "PREPAY_USER", None)).status_code == 409
    assert (await switch(api, mandate, "PREPAY_USER", "key-1", "other-root")).status_code == 409
    other = await switch(api, mandate, "UNLIMITED", "key-1")
    assert (other.status_code, other.json()["code"]) == (422, "IDEMPOTENCY_MISMATCH")
    # Also when the model has changed since: the key's change was made, once.
    assert (await switch(api, mandate, "PREPAY_MANDATE", "key-2")).status_code == 200
    assert (await switch(api, mandate, "PREPAY_USER", "key-1")).json() == expected
    balances = await api.call(system_admin(), "GET", f"/api/billing/admin/accounts/{mandate}")
    # The members' opening credit of 10 each came to the pool, too.
    assert balances.json()[0]["balance"] == 60
    assert await books.failing() == {}


async def test_repeats_at_the_same_moment_make_one_switch(api: BillingApi, mandate: str, books: Books) -> None:
    await credit(api, mandate)
    answers = await asyncio.gather(*(switch(api, mandate, "PREPAY_USER", "key-1") for _ in range(6)))
    assert {answer.status_code for answer in answers} == {200}
    assert all(answer.json() == answers[0].json() for answer in answers)
    switches = await books.value(
        "SELECT count(*) FROM audit_log a JOIN mandates m ON m.no = a.mandate_no"
        " WHERE m.id = $1 AND a.action = 'model'",
        mandate,
    )
    assert switches == 1


async def test_a_switch_that_is_refused_keeps_no_answer(api: BillingApi, mandate: str) -> None:
    assert (await switch(api, mandate, "PREPAY_MANDATE", "key-1")).status_code == 409
    assert (await switch(api, mandate, "UNLIMITED", "key-1")).status_code == 200
