"""What corrects charges counts where they do: taken back by whomever, priced again, storage, late usage of another
policy, changed zones; in every billing model, with and without sums of the rollups."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from rappen_contracts.subscription.v1 import Plan
from services.billing.credits.apply_subscription import ApplySubscription
from services.billing.ledger.calendars import Calendar
from services.billing.ledger.domain import BillingModel, transaction_id
from services.billing.mandates.change_settings import change_settings
from services.billing.reports.scope import Scope
from services.billing.statistics.domain import month_period, year_period
from services.billing.statistics.queries import read_usage
from services.billing.statistics.show_statistics import Asked, show_statistics
from services.chassis.caller import Caller
from services.chassis.database import Database
from tests.integration.billing.conftest import BillingApi
from tests.support.callers import admin_of, member_of, system_admin
from tests.support.events import RawRecord, usage_record, voided_record
from tests.support.facts import money, subscription
from tests.support.ledger import Books
from tests.support.recounting import recount, usage_rows
from tests.support.rerating import of_model, rerate
from tests.support.statements import CountedDatabase
from tests.support.used import LATER, made, set_up, sum_all, use

AT = datetime(2026, 5, 4, 10, tzinfo=UTC)
ZURICH = Calendar("Europe/Zurich")


async def shown(
    database: Database, caller: Caller, year: int, month: int | None = None, *, now: datetime = LATER, **asked: Any
) -> dict[str, Any]:
    answer = await show_statistics(
        database,
        Scope.of(caller, **asked),
        Asked("month" if month is None else "day", year, month, by_member=True),
        platform=ZURICH,
        language="en",
        clock=lambda: now,
    )
    return {**answer, "timeSeries": [entry for entry in answer["timeSeries"] if entry["count"] or entry["cost"]]}


async def recounted(books: Books, mandate: str, year: int, **where: Any) -> dict[str, Any]:
    """The year again, from the rows."""
    counted = recount(
        await usage_rows(books, [mandate]),
        {mandate: "Europe/Zurich"},
        first=date(year, 1, 1),
        last=date(year, 12, 31),
        by="month",
        names={mandate: mandate},
        **where,
    )
    return counted.answered([when for when, (cost, count, _) in sorted(counted.series.items()) if cost or count])


async def billed(api: BillingApi, model: BillingModel) -> str:
    """A mandate of a billing model."""
    mandate = await made(api.database)
    if model != "PREPAY_MANDATE":
        await api.switch(mandate, model)
    return mandate


def labelless(answer: dict[str, Any]) -> dict[str, Any]:
    for entry in answer["timeSeries"]:
        entry.pop("label")
    return answer


def tokens(mandate: str, model: str, count: int, user: str = "user-1", **more: Any) -> RawRecord:
    return usage_record(mandate, user, cost=None, model=model, tokens={"input": count}, at=AT, **more)


@pytest.mark.parametrize("summed", [False, True])
@pytest.mark.parametrize("model", ["PREPAY_MANDATE", "PREPAY_USER", "UNLIMITED"])
async def test_what_was_priced_again_or_taken_back_is_the_members_on_the_day_of_the_charge(
    api: BillingApi, books: Books, model: BillingModel, summed: bool
) -> None:
    mandate, priced = await billed(api, model), f"model-{uuid4()}"
    await api.price(priced, "0.001")
    records = [
        tokens(mandate, priced, 1_000),
        tokens(mandate, priced, 333, feature_instance_id="i-1"),
        tokens(mandate, priced, 7, "user-2"),
        usage_record(mandate, "user-2", amount="2.000000499", at=AT - timedelta(days=400)),
    ]
    await use(api.database, records)
    if summed:
        await sum_all(api.database, LATER)
    await api.price(priced, "0.0007001")
    await rerate(api.database, of_model(priced))
    root = system_admin("root-of-this")
    for row in await usage_rows(books, [mandate]):
        if row["user_id"] == "user-2" and row["transaction_type"] == "DEBIT":
            charge = transaction_id(row["posted_account_no"], row["seq"])
            path = f"/api/billing/transactions/{charge}/reverse"
            answer = await api.call(root, "POST", path, json={"reason": "a mistake"})
            assert answer.status_code == 200, answer.text
            assert answer.json()["createdByUserId"] == "root-of-this"
    for year in (2025, 2026):
        answer = labelless(await shown(api.database, admin_of(mandate), year))
        assert answer == await recounted(books, mandate, year), year
    # 1,333 tokens by the new price, and what a reversal left of the remainder; the other member's are gone, and are
    # nobody else's either.
    total = (await shown(api.database, admin_of(mandate), 2026))["totalCost"]
    assert abs(total - Decimal("0.933233")) <= Decimal("0.000001")
    own = await shown(api.database, member_of(mandate, user_id="user-2"), 2026)
    assert (own["totalCost"], own["transactionCount"], own["costByModel"]) == (0, 0, {priced: 0})
    roots = Caller(user_id="root-of-this", mandates={mandate: True})
    theirs = await shown(api.database, roots, 2026, only_mine=True)
    assert (theirs["totalCost"], theirs["transactionCount"]) == (0, 0)
    assert await books.failing() == {}


@pytest.mark.parametrize("model", ["PREPAY_MANDATE", "PREPAY_USER", "UNLIMITED"])
async def test_storage_is_a_cost_without_provider_model_and_feature(
    api: BillingApi, books: Books, model: BillingModel
) -> None:
    mandate = await billed(api, model)
    plan = Plan(
        key="STARTER",
        budget=money(0),
        rollover=True,
        max_data_volume_mb=1_000,
        storage_price_per_gb_month=money("0.5"),
    )
    may, june, july = (datetime(2026, month, 1, tzinfo=UTC) for month in (5, 6, 7))
    subscription_id = uuid4()

    async def period(version: int, start: datetime, end: datetime) -> None:
        event = subscription(
            mandate,
            subscription_id,
            version,
            "ACTIVE",
            at=start,
            period_start=start,
            period_end=end,
            plan=plan,
            budget_due=True,
        )
        await ApplySubscription(api.database, clock=lambda: start)([event], [])

    await period(1, may, june)
    report = usage_record(
        mandate,
        at=AT,
        kind="storage",
        feature_instance_id="i-1",
        bytes_in_use=5 * 10**9,
        **dict.fromkeys(("cost", "provider", "model")),
    )
    await use(api.database, [report], now=AT)
    await period(2, june, july)
    answer = labelless(await shown(api.database, admin_of(mandate), 2026))
    # Four gigabytes above the plan, in June by the clock of Zurich; in PREPAY_USER three members pay.
    assert answer["costByProvider"] == answer["costByModel"] == {"unknown": 2}
    assert answer["costByFeature"] == {f"{mandate} / unknown": 2}
    assert answer["transactionCount"] == (3 if model == "PREPAY_USER" else 1)
    assert [entry["month"] for entry in answer["timeSeries"]] == ["2026-06"]
    assert answer == await recounted(books, mandate, 2026)
    own = await shown(api.database, member_of(mandate), 2026)
    assert (own["totalCost"] > 0) == (model == "PREPAY_USER")


async def test_late_usage_counts_where_its_mandate_wants_it(api: BillingApi) -> None:
    mandate, now = await made(api.database), datetime(2026, 6, 10, 8, tzinfo=UTC)
    late, in_time = datetime(2026, 5, 31, 21, 59, 59, 999_999, tzinfo=UTC), datetime(2026, 5, 31, 22, tzinfo=UTC)
    await set_up(api.database, mandate, lateEvents="next")
    first = usage_record(mandate, amount="1", at=late)
    await use(api.database, [first, usage_record(mandate, amount="10", at=in_time)], now=now)
    await set_up(api.database, mandate, lateEvents="own")
    await use(api.database, [usage_record(mandate, amount="100", at=late)], now=now)
    june = await shown(api.database, admin_of(mandate), 2026, 6)
    assert [(entry["date"], entry["cost"]) for entry in june["timeSeries"]] == [("2026-06-01", 10), ("2026-06-10", 1)]
    may = await shown(api.database, admin_of(mandate), 2026, 5)
    assert [(entry["date"], entry["cost"]) for entry in may["timeSeries"]] == [("2026-05-31", 100)]
    # What takes it back does so where it counts, whatever the policy is by then.
    await use(api.database, [voided_record(mandate, first.event_id, at=now)], now=now + timedelta(days=60))
    june = await shown(api.database, admin_of(mandate), 2026, 6)
    assert (june["totalCost"], june["transactionCount"]) == (10, 1)


async def test_a_new_time_zone_counts_from_the_next_month_on_and_moves_nothing(api: BillingApi) -> None:
    mandate = await made(api.database, "Asia/Tokyo")
    await change_settings(
        api.database,
        mandate,
        {"timeZone": "America/New_York"},
        caller=system_admin(),
        clock=lambda: AT,
        amount_max=Decimal(1),
    )
    # In May the day ends at 15 o'clock; June begins when May ends in Tokyo, and its days end in New York.
    moments = {
        1: datetime(2026, 5, 30, 14, 59, 59, 999_999, tzinfo=UTC),
        2: datetime(2026, 5, 30, 15, tzinfo=UTC),
        4: datetime(2026, 5, 31, 14, 59, 59, 999_999, tzinfo=UTC),
        8: datetime(2026, 5, 31, 15, tzinfo=UTC),
        16: datetime(2026, 6, 1, 3, 59, 59, 999_999, tzinfo=UTC),
        32: datetime(2026, 6, 2, 3, 59, 59, 999_999, tzinfo=UTC),
        64: datetime(2026, 6, 2, 4, tzinfo=UTC),
    }
    await use(api.database, [usage_record(mandate, amount=str(amount), at=at) for amount, at in moments.items()])
    days: dict[str, Any] = {}
    for month in (5, 6):
        answer = await shown(api.database, admin_of(mandate), 2026, month)
        days |= {entry["date"]: entry["cost"] for entry in answer["timeSeries"]}
    assert days == {"2026-05-30": 1, "2026-05-31": 6, "2026-06-01": 56, "2026-06-02": 64}


async def test_an_answer_is_two_statements_whatever_it_is_about(api: BillingApi, books: Books) -> None:
    mandates = [await made(api.database) for _ in range(3)]
    await use(api.database, [usage_record(mandate, at=AT) for mandate in mandates])
    counted = CountedDatabase(api.database)
    for period in (year_period(2026), month_period(2026, 5)):
        for caller in (admin_of(*mandates), member_of(*mandates), system_admin()):
            counted.calls.clear()
            async with counted.reading() as connection:
                await read_usage(connection, Scope.of(caller), period)
            assert counted.calls == ["execute", "execute"]


async def test_members_add_up_to_the_total_while_usage_is_charged(api: BillingApi) -> None:
    mandate = await made(api.database)
    parts = [
        [usage_record(mandate, f"user-{1 + number % 2}", amount="0.37", at=AT) for _ in range(5)]
        for number in range(40)
    ]
    charged = asyncio.ensure_future(_one_after_the_other(api.database, parts))
    totals = set()
    while not charged.done():
        answer = await shown(api.database, admin_of(mandate), 2026)
        assert sum(answer["costByMember"].values()) == answer["totalCost"]
        assert sum(answer["countByMember"].values()) == answer["transactionCount"]
        totals.add(answer["transactionCount"])
    await charged
    # It was looked at while it grew.
    assert len(totals) > 2
    assert (await shown(api.database, admin_of(mandate), 2026))["totalCost"] == 74


async def _one_after_the_other(database: Database, parts: list[list[RawRecord]]) -> None:
    for part in parts:
        await use(database, part)
