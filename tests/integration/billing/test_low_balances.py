"""A balance that falls to or under its threshold is told once, with all that is needed to act on it."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import uuid4

import pytest

from rappen_contracts.types import NonNegativeBalance
from services.billing.credits.apply_subscription import ApplySubscription
from services.billing.credits.expire_grants import ExpireGrants
from services.billing.ledger.low_balances import MAIL_INTERVAL_SETTING
from services.billing.mandates.set_terms import set_terms
from services.chassis.database import Database
from tests.support.callers import system_admin
from tests.support.charging import charging, received
from tests.support.databases import on_driver, opened
from tests.support.events import new_mandate, usage_record, voided_record
from tests.support.facts import subscription
from tests.support.ledger import Books
from tests.support.recharging import MAX, Recharged
from tests.support.stack import ServerPair

NOW = datetime(2026, 5, 4, 10, tzinfo=UTC)


@pytest.fixture
async def mandate(database: Database) -> Recharged:
    """A mandate with a pool of 10 CHF, of which 1 is the threshold."""
    made = Recharged(database, NOW)
    await made.begin()
    await made.credit(10)
    return made


@pytest.fixture
async def impatient(servers: ServerPair) -> AsyncIterator[Database]:
    """A database whose sessions mail again after a minute."""
    async with opened(servers.dsn("billing"), pool_size=2, session={MAIL_INTERVAL_SETTING: "60"}) as database:
        yield database


async def test_many_events_in_one_batch_are_one_crossing(mandate: Recharged, books: Books) -> None:
    await mandate.use(*["0.1"] * 65)
    (told,) = await mandate.told("balance.low")
    account = await books.fetch("SELECT * FROM accounts WHERE no = $1", int(told.pop("account_id")))
    assert told == {
        "mandate_id": mandate.id,
        "account_type": "MANDATE",
        "billing_model": "PREPAY_MANDATE",
        "balance": {"amount": "0.250000", "currency": "CHF"},
        "held": {"amount": "0.000000", "currency": "CHF"},
        "threshold": {"amount": "1.000000", "currency": "CHF"},
        "notify": True,
        "mail": True,
        "crossing": 1,
        "version": 66,
    }
    assert (account[0]["low"], account[0]["last_warning_at"]) == (True, NOW)
    await mandate.use("0.1", "0.1")
    assert len(await mandate.told("balance.low")) == 1
    assert await books.failing() == {}


async def test_a_balance_at_its_threshold_is_low_and_one_above_it_is_not(mandate: Recharged) -> None:
    await mandate.credit(Decimal("-8.999999"))
    assert await mandate.told("balance.low") == []
    await mandate.credit(Decimal("-0.000001"))
    assert len(await mandate.told("balance.low")) == 1


async def test_a_top_up_arms_the_warning_again(mandate: Recharged) -> None:
    await mandate.credit(-10)
    await mandate.credit(20)
    await mandate.credit(-18)
    told = await mandate.told("balance.low")
    assert [(each["crossing"], each["threshold"]["amount"]) for each in told] == [(1, "1.000000"), (2, "2.000000")]
    async with on_driver(mandate.database) as driver:
        ids = await driver.fetch("SELECT event_id FROM outbox WHERE topic = 'balance.low' AND key = $1", mandate.id)
    assert len({row["event_id"] for row in ids}) == 2


async def test_ten_crossings_are_ten_events_and_at_most_one_mail_an_hour(mandate: Recharged) -> None:
    for _ in range(10):
        await mandate.credit(-9)
        await mandate.credit(9)
        mandate.now += timedelta(minutes=13)
    assert [each["mail"] for each in await mandate.told("balance.low")] == 2 * ([True] + [False] * 4)


async def test_how_often_a_mail_is_due_is_a_setting_of_the_service(impatient: Database) -> None:
    mandate = Recharged(impatient, NOW)
    await mandate.begin()
    await mandate.credit(10)
    for seconds in (0, 59, 60):
        mandate.now = NOW + timedelta(seconds=seconds)
        await mandate.credit(-9)
        await mandate.credit(9)
    assert [each["mail"] for each in await mandate.told("balance.low")] == [True, False, True]


async def test_who_wants_no_warning_is_sent_no_mail_but_the_event_is_published(mandate: Recharged) -> None:
    await mandate.set(notifyOnWarning=False)
    await mandate.credit(-9)
    (told,) = await mandate.told("balance.low")
    assert (told["notify"], told["mail"]) == (False, False)


async def test_each_member_with_a_budget_of_their_own_is_warned_alone(database: Database, books: Books) -> None:
    mandate = Recharged(database, NOW)
    await mandate.begin()
    await mandate.switch("PREPAY_USER")
    # The opening credit of both is 10.
    await mandate.use("6", user="user-2")
    (told,) = await mandate.told("balance.low")
    assert (told["account_type"], told["user_id"], told["billing_model"]) == ("USER", "user-2", "PREPAY_USER")
    await mandate.use("6.1", user="user-1")
    assert [each["user_id"] for each in await mandate.told("balance.low")] == ["user-2", "user-1"]
    assert await books.failing() == {}


async def test_a_postpaid_mandate_is_warned_near_its_limit_and_not_without_one(mandate: Recharged) -> None:
    await mandate.switch("CREDIT_POSTPAY")
    await mandate.credit(-1_000)
    assert await mandate.told("balance.low") == []
    await _limit(mandate, 2_000)
    assert await mandate.told("balance.low") == []
    # 1,010 left, 90 percent of the limit spent: at once, without a movement.
    await _limit(mandate, 1_100)
    (told,) = await mandate.told("balance.low")
    assert (told["threshold"]["amount"], told["credit_limit"]["amount"]) == ("110.000000", "1100.000000")
    await _limit(mandate, None)
    await _limit(mandate, 1_000)
    assert len(await mandate.told("balance.low")) == 2


async def test_an_unlimited_mandate_is_never_warned(mandate: Recharged, books: Books) -> None:
    await mandate.credit(-9)
    await mandate.switch("UNLIMITED")
    await mandate.use("100")
    await mandate.credit(-9)
    assert len(await mandate.told("balance.low")) == 1, "that of before the switch"
    await mandate.switch("PREPAY_MANDATE")
    assert len(await mandate.told("balance.low")) == 2
    assert await books.failing() == {}


async def test_a_higher_threshold_counts_at_once(mandate: Recharged) -> None:
    await mandate.credit(-4)
    await mandate.set(warningThresholdPercent=Decimal("59.9"))
    assert await mandate.told("balance.low") == []
    await mandate.set(warningThresholdPercent=Decimal(60))
    assert len(await mandate.told("balance.low")) == 1


async def test_the_operators_own_mandates_are_warned_too(database: Database) -> None:
    mandate = Recharged(database, NOW)
    await mandate.begin(is_system=True)
    await mandate.credit(10)
    await mandate.use("6.5")
    assert len(await mandate.told("balance.low")) == 1


async def test_usage_that_its_batch_cancels_warns_nobody(mandate: Recharged) -> None:
    record = usage_record(mandate.id, amount="1000", at=NOW)
    awaited = usage_record(mandate.id, amount="1000", at=NOW)
    charge = charging(mandate.database, clock=mandate.clock)
    await charge(received([record, voided_record(mandate.id, record.event_id, at=NOW)], now=NOW), [])
    await charge(received([voided_record(mandate.id, awaited.event_id, at=NOW)], now=NOW), [])
    await charge(received([awaited], now=NOW), [])
    assert await mandate.told("balance.low") == []


async def test_a_mandate_that_never_had_money_is_warned_with_its_first_usage(database: Database) -> None:
    mandate = Recharged(database, NOW, id=new_mandate())
    await mandate.use("0.01")
    await mandate.use("0.01")
    assert [each["balance"]["amount"] for each in await mandate.told("balance.low")] == ["-0.015000"]


async def test_a_budget_that_expires_leaves_a_low_balance(database: Database, books: Books) -> None:
    mandate = Recharged(database, NOW)
    await mandate.begin()
    period = {"period_start": NOW, "period_end": NOW + timedelta(days=1), "budget_due": True}
    given = subscription(mandate.id, uuid4(), 1, "ACTIVE", **period)
    await ApplySubscription(database, clock=mandate.clock)([given], [])
    assert await books.pool(mandate.id) == 20_000_000
    mandate.now += timedelta(days=2)
    while await ExpireGrants(database, clock=mandate.clock)():
        pass
    assert [each["balance"]["amount"] for each in await mandate.told("balance.low")] == ["0.000000"]


async def test_a_percentage_that_cannot_be_one_stops_no_charge(mandate: Recharged, books: Books) -> None:
    for number in ("NaN", "Infinity", "-5"):
        await books.fetch(
            "UPDATE mandates SET warning_threshold_percent = $1 WHERE id = $2", Decimal(number), mandate.id
        )
        await mandate.use("0.1")
    assert await books.charged([mandate.id]) == 3
    await books.fetch("UPDATE mandates SET warning_threshold_percent = 10 WHERE id = $1", mandate.id)


async def _limit(mandate: Recharged, limit: int | None) -> None:
    money = None if limit is None else NonNegativeBalance(amount=Decimal(limit), currency="CHF")
    await set_terms(
        mandate.database,
        mandate.id,
        markup_percent=None,
        credit_limit=money,
        limit_max=MAX,
        caller=system_admin(),
        clock=mandate.clock,
    )
