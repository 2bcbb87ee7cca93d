"""Usage that is cancelled by an event: what it was charged comes back once, whatever comes first."""

from datetime import UTC, date, datetime
from itertools import permutations
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.billing.charging.reversals import reversal_id
from services.billing.ledger.domain import BillingModel, transaction_id
from tests.integration.billing.conftest import BillingApi
from tests.support.callers import admin_of, member_of
from tests.support.charging import charge, charging, received, settling
from tests.support.databases import connected
from tests.support.events import RawRecord, new_mandate, usage_record, voided_record
from tests.support.ledger import Books
from tests.support.stack import ServerPair

AT = datetime(2026, 5, 4, 10, tzinfo=UTC)
CHARGED = 1_500_000  # 1 CHF with the platform's markup, in micro-CHF


async def _claims(books: Books, mandate: str) -> dict[UUID, str]:
    rows = await books.fetch(
        "SELECT e.event_id, e.reason, e.event FROM unposted_events e JOIN mandates m ON m.no = e.mandate_no"
        " WHERE m.id = $1",
        mandate,
    )
    assert all(row["event"] is None for row in rows if row["reason"] in ("FREE", "CANCELLED", "CANCELLATION"))
    return {row["event_id"]: row["reason"] for row in rows}


async def test_a_charge_is_taken_back_by_a_row_that_mirrors_it(api: BillingApi, books: Books, mandate: str) -> None:
    usage = usage_record(mandate, "user-1", amount="1", at=AT, workflow_id="wf-1")
    await charge(api.database, usage, usage_record(mandate, "user-1", amount="0.0000001", at=AT))
    before = await books.fetch("SELECT rounding_remainder FROM accounts WHERE rounding_remainder <> 0 ORDER BY no DESC")
    await charge(api.database, voided_record(mandate, usage.event_id, "the answer was empty"))
    charged, _, back = await books.rows(mandate)
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
    assert await books.rollups(mandate) == (0, 1)
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
        await api.switch(mandate, model)
    money = await books.money(mandate)
    storage = {"kind": "storage", "bytes_in_use": 5, "feature_instance_id": "i-1", "provider": None, "model": None}
    usage = usage_record(mandate, amount="1", at=AT, **(storage if kind == "storage" else {}))
    await charge(api.database, voided_record(mandate, usage.event_id))
    assert await books.charged([mandate]) == 0
    await charge(api.database, usage_record(mandate, amount="2", at=AT), usage)
    rows = [row for row in await books.rows(mandate) if row["contra_account"] == "REVENUE"]
    assert [(row["transaction_type"], row["amount"]) for row in rows] == [
        ("DEBIT", 2 * CHARGED),
        ("DEBIT", CHARGED),
        ("ADJUSTMENT", CHARGED),
    ]
    assert rows[1]["reference_type"] == rows[2]["reference_type"] == ("WORKFLOW" if kind == "ai" else "STORAGE")
    assert rows[1]["recorded_at"] == rows[2]["recorded_at"]
    assert await books.rollups(mandate) == (2 * CHARGED, 1)
    assert await books.money(mandate) == money - (0 if model == "UNLIMITED" else 2 * CHARGED)
    # What comes again is a repeat.
    await charge(api.database, usage, voided_record(mandate, usage.event_id))
    assert len([row for row in await books.rows(mandate) if row["contra_account"] == "REVENUE"]) == 3
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
    rows = await books.rows(mandate)
    assert sorted((row["transaction_type"], row["amount"]) for row in rows) == [
        ("ADJUSTMENT", CHARGED),
        ("DEBIT", CHARGED),
        ("DEBIT", CHARGED),
    ]
    (back,) = [row for row in rows if row["transaction_type"] == "ADJUSTMENT"]
    # The reason that came first is kept; the second cancellation changes nothing.
    assert back["description"] == f"Reversal: {'first' if order.index(2) < order.index(3) else 'second'}"
    assert await books.pool(mandate) == -CHARGED
    assert await books.rollups(mandate) == (CHARGED, 1)
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
    assert await books.rollups(mandate) == (0, 1)
    await charge(api.database, voided_record(mandate, usage.event_id))
    assert [row["amount"] for row in await books.rows(mandate)] == [0, 0]
    assert await books.rollups(mandate) == (0, 0)
    assert await books.failing() == {}


async def test_a_mandate_that_nobody_knows_is_made_as_for_usage(api: BillingApi, books: Books) -> None:
    mandate = new_mandate()
    usage = usage_record(mandate, amount="1", at=AT)
    await charge(api.database, voided_record(mandate, usage.event_id))
    assert await books.value("SELECT has_cancellations FROM mandates WHERE id = $1", mandate)
    await charge(api.database, usage)
    assert [row["transaction_type"] for row in await books.rows(mandate)] == ["DEBIT", "ADJUSTMENT"]
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
    (row,) = await books.rows(mandate)
    named = reversal_id(row["mandate_no"], usage.event_id)
    await charge(api.database, usage_record(mandate, event_id=named, amount="2"))
    await charge(api.database, voided_record(mandate, usage.event_id), voided_record(mandate, named))
    assert await books.pool(mandate) == 0
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
    charged, back = await books.rows(mandate)
    assert charged["period_day"] == back["period_day"] == date(2026, 7, 1)
    assert await books.rollups(mandate) == (0, 0)
    assert await books.failing() == {}


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
