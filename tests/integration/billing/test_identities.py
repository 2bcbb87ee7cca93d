"""Ids of the ledger's own movements cannot be named by a publisher, and a contradiction never passes for a repeat."""

from uuid import UUID, uuid4, uuid5

import pytest

from rappen_contracts.subscription.v1 import Plan
from services.billing.credits.apply_subscription import ApplySubscription
from services.billing.credits.payment_events import CreditPayments
from services.billing.credits.settle_payments import SettlePayments
from services.billing.ledger.domain import LEDGER_NAMESPACE
from services.chassis.clock import system_clock
from services.chassis.consumer import Received
from tests.integration.billing.conftest import BillingApi
from tests.support.callers import system_admin
from tests.support.charging import charge
from tests.support.events import new_mandate, usage_record
from tests.support.facts import money, paid, subscription
from tests.support.ledger import Books

MEMBERS = {"user-1": ["member"], "user-2": ["member"], "user-3": ["admin"]}


async def _pay(api: BillingApi, *payments: Received) -> None:
    await CreditPayments(api.database, clock=system_clock)(payments, [])


async def _switch(api: BillingApi, mandate: str, model: str) -> int:
    answer = await api.call(system_admin(), "POST", f"/api/billing/admin/model/{mandate}", json={"billingModel": model})
    return answer.status_code


async def _own_ids(books: Books, mandate: str) -> list[UUID]:
    rows = await books.fetch(
        "SELECT t.event_id FROM transactions t JOIN mandates m ON m.no = t.mandate_no"
        " WHERE m.id = $1 AND t.contra_account <> 'REVENUE' ORDER BY t.event_id",
        mandate,
    )
    return [row["event_id"] for row in rows]


async def _everything(api: BillingApi, mandate: str, payment: Received, budget: Received) -> None:
    """Every kind of movement whose id follows from what it is: all of them can be worked out by an outsider."""
    await _pay(api, payment)
    await ApplySubscription(api.database, clock=system_clock)([budget], [])
    assert await _switch(api, mandate, "PREPAY_USER") == 200
    path, key = f"/api/billing/admin/credit/{mandate}", {"Idempotency-Key": "once"}
    body = {"userId": "user-1", "amount": 7}
    assert (await api.call(system_admin(), "POST", path, json=body, headers=key)).status_code == 200


async def test_usage_may_have_the_id_of_every_movement_and_each_stands_for_itself(
    api: BillingApi, books: Books
) -> None:
    mandate = new_mandate()
    await api.directory(mandate, MEMBERS)
    payment = paid(mandate)
    budget = subscription(mandate, uuid4(), 1, "ACTIVE", budget_due=True)
    await _everything(api, mandate, payment, budget)
    ids = await _own_ids(books, mandate)
    before = await books.money(mandate)
    await charge(api.database, *(usage_record(mandate, event_id=each, amount="1") for each in ids))
    assert await books.refused(mandate) == {}
    assert await books.charged([mandate]) == len(ids), "usage under such an id is usage like any other"
    assert await books.money(mandate) == before - len(ids) * 1_500_000
    await _everything_again(api, mandate, payment, budget)
    assert await _own_ids(books, mandate) == ids, "a movement was repeated"
    assert await books.failing() == {}


async def _everything_again(api: BillingApi, mandate: str, payment: Received, budget: Received) -> None:
    await _pay(api, payment)
    await ApplySubscription(api.database, clock=system_clock)([budget], [])
    await api.directory(mandate, MEMBERS)
    path, key = f"/api/billing/admin/credit/{mandate}", {"Idempotency-Key": "once"}
    body = {"userId": "user-1", "amount": 7}
    assert (await api.call(system_admin(), "POST", path, json=body, headers=key)).status_code == 200


async def test_usage_first_under_the_id_of_a_payment_does_not_swallow_the_payment(
    api: BillingApi, books: Books
) -> None:
    twin = new_mandate()
    await api.directory(twin, MEMBERS)
    payment = paid(twin)
    # The id follows from mandate and reference, which whoever pays knows.
    derived = uuid5(LEDGER_NAMESPACE, f"{twin}/payment/{payment.event.data.reference}")
    await charge(api.database, usage_record(twin, event_id=derived, amount="1"))
    await _pay(api, payment)
    assert await books.money(twin) == 500_000_000 - 1_500_000
    assert derived in await _own_ids(books, twin), "the id was not the one that the payment has"
    assert await books.failing() == {}


@pytest.mark.parametrize("parked", [False, True])
async def test_a_payment_told_with_another_amount_is_a_conflict_and_told_again_is_a_repeat(
    api: BillingApi, books: Books, parked: bool
) -> None:
    mandate, event_id = new_mandate(), uuid4()
    await api.directory(mandate, MEMBERS)
    told = {"reference": f"cs_{uuid4().hex}", "event_id": event_id, "currency": "UZS" if parked else "CHF"}
    await _pay(api, paid(mandate, 500, **told))
    await _pay(api, paid(mandate, 500, **told))
    assert await books.refused(mandate) == {}
    await _pay(api, paid(mandate, 900, **told))
    assert await books.refused(mandate) == {"CONFLICT": 1}
    assert await books.money(mandate) == (0 if parked else 500_000_000)
    assert await books.parked([mandate]) == int(parked)


async def test_a_parked_payment_told_again_when_its_rate_is_there_is_not_credited_beside_its_parking_place(
    api: BillingApi, books: Books
) -> None:
    mandate, event_id = new_mandate(), uuid4()
    await api.directory(mandate, MEMBERS)
    parked = paid(mandate, 500, event_id=event_id, currency="MDL")
    await _pay(api, parked)
    body = {"currency": "MDL", "rate": "0.1", "validFrom": "2026-01-01T00:00:00Z"}
    assert (await api.call(system_admin(), "POST", "/api/billing/admin/rates", json=body)).status_code == 200
    await _pay(api, parked)
    assert (await books.parked([mandate]), await books.money(mandate)) == (1, 0)
    settle = SettlePayments(api.database, clock=system_clock)
    while await settle():
        pass
    assert (await books.parked([mandate]), await books.money(mandate)) == (0, 50_000_000)
    assert await books.failing() == {}


async def test_a_budget_per_member_is_counted_once_whatever_is_told_again(api: BillingApi, books: Books) -> None:
    mandate = new_mandate()
    await api.directory(mandate, {"user-1": ["member"]})
    plan = Plan(key="TEAM", budget=money(20), budget_per="member")
    due = subscription(mandate, uuid4(), 1, "ACTIVE", budget_due=True, plan=plan)
    tell = ApplySubscription(api.database, clock=system_clock)
    await tell([due], [])
    await api.directory(mandate, MEMBERS)
    await tell([due], [])
    assert await books.money(mandate) == 20_000_000
    nobody = new_mandate()
    due = subscription(nobody, uuid4(), 1, "ACTIVE", budget_due=True, plan=plan)
    await tell([due], [])
    await api.directory(nobody, MEMBERS)
    await tell([due], [])
    assert (
        await books.value(
            "SELECT amount FROM subscription_budgets b JOIN mandates m ON m.no = b.mandate_no WHERE m.id = $1", nobody
        )
        == 0
    )
    assert await books.failing() == {}


async def test_a_manual_credit_repeated_after_a_switch_answers_the_first_one(api: BillingApi, books: Books) -> None:
    mandate = new_mandate()
    await api.directory(mandate, MEMBERS)
    path, key = f"/api/billing/admin/credit/{mandate}", {"Idempotency-Key": "once"}
    first = await api.call(system_admin(), "POST", path, json={"amount": 9}, headers=key)
    assert await _switch(api, mandate, "PREPAY_USER") == 200
    total = await books.money(mandate)
    again = await api.call(system_admin(), "POST", path, json={"amount": 9}, headers=key)
    assert (again.status_code, again.json()) == (200, first.json())
    other = await api.call(system_admin(), "POST", path, json={"amount": 9, "userId": "user-1"}, headers=key)
    assert other.status_code == 422, other.text
    assert await books.money(mandate) == total
