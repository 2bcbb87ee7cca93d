"""What corrections and reversals give back to grants: where a debt was covered meanwhile, and after a switch."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import uuid4

from rappen_contracts.subscription.v1 import Plan
from services.billing.corrections.charges import Selection
from services.billing.credits.apply_subscription import ApplySubscription
from services.billing.credits.payment_events import CreditPayments
from services.billing.ledger.domain import transaction_id
from services.billing.pricing import PriceList, PriceVersion, version_to_text
from services.billing.pricing.repository import add_versions, lock_revision, raise_revision
from services.chassis.clock import system_clock
from services.chassis.database import Database
from tests.integration.billing.conftest import BillingApi
from tests.support.callers import system_admin
from tests.support.charging import charge, charging, received
from tests.support.events import RawRecord, usage_record, voided_record
from tests.support.facts import money, paid, subscription
from tests.support.ledger import Books
from tests.support.rerating import FROM, TO, of_model, rerate

CHF = 1_000_000
AT = datetime(2026, 5, 4, 10, tzinfo=UTC)
USERS = ("admin-1", "user-1", "user-2")


async def give_budget(api: BillingApi, mandate: str) -> None:
    """A budget of 20 CHF that lasts."""
    end = system_clock() + timedelta(days=300)
    event = subscription(mandate, uuid4(), 1, "ACTIVE", period_end=end, budget_due=True)
    assert await ApplySubscription(api.database, clock=system_clock)([event], []) == []


def tokens(mandate: str, model: str, count: int) -> RawRecord:
    return usage_record(mandate, cost=None, model=model, tokens={"input": count}, at=AT)


async def granted(books: Books, mandate: str) -> int:
    """What remains of all grants of a mandate."""
    return int(
        await books.value(
            "SELECT sum(granted) FROM accounts a JOIN mandates m ON m.no = a.mandate_no WHERE m.id = $1", mandate
        )
    )


async def test_dearer_and_cheaper_charges_are_corrected_together_after_a_switch(
    api: BillingApi, books: Books, mandate: str
) -> None:
    # 7.5 CHF with the markup of 50 %, both from the budget.
    provider, names = f"provider-{uuid4()}", ("dearer", "cheaper")
    await give_budget(api, mandate)
    for model, price in zip(names, ("0.005", "0.005"), strict=True):
        await _price(api.database, provider, model, price)
    usages = [
        usage_record(mandate, provider=provider, cost=None, model=model, tokens={"input": 1000}, at=at)
        for model, at in zip(names, (AT, AT + timedelta(hours=1)), strict=True)
    ]
    await charge(api.database, *usages)
    await api.switch(mandate, "PREPAY_USER")
    before = await books.balances(mandate)
    # 7.5 more, and 3 less.
    for model, price in zip(names, ("0.01", "0.003"), strict=True):
        await _price(api.database, provider, model, price)
    done = await rerate(api.database, Selection(FROM, TO, provider))
    assert (done["differing"], done["notPriced"]) == (2, [])
    after = await books.balances(mandate)
    assert [after[user] - before[user] for user in USERS] == [-1_500_000] * 3
    assert after["pool"] == before["pool"] == 0
    assert await books.failing() == {}


async def test_what_covered_a_debt_is_not_given_back_a_second_time(api: BillingApi, books: Books, mandate: str) -> None:
    model = f"model-{uuid4()}"
    await api.price(model, "0.01")
    await give_budget(api, mandate)
    usage = tokens(mandate, model, 1000)
    # 15 of the 20 are spent, and then the rest of it, and 25 more.
    await charge(api.database, usage)
    await charge(api.database, usage_record(mandate, amount="20"))
    assert await books.pool(mandate) == -25 * CHF
    # 3 less go back to the budget, and cover what is owed.
    await api.price(model, "0.008")
    await rerate(api.database, of_model(model))
    assert (await books.pool(mandate), await granted(books, mandate)) == (-22 * CHF, 0)
    await api.switch(mandate, "PREPAY_USER")
    before = await books.balances(mandate)
    await charge(api.database, voided_record(mandate, usage.event_id))
    after = await books.balances(mandate)
    assert [after[user] - before[user] for user in USERS] == [4 * CHF] * 3
    assert await books.failing() == {}


async def _price(database: Database, provider: str, model: str, price: str) -> None:
    version = PriceVersion(provider, model, "CHF", FROM, (PriceList({"input": Decimal(price)}),))
    async with database.transaction() as connection:
        await lock_revision(connection)
        await add_versions(connection, [(version, version_to_text(version))], None)
        await raise_revision(connection)


async def test_what_a_reversal_gives_back_to_an_expired_grant_covers_no_debt(
    api: BillingApi, books: Books, mandate: str
) -> None:
    now = datetime.now(UTC)
    event = subscription(
        mandate, uuid4(), 1, "ACTIVE", period_start=now - timedelta(days=9), period_end=now, budget_due=True
    )
    assert await ApplySubscription(api.database, clock=lambda: now - timedelta(days=1))([event], []) == []
    usage = usage_record(mandate, amount="2", at=now - timedelta(days=1))
    await charging(api.database, clock=lambda: now - timedelta(days=1))(received([usage]), [])
    assert (await books.pool(mandate), await granted(books, mandate)) == (17 * CHF, 17 * CHF)
    # 17 of the 20 expire, and 7.5 are owed.
    await charge(api.database, usage_record(mandate, amount="5"))
    assert await books.pool(mandate) == -7_500_000
    await charge(api.database, voided_record(mandate, usage.event_id))
    assert (await books.pool(mandate), await granted(books, mandate)) == (-7_500_000, 0)
    assert await books.failing() == {}


async def test_a_reversal_gives_back_to_the_grants_that_a_correction_left_out(
    api: BillingApi, books: Books, mandate: str
) -> None:
    model = f"model-{uuid4()}"
    await api.price(model, "0.01")
    for amount, days in ((4, 10), (20, 300)):
        end = system_clock() + timedelta(days=days)
        plan = Plan(key="BUDGET", budget=money(amount))
        event = subscription(mandate, uuid4(), 1, "ACTIVE", plan=plan, period_end=end, budget_due=True)
        assert await ApplySubscription(api.database, clock=system_clock)([event], []) == []
    # 4 of the first and 11 of the second; then the 9 that are left, and 21 more.
    usage = tokens(mandate, model, 1000)
    await charge(api.database, usage)
    await charge(api.database, usage_record(mandate, amount="20"))
    # 3 less go back to the second, and cover what is owed.
    await api.price(model, "0.008")
    await rerate(api.database, of_model(model))
    assert (await books.pool(mandate), await granted(books, mandate)) == (-18 * CHF, 0)
    (row,) = [each for each in await books.rows(mandate) if (each["description"] or "").startswith("Re-rating")]
    path = f"/api/billing/transactions/{transaction_id(row['posted_account_no'], row['seq'])}/explain"
    changed = (await api.call(system_admin(), "GET", path)).json()["grants"]
    assert [each["amount"] for each in changed] == ["3.000000", "-3.000000"]
    assert len({each["grantId"] for each in changed}) == 1
    await CreditPayments(api.database, clock=system_clock)([paid(mandate, 30)], [])
    # Of the second it had 8 by then, and all 4 of the first.
    await charge(api.database, voided_record(mandate, usage.event_id))
    remaining = await books.fetch(
        "SELECT remaining FROM grants g JOIN mandates m ON m.no = g.mandate_no WHERE m.id = $1 ORDER BY g.no", mandate
    )
    assert [each["remaining"] for each in remaining] == [4 * CHF, 8 * CHF]
    assert await books.pool(mandate) == 24 * CHF
    assert await books.failing() == {}
