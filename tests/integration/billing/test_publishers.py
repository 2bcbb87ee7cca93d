"""Publishers that fall silent: noticed once, told, and again only after they have published."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from prometheus_client import REGISTRY

from services.billing.mandates.apply_directory import ApplyDirectory
from services.billing.publishers.notice_silences import NoticeSilences
from services.chassis.clock import system_clock
from services.chassis.database import Database
from tests.support.directory import directory_events
from tests.support.events import usage_record
from tests.support.ledger import Books
from tests.support.statements import CountedDatabase
from tests.support.used import MEMBERS, made, use

# A Wednesday, at three in the afternoon in Zurich.
NOW = datetime(2025, 6, 18, 13, tzinfo=UTC)
HOUR = timedelta(hours=1)


async def published(database: Database, mandate: str, since: datetime, until: datetime, **data: Any) -> None:
    """Usage every hour."""
    hours = int((until - since) / HOUR)
    records = [usage_record(mandate, at=since + number * HOUR, **data) for number in range(hours + 1)]
    await use(database, records, now=until)


async def noticed(database: Database, now: datetime) -> int:
    return await NoticeSilences(database, minimum=HOUR, settle=timedelta(), clock=lambda: now)()


async def told(books: Books, mandate: str) -> list[dict[str, Any]]:
    rows = await books.fetch(
        "SELECT data FROM outbox WHERE topic = 'publisher.silent' AND key = $1 ORDER BY id", mandate
    )
    return [orjson.loads(row["data"]) for row in rows]


@pytest.fixture
async def busy(database: Database) -> str:
    """A mandate with usage every hour until now."""
    mandate = await made(database)
    await published(database, mandate, NOW - timedelta(days=21), NOW)
    return mandate


async def test_a_silence_is_told_once_and_again_after_usage_has_come(
    database: Database, books: Books, busy: str
) -> None:
    # Up to an hour was usual, so two are not unusual yet.
    for later in (0, 1, 2):
        await noticed(database, NOW + later * HOUR)
        assert await told(books, busy) == []
    for minutes in (190, 200, 60 * 24):
        await noticed(database, NOW + timedelta(minutes=minutes))
        (first,) = await told(books, busy)
    assert first == {
        "mandate_id": busy,
        "last_usage_at": "2025-06-18T13:00:00.000000Z",
        "usual_gap_s": first["usual_gap_s"],
        "noticed_at": "2025-06-18T16:10:00.000000Z",
        "silence": 1,
        "cause": f"silence 1 of {busy}",
    }
    assert 0 <= first["usual_gap_s"] <= 3_600
    silent = REGISTRY.get_sample_value("rappen_publishers_silent")
    assert silent is not None
    assert silent >= 1
    # It comes back, and stops again.
    back = NOW + timedelta(days=2)
    await published(database, busy, back, back + 2 * HOUR)
    await noticed(database, back + 2 * HOUR)
    assert REGISTRY.get_sample_value("rappen_publishers_silent") == silent - 1
    assert len(await told(books, busy)) == 1
    await noticed(database, back + timedelta(days=4))
    assert [each["silence"] for each in await told(books, busy)] == [1, 2]


async def test_workers_that_notice_at_once_tell_once(database: Database, books: Books, busy: str) -> None:
    await asyncio.gather(*(noticed(database, NOW + 5 * HOUR) for _ in range(4)))
    assert len(await told(books, busy)) == 1


async def test_usage_that_is_free_or_waits_for_a_price_is_no_silence(
    database: Database, books: Books, busy: str
) -> None:
    unposted = [
        usage_record(busy, at=NOW + 3 * HOUR, amount="0"),
        usage_record(busy, at=NOW + 3 * HOUR, cost=None, tokens={"input": 1}, model="nobody-has-a-price"),
    ]
    await use(database, unposted[1:], now=NOW + 3 * HOUR)
    await noticed(database, NOW + 4 * HOUR)
    assert await told(books, busy) == []
    await use(database, unposted[:1], now=NOW + 6 * HOUR)
    await noticed(database, NOW + 7 * HOUR)
    assert await told(books, busy) == []
    await noticed(database, NOW + 10 * HOUR)
    assert len(await told(books, busy)) == 1


async def test_a_worker_that_has_just_started_waits_for_what_came_before_it(
    database: Database, books: Books, busy: str
) -> None:
    times = iter([NOW + 9 * HOUR, NOW + 9 * HOUR + timedelta(minutes=4), NOW + 9 * HOUR + timedelta(minutes=5)])
    notice = NoticeSilences(database, minimum=HOUR, settle=timedelta(minutes=5), clock=lambda: next(times))
    for expected in (0, 0, 1):
        await notice()
        assert len(await told(books, busy)) == expected


async def test_nobody_waits_for_a_mandate_that_is_disabled(database: Database, books: Books, busy: str) -> None:
    await noticed(database, NOW + 5 * HOUR)
    await ApplyDirectory(database, clock=system_clock)(directory_events(busy, MEMBERS, enabled=False), [])
    await noticed(database, NOW + 6 * HOUR)
    assert await books.value(
        "SELECT s.over FROM publisher_silences s JOIN mandates m ON m.no = s.mandate_no WHERE m.id = $1", busy
    )
    await published(database, busy, NOW + 20 * HOUR, NOW + 21 * HOUR)
    await noticed(database, NOW + 48 * HOUR)
    assert len(await told(books, busy)) == 1


async def test_who_publishes_costs_one_statement_for_all(database: Database, busy: str) -> None:
    async def statements() -> int:
        counted = CountedDatabase(database)
        await noticed(counted, NOW)
        return counted.calls.count("execute")

    # What other tests have left may be looked at one by one; it is noticed first.
    await noticed(database, NOW)
    before = await statements()
    for _ in range(5):
        mandate = await made(database)
        # Used a moment ago, and long ago.
        await use(database, [usage_record(mandate, at=NOW - timedelta(minutes=1))], now=NOW)
        forgotten = await made(database)
        await use(database, [usage_record(forgotten, at=NOW - timedelta(days=60))], now=NOW)
        await made(database)
    # They may begin another slice of mandates, which is read and counted by itself.
    assert await statements() - before <= 2
