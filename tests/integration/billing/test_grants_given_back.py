"""What is given back of charges that grants paid: to the grants that are alive, never by way of those that are over."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from services.billing.corrections.charges import Selection
from services.billing.corrections.rerate import start_rerating
from services.billing.corrections.run_reratings import RunReratings
from services.billing.credits.payment_events import CreditPayments, RefundPayments
from services.chassis.faults import FaultPoints
from tests.integration.billing.conftest import BillingApi
from tests.integration.billing.test_grants import CHF, SOON, START, budget, give, remaining, spend
from tests.support.charging import charge
from tests.support.events import RawRecord, usage_record, voided_record
from tests.support.facts import paid, refunded
from tests.support.ledger import Books

FOREVER = datetime.now(UTC) + timedelta(days=300)


@pytest.fixture
async def models(api: BillingApi) -> tuple[str, str]:
    """Two models that cost 1.5 CHF for a thousand tokens."""
    names = f"cheaper-{uuid4()}", f"dearer-{uuid4()}"
    for name in names:
        await api.price(name, "0.001")
    return names


def tokens(mandate: str, model: str, count: int, at: datetime) -> RawRecord:
    return usage_record(mandate, "user-1", cost=None, model=model, tokens={"input": count}, at=at)


async def rerate_from(api: BillingApi, moment: datetime, at: datetime) -> None:
    """Prices the usage of a minute again, of all models, as a worker does."""
    database = api.database
    selection = Selection(moment, moment + timedelta(minutes=1), "anthropic")
    await start_rerating(database, selection, user_id=None, clock=lambda: at)
    run = RunReratings(database, clock=lambda: at, faults=FaultPoints(None))
    while await run():
        pass


async def test_an_expired_grant_that_is_given_back_covers_no_debt(api: BillingApi, books: Books, mandate: str) -> None:
    await give(api, budget(mandate, 3, SOON))
    first = usage_record(mandate, amount="2", at=START)
    await spend(api, [first], START)
    await spend(api, [usage_record(mandate, amount="1")], SOON)
    assert await books.pool(mandate) == -1_500_000
    await spend(api, [voided_record(mandate, first.event_id)], SOON)
    assert await books.pool(mandate) == -1_500_000
    assert await remaining(books, mandate) == [(3 * CHF, 0)]
    assert await books.failing() == {}


async def test_an_expired_grant_covers_no_debt_where_a_switch_moved_the_money_either(
    api: BillingApi, books: Books, mandate: str
) -> None:
    await give(api, budget(mandate, 3, SOON))
    first = usage_record(mandate, "user-1", amount="2", at=START)
    await spend(api, [first], START)
    await api.switch(mandate, "PREPAY_USER")
    await charge(api.database, usage_record(mandate, "user-1", amount="10"))
    before = await books.balances(mandate)
    assert before["user-1"] == -5 * CHF
    await charge(api.database, voided_record(mandate, first.event_id))
    assert await books.balances(mandate) == before
    assert await books.failing() == {}


async def test_a_dearer_charge_does_not_spend_what_a_cheaper_one_gives_back_to_an_expired_grant(
    api: BillingApi, books: Books, mandate: str, models: tuple[str, str]
) -> None:
    cheaper, dearer = models
    at = START - timedelta(days=40, seconds=7)
    await give(api, budget(mandate, 3, SOON))
    await spend(
        api, [tokens(mandate, cheaper, 1000, at), tokens(mandate, dearer, 1000, at + timedelta(seconds=1))], START
    )
    await CreditPayments(api.database, clock=lambda: SOON)([paid(mandate, 10)], [])
    await api.price(cheaper, "0.0005")
    await api.price(dearer, "0.002")
    await rerate_from(api, at, SOON)
    # 1.5 more for the one; the 0.75 less for the other are gone with the budget that paid it.
    assert await books.pool(mandate) == 8_500_000
    assert await remaining(books, mandate) == [(3 * CHF, 0)]
    assert await books.failing() == {}


async def test_a_rerating_after_a_switch_passes_on_what_is_cheaper_beside_what_is_dearer(
    api: BillingApi, books: Books, mandate: str, models: tuple[str, str]
) -> None:
    cheaper, dearer = models
    at = START - timedelta(days=60, seconds=7)
    await api.switch(mandate, "PREPAY_USER")
    await give(api, budget(mandate, 3, FOREVER))
    await spend(
        api, [tokens(mandate, cheaper, 200, at), tokens(mandate, dearer, 100, at + timedelta(seconds=1))], START
    )
    await api.switch(mandate, "PREPAY_MANDATE")
    before = await books.pool(mandate)
    assert sorted(rest for _, rest in await remaining(books, mandate))[-1] == 2_550_000
    await api.price(cheaper, "0.0005")
    await api.price(dearer, "0.0015")
    await rerate_from(api, at, datetime.now(UTC))
    assert await books.pool(mandate) == before + 150_000 - 75_000
    granted = await books.value(
        "SELECT sum(granted) FROM accounts a JOIN mandates m ON m.no = a.mandate_no WHERE m.id = $1", mandate
    )
    assert granted == 2_550_000 + 150_000 - 75_000
    assert await books.failing() == {}


async def test_a_grant_that_is_passed_on_covers_no_debt_of_the_account_that_it_leaves(
    api: BillingApi, books: Books, mandate: str
) -> None:
    await give(api, budget(mandate, 2, FOREVER))
    usage = usage_record(mandate, "user-1", amount="1.2")
    await charge(api.database, usage)
    await api.switch(mandate, "PREPAY_USER")
    members = {"admin-1": ["admin"], "user-1": ["member"], "user-2": ["member"]}
    await api.directory(mandate, members, disabled=tuple(members))
    # There is nobody else to take it from.
    await RefundPayments(api.database, clock=lambda: START)([refunded(mandate, 5)], [])
    before = await books.balances(mandate)
    assert before["pool"] == -5 * CHF
    await charge(api.database, voided_record(mandate, usage.event_id))
    assert await books.balances(mandate) == before | {"user-1": before["user-1"] + 1_800_000}
    granted = await books.value(
        "SELECT sum(granted) FROM accounts a JOIN mandates m ON m.no = a.mandate_no WHERE m.id = $1", mandate
    )
    assert granted == 2 * CHF
    assert await books.failing() == {}
