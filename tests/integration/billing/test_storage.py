"""Storage in use, from the reports of feature instances to the charge of a period's peak, once, whatever comes how."""

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from random import Random
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from rappen_contracts import encode_structured
from rappen_contracts.subscription.v1 import Plan
from services.billing.charging.usage_events import Usage
from services.billing.credits.apply_subscription import ApplySubscription
from services.billing.ledger.domain import BillingModel, transaction_id
from services.billing.storage.repository import read_peak
from services.chassis.consumer import Received
from tests.integration.billing.conftest import BillingApi
from tests.support.callers import admin_of, system_admin
from tests.support.charging import charging, received, settling
from tests.support.databases import connected
from tests.support.events import RawRecord, new_mandate, usage_record, uuid7, voided_record
from tests.support.explanations import assert_storage_explained
from tests.support.facts import money, subscription
from tests.support.ledger import Books
from tests.support.processes import run_command
from tests.support.stack import ServerPair

MAY, JUNE, JULY, AUGUST = (datetime(2026, month, 1, tzinfo=UTC) for month in (5, 6, 7, 8))
GB = 10**9
TICK = timedelta(microseconds=1)


def _plan(included_mb: int | None = 5_000, price: str | None = "0.5", budget: int = 0, key: str = "STARTER") -> Plan:
    return Plan(
        key=key,
        budget=money(budget),
        rollover=True,
        max_data_volume_mb=included_mb,
        storage_price_per_gb_month=None if price is None else money(price),
    )


def _report(
    mandate: str, at: datetime, size: int, instance: str = "i-1", user: str = "user-1", **more: Any
) -> RawRecord:
    """That an instance has so many bytes in use."""
    given = {"cost": None, "provider": None, "model": None, "feature_code": "files", **more}
    return usage_record(mandate, user, at=at, kind="storage", feature_instance_id=instance, bytes_in_use=size, **given)


class Renting:
    """A mandate with a subscription, at a time that the test chooses."""

    def __init__(self, api: BillingApi, books: Books, mandate: str) -> None:
        self.api, self.books, self.mandate = api, books, mandate
        self.subscription_id = uuid4()
        self.now = MAY

    async def use(self, *records: RawRecord, now: datetime | None = None) -> None:
        now = now or self.now
        await charging(self.api.database, clock=lambda: now)(received(records, now=now), [])

    def change(self, version: int, start: datetime, end: datetime | None, **more: Any) -> Received:
        given = {"budget_due": True, "plan": _plan(), **more}
        return subscription(
            self.mandate,
            self.subscription_id,
            version,
            given.pop("state", "ACTIVE"),
            at=start,
            period_start=start,
            period_end=end,
            **given,
        )

    async def follow(self, *events: Received, now: datetime | None = None) -> Sequence[Any]:
        now = now or self.now
        return await ApplySubscription(self.api.database, clock=lambda: now)(events, [])

    async def charges(self) -> list[asyncpg.Record]:
        return [row for row in await self.books.rows(self.mandate) if row["reference_type"] == "STORAGE"]

    async def explained(self) -> list[Any]:
        """The rows that charge storage, each as it is explained."""
        found = []
        for row in await self.charges():
            path = f"/api/billing/transactions/{transaction_id(row['posted_account_no'], row['seq'])}/explain"
            answer = await self.api.call(system_admin(), "GET", path)
            assert answer.status_code == 200, answer.text
            found.append(json.loads(answer.text, parse_float=Decimal))
        return found

    async def amounts(self) -> list[int]:
        return [row["amount"] for row in await self.charges()]

    async def periods(self) -> list[asyncpg.Record]:
        return await self.books.fetch(
            "SELECT p.* FROM storage_periods p WHERE p.subscription_id = $1 ORDER BY p.period_start",
            self.subscription_id,
        )


@pytest.fixture
def renting(api: BillingApi, books: Books, mandate: str) -> Renting:
    return Renting(api, books, mandate)


async def test_the_peak_of_a_period_is_charged_once_when_the_next_one_is_paid(
    renting: Renting, api: BillingApi
) -> None:
    mandate, day = renting.mandate, timedelta(days=1)
    await renting.follow(renting.change(1, MAY, JUNE, plan=_plan(budget=20)))
    await renting.use(
        _report(mandate, MAY + day, 4 * GB),
        _report(mandate, MAY + 9 * day, 3 * GB, "i-2"),
        _report(mandate, MAY + 12 * day, 1 * GB),
        _report(mandate, JUNE, 90 * GB),
        now=JUNE + day,
    )
    # What comes late counts where it belongs: for a day both had more.
    await renting.use(
        _report(mandate, MAY + 10 * day, 6_000_000_001, "i-2"),
        _report(mandate, MAY + 11 * day, 3 * GB, "i-2"),
        now=JUNE + day,
    )
    assert await renting.charges() == []
    renewal = renting.change(2, JUNE, JULY, plan=_plan(budget=20, price="0.7", key="TEAM"))
    for _ in range(2):
        await renting.follow(renewal, renewal, now=JUNE + 2 * day)
    (charge,) = await renting.charges()
    # 10.000000001 GB, less 5, for half a franc: the rest is carried.
    assert (charge["transaction_type"], charge["amount"], charge["balance_after"]) == ("DEBIT", 2_500_000, 17_500_000)
    assert (charge["contra_account"], charge["own"]) == ("REVENUE", True)
    assert charge["reference_id"] == str(renting.subscription_id)
    assert charge["description"] == "Storage: 5.000000001 GB above plan STARTER"
    # In Zurich it is June at the last moment of a period that ends at midnight in UTC.
    assert (charge["occurred_at"], charge["period_day"]) == (JUNE - TICK, date(2026, 6, 1))
    derivation = json.loads(charge["derivation"])
    assert (derivation["carry_before"], derivation["carry_after"]) == ("0", "0.0000000005")
    assert derivation["storage"]["exact"] == "2.5000000005"
    # Storage comes before the next period's budget.
    kinds = [(row["reference_type"], row["seq"]) for row in await renting.books.rows(mandate)]
    assert kinds == [("SUBSCRIPTION", 1), ("STORAGE", 2), ("SUBSCRIPTION", 3)]
    assert await renting.books.rollups(mandate) == (2_500_000, 1)
    listed = await api.call(admin_of(mandate), "GET", "/api/billing/transactions")
    (shown,) = [row for row in listed.json() if row["referenceType"] == "STORAGE"]
    assert (shown["amount"], shown["createdByUserId"], shown["featureCode"]) == (2.5, None, None)
    assert await renting.books.failing() == {}
    # The next period begins with what is in use, and has its own terms.
    await renting.follow(renting.change(3, JULY, AUGUST), now=JULY)
    assert [row["peak_bytes"] for row in await renting.periods()] == [
        10_000_000_001,
        93 * GB,
        None,
    ]
    assert await renting.amounts() == [2_500_000, 61_600_000]
    assert await renting.books.failing() == {}


async def test_in_use_is_what_was_reported_last_also_before_the_period(renting: Renting) -> None:
    mandate = renting.mandate
    await renting.use(_report(mandate, MAY - timedelta(days=300), 7 * GB), now=MAY)
    await renting.follow(renting.change(1, MAY, JUNE))
    await renting.follow(renting.change(2, JUNE, JULY), now=JUNE)
    await renting.follow(renting.change(3, JULY, AUGUST), now=JULY)
    assert await renting.amounts() == [1_000_000, 1_000_000]
    assert await renting.books.failing() == {}


async def test_at_the_end_of_the_subscription_the_last_period_is_charged_and_none_opened(renting: Renting) -> None:
    mandate = renting.mandate
    await renting.follow(renting.change(1, MAY, MAY + timedelta(days=62), plan=_plan(price="31")))
    await renting.use(_report(mandate, MAY, 6 * GB), now=MAY + timedelta(days=1))
    ended = renting.change(2, MAY, MAY + timedelta(days=15), state="EXPIRED", budget_due=False, plan=_plan(price="31"))
    for _ in range(2):
        await renting.follow(ended, now=MAY + timedelta(days=16))
    # 15 of the 31 days of May, to a millionth of a month.
    assert await renting.amounts() == [14_999_970]
    (period,) = await renting.periods()
    assert (period["months"], period["closed_at"]) == (Decimal("0.483870"), MAY + timedelta(days=16))
    assert await renting.books.failing() == {}


@pytest.mark.parametrize(
    ("told", "months"),
    [
        # The renewal comes after the end that cut its period short, which is a newer version of it.
        ({"version": 2}, "0.500000"),
        # It is paid after the end, and says so itself.
        ({"version": 4, "state": "EXPIRED", "end": JUNE + timedelta(days=15)}, "0.500000"),
        # One that would have begun after the end has no time, so it costs nothing.
        ({"version": 2, "start": JULY, "end": AUGUST}, "0"),
    ],
)
async def test_a_paid_period_that_is_told_after_the_end_is_charged_once_and_does_not_stay_open(
    renting: Renting, told: dict[str, Any], months: str
) -> None:
    await renting.follow(renting.change(1, MAY, JUNE))
    await renting.use(_report(renting.mandate, MAY, 6 * GB), now=JUNE + timedelta(days=20))
    ended = renting.change(3, JUNE, JUNE + timedelta(days=15), state="EXPIRED", budget_due=False)
    await renting.follow(ended, now=JUNE + timedelta(days=15))
    assert await renting.amounts() == [500_000]
    version, start, end = told.get("version", 2), told.get("start", JUNE), told.get("end", JULY)
    late = renting.change(version, start, end, state=told.get("state", "ACTIVE"))
    for _ in range(2):
        await renting.follow(late, ended, now=JUNE + timedelta(days=20))
    first, second = await renting.periods()
    assert first["closed_at"] == JUNE + timedelta(days=15)
    assert (second["period_start"], second["closed_at"]) == (start, JUNE + timedelta(days=20))
    assert (second["period_end"], second["months"]) == (max(start, JUNE + timedelta(days=15)), Decimal(months))
    assert sum(await renting.amounts()) == 500_000 + int(500_000 * Decimal(months))
    assert await renting.books.failing() == {}


async def test_a_period_that_was_not_paid_is_not_opened(renting: Renting) -> None:
    mandate = renting.mandate
    await renting.follow(renting.change(1, MAY, JUNE))
    await renting.use(_report(mandate, MAY, 6 * GB))
    late = {"budget_due": False, "state": "PAST_DUE"}
    await renting.follow(renting.change(2, JUNE, JULY, **late), now=JUNE)
    assert await renting.charges() == []
    await renting.use(_report(mandate, JUNE, 60 * GB), now=JUNE)
    await renting.follow(
        renting.change(3, JUNE, JUNE + timedelta(days=7), budget_due=False, state="EXPIRED"),
        now=JUNE + timedelta(days=7),
    )
    assert await renting.amounts() == [500_000]
    assert len(await renting.periods()) == 1
    assert await renting.books.failing() == {}


async def test_periods_that_were_missed_or_told_in_another_order_are_charged_by_their_own_time(
    renting: Renting,
) -> None:
    mandate, now = renting.mandate, AUGUST + timedelta(days=3)
    await renting.use(
        _report(mandate, MAY, 6 * GB), _report(mandate, JUNE, 7 * GB), _report(mandate, JULY, 8 * GB), now=now
    )
    first, second, third, fourth = (
        renting.change(number, *period)
        for number, period in enumerate(pairwise((MAY, JUNE, JULY, AUGUST, datetime(2026, 9, 1, tzinfo=UTC))), 1)
    )
    await renting.follow(first, third, now=now)
    assert await renting.amounts() == [500_000]
    await renting.follow(second, fourth, first, third, now=now)
    assert sorted(await renting.amounts()) == [500_000, 1_000_000, 1_500_000]
    assert [row["closed_at"] is None for row in await renting.periods()] == [False, False, False, True]
    assert await renting.books.failing() == {}


async def test_the_terms_of_a_period_are_the_newest_that_were_told_while_it_was_open(renting: Renting) -> None:
    await renting.use(_report(renting.mandate, MAY, 10 * GB))
    await renting.follow(renting.change(1, MAY, JUNE))
    quiet: dict[str, Any] = {"budget_due": False}
    await renting.follow(
        renting.change(3, MAY, JULY, plan=_plan(8_000, "1"), **quiet), renting.change(2, MAY, JUNE, **quiet)
    )
    await renting.follow(renting.change(4, JULY, AUGUST), now=JULY)
    assert await renting.amounts() == [4_000_000]
    await renting.follow(renting.change(5, MAY, JUNE, plan=_plan(0), **quiet), now=JULY)
    assert [row["included_mb"] for row in await renting.periods()] == [8_000, 5_000]
    assert await renting.books.failing() == {}


@pytest.mark.parametrize(
    ("plan", "size"),
    [
        (_plan(None), 10**15),
        (_plan(price=None), 10**15),
        (_plan(price="0"), 10**15),
        (_plan(5_000), 5 * GB),
        (_plan(0), 0),
    ],
)
async def test_what_costs_nothing_has_no_row(renting: Renting, plan: Plan, size: int) -> None:
    await renting.use(_report(renting.mandate, MAY, size))
    await renting.follow(renting.change(1, MAY, JUNE, plan=plan))
    await renting.follow(renting.change(2, JUNE, JULY), now=JUNE)
    assert await renting.charges() == []
    assert [row["peak_bytes"] for row in await renting.periods()] == [size, None]
    assert await renting.books.failing() == {}


@pytest.mark.parametrize(
    ("model", "paid"),
    [
        ("PREPAY_USER", {"admin-1", "user-1", "user-2"}),
        ("UNLIMITED", {"internal"}),
        ("CREDIT_POSTPAY", {"pool"}),
    ],
)
async def test_the_billing_model_says_who_pays(
    renting: Renting, model: BillingModel, paid: set[str], api: BillingApi
) -> None:
    mandate = renting.mandate
    if model == "CREDIT_POSTPAY":
        address = {"company": "Acme AG", "street": "Weg 1", "zip": "8000", "city": "Zürich"}
        path = f"/api/billing/admin/settings/{mandate}"
        assert (await api.call(system_admin(), "POST", path, json={"billingAddress": address})).status_code == 200
    await api.switch(mandate, model)
    before = await renting.books.balances(mandate)
    # Half a franc, and less than a micro-franc.
    await renting.use(_report(mandate, MAY, 6 * GB + 3))
    for version, (start, end) in enumerate(pairwise((MAY, JUNE, JULY)), 1):
        await renting.follow(renting.change(version, start, end), now=start)
    after = await renting.books.balances(mandate)
    moved = {name: before.get(name, 0) - balance for name, balance in after.items() if balance != before.get(name, 0)}
    assert sum(moved.values()) == 500_000
    assert moved.keys() == paid
    assert sorted(moved.values()) == ([166_666, 166_667, 166_667] if len(paid) == 3 else [500_000])
    remainders = await renting.books.fetch(
        "SELECT a.rounding_remainder FROM accounts a JOIN mandates m ON m.no = a.mandate_no WHERE m.id = $1", mandate
    )
    assert sum(row[0] for row in remainders) == Decimal("0.0000000015")
    assert await renting.books.rollups(mandate) == (500_000, len(paid))
    explanations = await renting.explained()
    assert [each["storage"]["sharedBy"] for each in explanations] == [len(paid)] * len(paid)
    assert_storage_explained(explanations)
    assert await renting.books.failing() == {}


async def test_without_members_the_pool_pays(renting: Renting, api: BillingApi) -> None:
    mandate = renting.mandate
    await api.switch(mandate, "PREPAY_USER")
    await api.directory(
        mandate,
        {name: ["member"] for name in ("admin-1", "user-1", "user-2")},
        disabled=(
            "admin-1",
            "user-1",
            "user-2",
        ),
    )
    await renting.use(_report(mandate, MAY, 6 * GB))
    for version, (start, end) in enumerate(pairwise((MAY, JUNE, JULY)), 1):
        await renting.follow(renting.change(version, start, end), now=start)
    assert await renting.books.pool(mandate) == -500_000
    assert await renting.books.failing() == {}


async def test_a_cancelled_report_says_nothing(renting: Renting) -> None:
    mandate = renting.mandate
    wrong, early, late = (_report(mandate, MAY + timedelta(days=day), 50 * GB) for day in (1, 2, 3))
    right = _report(mandate, MAY, 6 * GB)
    await renting.follow(renting.change(1, MAY, JUNE))
    now = MAY + timedelta(days=9)
    await renting.use(voided_record(mandate, early.event_id, at=now), now=now)
    await renting.use(right, wrong, early, now=now)
    await renting.use(voided_record(mandate, wrong.event_id, at=now), now=now)
    await renting.use(late, voided_record(mandate, late.event_id, at=now), now=now)
    await renting.follow(renting.change(2, JUNE, JULY), now=JUNE)
    assert await renting.amounts() == [500_000]
    assert await renting.books.refused(mandate) == {}
    assert await renting.books.failing() == {}


async def test_a_report_is_kept_once_and_contradictions_are_refused(renting: Renting) -> None:
    mandate, event_id = renting.mandate, uuid7()
    report = _report(mandate, MAY, 6 * GB, event_id=event_id)
    await renting.use(report, report)
    await renting.use(report, _report(mandate, MAY, 7 * GB, event_id=event_id))
    await renting.use(usage_record(mandate, event_id=event_id, at=MAY))
    charged = usage_record(mandate, amount="1", at=MAY)
    await renting.use(charged)
    await renting.use(_report(mandate, MAY, 9 * GB, event_id=charged.event_id))
    assert await renting.books.refused(mandate) == {"CONFLICT": 3}
    kept = "SELECT count(*) FROM storage_reports r JOIN mandates m ON m.no = r.mandate_no WHERE m.id = $1"
    assert await renting.books.value(kept, mandate) == 1
    assert await renting.books.charged([mandate]) == 1
    assert await renting.books.parked([mandate]) == 0
    assert await renting.books.failing() == {}


async def test_storage_with_a_cost_is_charged_by_it_and_not_once_more(renting: Renting) -> None:
    mandate = renting.mandate
    await renting.follow(renting.change(1, MAY, JUNE))
    await renting.use(_report(mandate, MAY, 60 * GB, cost={"amount": "2", "currency": "CHF"}))
    assert await renting.amounts() == [3_000_000]
    await renting.follow(renting.change(2, JUNE, JULY), now=JUNE)
    assert await renting.amounts() == [3_000_000]
    assert await renting.books.failing() == {}


async def test_late_reports_go_by_the_policy_of_their_mandate(renting: Renting, api: BillingApi) -> None:
    mandate, path = renting.mandate, f"/api/billing/admin/settings/{renting.mandate}"
    settings = {"lateEvents": "refuse", "lateEventDays": 3}
    assert (await api.call(system_admin(), "POST", path, json=settings)).status_code == 200
    await renting.follow(renting.change(1, MAY, JUNE))
    now = MAY + timedelta(days=10)
    await renting.use(_report(mandate, MAY, 60 * GB), _report(mandate, now, 6 * GB), now=now)
    await renting.follow(renting.change(2, JUNE, JULY), now=JUNE)
    assert await renting.amounts() == [500_000]
    assert await renting.books.refused(mandate) == {"LATE_EVENT": 1}


async def test_two_workers_that_are_told_at_once_charge_once(renting: Renting) -> None:
    await renting.use(_report(renting.mandate, MAY, 6 * GB))
    await renting.follow(renting.change(1, MAY, JUNE))
    renewal = renting.change(2, JUNE, JULY)
    await asyncio.gather(*(renting.follow(renewal, now=JUNE) for _ in range(4)))
    assert await renting.amounts() == [500_000]
    assert await renting.books.failing() == {}


async def test_an_amount_out_of_range_is_refused_and_changes_nothing(renting: Renting) -> None:
    dear = _plan(0, "999999999")
    await renting.use(*(_report(renting.mandate, MAY, 2**53 - 1, f"i-{number}") for number in range(3)))
    await renting.follow(renting.change(1, MAY, JUNE, plan=dear))
    (refused,) = await renting.follow(renting.change(2, JUNE, JULY), now=JUNE)
    assert refused.code == "AMOUNT_TOO_LARGE"
    assert [row["closed_at"] for row in await renting.periods()] == [None]
    assert await renting.books.failing() == {}


TAMPERINGS = {
    "the peak": "UPDATE storage_periods SET peak_bytes = peak_bytes - 1 WHERE subscription_id = $1",
    "the volume of the plan": "UPDATE storage_periods SET included_mb = 4999 WHERE subscription_id = $1",
    "the price": "UPDATE storage_periods SET price_per_gb_month = 0.6 WHERE subscription_id = $1",
    "the months": "UPDATE storage_periods SET months = months * 0.99 WHERE subscription_id = $1",
    "no limit": "UPDATE storage_periods SET included_mb = NULL WHERE subscription_id = $1",
    "no period": "DELETE FROM storage_periods WHERE subscription_id = $1",
    "open again": "UPDATE storage_periods SET closed_at = NULL, months = NULL, peak_bytes = NULL"
    " WHERE subscription_id = $1",
    "the end": "UPDATE storage_periods SET period_end = period_end + interval '1 second' WHERE subscription_id = $1",
    "the reference": "UPDATE transactions SET reference_id = 'other' WHERE reference_id = $1::uuid::text",
    "the kind": "UPDATE transactions SET reference_type = 'WORKFLOW' WHERE reference_id = $1::uuid::text",
    "the derivation": "UPDATE transactions SET derivation = '{}' WHERE reference_id = $1::uuid::text",
    "whose id it is": "UPDATE transactions SET own = false WHERE reference_id = $1::uuid::text",
}


@pytest.mark.parametrize("what", TAMPERINGS)
async def test_the_audit_names_a_charge_that_does_not_follow_from_its_period(
    renting: Renting, servers: ServerPair, what: str
) -> None:
    await renting.use(_report(renting.mandate, MAY, 6 * GB))
    for version, (start, end) in enumerate(pairwise((MAY, JUNE, JULY)), 1):
        await renting.follow(renting.change(version, start, end), now=start)
    assert await renting.books.failing() == {}
    async with connected(servers.admin_dsn, schema="billing") as admin:
        await admin.execute("SET session_replication_role = replica")
        async with admin.transaction():
            rows = await renting.periods()
            kept = await renting.charges()
            await admin.execute(TAMPERINGS[what], renting.subscription_id)
        failing = await renting.books.failing()
        await admin.execute("DELETE FROM storage_periods WHERE subscription_id = $1", renting.subscription_id)
        await admin.execute(
            "DELETE FROM transactions WHERE mandate_no = $1 AND event_id = $2",
            kept[0]["mandate_no"],
            kept[0]["event_id"],
        )
        for table, records in (("storage_periods", rows), ("transactions", kept)):
            columns = list(records[0].keys())
            await admin.copy_records_to_table(table, records=[tuple(row) for row in records], columns=columns)
    assert "storage" in failing
    assert await renting.books.failing() == {}


def _naive_peak(reports: Sequence[tuple[datetime, UUID, str, int]], start: datetime, end: datetime) -> int:
    """The largest sum at any moment of [start, end), looked at one moment after the other."""
    moments = {start, *(at for at, *_ in reports if start <= at < end)}
    peak = 0
    for moment in moments:
        in_use: dict[str, int] = {}
        for at, _, instance, size in sorted(reports):
            if at <= moment:
                in_use[instance] = size
        peak = max(peak, sum(in_use.values()))
    return peak


@pytest.mark.parametrize("seed", range(40))
async def test_the_peak_is_that_of_a_look_at_every_moment(api: BillingApi, books: Books, seed: int) -> None:
    random, mandate = Random(seed), new_mandate()
    # Most often few, so that many reports say what the one before them said.
    sizes = random.choice([[0, 1, 5, 9, 2**53 - 1], [0, 5], [1, 1, 1, 3]])
    times = [MAY + timedelta(hours=random.randrange(0, 60)) for _ in range(random.randrange(1, 20))]
    told = [
        (random.choice(times), uuid7(), f"i-{random.randrange(3)}", random.choice(sizes))
        for _ in range(random.randrange(1, 60))
    ]
    random.shuffle(told)
    renting = Renting(api, books, mandate)
    often = random.choice([0.15, 0.5])
    cancelled = {event_id for _, event_id, *_ in told if random.random() < often}
    records = [_report(mandate, at, size, instance, event_id=event_id) for at, event_id, instance, size in told] + [
        voided_record(mandate, event_id, at=MAY) for event_id in cancelled
    ]
    random.shuffle(records)
    while records:
        count = random.randrange(1, 9)
        await renting.use(*records[:count], now=JUNE)
        records = records[count:]
    no = await books.value("SELECT no FROM mandates WHERE id = $1", mandate)
    standing = [each for each in told if each[1] not in cancelled]
    for _ in range(6):
        start, end = sorted(MAY + timedelta(hours=random.randrange(-2, 62)) for _ in range(2))
        async with api.database.reading() as connection:
            peak = await read_peak(connection, no, start=start, end=max(end, start + TICK))
        assert peak == _naive_peak(standing, start, max(end, start + TICK))


async def test_a_report_that_changes_nothing_is_claimed_and_not_kept(renting: Renting) -> None:
    """Until another one comes before it, or the one is cancelled whose word it repeats."""

    async def kept() -> list[tuple[int, int]]:
        rows = await renting.books.fetch(
            "SELECT r.occurred_at, r.bytes_in_use FROM storage_reports r JOIN mandates m ON m.no = r.mandate_no"
            " WHERE m.id = $1 AND NOT EXISTS (SELECT FROM cancellations c WHERE c.event_id = r.event_id)"
            " ORDER BY r.occurred_at",
            renting.mandate,
        )
        return [((row["occurred_at"] - MAY).days, row["bytes_in_use"]) for row in rows]

    def report(day: int, size: int) -> RawRecord:
        return _report(renting.mandate, MAY + timedelta(days=day), size)

    first, *repeats = [report(day, 6) for day in range(10)]
    await renting.use(first, *repeats[:5], now=JUNE)
    await renting.use(*repeats[4:], first, now=JUNE)
    assert await kept() == [(0, 6)]
    claims = "SELECT count(*) FROM unposted_events u JOIN mandates m ON m.no = u.mandate_no WHERE m.id = $1"
    assert await renting.books.value(claims, renting.mandate) == 10
    # Another size for a day: what was said after it counts again from its own time on.
    await renting.use(_report(renting.mandate, MAY + timedelta(days=3, hours=1), 9), now=JUNE)
    assert await kept() == [(0, 6), (3, 9), (4, 6)]
    await renting.use(report(4, 7), report(8, 6), report(9, 5), report(20, 5), report(30, 5), now=JUNE)
    await renting.use(voided_record(renting.mandate, first.event_id, at=MAY), now=JUNE)
    assert (await kept())[:2] == [(1, 6), (3, 9)]
    assert await renting.books.failing() == {}


async def test_storage_that_waited_for_a_price_before_is_a_report_now(renting: Renting, servers: ServerPair) -> None:
    """As a release that knew no storage left it: parked, because there is no price of storage."""
    mandate = renting.mandate
    await renting.use(_report(mandate, MAY, 6 * GB))
    report = received([_report(mandate, MAY, 7 * GB)], now=MAY)[0]
    assert isinstance(report, Usage)
    event, *_ = report.published()

    async with connected(servers.admin_dsn, schema="billing") as admin:
        no = await admin.fetchval("SELECT no FROM mandates WHERE id = $1", mandate)
        await admin.execute(
            "INSERT INTO unposted_events"
            " (mandate_no, event_id, digest, reason, detail, occurred_at, recorded_at, event, price_revision)"
            " VALUES ($1, $2, $3, 'NO_PRICE', 'storage has no price here', $4, $4, $5, -1)",
            no,
            event.id,
            event.digest,
            MAY,
            json.dumps(encode_structured(event)),
        )
    settle = settling(renting.api.database)
    while await settle():
        pass
    assert await renting.books.parked([mandate]) == 0
    for version, (start, end) in enumerate(pairwise((MAY, JUNE, JULY)), 1):
        await renting.follow(renting.change(version, start, end), now=start)
    assert await renting.amounts() == [1_000_000]


async def test_a_charge_of_storage_is_no_usage_that_can_be_taken_back(renting: Renting, api: BillingApi) -> None:
    await renting.use(_report(renting.mandate, MAY, 6 * GB))
    for version, (start, end) in enumerate(pairwise((MAY, JUNE, JULY)), 1):
        await renting.follow(renting.change(version, start, end), now=start)
    (charge,) = await renting.charges()
    path = f"/api/billing/transactions/{transaction_id(charge['posted_account_no'], charge['seq'])}/reverse"
    answer = await api.call(system_admin(), "POST", path, json={"reason": "wrong"})
    assert answer.status_code == 409
    # Nor can a publisher name it.
    await renting.use(voided_record(renting.mandate, UUID(bytes=charge["event_id"].bytes), at=JULY), now=JULY)
    assert await renting.amounts() == [500_000]
    assert await renting.books.failing() == {}


async def test_a_failure_after_the_charge_leaves_nothing_and_the_next_delivery_charges_once(
    renting: Renting, servers: ServerPair
) -> None:
    await renting.use(_report(renting.mandate, MAY, 6 * GB))
    await renting.follow(renting.change(1, MAY, JUNE))
    renewal = renting.change(2, JUNE, JULY, plan=_plan(budget=20))
    # The budget comes last, so by then the storage has been charged.
    name = f"placed_{renting.subscription_id.hex}"
    async with connected(servers.dsn("billing", owner=True)) as owner:
        await owner.execute(
            f"ALTER TABLE subscription_budgets ADD CONSTRAINT {name}"
            f" CHECK (subscription_id <> '{renting.subscription_id}') NOT VALID"
        )
        try:
            with pytest.raises(asyncpg.CheckViolationError, match=name):
                await renting.follow(renewal, now=JUNE)
        finally:
            await owner.execute(f"ALTER TABLE subscription_budgets DROP CONSTRAINT {name}")
    assert await renting.charges() == []
    assert [row["closed_at"] for row in await renting.periods()] == [None]
    await renting.follow(renewal, now=JUNE)
    assert await renting.amounts() == [500_000]
    assert await renting.books.failing() == {}


async def test_a_renewal_warns_of_what_is_left_after_storage_and_budget_together(renting: Renting) -> None:
    await renting.follow(renting.change(1, MAY, JUNE, plan=_plan(budget=3)))
    await renting.use(_report(renting.mandate, MAY + timedelta(days=1), 11 * GB), now=JUNE)
    await renting.follow(renting.change(2, JUNE, JULY, plan=_plan(budget=3)), now=JUNE)
    assert await renting.amounts() == [3_000_000]
    crossings = (
        "SELECT a.crossings FROM accounts a JOIN mandates m ON m.no = a.mandate_no"
        " WHERE m.id = $1 AND a.type = 'MANDATE'"
    )
    assert await renting.books.value(crossings, renting.mandate) == 0
    # At its end no budget comes.
    await renting.follow(renting.change(3, JUNE, JULY, plan=_plan(budget=3), state="EXPIRED"), now=JULY)
    assert await renting.amounts() == [3_000_000] * 2
    assert await renting.books.value(crossings, renting.mandate) == 1


async def test_the_command_explains_what_the_storage_of_a_period_cost(renting: Renting, servers: ServerPair) -> None:
    await renting.use(_report(renting.mandate, MAY, 6 * GB + 3))
    for version, (start, end) in enumerate(pairwise((MAY, JUNE, JULY)), 1):
        await renting.follow(renting.change(version, start, end), now=start)
    (row,) = await renting.charges()
    transaction = transaction_id(row["posted_account_no"], row["seq"])
    printed = run_command(servers, "billing", "explain", str(transaction)).stdout
    lines = {line[:15].strip(): line[15:] for line in printed.splitlines()}
    assert lines["storage"].startswith(f"of subscription {renting.subscription_id}, 2026-05-01T00:00:00Z to 2026-06-01")
    assert lines["peak"] == "6000000003 bytes, 5000 MB included, 1000000003 charged"
    assert lines["period price"] == "1000000003 / 10^9 x 0.5 x 1 months = 0.5000000015 CHF"
    assert lines["exact price"] == "0.5000000015 CHF"
    assert lines["rounding"] == "0.000000 + 0.5000000015 = 0.5000000015"
