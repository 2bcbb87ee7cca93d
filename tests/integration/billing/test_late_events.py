"""Usage that comes late: where it counts and when it is refused, by the policy of its mandate; nothing is lost."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from services.billing.ledger.domain import BillingModel
from services.billing.pricing.import_prices import set_rate
from services.chassis.clock import Clock
from tests.integration.billing.conftest import BillingApi
from tests.support.callers import system_admin
from tests.support.charging import charging, received, settling
from tests.support.databases import connected
from tests.support.events import RawRecord, usage_record, uuid7, voided_record
from tests.support.holding import Holding, usage_event
from tests.support.ledger import Books
from tests.support.stack import ServerPair

# November begins in Zurich at 23 o'clock.
NOVEMBER = datetime(2025, 10, 31, 23, tzinfo=UTC)
NOW = datetime(2025, 11, 12, 8, tzinfo=UTC)
TODAY = date(2025, 11, 12)
TICK = timedelta(microseconds=1)
CHARGED = 1_500_000  # 1 CHF with the platform's markup, in micro-CHF


async def _set(api: BillingApi, mandate: str, **settings: Any) -> None:
    answer = await api.call(system_admin(), "POST", f"/api/billing/admin/settings/{mandate}", json=settings)
    assert answer.status_code == 200, answer.text


async def _use(api: BillingApi, *records: RawRecord, now: datetime = NOW) -> None:
    await charging(api.database, clock=lambda: now)(received(records, now=now), [])


async def _days(books: Books, mandate: str) -> list[tuple[str, date, datetime]]:
    rows = await books.rows(mandate)
    return [(row["transaction_type"], row["period_day"], row["occurred_at"]) for row in rows]


async def _rollups(books: Books, mandate: str) -> dict[date, tuple[int, int]]:
    rows = await books.fetch(
        "SELECT r.day, sum(r.cost) AS cost, sum(r.count) AS count FROM rollups r"
        " JOIN mandates m ON m.no = r.mandate_no WHERE m.id = $1 GROUP BY 1",
        mandate,
    )
    return {row["day"]: (int(row["cost"]), int(row["count"])) for row in rows}


async def test_late_usage_counts_in_its_own_period_unless_the_mandate_says_otherwise(
    api: BillingApi, books: Books, mandate: str
) -> None:
    before, after = NOVEMBER - TICK, NOVEMBER
    for at in (before, after):
        await _use(api, usage_record(mandate, amount="1", at=at))
    await _set(api, mandate, lateEvents="next")
    for at in (before, after):
        await _use(api, usage_record(mandate, amount="1", at=at))
    assert await _days(books, mandate) == [
        ("DEBIT", date(2025, 10, 31), before),
        ("DEBIT", date(2025, 11, 1), after),
        ("DEBIT", TODAY, before),
        ("DEBIT", date(2025, 11, 1), after),
    ]
    assert await _rollups(books, mandate) == {
        date(2025, 10, 31): (CHARGED, 1),
        date(2025, 11, 1): (2 * CHARGED, 2),
        TODAY: (CHARGED, 1),
    }
    assert await books.failing() == {}


@pytest.mark.parametrize("model", ["PREPAY_USER", "UNLIMITED"])
async def test_what_takes_late_usage_back_counts_where_it_counts(
    api: BillingApi, books: Books, mandate: str, model: BillingModel
) -> None:
    await api.switch(mandate, model)
    await _set(api, mandate, lateEvents="next")
    late = usage_record(mandate, amount="1", at=NOVEMBER - timedelta(days=40))
    cancelled_before = usage_record(mandate, amount="1", at=NOVEMBER - timedelta(days=1))
    await _use(api, late, voided_record(mandate, cancelled_before.event_id, at=NOW))
    await _use(api, voided_record(mandate, late.event_id, at=NOW), now=NOW + timedelta(days=9))
    await _use(api, cancelled_before)
    days = [day for day in await _days(books, mandate) if day[2] < NOVEMBER]
    assert sorted(days) == sorted(
        (kind, TODAY, record_at)
        for kind in ("DEBIT", "ADJUSTMENT")
        for record_at in (NOVEMBER - timedelta(days=40), NOVEMBER - timedelta(days=1))
    )
    assert await _rollups(books, mandate) == {TODAY: (0, 0)}
    assert await books.failing() == {}


async def test_a_late_row_on_a_day_on_which_it_was_not_recorded_is_named(
    api: BillingApi, books: Books, mandate: str, servers: ServerPair
) -> None:
    await _set(api, mandate, lateEvents="next")
    late, own = NOVEMBER - timedelta(days=3), NOW - timedelta(days=3)
    await _use(api, usage_record(mandate, amount="1", at=late), usage_record(mandate, amount="1", at=own))
    assert await books.failing() == {}
    rows = await books.rows(mandate)
    for row, day in ((rows[0], TODAY - timedelta(days=1)), (rows[1], TODAY)):
        change = "UPDATE transactions SET period_day = $2 WHERE event_id = $1"
        async with connected(servers.admin_dsn, schema="billing") as admin:
            await admin.execute("SET session_replication_role = replica")
            await admin.execute(change, row["event_id"], day)
            failing = await books.failing()
            await admin.execute(change, row["event_id"], row["period_day"])
        assert failing == {"days": 1, "rollups": 1}, day
    assert await books.failing() == {}


async def test_usage_that_is_too_old_is_refused_and_its_neighbours_are_charged(
    api: BillingApi, books: Books, mandate: str
) -> None:
    await _set(api, mandate, lateEvents="refuse", lateEventDays=3)
    limit = NOW - timedelta(days=3)
    old = [usage_record(mandate, amount="1", at=at) for at in (limit - TICK, NOVEMBER - timedelta(days=400))]
    free, unpriced = (
        usage_record(mandate, at=limit - TICK, **given)
        for given in ({"amount": "0"}, {"cost": None, "tokens": {"input": 1}, "model": "nobody-has-a-price"})
    )
    good = [usage_record(mandate, amount="1", at=at) for at in (limit, NOW)]
    await _use(api, *good, *old, free, unpriced)
    assert await books.charged([mandate]) == 2
    assert await books.refused(mandate) == {"LATE_EVENT": 4}
    assert await books.event_ids([mandate]) == sorted(record.event_id for record in good)
    details = await books.fetch("SELECT DISTINCT error_detail FROM quarantine WHERE key = $1", mandate.encode())
    assert [row[0] for row in details] == ["the mandate takes no usage that is more than 3 days old"]
    # Read again as it was kept, once the mandate takes it: charged, on its own day.
    await _set(api, mandate, lateEvents="own")
    await _use(api, *old, *old, free, unpriced)
    assert await books.charged([mandate]) == 4
    assert (await _rollups(books, mandate))[(limit - TICK).date()] == (2 * CHARGED, 2)
    assert await books.parked([mandate]) == 1
    assert await books.failing() == {}


@pytest.mark.parametrize("known", [True, False])
async def test_what_was_recorded_before_is_a_repeat_however_old_it_is_by_now(
    api: BillingApi, books: Books, mandate: str, known: bool
) -> None:
    await _set(api, mandate, lateEvents="refuse", lateEventDays=3)
    parked = {"cost": None, "tokens": {"input": 1}, "model": "nobody-has-a-price"}
    records = [
        usage_record(mandate, amount="1", at=NOW),
        usage_record(mandate, amount="0", at=NOW),
        usage_record(mandate, at=NOW, **parked),
    ]
    take = charging(api.database, clock=lambda: NOW)
    await take(received(records, now=NOW), [])
    later = NOW + timedelta(days=30)
    again = charging(api.database, clock=lambda: later)
    if known:
        await again(received(records, now=later), [])
    fresh = usage_record(mandate, amount="1", at=later)
    contradicts = usage_record(mandate, amount="2", at=NOW, event_id=records[0].event_id)
    await again(received([*records, fresh, contradicts], now=later), [])
    assert await books.charged([mandate]) == 2
    assert await books.refused(mandate) == {"CONFLICT": 1}
    assert await books.event_ids([mandate]) == sorted(record.event_id for record in (*records, fresh))
    assert await books.failing() == {}


async def _rate(api: BillingApi, currency: str) -> None:
    async with api.database.transaction() as connection:
        await set_rate(
            connection,
            currency=currency,
            rate=Decimal(1),
            valid_from=NOVEMBER - timedelta(days=400),
            actor="admin",
        )


async def _settle(api: BillingApi, clock: Clock) -> None:
    settle = settling(api.database, clock=clock)
    while await settle():
        pass


async def _parked_since(books: Books, mandate: str) -> dict[UUID, datetime]:
    rows = await books.fetch(
        "SELECT e.event_id, e.recorded_at FROM unposted_events e JOIN mandates m ON m.no = e.mandate_no"
        " WHERE m.id = $1",
        mandate,
    )
    return {row["event_id"]: row["recorded_at"] for row in rows}


async def test_for_usage_that_waited_it_counts_when_it_came(api: BillingApi, books: Books, mandate: str) -> None:
    in_time, late, never = uuid7(), uuid7(), uuid7()
    october = NOVEMBER - timedelta(hours=8)
    await _set(api, mandate, lateEvents="next")
    first = [
        usage_record(mandate, amount="1", currency=currency, at=october, event_id=event_id)
        for event_id, currency in ((in_time, "LKR"), (never, "GMD"))
    ]
    await _use(api, *first, now=october)
    await _use(api, usage_record(mandate, amount="1", currency="LKR", at=october, event_id=late))
    came = {in_time: october, late: NOW, never: october}
    assert await _parked_since(books, mandate) == came
    # Each change of the rates has all that waits looked at once more; it goes on waiting from when it came.
    await _rate(api, "MVR")
    await _settle(api, lambda: NOW + timedelta(days=1))
    assert await _parked_since(books, mandate) == came
    # By now October is over for all of them, and all are too old.
    december = datetime(2025, 12, 20, 8, tzinfo=UTC)
    await _rate(api, "LKR")
    await _settle(api, lambda: december)
    rows = {row["event_id"]: row["period_day"] for row in await books.rows(mandate)}
    assert rows == {in_time: date(2025, 10, 31), late: december.date()}
    await _set(api, mandate, lateEvents="refuse", lateEventDays=1)
    await _rate(api, "GMD")
    await _settle(api, lambda: december)
    assert await books.charged([mandate]) == 3
    assert await books.refused(mandate) == {}
    assert await books.failing() == {}


async def test_a_capture_by_an_event_that_is_too_old_is_refused_and_leaves_the_hold(
    api: BillingApi, books: Books, mandate: str
) -> None:
    holding = Holding(api, books, mandate)
    await holding.credit(20)
    await _set(api, mandate, lateEvents="refuse", lateEventDays=2)
    hold = await holding.hold("2")
    old = usage_event(mandate, amount="0.1", at=datetime.now(UTC) - timedelta(days=3))
    refused = await holding.capture(hold, event=old)
    assert (refused.status_code, refused.json()["code"]) == (422, "LATE_EVENT")
    assert [fault["field"] for fault in refused.json()["errors"]] == ["event.time"]
    assert await holding.state(hold) == ("OPEN", None)
    # Usage that names it and is too old leaves it as it is, too.
    await _use(
        api,
        usage_record(mandate, at=datetime.now(UTC) - timedelta(days=3), hold_id=hold),
        now=datetime.now(UTC),
    )
    assert await holding.state(hold) == ("OPEN", None)
    await _set(api, mandate, lateEvents="own")
    assert (await holding.capture(hold, event=old)).status_code == 200
    assert await books.failing() == {}
