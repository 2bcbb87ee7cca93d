"""Usage that is cancelled by an event: what it was charged comes back once, whatever comes first."""

from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import permutations
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from services.billing.charging.reversals import reversal_id
from services.billing.credits.credit_payment import CreditPayments
from services.billing.credits.post_manual_credit import ManualCredit, post_manual_credit
from services.billing.ledger.domain import BALANCE_MAX, BillingModel, transaction_id
from services.chassis.clock import system_clock
from tests.integration.billing.conftest import BillingApi
from tests.support.callers import admin_of, member_of, system_admin
from tests.support.charging import charge, charging, received, settling
from tests.support.databases import connected
from tests.support.events import RawRecord, new_mandate, usage_record, voided_record
from tests.support.facts import paid
from tests.support.ledger import Books
from tests.support.stack import ServerPair

AT = datetime(2026, 5, 4, 10, tzinfo=UTC)
CHARGED = 1_500_000  # 1 CHF with the platform's markup, in micro-CHF


async def _rows(books: Books, mandate: str) -> list[asyncpg.Record]:
    return await books.fetch(
        "SELECT t.* FROM transactions t JOIN mandates m ON m.no = t.mandate_no WHERE m.id = $1 ORDER BY t.seq", mandate
    )


async def _claims(books: Books, mandate: str) -> dict[UUID, str]:
    rows = await books.fetch(
        "SELECT e.event_id, e.reason, e.event FROM unposted_events e JOIN mandates m ON m.no = e.mandate_no"
        " WHERE m.id = $1",
        mandate,
    )
    assert all(row["event"] is None for row in rows if row["reason"] in ("FREE", "CANCELLED", "CANCELLATION"))
    return {row["event_id"]: row["reason"] for row in rows}


async def _rollups(books: Books, mandate: str) -> tuple[int, int]:
    (row,) = await books.fetch(
        "SELECT coalesce(sum(r.cost), 0) AS cost, coalesce(sum(r.count), 0) AS count FROM rollups r"
        " JOIN mandates m ON m.no = r.mandate_no WHERE m.id = $1",
        mandate,
    )
    return int(row["cost"]), int(row["count"])


async def _switch(api: BillingApi, mandate: str, model: BillingModel) -> None:
    answer = await api.call(system_admin(), "POST", f"/api/billing/admin/model/{mandate}", json={"billingModel": model})
    assert answer.status_code == 200, answer.text


async def test_a_charge_is_taken_back_by_a_row_that_mirrors_it(api: BillingApi, books: Books, mandate: str) -> None:
    usage = usage_record(mandate, "user-1", amount="1", at=AT, workflow_id="wf-1")
    await charge(api.database, usage, usage_record(mandate, "user-1", amount="0.0000001", at=AT))
    before = await books.fetch("SELECT rounding_remainder FROM accounts WHERE rounding_remainder <> 0 ORDER BY no DESC")
    await charge(api.database, voided_record(mandate, usage.event_id, "the answer was empty"))
    charged, _, back = await _rows(books, mandate)
    assert charged["event_id"] == usage.event_id
    same = ("mandate_no", "member_account_no", "posted_account_no", "reference_type", "amount", "occurred_at")
    for name in (*same, "period_day", "dimension_no", "workflow_id", "contra_account"):
        assert back[name] == charged[name], name
    assert (back["transaction_type"], back["amount"], back["balance_after"]) == ("ADJUSTMENT", CHARGED, 0)
    assert back["own"]
    assert back["event_id"] == reversal_id(charged["mandate_no"], usage.event_id)
    assert back["reference_id"] == str(transaction_id(charged["posted_account_no"], charged["seq"]))
    assert back["description"] == "Reversal: the answer was empty"
    assert (back["created_by_user_id"], back["derivation"], back["input_tokens"]) == (None, None, None)
    assert back["recorded_at"] > charged["recorded_at"]
    assert await _rollups(books, mandate) == (0, 1)
    after = await books.fetch("SELECT rounding_remainder FROM accounts WHERE rounding_remainder <> 0 ORDER BY no DESC")
    assert after == before, "the remainder stays as it is"
    assert await books.refused(mandate) == {}
    assert await books.failing() == {}


@pytest.mark.parametrize("model", ["PREPAY_MANDATE", "PREPAY_USER", "UNLIMITED"])
@pytest.mark.parametrize("kind", ["ai", "storage"])
async def test_before_its_usage_a_cancellation_waits_for_it_and_both_rows_are_written_at_once(
    api: BillingApi, books: Books, mandate: str, model: BillingModel, kind: str
) -> None:
    if model != "PREPAY_MANDATE":
        await _switch(api, mandate, model)
    money = await books.money(mandate)
    storage = {"kind": "storage", "bytes_in_use": 5, "feature_instance_id": "i-1", "provider": None, "model": None}
    usage = usage_record(mandate, amount="1", at=AT, **(storage if kind == "storage" else {}))
    await charge(api.database, voided_record(mandate, usage.event_id))
    assert await books.charged([mandate]) == 0
    await charge(api.database, usage_record(mandate, amount="2", at=AT), usage)
    rows = [row for row in await _rows(books, mandate) if row["contra_account"] == "REVENUE"]
    assert [(row["transaction_type"], row["amount"]) for row in rows] == [
        ("DEBIT", 2 * CHARGED),
        ("DEBIT", CHARGED),
        ("ADJUSTMENT", CHARGED),
    ]
    assert rows[1]["reference_type"] == rows[2]["reference_type"] == ("WORKFLOW" if kind == "ai" else "STORAGE")
    assert rows[1]["recorded_at"] == rows[2]["recorded_at"]
    assert await _rollups(books, mandate) == (2 * CHARGED, 1)
    assert await books.money(mandate) == money - (0 if model == "UNLIMITED" else 2 * CHARGED)
    # What comes again is a repeat.
    await charge(api.database, usage, voided_record(mandate, usage.event_id))
    assert len([row for row in await _rows(books, mandate) if row["contra_account"] == "REVENUE"]) == 3
    assert await books.refused(mandate) == {}
    assert await books.failing() == {}


@pytest.mark.parametrize("order", list(permutations(range(4))))
@pytest.mark.parametrize("together", [True, False])
async def test_whatever_the_order_the_books_are_the_same(
    api: BillingApi, books: Books, order: tuple[int, ...], together: bool
) -> None:
    mandate = new_mandate()
    usage, other = (usage_record(mandate, amount="1", at=AT) for _ in range(2))
    first, second = (voided_record(mandate, usage.event_id, reason) for reason in ("first", "second"))
    records = [(usage, other, first, second)[number] for number in order]
    for batch in [records] if together else [[record] for record in records]:
        await charge(api.database, *batch)
    rows = await _rows(books, mandate)
    assert sorted((row["transaction_type"], row["amount"]) for row in rows) == [
        ("ADJUSTMENT", CHARGED),
        ("DEBIT", CHARGED),
        ("DEBIT", CHARGED),
    ]
    (back,) = [row for row in rows if row["transaction_type"] == "ADJUSTMENT"]
    # The reason that came first is kept; the second cancellation changes nothing.
    assert back["description"] == f"Reversal: {'first' if order.index(2) < order.index(3) else 'second'}"
    assert await books.pool(mandate) == -CHARGED
    assert await _rollups(books, mandate) == (CHARGED, 1)
    assert set((await _claims(books, mandate)).values()) == {"CANCELLATION"}
    assert await books.refused(mandate) == {}
    assert await books.failing() == {}


async def test_usage_without_a_price_leaves_the_parking_place_and_is_never_priced(
    api: BillingApi, books: Books, mandate: str
) -> None:
    model = f"model-{uuid4()}"

    def unpriced() -> RawRecord:
        return usage_record(mandate, cost=None, model=model, tokens={"input": 10}, at=AT)

    before, after, together, kept = (unpriced() for _ in range(4))
    await charge(api.database, voided_record(mandate, before.event_id))
    await charge(api.database, before, after, kept)
    assert await books.parked([mandate]) == 2
    await charge(
        api.database, voided_record(mandate, after.event_id), voided_record(mandate, together.event_id), together
    )
    assert await books.parked([mandate]) == 1
    assert await books.failing() == {}
    await api.price(model, "0.1")
    settle = settling(api.database)
    while await settle():
        pass
    await charge(api.database, before, after, together, kept)
    assert await books.charged([mandate]) == 1
    claims = await _claims(books, mandate)
    assert {claims[record.event_id] for record in (before, after, together)} == {"CANCELLED"}
    assert kept.event_id not in claims
    assert await books.refused(mandate) == {}
    assert await books.failing() == {}


async def test_free_usage_has_nothing_to_take_back_and_its_cancellation_is_kept(
    api: BillingApi, books: Books, mandate: str
) -> None:
    before, after = usage_record(mandate, amount="0"), usage_record(mandate, amount="0")
    await charge(api.database, voided_record(mandate, before.event_id), after)
    await charge(api.database, before, voided_record(mandate, after.event_id))
    assert await books.charged([mandate]) == 0
    claims = await _claims(books, mandate)
    assert claims[before.event_id] == claims[after.event_id] == "FREE"
    kept = await books.value(
        "SELECT count(*) FROM cancellations c JOIN mandates m ON m.no = c.mandate_no WHERE m.id = $1", mandate
    )
    assert kept == 2
    assert await books.failing() == {}


async def test_a_charge_that_came_to_nothing_is_counted_and_not_counted_any_more(
    api: BillingApi, books: Books, mandate: str
) -> None:
    usage = usage_record(mandate, amount="0.0000001", at=AT)
    await charge(api.database, usage)
    assert await _rollups(books, mandate) == (0, 1)
    await charge(api.database, voided_record(mandate, usage.event_id))
    assert [row["amount"] for row in await _rows(books, mandate)] == [0, 0]
    assert await _rollups(books, mandate) == (0, 0)
    assert await books.failing() == {}


async def test_a_mandate_that_nobody_knows_is_made_as_for_usage(api: BillingApi, books: Books) -> None:
    mandate = new_mandate()
    usage = usage_record(mandate, amount="1", at=AT)
    await charge(api.database, voided_record(mandate, usage.event_id))
    assert await books.value("SELECT has_cancellations FROM mandates WHERE id = $1", mandate)
    await charge(api.database, usage)
    assert [row["transaction_type"] for row in await _rows(books, mandate)] == ["DEBIT", "ADJUSTMENT"]
    assert await books.refused(mandate) == {}
    assert await books.failing() == {}


async def test_an_id_that_a_cancellation_has_is_no_other_events(api: BillingApi, books: Books) -> None:
    mandate, used = new_mandate(), uuid4()
    usage, other = usage_record(mandate, amount="1"), usage_record(mandate, amount="1")
    cancelling = voided_record(mandate, usage.event_id, "first", event_id=used)
    await charge(api.database, usage, other, cancelling, cancelling)
    assert await books.refused(mandate) == {}
    await charge(api.database, cancelling)
    assert await books.refused(mandate) == {}
    # Its own id with other data: another reason, other usage, or usage itself.
    await charge(api.database, voided_record(mandate, usage.event_id, "second", event_id=used))
    await charge(api.database, voided_record(mandate, other.event_id, "first", event_id=used))
    await charge(api.database, usage_record(mandate, amount="5", event_id=used))
    assert await books.refused(mandate) == {"CONFLICT": 3}
    # The reverse: an id that usage has, in one batch with it and later.
    again = usage_record(mandate, amount="1")
    await charge(api.database, voided_record(mandate, other.event_id, event_id=again.event_id), again)
    await charge(api.database, voided_record(mandate, other.event_id, event_id=usage.event_id))
    assert await books.refused(mandate) == {"CONFLICT": 5}
    assert await books.pool(mandate) == -2 * CHARGED
    assert await books.failing() == {}


@pytest.mark.parametrize("first", [True, False])
async def test_a_cancellation_with_the_id_of_its_usage_is_refused_whatever_comes_first(
    api: BillingApi, books: Books, first: bool
) -> None:
    mandate = new_mandate()
    usage = usage_record(mandate, amount="1")
    cancelling = voided_record(mandate, usage.event_id, event_id=usage.event_id)
    for record in (cancelling, usage) if first else (usage, cancelling):
        await charge(api.database, record)
    assert await books.refused(mandate) == {"CONFLICT": 1}
    assert await books.pool(mandate) == -CHARGED
    assert await books.failing() == {}


async def test_usage_of_another_mandate_with_the_same_id_stays(api: BillingApi, books: Books) -> None:
    mine, others = new_mandate(), new_mandate()
    event_id = uuid4()
    for mandate in (mine, others):
        await charge(api.database, usage_record(mandate, event_id=event_id, amount="1"))
    await charge(api.database, voided_record(mine, event_id))
    assert (await books.pool(mine), await books.pool(others)) == (0, -CHARGED)


async def test_a_publisher_cannot_name_a_reversal(api: BillingApi, books: Books, mandate: str) -> None:
    usage = usage_record(mandate, amount="1")
    await charge(api.database, usage)
    (row,) = await _rows(books, mandate)
    named = reversal_id(row["mandate_no"], usage.event_id)
    await charge(api.database, usage_record(mandate, event_id=named, amount="2"))
    await charge(api.database, voided_record(mandate, usage.event_id), voided_record(mandate, named))
    assert await books.pool(mandate) == 0
    assert await books.failing() == {}


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
        await _switch(api, mandate, old)
    usages = [usage_record(mandate, "user-1", amount="0.666667", at=AT) for _ in range(2)]
    await charge(api.database, *usages)
    await _switch(api, mandate, new)
    before = await _balances(books, mandate)
    await charge(api.database, *(voided_record(mandate, usage.event_id) for usage in usages))
    after = await _balances(books, mandate)
    moved = {name: after[name] - before.get(name, 0) for name in after if after[name] != before.get(name, 0)}
    charges = [row for row in await _rows(books, mandate) if row["contra_account"] == "REVENUE"]
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


async def _balances(books: Books, mandate: str) -> dict[str, int]:
    rows = await books.fetch(
        "SELECT coalesce(a.user_id, CASE a.type WHEN 'MANDATE' THEN 'pool' ELSE 'internal' END) AS name, a.balance"
        " FROM accounts a JOIN mandates m ON m.no = a.mandate_no"
        " WHERE m.id = $1 AND a.type IN ('MANDATE', 'USER', 'INTERNAL')",
        mandate,
    )
    return {row["name"]: row["balance"] for row in rows}


async def test_without_members_the_money_of_the_pool_goes_to_the_one_whose_usage_it_was(
    api: BillingApi, books: Books, mandate: str
) -> None:
    usage = usage_record(mandate, "user-1", amount="1", at=AT)
    await charge(api.database, usage)
    await _switch(api, mandate, "PREPAY_USER")
    members = {"admin-1": ["admin"], "user-1": ["member"], "user-2": ["member"]}
    await api.directory(mandate, members, disabled=tuple(members))
    # What is for the mandate as a whole waits on the pool meanwhile, and stays there.
    await CreditPayments(api.database, clock=system_clock)([paid(mandate, 10)], [])
    before = await _balances(books, mandate)
    await charge(api.database, voided_record(mandate, usage.event_id))
    after = await _balances(books, mandate)
    assert {name: after[name] - before[name] for name in after if after[name] != before[name]} == {"user-1": CHARGED}
    assert await books.failing() == {}


async def test_back_in_the_first_model_the_account_that_was_charged_keeps_the_money(
    api: BillingApi, books: Books, mandate: str
) -> None:
    await _switch(api, mandate, "PREPAY_USER")
    usage = usage_record(mandate, "user-2", amount="1", at=AT)
    await charge(api.database, usage)
    await _switch(api, mandate, "PREPAY_MANDATE")
    await _switch(api, mandate, "PREPAY_USER")
    before = await _balances(books, mandate)
    await charge(api.database, voided_record(mandate, usage.event_id))
    assert await _balances(books, mandate) == {**before, "user-2": before["user-2"] + CHARGED}
    assert await books.failing() == {}


async def test_a_reversal_counts_on_the_day_of_its_charge_also_after_a_change_of_the_time_zone(
    api: BillingApi, books: Books, servers: ServerPair, mandate: str
) -> None:
    """Usage that was recorded before it happened, while the mandate's time zone was still another."""
    july = datetime(2026, 7, 1, 11, 1, tzinfo=UTC)
    usage = usage_record(mandate, amount="1", at=july)
    zones = "UPDATE billing.mandates SET time_zone = $2, past_time_zones = $3 WHERE id = $1"
    async with connected(servers.admin_dsn) as admin:
        await admin.execute(zones, mandate, "Pacific/Pago_Pago", "[]")
        early = datetime(2026, 7, 1, 10, 57, tzinfo=UTC)
        await charging(api.database, clock=lambda: early)(received([usage]), [])
        past = '[["2026-07-01T11:00:00+00:00", "Pacific/Pago_Pago"]]'
        await admin.execute(zones, mandate, "Pacific/Kiritimati", past)
    await charge(api.database, voided_record(mandate, usage.event_id))
    charged, back = await _rows(books, mandate)
    assert charged["period_day"] == back["period_day"] == date(2026, 7, 1)
    assert await _rollups(books, mandate) == (0, 0)
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
    await _switch(api, mandate, "PREPAY_USER")
    own = usage_record(mandate, "user-1", amount="1")
    await charge(api.database, own)
    balances = await _balances(books, mandate)
    await _credit(api, books, mandate, BALANCE_MAX - 1 - balances["user-2"], "user-2")
    before = await _balances(books, mandate)
    cancelling = [voided_record(mandate, usage.event_id) for usage in (*usages, own)]
    await charge(api.database, *cancelling)
    assert await books.refused(mandate) == {"AMOUNT_TOO_LARGE": 2}
    assert await _balances(books, mandate) == {**before, "user-1": before["user-1"] + CHARGED}
    assert await books.failing() == {}


async def _credit(api: BillingApi, books: Books, mandate: str, amount: int, user_id: str | None = None) -> None:
    """A credit beyond what one request may give, in micro-CHF."""
    number = await books.value("SELECT no FROM mandates WHERE id = $1", mandate)
    credit = ManualCredit(user_id, Decimal(amount).scaleb(-6), "for tests", None)
    async with api.database.transaction() as connection:
        await post_manual_credit(connection, number, credit, caller=system_admin(), now=system_clock())


async def test_lists_show_a_reversal_with_what_it_is_about(api: BillingApi, mandate: str) -> None:
    usage = usage_record(mandate, "user-1", amount="1", at=AT, workflow_id="wf-1")
    await charge(api.database, usage)
    await charge(api.database, voided_record(mandate, usage.event_id, "twice"))
    for caller in (admin_of(mandate), member_of(mandate, user_id="user-1")):
        answer = await api.call(caller, "GET", "/api/billing/transactions")
        rows: list[dict[str, Any]] = answer.json()
        back, charged = sorted(rows, key=lambda row: row["transactionType"])
        assert (charged["transactionType"], back["transactionType"]) == ("DEBIT", "ADJUSTMENT")
        same = ("amount", "accountId", "workflowId", "featureCode", "aicoreProvider", "aicoreModel", "createdAt")
        assert {name: back[name] for name in same} == {name: charged[name] for name in same}
        assert (charged["referenceId"], back["referenceId"]) == (str(usage.event_id), charged["id"])
        assert (back["description"], back["referenceType"]) == ("Reversal: twice", "WORKFLOW")
        # The member used, and did not cancel.
        assert (charged["createdByUserId"], back["createdByUserId"]) == ("user-1", None)
        assert (back["balanceAfter"], back["processingTime"], back["inputTokens"]) == (0, None, None)
