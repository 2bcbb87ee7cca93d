"""Promotions: given at once or redeemed by a code, once a mandate, and gone when their time is over."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from services.billing.credits.errors import PromotionExpired
from services.billing.credits.expire_grants import ExpireGrants
from services.billing.credits.promotions import redeem_code
from services.chassis.caller import Caller
from tests.integration.billing.conftest import BillingApi
from tests.support.callers import admin_of, member_of, system_admin
from tests.support.events import new_mandate
from tests.support.ledger import Books

CHF = 1_000_000
# With which descriptions the rows of a member begin.
KINDS = ("Promotion", "Billing model", "Initial")
OFFERS, REDEEM = "/api/billing/admin/promotions", "/api/billing/redeem"


def offer(mandate: str | None, **more: Any) -> dict[str, Any]:
    """The body of a promotion of 5 CHF for a day."""
    expires_at = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    amount = {"amount": "5.000000", "currency": "CHF"}
    return {"mandateId": mandate, "amount": amount, "expiresAt": expires_at, "reason": "Welcome", **more}


async def give(api: BillingApi, mandate: str | None, **more: Any) -> dict[str, Any]:
    """Makes a promotion."""
    answer = await api.call(system_admin(), "POST", OFFERS, json=offer(mandate, **more))
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def redeem(api: BillingApi, caller: Caller, mandate: str, code: str, **more: Any) -> httpx.Response:
    """Redeems a code."""
    return await api.call(caller, "POST", REDEEM, json={"mandateId": mandate, "code": code}, **more)


async def test_without_a_code_it_is_granted_at_once_and_with_its_key_once(
    api: BillingApi, books: Books, mandate: str
) -> None:
    body, key = offer(mandate), {"Idempotency-Key": str(uuid4())}
    first, again = [await api.call(system_admin(), "POST", OFFERS, json=body, headers=key) for _ in range(2)]
    assert first.status_code == 200, first.text
    assert first.json() == again.json()
    assert first.json()["amount"] == {"amount": "5.000000", "currency": "CHF"}
    assert await books.pool(mandate) == 5 * CHF
    other = await api.call(system_admin(), "POST", OFFERS, json=offer(mandate, reason="Other"), headers=key)
    assert (other.status_code, other.json()["code"]) == (422, "IDEMPOTENCY_MISMATCH")
    (row,) = [row for row in await books.rows(mandate) if row["contra_account"] == "PROMOTIONAL"]
    assert (row["transaction_type"], row["reference_type"], row["description"], row["reference_id"]) == (
        "CREDIT",
        "SYSTEM",
        "Promotion: Welcome",
        first.json()["id"],
    )
    assert await books.failing() == {}


async def test_a_key_is_for_one_promotion_whichever_mandate_it_is_for(
    api: BillingApi, books: Books, mandate: str
) -> None:
    key, codes = {"Idempotency-Key": str(uuid4())}, [f"code-{uuid4().hex[:8]}" for _ in range(2)]
    body = offer(None, code=codes[0])
    made = await asyncio.gather(*(api.call(system_admin(), "POST", OFFERS, json=body, headers=key) for _ in range(4)))
    assert {answer.status_code for answer in made} == {200}
    assert len({answer.json()["id"] for answer in made}) == 1
    found = await books.fetch("SELECT count(*) FROM promotions WHERE code = $1", codes[0])
    assert found[0][0] == 1
    # The same key asks for nothing else: no other code, and no mandate that would get it at once.
    for other in (offer(None, code=codes[1]), offer(mandate)):
        refused = await api.call(system_admin(), "POST", OFFERS, json=other, headers=key)
        assert (refused.status_code, refused.json()["code"]) == (422, "IDEMPOTENCY_MISMATCH")
    # Nor does that of a redemption: not for another mandate of the same administrator.
    second = new_mandate()
    await api.directory(second, {"admin-1": ["admin"]})
    caller = admin_of(mandate).model_copy(update={"mandates": {mandate: True, second: True}})
    for _ in range(2):
        assert (await redeem(api, caller, mandate, codes[0], headers=key)).status_code == 200
    refused = await redeem(api, caller, second, codes[0], headers=key)
    assert (refused.status_code, refused.json()["code"]) == (422, "IDEMPOTENCY_MISMATCH")
    assert (await books.pool(mandate), await books.rows(second)) == (5 * CHF, [])


async def test_a_code_is_redeemed_once_a_mandate_by_its_administrators(
    api: BillingApi, books: Books, mandate: str
) -> None:
    other, code = new_mandate(), f"code-{uuid4().hex[:8]}"
    await api.directory(other, {"admin-1": ["admin"]})
    await give(api, None, code=code)
    assert (await redeem(api, member_of(mandate), mandate, code)).status_code == 403
    assert (await redeem(api, admin_of(other), mandate, code)).status_code == 403
    assert (await redeem(api, admin_of(mandate), mandate, code)).status_code == 200
    second = await redeem(api, admin_of(mandate), mandate, code)
    assert (second.status_code, second.json()["code"]) == (409, "PROMOTION_REDEEMED")
    assert (await redeem(api, admin_of(other), other, code)).status_code == 200
    assert (await books.pool(mandate), await books.pool(other)) == (5 * CHF, 5 * CHF)
    unknown = await redeem(api, admin_of(mandate), mandate, code.upper())
    assert (unknown.status_code, unknown.json()["code"]) == (404, "CODE_UNKNOWN")
    taken = await api.call(system_admin(), "POST", OFFERS, json=offer(None, code=code))
    assert (taken.status_code, taken.json()["code"]) == (409, "CODE_TAKEN")
    assert await books.failing() == {}


async def test_a_code_for_one_mandate_is_unknown_to_others(api: BillingApi, books: Books, mandate: str) -> None:
    other, code = new_mandate(), f"code-{uuid4().hex[:8]}"
    await api.directory(other, {"admin-1": ["admin"]})
    await give(api, mandate, code=code)
    # Nothing is granted before it is redeemed.
    assert await books.rows(mandate) == []
    assert (await redeem(api, admin_of(other), other, code)).json()["code"] == "CODE_UNKNOWN"
    assert (await redeem(api, admin_of(mandate), mandate, code)).status_code == 200
    assert await books.pool(mandate) == 5 * CHF


async def test_of_many_that_redeem_at_once_one_is_granted(api: BillingApi, books: Books, mandate: str) -> None:
    code = f"code-{uuid4().hex[:8]}"
    await give(api, None, code=code)
    key = {"Idempotency-Key": str(uuid4())}
    answers = await asyncio.gather(
        *(redeem(api, admin_of(mandate), mandate, code) for _ in range(10)),
        *(redeem(api, admin_of(mandate), mandate, code, headers=key) for _ in range(10)),
    )
    assert {answer.status_code for answer in answers} == {200, 409}
    assert await books.pool(mandate) == 5 * CHF
    # With a key all repeats have one answer.
    assert len({answer.status_code for answer in answers[10:]}) == 1
    assert await books.failing() == {}


async def test_in_prepay_user_it_is_shared_among_the_members(api: BillingApi, books: Books, mandate: str) -> None:
    await api.switch(mandate, "PREPAY_USER")
    before = await books.balances(mandate)
    await give(api, mandate)
    after = await books.balances(mandate)
    gained = [after[user] - before[user] for user in ("admin-1", "user-1", "user-2")]
    assert gained == [1_666_667, 1_666_667, 1_666_666]
    assert await books.failing() == {}


async def test_in_prepay_user_each_member_sees_what_their_own_budget_got_and_nobody_elses(
    api: BillingApi, books: Books, mandate: str
) -> None:
    await give(api, mandate)
    await api.switch(mandate, "PREPAY_USER")
    code = f"code-{uuid4().hex[:8]}"
    await give(api, None, code=code)
    assert (await redeem(api, admin_of(mandate), mandate, code)).status_code == 200
    # By now the one who redeemed it is a member like the others.
    for user in ("admin-1", "user-1", "user-2"):
        caller = member_of(mandate, user_id=user)
        listed = (await api.call(caller, "GET", "/api/billing/transactions")).json()
        (account,) = await books.fetch(
            "SELECT a.no FROM accounts a JOIN mandates m ON m.no = a.mandate_no WHERE m.id = $1 AND a.user_id = $2",
            mandate,
            user,
        )
        assert {row["accountId"] for row in listed} == {str(account["no"])}
        sums = {name: sum(row["amount"] for row in listed if row["description"].startswith(name)) for name in KINDS}
        assert sums == {"Promotion": pytest.approx(5 / 3), "Billing model": pytest.approx(5 / 3), "Initial": 10}
        shown = (await api.call(caller, "GET", f"/api/billing/balance/{mandate}")).json()
        assert shown["balance"] == pytest.approx(sum(sums.values()))
        assert {row["createdByUserId"] for row in listed} == {None}


async def test_in_prepay_user_it_waits_on_the_pool_while_nobody_is_there(
    api: BillingApi, books: Books, mandate: str
) -> None:
    await api.switch(mandate, "PREPAY_USER")
    gone = {"admin-1": ["admin"], "user-1": ["member"], "user-2": ["member"]}
    await api.directory(mandate, gone, disabled=tuple(gone))
    made = await give(api, mandate)
    assert await books.pool(mandate) == 5 * CHF
    assert await books.failing() == {}
    later = datetime.fromisoformat(made["expiresAt"]) + timedelta(days=1)
    while await ExpireGrants(api.database, clock=lambda: later)():
        pass
    assert await books.pool(mandate) == 0
    assert await books.failing() == {}


async def test_when_its_time_is_over_it_is_taken_back_and_its_code_refused(
    api: BillingApi, books: Books, mandate: str
) -> None:
    code = f"code-{uuid4().hex[:8]}"
    made = await give(api, None, code=code)
    await give(api, mandate)
    later = datetime.fromisoformat(made["expiresAt"]) + timedelta(days=1)
    with pytest.raises(PromotionExpired):
        await redeem_code(api.database, mandate, code, key=None, caller=admin_of(mandate), clock=lambda: later)
    while await ExpireGrants(api.database, clock=lambda: later)():
        pass
    assert await books.pool(mandate) == 0
    assert await books.failing() == {}


@pytest.mark.parametrize(
    ("fault", "field"),
    [
        ({"mandateId": None}, "code"),
        ({"amount": {"amount": "0", "currency": "CHF"}}, "amount.amount"),
        ({"amount": {"amount": "1.0000001", "currency": "CHF"}}, "amount.amount"),
        ({"amount": {"amount": "1", "currency": "USD"}}, "amount.currency"),
        ({"amount": {"amount": "100001", "currency": "CHF"}}, "amount.amount"),
        ({"amount": 5}, "amount"),
        ({"expiresAt": "2026-01-01T00:00:00Z"}, "expiresAt"),
        ({"expiresAt": "2030-01-01T00:00:00"}, "expiresAt"),
        ({"reason": " "}, "reason"),
        ({"reason": "x" * 201}, "reason"),
        ({"code": "a"}, "code"),
        ({"cod": "WELCOME"}, "cod"),
    ],
)
async def test_what_is_wrong_is_named(api: BillingApi, mandate: str, fault: dict[str, Any], field: str) -> None:
    answer = await api.call(system_admin(), "POST", OFFERS, json={**offer(mandate), **fault})
    assert answer.status_code == 422, answer.text
    assert [each["field"] for each in answer.json()["errors"]] == [field]


async def test_a_refusal_says_what_is_expected(api: BillingApi, mandate: str, books: Books) -> None:
    for fault, said in (
        ({"reason": "x" * 201}, "is longer than 200 characters"),
        ({"code": "a b"}, "a code is 4 to 64 letters, digits or the characters . _ -"),
        ({"cod": "WELCOME"}, "there is no such field"),
    ):
        answer = await api.call(system_admin(), "POST", OFFERS, json={**offer(mandate), **fault})
        assert [each["message"] for each in answer.json()["errors"]] == [said]
    answer = await redeem(api, admin_of(mandate), mandate, "a b")
    assert answer.json()["errors"][0]["message"] == "a code is 4 to 64 letters, digits or the characters . _ -"
    assert await books.rows(mandate) == [], "a misspelt code gives nothing away"
    assert (await give(api, mandate, reason="x" * 200))["reason"] == "x" * 200


async def test_only_system_administrators_give_and_an_unknown_mandate_gets_nothing(
    api: BillingApi, mandate: str
) -> None:
    assert (await api.call(admin_of(mandate), "POST", OFFERS, json=offer(mandate))).status_code == 403
    assert (await api.call(system_admin(), "POST", OFFERS, json=offer(new_mandate()))).status_code == 404
