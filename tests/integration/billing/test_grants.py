"""Budgets as grants: spent before paid credit, the one that expires soonest first, gone when their time is over."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import uuid4

import pytest

from rappen_contracts.subscription.v1 import Plan
from services.billing.credits.apply_subscription import ApplySubscription
from services.billing.credits.expire_grants import ExpireGrants
from services.billing.credits.payment_events import CreditPayments
from services.billing.ledger.grants import NewGrant, insert_grants, read_grants
from services.billing.ledger.spending import read_grants_text
from services.chassis.clock import Clock
from services.chassis.consumer import Received
from services.chassis.database import driver_connection
from tests.integration.billing.conftest import BillingApi
from tests.support.callers import checker, member_of, system_admin
from tests.support.charging import charge, charging, received
from tests.support.events import RawRecord, usage_record, voided_record
from tests.support.facts import money, paid, subscription
from tests.support.ledger import Books

CHF = 1_000_000
START = datetime.now(UTC) - timedelta(days=2)
# Periods that are over, and one that runs, as the api sees them.
BEFORE, SOON, LATER = START - timedelta(days=30), START + timedelta(days=1), START + timedelta(days=30)
# 1 CHF of a provider is 1.5 CHF here.


def _at(moment: datetime) -> Clock:
    return lambda: moment


def budget(mandate: str, amount: int, end: datetime | None, **more: object) -> Received:
    """The first period of a plan with a budget."""
    plan = Plan(key="TEAM", budget=money(amount), rollover=bool(more.pop("rollover", False)))
    return subscription(
        mandate, uuid4(), 1, "ACTIVE", plan=plan, period_start=BEFORE, period_end=end, budget_due=True, **more
    )


async def give(api: BillingApi, *events: Received, at: datetime = START) -> None:
    """Budgets as subscription.changed tells of them."""
    await ApplySubscription(api.database, clock=_at(at))(events, [])


async def spend(api: BillingApi, records: Sequence[RawRecord], at: datetime) -> None:
    """Charges usage at a time."""
    await charging(api.database, clock=_at(at))(received(records), [])


async def remaining(books: Books, mandate: str) -> list[tuple[int, int]]:
    """Of each grant that was given, in the order of expiry: how much, and what remains; in micro-CHF."""
    rows = await books.fetch(
        "SELECT g.amount, g.remaining FROM grants g JOIN mandates m ON m.no = g.mandate_no WHERE m.id = $1"
        " AND g.amount > 0 ORDER BY g.expires_at NULLS LAST, g.no",
        mandate,
    )
    return [tuple(row) for row in rows]


async def test_the_soonest_expiry_is_spent_first_and_paid_credit_last(
    api: BillingApi, books: Books, mandate: str
) -> None:
    await CreditPayments(api.database, clock=_at(START))([paid(mandate, 10)], [])
    await give(api, budget(mandate, 5, LATER), budget(mandate, 3, SOON), budget(mandate, 2, LATER, rollover=True))
    assert await books.pool(mandate) == 20 * CHF
    await spend(api, [usage_record(mandate, amount="1")], START)
    assert await remaining(books, mandate) == [(3 * CHF, 1_500_000), (5 * CHF, 5 * CHF), (2 * CHF, 2 * CHF)]
    await spend(api, [usage_record(mandate, amount="1"), usage_record(mandate, amount="2")], START)
    assert await remaining(books, mandate) == [(3 * CHF, 0), (5 * CHF, 2 * CHF), (2 * CHF, 2 * CHF)]
    await spend(api, [usage_record(mandate, amount="4")], START)
    assert await remaining(books, mandate) == [(3 * CHF, 0), (5 * CHF, 0), (2 * CHF, 0)]
    assert await books.pool(mandate) == 8 * CHF
    rows = await books.rows(mandate)
    spent = [read_grants_text(row["grants"]) for row in rows if row["contra_account"] == "REVENUE"]
    assert [[change for _, change in changes] for changes in spent] == [
        [-1_500_000],
        [-1_500_000],
        [-3 * CHF],
        [-2 * CHF, -2 * CHF],
    ]
    assert await books.failing() == {}


async def test_what_has_expired_is_gone_for_a_check_a_hold_and_a_balance_before_any_job_ran(
    api: BillingApi, books: Books, mandate: str
) -> None:
    await CreditPayments(api.database, clock=_at(START))([paid(mandate, 1)], [])
    await give(api, budget(mandate, 5, SOON), budget(mandate, 2, LATER))
    body = {"mandateId": mandate, "userId": "user-1", "estimatedCost": {"amount": "3.000001", "currency": "CHF"}}
    answer = (await api.call(checker(), "POST", "/api/billing/check", json=body)).json()
    assert (answer["reason"], answer["currentBalance"]["amount"]) == ("INSUFFICIENT_BALANCE", "3.000000")
    refused = await api.call(checker(), "POST", "/api/billing/holds", json=body, headers={"Idempotency-Key": "a"})
    assert (refused.status_code, refused.json()["code"]) == (402, "INSUFFICIENT_BALANCE")
    body["estimatedCost"] = {"amount": "3", "currency": "CHF"}
    assert (await api.call(checker(), "POST", "/api/billing/check", json=body)).json()["allowed"]
    shown = await api.call(member_of(mandate), "GET", f"/api/billing/balance/{mandate}")
    assert shown.json()["balance"] == 3
    accounts = await api.call(system_admin(), "GET", f"/api/billing/admin/accounts/{mandate}")
    assert accounts.json()[0]["balance"] == 3
    # Nothing was posted for it so far.
    assert await books.pool(mandate) == 8 * CHF


async def test_expiry_is_a_transaction_against_where_the_grant_came_from(
    api: BillingApi, books: Books, mandate: str
) -> None:
    await CreditPayments(api.database, clock=_at(START))([paid(mandate, 1)], [])
    await give(api, budget(mandate, 5, SOON))
    await spend(api, [usage_record(mandate, amount="1")], START)
    job = ExpireGrants(api.database, clock=_at(SOON - timedelta(microseconds=1)))
    while await job():
        pass
    assert await books.pool(mandate) == 4_500_000
    job = ExpireGrants(api.database, clock=_at(SOON))
    while await job():
        pass
    row = (await books.rows(mandate))[-1]
    assert await books.pool(mandate) == CHF == row["balance_after"]
    named = ("transaction_type", "amount", "contra_account", "reference_type", "description", "occurred_at")
    assert [row[name] for name in named] == [
        "ADJUSTMENT",
        -3_500_000,
        "SUBSCRIPTION_GRANT",
        "SUBSCRIPTION",
        "Expired: Budget TEAM",
        SOON,
    ]
    before = len(await books.rows(mandate))
    assert not await job() or len(await books.rows(mandate)) == before
    assert await books.failing() == {}


async def test_usage_after_the_expiry_is_paid_from_what_is_left(api: BillingApi, books: Books, mandate: str) -> None:
    await give(api, budget(mandate, 5, SOON), budget(mandate, 2, LATER))
    # It happened before, and is booked after.
    late = usage_record(mandate, amount="2", at=START)
    await spend(api, [late, usage_record(mandate, amount="1", at=SOON)], SOON)
    assert await books.pool(mandate) == -2_500_000
    assert await remaining(books, mandate) == [(5 * CHF, 0), (2 * CHF, 0)]
    expired = [row for row in await books.rows(mandate) if row["contra_account"] == "SUBSCRIPTION_GRANT"]
    assert [row["amount"] for row in expired] == [5 * CHF, 2 * CHF, -5 * CHF]
    assert await books.failing() == {}


async def test_a_debt_is_covered_when_a_budget_comes(api: BillingApi, books: Books, mandate: str) -> None:
    await spend(api, [usage_record(mandate, amount="2")], START)
    await give(api, budget(mandate, 5, SOON))
    assert await remaining(books, mandate) == [(5 * CHF, 2 * CHF)]
    while await ExpireGrants(api.database, clock=_at(SOON))():
        pass
    assert await books.pool(mandate) == 0
    assert await books.failing() == {}


async def test_a_budget_whose_period_is_over_comes_and_goes_at_once(
    api: BillingApi, books: Books, mandate: str
) -> None:
    await CreditPayments(api.database, clock=_at(START))([paid(mandate, 1)], [])
    await give(api, budget(mandate, 5, START - timedelta(days=1)))
    assert await books.pool(mandate) == CHF
    assert await books.failing() == {}


async def test_a_reversal_gives_back_to_the_grants_and_what_has_expired_expires_again(
    api: BillingApi, books: Books, mandate: str
) -> None:
    await give(api, budget(mandate, 3, SOON), budget(mandate, 5, LATER))
    usages = [usage_record(mandate, amount="3", at=START), usage_record(mandate, amount="1", at=START)]
    await spend(api, usages, START)
    assert await remaining(books, mandate) == [(3 * CHF, 0), (5 * CHF, 2 * CHF)]
    await spend(api, [voided_record(mandate, usages[1].event_id)], START)
    assert await remaining(books, mandate) == [(3 * CHF, 0), (5 * CHF, 3_500_000)]
    await spend(api, [voided_record(mandate, usages[0].event_id)], SOON)
    assert await remaining(books, mandate) == [(3 * CHF, 0), (5 * CHF, 5 * CHF)]
    assert await books.pool(mandate) == 5 * CHF
    assert await books.failing() == {}


async def test_in_prepay_user_a_budget_is_shared_and_each_part_expires_by_itself(
    api: BillingApi, books: Books, mandate: str
) -> None:
    await api.switch(mandate, "PREPAY_USER")
    before = await books.balances(mandate)
    await give(api, budget(mandate, 2, SOON))
    parts = [666_667, 666_667, 666_666]
    after = await books.balances(mandate)
    users = ("admin-1", "user-1", "user-2")
    assert [after[user] - before[user] for user in users] == parts
    await spend(api, [usage_record(mandate, "user-1", amount="0.4")], START)
    await spend(api, [usage_record(mandate, "user-1", amount="0.4")], SOON)
    # Only what that member had was looked at; the job does the rest.
    assert await remaining(books, mandate) == [(666_667, 666_667), (666_667, 0), (666_666, 666_666)]
    while await ExpireGrants(api.database, clock=_at(SOON))():
        pass
    after = await books.balances(mandate)
    assert [before[user] - after[user] for user in users] == [0, 1_200_000 - 600_000, 0]
    assert await books.failing() == {}


async def test_a_switch_moves_each_grant_with_its_expiry(api: BillingApi, books: Books, mandate: str) -> None:
    await CreditPayments(api.database, clock=_at(START))([paid(mandate, 1)], [])
    forever = datetime.now(UTC) + timedelta(days=300)
    await give(api, budget(mandate, 5, forever), budget(mandate, 2, LATER, rollover=True))
    await give(api, budget(mandate, 7, SOON))
    await api.switch(mandate, "PREPAY_USER")
    balances = await books.balances(mandate)
    # The opening credit of 10 beside; what had expired was not moved.
    assert [balances[name] - 10 * CHF for name in ("admin-1", "user-1", "user-2")] == [
        333_334 + 1_666_667 + 666_667,
        333_333 + 1_666_667 + 666_667,
        333_333 + 1_666_666 + 666_666,
    ]
    assert balances["pool"] == 0
    assert sorted(rest for _, rest in await remaining(books, mandate) if rest) == [
        666_666,
        666_667,
        666_667,
        1_666_666,
        1_666_667,
        1_666_667,
    ]
    await charge(api.database, usage_record(mandate, "user-2", amount="1"))
    await api.switch(mandate, "PREPAY_MANDATE")
    open_grants = await books.fetch(
        "SELECT g.remaining, g.expires_at FROM grants g JOIN mandates m ON m.no = g.mandate_no"
        " WHERE m.id = $1 AND g.open ORDER BY g.expires_at NULLS LAST",
        mandate,
    )
    assert [tuple(row) for row in open_grants] == [(3_500_000, forever), (2 * CHF, None)]
    assert await books.failing() == {}


@pytest.mark.parametrize("members", [True, False])
async def test_a_reversal_after_a_switch_goes_on_as_the_grant_that_it_was(
    api: BillingApi, books: Books, mandate: str, members: bool
) -> None:
    forever = datetime.now(UTC) + timedelta(days=300)
    await give(api, budget(mandate, 2, forever))
    usage = usage_record(mandate, "user-1", amount="1.2")
    await charge(api.database, usage)
    await api.switch(mandate, "PREPAY_USER")
    if not members:
        named = {"admin-1": ["admin"], "user-1": ["member"], "user-2": ["member"]}
        await api.directory(mandate, named, disabled=tuple(named))
    before = await books.balances(mandate)
    await charge(api.database, voided_record(mandate, usage.event_id))
    after = await books.balances(mandate)
    gained = {user: after[user] - before[user] for user in after if after[user] != before[user]}
    expected = {"admin-1": 600_000, "user-1": 600_000, "user-2": 600_000}
    assert gained == (expected if members else {"user-1": 1_800_000})
    granted = await books.value(
        "SELECT sum(granted) FROM accounts a JOIN mandates m ON m.no = a.mandate_no WHERE m.id = $1", mandate
    )
    assert granted == 2 * CHF
    assert await books.failing() == {}


async def test_a_deduction_spends_grants_too(api: BillingApi, books: Books, mandate: str) -> None:
    forever = datetime.now(UTC) + timedelta(days=300)
    await give(api, budget(mandate, 2, forever))
    body = {"amount": -3, "description": "Mistake"}
    answer = await api.call(system_admin(), "POST", f"/api/billing/admin/credit/{mandate}", json=body)
    assert answer.status_code == 200, answer.text
    assert await remaining(books, mandate) == [(2 * CHF, 0)]
    assert await books.pool(mandate) == -CHF
    assert Decimal(answer.json()["balanceAfter"]) == -1
    assert await books.failing() == {}


async def test_grants_that_are_made_together_get_their_numbers_in_their_order(api: BillingApi) -> None:
    mandate_no, account_no = 2**31 - 1, 1
    reference = ("PROMOTIONAL", "SYSTEM", None, "Made together")
    ends = [None, LATER, SOON]
    given = [NewGrant(mandate_no, account_no, "BUDGET", n + 1, ends[n % 3], *reference) for n in range(3_000)]
    async with api.database.reading() as connection:
        transaction = driver_connection(connection).transaction()
        await transaction.start()
        numbers = await insert_grants(connection, given, now=START)
        named = [(mandate_no, number) for number in numbers]
        made = {grant.no: grant for grant in await read_grants(connection, (), named)}
        begun = await driver_connection(connection).fetch(
            "SELECT DISTINCT remaining, granted_at FROM grants WHERE mandate_no = $1", mandate_no
        )
        await transaction.rollback()
    assert [(made[no].amount, made[no].expires_at) for no in numbers] == [
        (grant.amount, grant.expires_at) for grant in given
    ]
    assert [tuple(row) for row in begun] == [(0, START)]
