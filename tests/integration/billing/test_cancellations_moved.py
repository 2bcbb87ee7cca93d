"""Where the money of cancelled usage goes: after a switch of the billing model, and where no balance can hold it."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from services.billing.credits.payment_events import CreditPayments
from services.billing.credits.post_manual_credit import ManualCredit, post_manual_credit
from services.billing.ledger.domain import BALANCE_MAX, BillingModel
from services.chassis.clock import system_clock
from tests.integration.billing.conftest import BillingApi
from tests.support.callers import system_admin
from tests.support.charging import charge
from tests.support.events import new_mandate, usage_record, voided_record
from tests.support.facts import paid
from tests.support.ledger import Books

AT = datetime(2026, 5, 4, 10, tzinfo=UTC)
CHARGED = 1_500_000  # 1 CHF with the platform's markup, in micro-CHF


SWITCHED: list[tuple[BillingModel, BillingModel]] = [
    ("PREPAY_MANDATE", "PREPAY_USER"),
    ("PREPAY_USER", "PREPAY_MANDATE"),
    ("PREPAY_USER", "UNLIMITED"),
    ("UNLIMITED", "PREPAY_USER"),
    ("UNLIMITED", "PREPAY_MANDATE"),
    ("PREPAY_MANDATE", "UNLIMITED"),
]


@pytest.mark.parametrize(("old", "new"), SWITCHED)
async def test_after_a_switch_the_money_is_where_the_switch_would_have_moved_it(
    api: BillingApi, books: Books, mandate: str, old: BillingModel, new: BillingModel
) -> None:
    if old != "PREPAY_MANDATE":
        await api.switch(mandate, old)
    usages = [usage_record(mandate, "user-1", amount="0.666667", at=AT) for _ in range(2)]
    await charge(api.database, *usages)
    await api.switch(mandate, new)
    before = await books.balances(mandate)
    await charge(api.database, *(voided_record(mandate, usage.event_id) for usage in usages))
    after = await books.balances(mandate)
    moved = {name: after[name] - before.get(name, 0) for name in after if after[name] != before.get(name, 0)}
    charges = [row for row in await books.rows(mandate) if row["contra_account"] == "REVENUE"]
    total = sum(row["amount"] for row in charges if row["transaction_type"] == "DEBIT")
    assert total == 2_000_001
    # Of three members two get a third each, and the first in id order what is left over.
    expected = {
        "PREPAY_MANDATE-PREPAY_USER": {"admin-1": 666_667, "user-1": 666_667, "user-2": 666_667},
        "PREPAY_USER-PREPAY_MANDATE": {"pool": total},
        "PREPAY_USER-UNLIMITED": {"pool": total},
        "PREPAY_MANDATE-UNLIMITED": {"pool": total},
    }.get(f"{old}-{new}", {"internal": total})
    assert moved == expected
    # The rows that take the charges back are at the account that was charged, whatever the model is by now.
    assert {row["posted_account_no"] for row in charges} == {charges[0]["posted_account_no"]}
    assert await books.failing() == {}


async def test_without_members_the_money_of_the_pool_goes_to_the_one_whose_usage_it_was(
    api: BillingApi, books: Books, mandate: str
) -> None:
    usage = usage_record(mandate, "user-1", amount="1", at=AT)
    await charge(api.database, usage)
    await api.switch(mandate, "PREPAY_USER")
    members = {"admin-1": ["admin"], "user-1": ["member"], "user-2": ["member"]}
    await api.directory(mandate, members, disabled=tuple(members))
    # What is for the mandate as a whole waits on the pool meanwhile, and stays there.
    await CreditPayments(api.database, clock=system_clock)([paid(mandate, 10)], [])
    before = await books.balances(mandate)
    await charge(api.database, voided_record(mandate, usage.event_id))
    after = await books.balances(mandate)
    assert {name: after[name] - before[name] for name in after if after[name] != before[name]} == {"user-1": CHARGED}
    assert await books.failing() == {}


async def test_back_in_the_first_model_the_account_that_was_charged_keeps_the_money(
    api: BillingApi, books: Books, mandate: str
) -> None:
    await api.switch(mandate, "PREPAY_USER")
    usage = usage_record(mandate, "user-2", amount="1", at=AT)
    await charge(api.database, usage)
    await api.switch(mandate, "PREPAY_MANDATE")
    await api.switch(mandate, "PREPAY_USER")
    before = await books.balances(mandate)
    await charge(api.database, voided_record(mandate, usage.event_id))
    assert await books.balances(mandate) == {**before, "user-2": before["user-2"] + CHARGED}
    assert await books.failing() == {}


async def test_a_reversal_that_no_balance_can_hold_is_refused_alone(api: BillingApi, books: Books) -> None:
    rich, other = new_mandate(), new_mandate()
    usages = [usage_record(rich, amount="1"), usage_record(other, amount="1")]
    late = usage_record(rich, amount="2")
    await charge(api.database, *usages)
    full = BALANCE_MAX - 1
    # Of money from elsewhere, so that the account that the credit comes from has room for it.
    await CreditPayments(api.database, clock=system_clock)([paid(rich, 10)], [])
    await _credit(api, books, rich, full - await books.pool(rich))
    cancelling, again = (voided_record(rich, usages[0].event_id) for _ in range(2))
    # What arrives cancelled has its place on the account, and goes before others that find none.
    await charge(api.database, voided_record(rich, late.event_id))
    await charge(api.database, cancelling, again, voided_record(other, usages[1].event_id), late)
    assert await books.refused(rich) == {"AMOUNT_TOO_LARGE": 2}
    assert (await books.pool(rich), await books.pool(other)) == (full, 0)
    assert await books.failing() == {}
    # A replay of the dead letter finds that it is not done.
    await _credit(api, books, rich, -full)
    await charge(api.database, cancelling, again)
    assert await books.pool(rich) == CHARGED
    assert await books.failing() == {}


async def test_what_a_member_cannot_be_passed_on_is_refused_with_all_of_its_mandate(
    api: BillingApi, books: Books, mandate: str
) -> None:
    usages = [usage_record(mandate, "user-1", amount="1") for _ in range(2)]
    await charge(api.database, *usages)
    await api.switch(mandate, "PREPAY_USER")
    own = usage_record(mandate, "user-1", amount="1")
    await charge(api.database, own)
    balances = await books.balances(mandate)
    await _credit(api, books, mandate, BALANCE_MAX - 1 - balances["user-2"], "user-2")
    before = await books.balances(mandate)
    cancelling = [voided_record(mandate, usage.event_id) for usage in (*usages, own)]
    await charge(api.database, *cancelling)
    assert await books.refused(mandate) == {"AMOUNT_TOO_LARGE": 2}
    assert await books.balances(mandate) == {**before, "user-1": before["user-1"] + CHARGED}
    assert await books.failing() == {}


async def _credit(api: BillingApi, books: Books, mandate: str, amount: int, user_id: str | None = None) -> None:
    """A credit beyond what one request may give, in micro-CHF."""
    number = await books.value("SELECT no FROM mandates WHERE id = $1", mandate)
    credit = ManualCredit(user_id, Decimal(amount).scaleb(-6), "for tests", None)
    async with api.database.transaction() as connection:
        await post_manual_credit(connection, number, credit, caller=system_admin(), now=system_clock())
