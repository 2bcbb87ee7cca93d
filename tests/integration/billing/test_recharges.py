"""Automatic recharges: one at a time for an account, bounded by the month, settled by what payments says."""

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.billing.ledger.low_balances import crossing_id
from services.chassis.consumer import Received
from services.chassis.database import Database
from tests.support.databases import on_driver
from tests.support.events import new_mandate
from tests.support.facts import declined, paid
from tests.support.ledger import Books
from tests.support.recharging import Recharged

NOW = datetime(2026, 5, 4, 10, tzinfo=UTC)


@pytest.fixture
async def mandate(database: Database) -> Recharged:
    """A mandate with a pool of 10 CHF, of which 1 is the threshold, that may be recharged by 10 three times a month."""
    made = Recharged(database, NOW)
    await made.begin()
    await made.credit(10)
    await made.recharging()
    return made


def recharge_paid(mandate: Recharged, told: dict[str, Any], **more: Any) -> Received:
    """The payment of a recharge that was requested."""
    amount, recharge_id = int(Decimal(told["amount"]["amount"])), UUID(told["recharge_id"])
    return paid(mandate.id, amount, reason="recharge", recharge_id=recharge_id, **more)


async def settle(mandate: Recharged, told: dict[str, Any]) -> None:
    """Pays a recharge, as payments would say."""
    assert await mandate.pay(recharge_paid(mandate, told, user_id=told.get("user_id"))) == []


async def test_a_low_balance_requests_one_recharge_with_all_that_payments_needs(
    mandate: Recharged, books: Books
) -> None:
    await mandate.use("5.9")
    assert await mandate.request() == []
    await mandate.use("0.1")
    (told,) = await mandate.request()
    (row,) = await mandate.recharges()
    assert told == {
        "mandate_id": mandate.id,
        "recharge_id": str(row["id"]),
        "account_id": str(row["account_no"]),
        "amount": {"amount": "10.000000", "currency": "CHF"},
        "requested_at": "2026-05-04T10:00:00.000000Z",
        "expires_at": "2026-05-05T10:00:00.000000Z",
        "cause": str(crossing_id(row["mandate_no"], row["account_no"], 1)),
    }
    await mandate.use("0.1", "0.1")
    assert await mandate.request() == []
    assert await mandate.states() == ["PENDING"]
    assert await books.failing() == {}


async def test_jobs_at_once_request_one_recharge(mandate: Recharged) -> None:
    await mandate.credit(-10)
    assert sum(await asyncio.gather(*[mandate.job()() for _ in range(8)])) >= 1
    assert await mandate.states() == ["PENDING"]
    assert len(await mandate.told("recharge.requested")) == 1


async def test_batches_at_once_on_two_accounts_of_a_mandate_request_one_recharge_each(database: Database) -> None:
    mandate = Recharged(database, NOW)
    await mandate.begin()
    await mandate.switch("PREPAY_USER")
    await mandate.recharging(most=20)
    await asyncio.gather(*[mandate.use(*["4"] * 3, user=f"user-{1 + number % 2}") for number in range(4)])
    await asyncio.gather(*[mandate.job()() for _ in range(4)])
    told = await mandate.told("recharge.requested")
    assert sorted(each["user_id"] for each in told) == ["user-1", "user-2"]


async def test_what_is_paid_is_credited_once_and_ends_the_recharge(mandate: Recharged, books: Books) -> None:
    await mandate.credit(-10)
    (told,) = await mandate.request()
    payment = recharge_paid(mandate, told)
    await mandate.pay(payment)
    await mandate.pay(payment)
    assert await mandate.states() == ["SUCCEEDED"]
    assert await books.pool(mandate.id) == 10_000_000
    assert await mandate.request() == []
    assert await books.failing() == {}


async def test_a_gap_is_closed_by_one_charge_which_counts_as_so_many(mandate: Recharged) -> None:
    await mandate.set(rechargeMaxPerMonth=5)
    # 25 missing: 30 would leave a balance of 5; 20 one below nothing.
    await mandate.credit(-35)
    (told,) = await mandate.request()
    assert told["amount"]["amount"] == "30.000000"
    await settle(mandate, told)
    await mandate.credit(-25)
    # Of the 30 that are missing the month leaves 20.
    (told,) = await mandate.request()
    assert told["amount"]["amount"] == "20.000000"
    await settle(mandate, told)
    assert await mandate.request() == []
    assert [row["units"] for row in await mandate.recharges()] == [3, 2]


async def test_a_recharge_lifts_the_balance_above_the_threshold_not_only_above_nothing(mandate: Recharged) -> None:
    await mandate.set(rechargeAmountCHF=Decimal(1))
    await mandate.credit(-10)
    (told,) = await mandate.request()
    assert told["amount"]["amount"] == "2.000000"


async def test_a_month_has_at_most_so_many_and_the_next_one_begins_in_the_mandates_zone(mandate: Recharged) -> None:
    for _ in range(3):
        await mandate.credit(-10)
        (told,) = await mandate.request()
        await settle(mandate, told)
    await mandate.credit(-10)
    assert await mandate.request() == []
    # The first moment of June in Zurich is 22:00 of the day before in UTC.
    mandate.now = datetime(2026, 5, 31, 21, 59, tzinfo=UTC)
    assert await mandate.request() == []
    mandate.now = datetime(2026, 5, 31, 22, 0, tzinfo=UTC)
    assert len(await mandate.request()) == 1
    assert [str(row["month"]) for row in await mandate.recharges()] == 3 * ["2026-05-01"] + ["2026-06-01"]


async def test_what_was_declined_does_not_count_in_the_month(mandate: Recharged) -> None:
    await mandate.set(rechargeMaxPerMonth=1)
    await mandate.credit(-10)
    (told,) = await mandate.request()
    await mandate.decline(declined(mandate.id, UUID(told["recharge_id"])))
    mandate.now += mandate.retry_after
    (told,) = await mandate.request()
    await settle(mandate, told)
    await mandate.credit(-10)
    assert await mandate.request() == []


async def test_after_a_declined_recharge_the_next_one_waits_or_follows_a_new_crossing(mandate: Recharged) -> None:
    await mandate.credit(-10)
    (told,) = await mandate.request()
    await mandate.decline(declined(mandate.id, UUID(told["recharge_id"])))
    mandate.now += mandate.retry_after - timedelta(seconds=1)
    assert await mandate.request() == []
    await mandate.credit(20)
    await mandate.credit(-20)
    (told,) = await mandate.request()
    await mandate.decline(declined(mandate.id, UUID(told["recharge_id"])))
    mandate.now += mandate.retry_after
    assert len(await mandate.request()) == 1
    assert await mandate.states() == ["FAILED", "FAILED", "PENDING"]


async def test_the_third_declined_in_a_row_turns_recharges_off_and_says_so(mandate: Recharged, books: Books) -> None:
    await mandate.credit(-10)
    for number in range(3):
        (told,) = await mandate.request()
        assert len(await mandate.told("recharge.disabled")) == 0
        failed = declined(mandate.id, UUID(told["recharge_id"]), cause=f"evt_{number}")
        # Repeats, by the same event and by another one, count once.
        await mandate.decline(failed, failed, declined(mandate.id, UUID(told["recharge_id"])))
        mandate.now += mandate.retry_after
    assert await mandate.told("recharge.disabled") == [
        {"mandate_id": mandate.id, "recharge_id": told["recharge_id"], "failures": 3, "cause": "evt_2"}
    ]
    assert await mandate.request() == []
    assert not await books.value("SELECT auto_recharge_enabled FROM mandates WHERE id = $1", mandate.id)
    change = await books.fetch(
        "SELECT actor, action, before, after FROM audit_log WHERE mandate_no = $1 ORDER BY id DESC LIMIT 1",
        await mandate.no(),
    )
    assert tuple(change[0]) == (
        "platform",
        "settings",
        '{"autoRechargeEnabled": true}',
        '{"autoRechargeEnabled": false}',
    )
    # Who turns them on again, with another card say, has all tries again, and at once.
    await mandate.set(autoRechargeEnabled=True)
    (told,) = await mandate.request()
    await mandate.decline(declined(mandate.id, UUID(told["recharge_id"])))
    assert await books.value("SELECT auto_recharge_enabled FROM mandates WHERE id = $1", mandate.id)


async def test_a_success_between_two_declined_begins_to_count_anew(mandate: Recharged, books: Books) -> None:
    await mandate.credit(-10)
    for succeeds in (False, False, True, False, False):
        (told,) = await mandate.request()
        if succeeds:
            await settle(mandate, told)
            await mandate.credit(-10)
        else:
            await mandate.decline(declined(mandate.id, UUID(told["recharge_id"])))
            mandate.now += mandate.retry_after
    assert await books.value("SELECT auto_recharge_enabled FROM mandates WHERE id = $1", mandate.id)
    assert await mandate.told("recharge.disabled") == []


async def test_paid_and_declined_in_any_order_is_paid(mandate: Recharged, books: Books) -> None:
    await mandate.credit(-10)
    (told,) = await mandate.request()
    recharge_id = UUID(told["recharge_id"])
    await mandate.decline(declined(mandate.id, recharge_id))
    await settle(mandate, told)
    await mandate.decline(declined(mandate.id, recharge_id))
    assert await mandate.states() == ["SUCCEEDED"]
    assert await books.value("SELECT recharge_failures FROM mandates WHERE id = $1", mandate.id) == 0
    assert await books.pool(mandate.id) == 10_000_000
    assert await books.failing() == {}


async def test_a_payment_that_somebody_has_to_confirm_leaves_the_recharge_pending(mandate: Recharged) -> None:
    await mandate.credit(-10)
    (told,) = await mandate.request()
    failed = declined(
        mandate.id, UUID(told["recharge_id"]), outcome="action_required", action_url="https://app.example"
    )
    await mandate.decline(failed)
    assert await mandate.states() == ["PENDING"]
    assert await mandate.request() == []


async def test_what_payments_never_answers_blocks_the_account_for_a_time_and_is_credited_late(
    mandate: Recharged, books: Books
) -> None:
    await mandate.credit(-10)
    (first,) = await mandate.request()
    mandate.now += mandate.timeout
    (second,) = await mandate.request()
    assert await mandate.states() == ["EXPIRED", "PENDING"]
    await settle(mandate, first)
    assert await mandate.states() == ["SUCCEEDED", "PENDING"]
    await settle(mandate, second)
    assert await books.pool(mandate.id) == 20_000_000
    assert await books.failing() == {}


async def test_a_balance_that_a_recharge_has_not_lifted_is_recharged_again(mandate: Recharged) -> None:
    await mandate.credit(-10)
    (told,) = await mandate.request()
    await mandate.credit(-15)
    await settle(mandate, told)
    (told,) = await mandate.request()
    assert told["amount"]["amount"] == "10.000000"
    assert len(await mandate.told("balance.low")) == 1, "it has never been above its threshold"


async def test_with_a_threshold_of_all_only_what_was_spent_is_recharged(mandate: Recharged) -> None:
    await mandate.set(warningThresholdPercent=Decimal(100))
    assert await mandate.request() == []
    await mandate.use("0.01")
    (told,) = await mandate.request()
    await settle(mandate, told)
    assert await mandate.request() == []


async def test_turning_them_on_while_the_balance_is_low_is_enough(mandate: Recharged) -> None:
    await mandate.set(autoRechargeEnabled=False)
    await mandate.credit(-10)
    assert await mandate.request() == []
    await mandate.set(autoRechargeEnabled=True)
    assert len(await mandate.request()) == 1


async def test_the_member_whose_budget_is_low_is_filled_and_the_month_is_the_mandates(
    database: Database, books: Books
) -> None:
    mandate = Recharged(database, NOW)
    await mandate.begin(members=("user-1", "user-2", "user-3"))
    await mandate.switch("PREPAY_USER")
    await mandate.recharging(most=2)
    for user in ("user-1", "user-2", "user-3"):
        await mandate.use("6.5", user=user)
    told = await mandate.request()
    assert [each["user_id"] for each in told] == ["user-1", "user-2"]
    for each in told:
        await settle(mandate, each)
    balances = await books.balances(mandate.id)
    assert [balances[f"user-{number}"] for number in (1, 2, 3)] == [10_250_000, 10_250_000, 250_000]
    assert await mandate.request() == []
    assert await books.failing() == {}


async def test_money_for_a_recharge_goes_to_its_account_whatever_the_payment_names(
    database: Database, books: Books
) -> None:
    mandate = Recharged(database, NOW)
    await mandate.begin()
    await mandate.switch("PREPAY_USER")
    await mandate.recharging()
    await mandate.use("6.5", user="user-2")
    (told,) = await mandate.request()
    await mandate.pay(recharge_paid(mandate, told))
    assert (await books.balances(mandate.id))["user-2"] == 10_250_000


async def test_a_recharge_that_is_paid_after_a_switch_goes_where_the_new_model_looks(
    mandate: Recharged, books: Books
) -> None:
    await mandate.credit(-10)
    (told,) = await mandate.request()
    await mandate.set(defaultUserCredit=Decimal(0))
    await mandate.switch("PREPAY_USER")
    assert len(await mandate.told("recharge.requested")) == 1
    await settle(mandate, told)
    assert await books.balances(mandate.id) == {"pool": 0, "user-1": 5_000_000, "user-2": 5_000_000}
    assert await books.failing() == {}


@pytest.mark.parametrize("case", ["operator", "postpaid", "disabled mandate", "disabled account", "ceiling", "none"])
async def test_who_is_not_charged_automatically(database: Database, case: str, books: Books) -> None:
    mandate = Recharged(database, NOW)
    await mandate.begin(is_system=case == "operator")
    await mandate.recharging(most=0 if case == "none" else 3)
    if case == "postpaid":
        await mandate.switch("CREDIT_POSTPAY")
        await books.fetch("UPDATE accounts SET credit_limit = 0 WHERE mandate_no = $1", await mandate.no())
    if case == "ceiling":
        await books.fetch("UPDATE mandates SET recharge_amount = $1 WHERE id = $2", 10**12, mandate.id)
    await mandate.use("1")
    if case == "disabled account":
        await books.fetch("UPDATE accounts SET enabled = false WHERE mandate_no = $1", await mandate.no())
    if case == "disabled mandate":
        await mandate.directory(enabled=False)
    assert len(await mandate.told("balance.low")) == 1
    assert await mandate.request() == []


async def test_a_member_who_has_left_is_not_recharged(database: Database) -> None:
    mandate = Recharged(database, NOW)
    await mandate.begin()
    await mandate.switch("PREPAY_USER")
    await mandate.recharging()
    await mandate.use("7")
    await mandate.directory(disabled=("user-1",))
    assert await mandate.request() == []


async def test_failures_of_what_was_never_requested_change_nothing(mandate: Recharged) -> None:
    unknown = new_mandate()
    await mandate.decline(declined(mandate.id, uuid4()), declined(unknown, uuid4()))
    await mandate.pay(paid(mandate.id, 10, reason="recharge", recharge_id=uuid4()))
    assert await mandate.states() == []


async def test_the_database_holds_one_pending_recharge_for_an_account(mandate: Recharged) -> None:
    await mandate.credit(-10)
    await mandate.request()
    async with on_driver(mandate.database) as driver:
        with pytest.raises(Exception, match="uq_recharges_pending"):
            await driver.execute(
                "INSERT INTO recharges (mandate_no, id, account_no, amount, units, month, crossing, requested_at,"
                " expires_at) SELECT mandate_no, gen_random_uuid(), account_no, amount, units, month, crossing,"
                " requested_at, expires_at FROM recharges WHERE mandate_no = $1",
                await mandate.no(),
            )
