"""A budget, what went back of its payment and what came back after all are told of on topics that have no order between
them: whatever the order, with repeats and delays, the books end the same."""

import random
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import permutations
from typing import Any
from uuid import uuid4

import pytest

from rappen_contracts.subscription.v1 import Plan
from services.billing.credits.payment_events import CreditPayments, RefundPayments
from services.chassis.consumer import Received
from tests.integration.billing.conftest import BillingApi
from tests.integration.billing.test_grants import BEFORE, CHF, LATER, START, give, spend
from tests.integration.billing.test_returned_budgets import budget, came_back, refund, went_back
from tests.support.callers import admin_of
from tests.support.events import new_mandate, usage_record
from tests.support.facts import money, paid, subscription
from tests.support.invoicing import ADDRESS
from tests.support.ledger import Books

MODELS = ("PREPAY_MANDATE", "PREPAY_USER", "CREDIT_POSTPAY", "UNLIMITED")
MEMBERS = {"admin-1": ["admin"], "user-1": ["member"], "user-2": ["member"]}
# The same in each mandate, so that what its grants say can be compared.
TEAM = uuid4()
# What cannot be shared by three, nor halved.
BUDGET = 20_000_003

# A fact as it is told of, by a name that says what it is: `+` the budget, `-` so many hundredths of its payment that
# went back under an id, `=` that the money of an id came back.
Told = tuple[str, str, int]
GIVEN: Told = ("+", "", 0)


def back(refund_id: str, percent: int) -> Told:
    return ("-", refund_id, percent)


def again(refund_id: str, percent: int) -> Told:
    return ("=", refund_id, percent)


# What is told of, and what of the budget stays in the end.
LIVES: dict[str, tuple[list[Told], int]] = {
    "a part went back": ([GIVEN, back("re_1", 25)], BUDGET - BUDGET * 25 // 100),
    "the whole went back": ([GIVEN, back("du_1", 100)], 0),
    "a dispute was won after all": ([GIVEN, back("du_1", 100), again("du_1", 100)], BUDGET),
    "of two parts one failed": (
        [GIVEN, back("re_1", 25), back("re_2", 50), again("re_1", 25)],
        BUDGET - BUDGET * 50 // 100,
    ),
    "three parts are the whole": ([GIVEN, back("re_1", 33), back("re_2", 33), back("re_3", 34)], 0),
    "a dispute was lost, won and lost": ([GIVEN, back("du_1", 100), again("du_1", 100), back("du_1/2", 100)], 0),
    "a failed refund makes room for a dispute": (
        [GIVEN, back("re_1", 80), back("du_1", 20), again("re_1", 80), back("du_1/2", 80)],
        0,
    ),
    "both takings of a dispute come back together": (
        [GIVEN, back("re_1", 80), back("du_1", 20), again("re_1", 80), back("du_1/2", 80), again("du_1/2", 100)],
        BUDGET,
    ),
}


def orders(told: Sequence[Told], *, limit: int) -> Iterator[list[Told]]:
    """Every order of them, or so many of more; a fact that was told of before is told of again, at once and at the
    end."""
    every = list(permutations(told))
    if len(every) > limit:
        every = random.Random(7).sample(every, limit)
    for order in every:
        yield [*order, order[0], order[-1], *reversed(order)]


@pytest.fixture
def opened(api: BillingApi) -> Callable[[str], Awaitable[str]]:
    """Makes a mandate of a billing model."""

    async def open_(model: str) -> str:
        mandate = new_mandate()
        await api.directory(mandate, MEMBERS)
        if model == "CREDIT_POSTPAY":
            path = f"/api/billing/admin/settings/{mandate}"
            answer = await api.call(admin_of(mandate), "POST", path, json={"billingAddress": ADDRESS})
            assert answer.status_code == 200, answer.text
        if model != "PREPAY_MANDATE":
            await api.switch(mandate, model)
        return mandate

    return open_


def _budget(mandate: str, **more: Any) -> Received:
    plan = Plan(key="TEAM", budget=money("20.000003"), rollover=bool(more.pop("rollover", False)))
    due = bool(more.pop("budget_due", True))
    return subscription(
        mandate,
        TEAM,
        int(more.pop("version", 1)),
        "ACTIVE",
        plan=plan,
        period_start=BEFORE,
        period_end=LATER,
        budget_due=due,
    )


async def tell(api: BillingApi, mandate: str, told: Iterable[Told], *, rollover: bool = False) -> None:
    """Tells of the facts in this order, a second apart."""
    for number, (what, refund_id, percent) in enumerate(told):
        at = START + timedelta(seconds=number)
        if what == "+":
            await give(api, _budget(mandate, rollover=rollover), at=at)
        elif what == "-":
            part = went_back(mandate, TEAM, str(percent), refund_id=refund_id, paid_amount=money(100))
            assert await RefundPayments(api.database, clock=_clock(at))([part], []) == []
        else:
            one = paid(mandate, percent, reason="subscription", reference=refund_id)
            assert await CreditPayments(api.database, clock=_clock(at))([one], []) == []


def _clock(at: datetime) -> Callable[[], datetime]:
    return lambda: at


async def state(books: Books, mandate: str) -> dict[str, Any]:
    """Balances, grants and marks."""
    no = await books.value("SELECT no FROM mandates WHERE id = $1", mandate)
    grants = await books.fetch(
        "SELECT coalesce(a.user_id, a.type), g.kind, g.amount, g.remaining, g.open, g.expires_at, g.reference_id,"
        " g.description FROM grants g JOIN accounts a ON a.mandate_no = g.mandate_no AND a.no = g.account_no"
        " WHERE g.mandate_no = $1 ORDER BY 1, g.no",
        no,
    )
    budgets = "SELECT subscription_id, period_start, amount FROM subscription_budgets WHERE mandate_no = $1"
    refunds = (
        "SELECT refund_id, subscription_id, period_start, amount, paid_amount FROM budget_refunds"
        " WHERE mandate_no = $1 ORDER BY 1"
    )
    credits_ = "SELECT reference, amount, digest FROM payment_credits WHERE mandate_no = $1 ORDER BY 1"
    taken = "SELECT coalesce(-sum(amount), 0) FROM budget_movements WHERE mandate_no = $1"
    return {
        "balances": await books.balances(mandate),
        "grants": [tuple(row) for row in grants],
        "budgets": [tuple(row) for row in await books.fetch(budgets, no)],
        "refunds": [tuple(row) for row in await books.fetch(refunds, no)],
        "credits": [tuple(row) for row in await books.fetch(credits_, no)],
        "taken": int(await books.value(taken, no)),
    }


@pytest.mark.timeout(180)
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("life", LIVES)
async def test_whatever_the_order_the_books_end_the_same(
    api: BillingApi, books: Books, opened: Callable[[str], Awaitable[str]], life: str, model: str
) -> None:
    told, stays = LIVES[life]
    before = await books.money(await opened(model))
    first: dict[str, Any] | None = None
    for order in orders(told, limit=6 if model.startswith("PREPAY") else 3):
        mandate = await opened(model)
        await tell(api, mandate, order, rollover=model == "UNLIMITED")
        ended = await state(books, mandate)
        assert sum(ended["balances"].values()) - before == stays, order
        first = first or ended
        assert ended == first, order
    assert await books.failing() == {}


@pytest.mark.parametrize("life", ["a dispute was won after all", "of two parts one failed"])
async def test_members_who_come_meanwhile_change_nothing(
    api: BillingApi, books: Books, opened: Callable[[str], Awaitable[str]], life: str
) -> None:
    """What comes back goes to whom it was taken from, whoever else is a member by then."""
    (given, *told), stays = LIVES[life]
    ends = []
    for order in permutations(told):
        mandate = await opened("PREPAY_USER")
        before = await books.balances(mandate)
        await tell(api, mandate, [given, order[0]])
        await api.directory(mandate, {**MEMBERS, "user-3": ["member"]})
        await tell(api, mandate, order)
        after = await books.balances(mandate)
        ends.append({user: after[user] - before[user] for user in MEMBERS})
        assert sum(ends[-1].values()) == stays
    assert all(each == ends[0] for each in ends)
    assert await books.failing() == {}


@pytest.mark.parametrize("order", ["before", "after"])
async def test_of_a_budget_for_each_member_its_part_goes_whenever_it_is_told_of(
    api: BillingApi, books: Books, opened: Callable[[str], Awaitable[str]], order: str
) -> None:
    mandate = await opened("PREPAY_MANDATE")
    plan = Plan(key="TEAM", budget=money(7), budget_per="member")
    told = subscription(mandate, TEAM, 1, "ACTIVE", plan=plan, period_start=BEFORE, period_end=LATER, budget_due=True)
    if order == "before":
        await give(api, told)
    await tell(api, mandate, [back("re_1", 25)])
    if order == "after":
        assert await books.rows(mandate) == []
        await give(api, told)
    assert await books.pool(mandate) == 21 * CHF * 3 // 4
    assert await books.failing() == {}


async def test_a_refund_waits_until_the_budget_is_due(
    api: BillingApi, books: Books, opened: Callable[[str], Awaitable[str]]
) -> None:
    """The period is told of before its budget is: while its payment is awaited, or was refused at first."""
    mandate = await opened("PREPAY_MANDATE")
    await give(api, _budget(mandate, budget_due=False))
    await tell(api, mandate, [back("re_1", 25)])
    await give(api, _budget(mandate, budget_due=False, version=2))
    assert await books.rows(mandate) == []
    await give(api, _budget(mandate, version=3), _budget(mandate, version=4))
    assert await books.pool(mandate) == BUDGET - BUDGET // 4
    # Nor does that of the next period wait for anything.
    await give(api, budget(mandate, TEAM, 5, version=5, start=LATER, end=LATER + timedelta(days=30)))
    assert await books.pool(mandate) == BUDGET - BUDGET // 4 + 5 * CHF
    assert await books.failing() == {}


async def test_a_refund_whose_budget_is_never_told_of_stays_without_effect(
    api: BillingApi, books: Books, opened: Callable[[str], Awaitable[str]]
) -> None:
    mandate = await opened("PREPAY_MANDATE")
    await tell(api, mandate, [back("re_1", 25), back("re_1", 25), again("re_1", 25), back("re_2", 100)])
    assert await books.rows(mandate) == []
    assert await refund(api, went_back(mandate, TEAM, "30", refund_id="re_1", paid_amount=money(100))) == ["CONFLICT"]
    assert await books.failing() == {}


async def test_what_was_taken_before_a_switch_of_the_model_comes_back_where_the_new_one_looks(
    api: BillingApi, books: Books, opened: Callable[[str], Awaitable[str]]
) -> None:
    for before, after in (("PREPAY_MANDATE", "PREPAY_USER"), ("PREPAY_USER", "PREPAY_MANDATE")):
        mandate = await opened(before)
        await tell(api, mandate, [GIVEN, back("re_1", 50)])
        await api.switch(mandate, after)
        switched = await books.money(mandate)
        await came_back(api, mandate, refund_id="re_1")
        assert await books.money(mandate) == switched + BUDGET // 2
        # What came back is a part of the budget that goes again.
        await tell(api, mandate, [back("re_2", 100)])
        assert await books.money(mandate) == switched - (BUDGET - BUDGET // 2)
    assert await books.failing() == {}


async def test_two_periods_that_are_told_of_together_lose_each_their_own(
    api: BillingApi, books: Books, opened: Callable[[str], Awaitable[str]]
) -> None:
    mandate = await opened("PREPAY_USER")
    before = await books.money(mandate)
    later = budget(mandate, TEAM, 7, version=2, start=LATER, end=LATER + timedelta(days=30), rollover=True)
    await give(api, budget(mandate, TEAM, 20, rollover=True), later)
    await refund(api, went_back(mandate, TEAM))
    assert await books.money(mandate) == before + 7 * CHF
    assert await books.failing() == {}


async def test_what_is_spent_in_between_is_not_taken_and_leaves_no_debt(
    api: BillingApi, books: Books, opened: Callable[[str], Awaitable[str]]
) -> None:
    """Half of the payment stays in the end, and more than that was spent: nothing is left to be given again."""
    mandate = await opened("PREPAY_MANDATE")
    await tell(api, mandate, [GIVEN, back("re_1", 25)])
    await spend(api, [usage_record(mandate, amount="8")], START)
    await tell(api, mandate, [back("re_2", 50)])
    assert await books.pool(mandate) == 0
    await came_back(api, mandate, refund_id="re_1")
    assert await books.pool(mandate) == 0
    await came_back(api, mandate, refund_id="re_2")
    assert await books.pool(mandate) == BUDGET - 12 * CHF
    assert await books.failing() == {}


async def test_the_audit_says_what_of_a_refund_has_no_row_and_a_row_says_what_it_came_from(
    api: BillingApi, books: Books, opened: Callable[[str], Awaitable[str]]
) -> None:
    mandate = await opened("PREPAY_MANDATE")
    await tell(api, mandate, [back("re_1", 25), GIVEN, back("re_2", 50), again("re_2", 50)])
    no = await books.value("SELECT no FROM mandates WHERE id = $1", mandate)
    tamper = "UPDATE budget_movements SET amount = amount - $2 WHERE mandate_no = $1 AND reference = 're_1'"
    await books.fetch(tamper, no, 1)
    assert await books.failing() == {"credits": 1}
    await books.fetch(tamper, no, -1)
    assert await books.failing() == {}
    rows = (await api.call(admin_of(mandate), "GET", "/api/billing/transactions", params={"mandateId": mandate})).json()
    (taken,) = [row for row in rows if row["referenceId"] == "re_1"]
    answer = await api.call(admin_of(mandate), "GET", f"/api/billing/transactions/{taken['id']}/explain")
    assert answer.status_code == 200, answer.text
    payment = answer.json()["payment"]
    assert (payment["reference"], payment["refund"]["refundId"]) == ("in_1", "re_1")
    assert payment["refund"]["amount"] == "5.000000"
