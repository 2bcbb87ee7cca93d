"""The budget of a period whose payment went back: taken as far as it is unspent, once, and given again where the
payment came back after all."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from rappen_contracts.subscription.v1 import Plan
from services.billing.credits.payment_events import CreditPayments, RefundPayments
from services.chassis.consumer import Received
from tests.integration.billing.conftest import BillingApi
from tests.integration.billing.test_grants import BEFORE, CHF, LATER, SOON, START, give, remaining, spend
from tests.support.events import usage_record
from tests.support.facts import money, paid, refunded, subscription
from tests.support.ledger import Books


def budget(
    mandate: str, subscription_id: UUID, amount: int, *, version: int = 1, start: datetime = BEFORE, **more: Any
) -> Received:
    """The budget of a period of a plan."""
    plan = Plan(key="TEAM", budget=money(amount), rollover=bool(more.pop("rollover", False)))
    end = more.pop("end", LATER)
    return subscription(
        mandate, subscription_id, version, "ACTIVE", plan=plan, period_start=start, period_end=end, budget_due=True
    )


def went_back(mandate: str, subscription_id: UUID | None, amount: str = "67", **more: Any) -> Received:
    """The payment of a period, 67 CHF, or a part of it, as payments tells of it."""
    return refunded(
        mandate,
        amount,
        **{
            "reason": "subscription",
            "outcome": "dispute_lost",
            "reference": "in_1",
            "refund_id": "du_1",
            "subscription_id": subscription_id,
            "period_start": BEFORE,
            "paid_amount": money(67),
            "refunded_at": START,
            **more,
        },
    )


async def refund(api: BillingApi, *events: Received, at: datetime = START) -> list[str]:
    """Tells of refunds; gives the codes of those that were refused."""
    return [each.code for each in await RefundPayments(api.database, clock=lambda: at)(events, [])]


async def came_back(api: BillingApi, mandate: str, *, refund_id: str = "du_1", at: datetime = START) -> None:
    """Tells that a refund or dispute came to nothing after all."""
    event = paid(mandate, 67, reason="subscription", reference=refund_id)
    await CreditPayments(api.database, clock=lambda: at)([event, event], [])


async def test_a_chargeback_takes_what_is_unspent_of_the_budget_once(
    api: BillingApi, books: Books, mandate: str
) -> None:
    team = uuid4()
    await CreditPayments(api.database, clock=lambda: START)([paid(mandate, 10)], [])
    await give(api, budget(mandate, team, 20))
    await spend(api, [usage_record(mandate, amount="8")], START)
    event = went_back(mandate, team)
    assert await refund(api, event, event, went_back(mandate, team)) == []
    # 12 CHF were spent; the rest of the budget goes, and paid credit stays.
    assert await books.pool(mandate) == 10 * CHF
    assert await remaining(books, mandate) == [(20 * CHF, 0)]
    (row,) = [row for row in await books.rows(mandate) if row["transaction_type"] == "ADJUSTMENT"]
    assert (row["amount"], row["contra_account"]) == (-8 * CHF, "SUBSCRIPTION_GRANT")
    assert (row["reference_type"], row["reference_id"], row["description"]) == ("PAYMENT", "du_1", "Lost dispute: in_1")
    assert await refund(api, went_back(mandate, team, "66")) == ["CONFLICT"]
    assert await books.failing() == {}


async def test_what_is_spent_leaves_no_debt(api: BillingApi, books: Books, mandate: str) -> None:
    team = uuid4()
    await give(api, budget(mandate, team, 3))
    await spend(api, [usage_record(mandate, amount="2")], START)
    await refund(api, went_back(mandate, team))
    assert await books.pool(mandate) == 0
    await refund(api, went_back(mandate, team, refund_id="du_2"))
    assert await books.pool(mandate) == 0
    assert await books.failing() == {}


async def test_of_a_part_that_goes_back_the_same_part_of_the_budget_goes(
    api: BillingApi, books: Books, mandate: str
) -> None:
    team = uuid4()
    await give(api, budget(mandate, team, 20))
    await refund(api, went_back(mandate, team, "16.75", outcome="refund", refund_id="re_1"))
    assert await books.pool(mandate) == 15 * CHF
    await refund(api, went_back(mandate, team, "33.5", outcome="refund", refund_id="re_2"))
    assert await books.pool(mandate) == 5 * CHF
    await refund(api, went_back(mandate, team, "16.75", outcome="refund", refund_id="re_3"))
    assert await books.pool(mandate) == 0
    assert await books.failing() == {}


@pytest.mark.parametrize("amount", ["0.0000001", "67.0000001"])
async def test_an_amount_of_more_than_six_decimals_takes_its_part(
    api: BillingApi, books: Books, mandate: str, amount: str
) -> None:
    team = uuid4()
    await give(api, budget(mandate, team, 20))
    await refund(api, went_back(mandate, team, amount))
    assert await books.pool(mandate) == (0 if amount > "1" else 20 * CHF)
    assert await books.failing() == {}


async def test_a_part_that_came_back_and_goes_again_takes_no_more_than_its_part(
    api: BillingApi, books: Books, mandate: str
) -> None:
    team = uuid4()
    await give(api, budget(mandate, team, 20))
    for number in range(3):
        await refund(api, went_back(mandate, team, "33.5", outcome="refund", refund_id=f"re_{number}"))
        assert await books.pool(mandate) == 10 * CHF
        await came_back(api, mandate, refund_id=f"re_{number}")
        assert await books.pool(mandate) == 20 * CHF
    assert await books.failing() == {}


async def test_after_a_switch_of_the_model_a_part_is_still_one_of_the_whole_budget(
    api: BillingApi, books: Books, mandate: str
) -> None:
    team = uuid4()
    await give(api, budget(mandate, team, 20))
    await spend(api, [usage_record(mandate, amount="4")], START)
    await api.switch(mandate, "PREPAY_USER")
    before = sum((await books.balances(mandate)).values())
    await refund(api, went_back(mandate, team, "33.5", outcome="refund"))
    # Of the 14 CHF that were left.
    assert before - sum((await books.balances(mandate)).values()) == 10 * CHF
    assert await books.failing() == {}


async def test_a_budget_that_does_not_expire_goes_again_after_it_was_given_again(
    api: BillingApi, books: Books, mandate: str
) -> None:
    team = uuid4()
    await give(api, budget(mandate, team, 20, rollover=True))
    for hours, refund_id in ((1, "du_1"), (3, "du_1/2")):
        await refund(api, went_back(mandate, team, refund_id=refund_id), at=START + timedelta(hours=hours))
        assert await books.pool(mandate) == 0
        await came_back(api, mandate, refund_id=refund_id, at=START + timedelta(hours=hours + 1))
        assert await books.pool(mandate) == 20 * CHF
    assert await books.failing() == {}


@pytest.mark.parametrize("rollover", [False, True])
async def test_a_part_that_came_back_and_goes_again_takes_the_same_part_as_before(
    api: BillingApi, books: Books, mandate: str, rollover: bool
) -> None:
    """As a refund to a card that is closed, which fails after days and is made once more."""
    team = uuid4()
    await give(api, budget(mandate, team, 20, rollover=rollover))
    await refund(api, went_back(mandate, team, "33.5", outcome="refund", refund_id="re_1"))
    await came_back(api, mandate, refund_id="re_1", at=START + timedelta(seconds=1))
    assert await books.pool(mandate) == 20 * CHF
    for name in ("re_2", "re_3"):
        half = went_back(mandate, team, "33.5", outcome="refund", refund_id=name)
        await refund(api, half, half, at=START + timedelta(seconds=2))
        assert await books.pool(mandate) == (10 * CHF if name == "re_2" else 0)
    assert await books.failing() == {}


async def test_halves_before_and_after_a_switch_of_the_model_take_the_whole(
    api: BillingApi, books: Books, mandate: str
) -> None:
    team = uuid4()
    await give(api, budget(mandate, team, 20))
    await refund(api, went_back(mandate, team, "33.5", outcome="refund", refund_id="re_1"))
    assert await books.money(mandate) == 10 * CHF
    # Which gives each member a credit of their own.
    await api.switch(mandate, "PREPAY_USER")
    switched = await books.money(mandate)
    await refund(api, went_back(mandate, team, "33.5", outcome="refund", refund_id="re_2"))
    assert await books.money(mandate) == switched - 10 * CHF
    assert await books.failing() == {}


async def test_a_dispute_that_is_won_after_all_gives_it_again_until_the_same_time(
    api: BillingApi, books: Books, mandate: str
) -> None:
    team = uuid4()
    await give(api, budget(mandate, team, 20))
    await spend(api, [usage_record(mandate, amount="8")], START)
    await refund(api, went_back(mandate, team, outcome="dispute_won"))
    assert await books.pool(mandate) == 8 * CHF
    await refund(api, went_back(mandate, team))
    assert await books.pool(mandate) == 0
    await came_back(api, mandate)
    assert await books.pool(mandate) == 8 * CHF
    ends = "SELECT min(expires_at) FROM grants g JOIN mandates m ON m.no = g.mandate_no WHERE m.id = $1 AND g.open"
    assert await books.value(ends, mandate) == LATER
    # Lost once more, it goes once more.
    await refund(api, went_back(mandate, team, refund_id="du_1/2"))
    assert await books.pool(mandate) == 0
    await came_back(api, mandate, refund_id="du_1/2")
    assert await books.pool(mandate) == 8 * CHF
    assert await books.failing() == {}


async def test_what_has_expired_meanwhile_is_not_given_again(api: BillingApi, books: Books, mandate: str) -> None:
    team = uuid4()
    await give(api, budget(mandate, team, 20, end=SOON))
    await refund(api, went_back(mandate, team))
    await came_back(api, mandate, at=SOON + timedelta(seconds=1))
    assert await books.pool(mandate) == 0
    assert await books.failing() == {}


@pytest.mark.parametrize("rollover", [False, True])
async def test_the_budgets_of_other_periods_and_subscriptions_stay(
    api: BillingApi, books: Books, mandate: str, rollover: bool
) -> None:
    team, other = uuid4(), uuid4()
    await give(api, budget(mandate, team, 20, rollover=rollover))
    await give(api, budget(mandate, other, 5, rollover=rollover), at=START + timedelta(seconds=1))
    later = budget(mandate, team, 7, version=2, start=SOON, end=LATER + timedelta(days=30), rollover=rollover)
    await give(api, later, at=START + timedelta(seconds=2))
    await refund(api, went_back(mandate, team), at=START + timedelta(seconds=3))
    assert await books.pool(mandate) == 12 * CHF
    assert await books.failing() == {}


async def test_an_invoice_of_no_period_takes_no_budget(api: BillingApi, books: Books, mandate: str) -> None:
    team = uuid4()
    await give(api, budget(mandate, team, 20))
    await refund(api, went_back(mandate, team, period_start=None))
    # Nor does one of the releases before, which did not say of what it is.
    await refund(api, went_back(mandate, None, refund_id="du_2", period_start=None, paid_amount=None))
    assert await books.pool(mandate) == 20 * CHF
    assert await books.failing() == {}


async def test_a_budget_that_is_told_of_after_its_payment_went_back_is_not_given(
    api: BillingApi, books: Books, mandate: str
) -> None:
    team = uuid4()
    await CreditPayments(api.database, clock=lambda: START)([paid(mandate, 1)], [])
    await refund(api, went_back(mandate, team, outcome="refund"))
    await give(api, budget(mandate, team, 20), budget(mandate, team, 20, version=2))
    assert await books.pool(mandate) == CHF
    await give(api, budget(mandate, team, 20, version=3, start=SOON, end=LATER))
    assert await books.pool(mandate) == 21 * CHF
    assert await books.failing() == {}


async def test_a_dispute_of_which_it_is_told_first_that_it_was_won_takes_nothing(
    api: BillingApi, books: Books, mandate: str
) -> None:
    team = uuid4()
    await give(api, budget(mandate, team, 20))
    await came_back(api, mandate)
    await refund(api, went_back(mandate, team))
    assert await books.pool(mandate) == 20 * CHF
    assert await books.failing() == {}


async def test_in_prepay_user_each_member_loses_what_is_left_of_their_part(
    api: BillingApi, books: Books, mandate: str
) -> None:
    await api.switch(mandate, "PREPAY_USER")
    before, team = await books.balances(mandate), uuid4()
    await give(api, budget(mandate, team, 9))
    await spend(api, [usage_record(mandate, "user-1", amount="1")], START)
    await refund(api, went_back(mandate, team))
    after = await books.balances(mandate)
    assert [before[user] - after[user] for user in ("admin-1", "user-1", "user-2")] == [0, 0, 0]
    await came_back(api, mandate)
    again = await books.balances(mandate)
    assert sum(again[user] - after[user] for user in ("admin-1", "user-1", "user-2")) == 7_500_000
    assert await books.failing() == {}


async def test_a_budget_that_a_switch_of_the_model_has_moved_is_found(
    api: BillingApi, books: Books, mandate: str
) -> None:
    team = uuid4()
    await give(api, budget(mandate, team, 9))
    before = await books.balances(mandate)
    await api.switch(mandate, "PREPAY_USER")
    await refund(api, went_back(mandate, team))
    after = await books.balances(mandate)
    assert sum(after.values()) == sum(before.values()) + 30 * CHF - 9 * CHF
    assert await books.failing() == {}


async def test_a_payment_whose_refund_failed_leaves_the_books_in_order(
    api: BillingApi, books: Books, mandate: str
) -> None:
    """Of a top-up: its credit, the refund and what came back are three records of one reference and another."""
    await CreditPayments(api.database, clock=lambda: START)([paid(mandate, 10, reference="cs_1")], [])
    await refund(api, refunded(mandate, 10, reference="cs_1", refund_id="re_1"))
    await CreditPayments(api.database, clock=lambda: START)([paid(mandate, 10, reference="re_1")], [])
    assert await books.pool(mandate) == 10 * CHF
    assert await books.failing() == {}


async def test_what_does_not_expire_goes_after_a_switch_of_the_model_and_no_other_period_pays_for_it(
    api: BillingApi, books: Books, mandate: str
) -> None:
    """A switch makes one grant for each member of the budgets of both periods; the older one is spent first."""
    team = uuid4()
    later = budget(mandate, team, 7, version=2, start=LATER, end=LATER + timedelta(days=30), rollover=True)
    await give(api, budget(mandate, team, 20, rollover=True), later)
    await spend(api, [usage_record(mandate, amount="8")], START)
    await api.switch(mandate, "PREPAY_USER")
    switched = await books.money(mandate)
    half = went_back(mandate, team, "33.5", outcome="refund", refund_id="re_1")
    await refund(api, half, half)
    # Of the first budget 8 CHF were left, of which half of the 20 takes all.
    assert await books.money(mandate) == switched - 8 * CHF
    await refund(api, went_back(mandate, team, "33.5", outcome="refund", refund_id="re_2"))
    assert await books.money(mandate) == switched - 8 * CHF
    other = went_back(mandate, team, outcome="refund", refund_id="re_3", reference="in_2", period_start=LATER)
    await refund(api, other)
    assert await books.money(mandate) == switched - 15 * CHF
    await came_back(api, mandate, refund_id="re_3")
    await api.switch(mandate, "PREPAY_MANDATE")
    assert await books.money(mandate) == switched - 8 * CHF
    await refund(api, went_back(mandate, team, refund_id="re_4", reference="in_2", period_start=LATER))
    assert await books.money(mandate) == switched - 15 * CHF
    assert await books.failing() == {}
