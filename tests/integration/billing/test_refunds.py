"""Refunds and lost disputes: taken back once each, from paid credit first, also below zero."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import uuid4

from rappen_contracts.subscription.v1 import Plan
from services.billing.credits.apply_subscription import ApplySubscription
from services.billing.credits.payment_events import CreditPayments, RefundPayments
from services.billing.credits.settle_payments import SettlePayments
from services.billing.pricing.import_prices import set_rate
from services.chassis.clock import system_clock
from services.chassis.consumer import Received
from tests.integration.billing.conftest import BillingApi
from tests.support.charging import charge
from tests.support.events import usage_record
from tests.support.facts import AT, money, paid, refunded, subscription
from tests.support.ledger import Books

CHF = 1_000_000


async def pay(api: BillingApi, *events: Received) -> None:
    """Tells of payments."""
    await CreditPayments(api.database, clock=system_clock)(events, [])


async def refund(api: BillingApi, *events: Received) -> list[str]:
    """Tells of refunds; gives the codes of those that were refused."""
    return [each.code for each in await RefundPayments(api.database, clock=system_clock)(events, [])]


async def test_a_refund_is_taken_back_once_however_often_it_is_told(
    api: BillingApi, books: Books, mandate: str
) -> None:
    await pay(api, paid(mandate, 10, reference="cs_1"))
    facts = {"reference": "cs_1", "refund_id": "re_1"}
    first = refunded(mandate, "2.50", **facts)
    assert await refund(api, first, first, refunded(mandate, "2.50", **facts)) == []
    assert await books.pool(mandate) == 7_500_000
    assert await refund(api, refunded(mandate, "2.51", **facts)) == ["CONFLICT"]
    # Another part of the same payment.
    assert await refund(api, refunded(mandate, "7.50", reference="cs_1", refund_id="re_2")) == []
    rows = [row for row in await books.rows(mandate) if row["transaction_type"] == "ADJUSTMENT"]
    assert [(row["amount"], row["contra_account"], row["reference_type"], row["reference_id"]) for row in rows] == [
        (-2_500_000, "PAYMENT_PROVIDER", "PAYMENT", "re_1"),
        (-7_500_000, "PAYMENT_PROVIDER", "PAYMENT", "re_2"),
    ]
    assert rows[0]["description"] == "Refund: cs_1"
    assert await books.pool(mandate) == 0
    assert await books.failing() == {}


async def test_a_lost_dispute_may_leave_less_than_nothing_and_a_won_one_takes_nothing(
    api: BillingApi, books: Books, mandate: str
) -> None:
    await pay(api, paid(mandate, 10))
    await charge(api.database, usage_record(mandate, amount="4"))
    await refund(api, refunded(mandate, 10, outcome="dispute_won", refund_id="du_1"))
    assert await books.pool(mandate) == 4 * CHF
    await refund(api, refunded(mandate, 10, outcome="dispute_lost", refund_id="du_1"))
    assert await books.pool(mandate) == -6 * CHF
    assert await books.failing() == {}


async def test_a_refund_that_comes_before_its_payment_has_the_same_outcome(
    api: BillingApi, books: Books, mandate: str
) -> None:
    await refund(api, refunded(mandate, 10))
    assert await books.pool(mandate) == -10 * CHF
    await pay(api, paid(mandate, 10))
    assert await books.pool(mandate) == 0
    assert await books.failing() == {}


async def test_it_takes_paid_credit_and_then_grants(api: BillingApi, books: Books, mandate: str) -> None:
    await pay(api, paid(mandate, 10))
    end = datetime.now(UTC) + timedelta(days=300)
    plan = Plan(key="TEAM", budget=money(5))
    given = subscription(mandate, uuid4(), 1, "ACTIVE", plan=plan, period_end=end, budget_due=True)
    await ApplySubscription(api.database, clock=system_clock)([given], [])
    await refund(api, refunded(mandate, 8))
    left = "SELECT sum(g.remaining)::bigint FROM grants g JOIN mandates m ON m.no = g.mandate_no WHERE m.id = $1"
    assert (await books.pool(mandate), await books.value(left, mandate)) == (7 * CHF, 5 * CHF)
    # What was spent of the paid credit is owed, and the budget covers it.
    await refund(api, refunded(mandate, 4))
    assert (await books.pool(mandate), await books.value(left, mandate)) == (3 * CHF, 3 * CHF)
    await refund(api, refunded(mandate, 4))
    assert (await books.pool(mandate), await books.value(left, mandate)) == (-CHF, 0)
    assert await books.failing() == {}


async def test_in_prepay_user_it_is_taken_from_the_one_who_was_credited_or_from_all(
    api: BillingApi, books: Books, mandate: str
) -> None:
    await api.switch(mandate, "PREPAY_USER")
    before = await books.balances(mandate)
    await refund(api, refunded(mandate, 3, user_id="user-1"), refunded(mandate, 2))
    after = await books.balances(mandate)
    assert [before[user] - after[user] for user in ("admin-1", "user-1", "user-2")] == [666_667, 3_666_667, 666_666]
    assert await books.failing() == {}


async def test_without_a_rate_it_waits_and_is_taken_back_at_the_rate_of_the_payment(
    api: BillingApi, books: Books, mandate: str
) -> None:
    later = AT + timedelta(days=10)
    event = refunded(mandate, 10, currency="RON", refunded_at=later)
    await refund(api, event, event)
    assert await books.parked([mandate]) == 1
    async with api.database.transaction() as connection:
        for rate, days in (("0.2", -9), ("0.3", 9)):
            valid_from = AT + timedelta(days=days)
            await set_rate(connection, currency="RON", rate=Decimal(rate), valid_from=valid_from, actor="operator")
    job = SettlePayments(api.database, clock=system_clock)
    while await job():
        pass
    assert await books.pool(mandate) == -2 * CHF
    await refund(api, event)
    assert await books.pool(mandate) == -2 * CHF
    assert await books.failing() == {}
