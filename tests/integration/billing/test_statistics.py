"""Statistics against a recount of the ledger: borders of days, months and years in every zone, corrections, late usage,
scopes; with and without sums of the rollups."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from services.billing.ledger.calendars import Calendar
from services.billing.reports.scope import Scope
from services.billing.statistics.show_statistics import Asked, show_statistics
from services.chassis.caller import Caller
from services.chassis.clock import system_clock
from services.chassis.database import Database
from tests.integration.billing.conftest import BillingApi
from tests.support.callers import admin_of, member_of, system_admin
from tests.support.events import RawRecord, usage_record, voided_record
from tests.support.ledger import Books
from tests.support.recounting import recount, usage_rows
from tests.support.used import LATER, made, sum_all, use

ZONES = (
    "Europe/Zurich",
    "America/St_Johns",
    "Pacific/Kiritimati",
    "Etc/GMT+12",
    "Pacific/Pago_Pago",
    "Pacific/Auckland",
)
# Among the times of the usage here, in the middle of a month in every zone.
IN_BETWEEN = datetime(2025, 10, 15, 12, tzinfo=UTC)
PLATFORM = Calendar("Europe/Zurich")
TICK = timedelta(microseconds=1)


async def shown(database: Database, scope: Scope, grain: Any, year: int, month: int | None = None) -> dict[str, Any]:
    """The answer after everything, without its labels."""
    answer = await show_statistics(
        database,
        scope,
        Asked(grain, year, month, by_member=True),
        platform=PLATFORM,
        language="en",
        clock=lambda: LATER,
    )
    for entry in answer["timeSeries"]:
        assert entry.pop("label")
    return answer


def days(year: int, month: int) -> list[date]:
    first = date(year, month, 1)
    return [day for number in range(31) if (day := first + timedelta(days=number)).month == month]


def borders(zone: str, years: Iterable[int]) -> list[datetime]:
    """The first moments of months and of days around both changes of the clock, and the last moments before them."""
    place, moments = ZoneInfo(zone), []
    for year in years:
        moments += [datetime(year, month, 1, tzinfo=place) for month in range(1, 13)]
        for month in (3, 4, 9, 10, 11):
            moments += [
                datetime(year, month, day.day, tzinfo=place)
                for day in days(year, month)
                if _turns(place, day) or _turns(place, day - timedelta(days=1))
            ]
    times = [moment.astimezone(UTC) for moment in moments]
    return [time + offset for time in times for offset in (-TICK, timedelta(), timedelta(hours=1, minutes=30))]


def _turns(place: ZoneInfo, day: date) -> bool:
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=place)
    return noon.utcoffset() != (noon - timedelta(days=1)).utcoffset()


def key_of(record: RawRecord) -> str:
    """The mandate of a record."""
    return (record.key or b"").decode()


async def expected(
    books: Books,
    mandates: dict[str, str],
    names: dict[str, str],
    asked: tuple[str, int, int | None],
    where: Any,
) -> dict[str, Any]:
    """The answer by a recount."""
    grain, year, month = asked
    rows = await usage_rows(books, list(mandates))
    if grain == "month":
        first, last = date(year, 1, 1), date(year, 12, 31)
        entries = [f"{year}-{number:02}" for number in range(1, 13) if date(year, number, 1) <= LATER.date()]
    else:
        assert month is not None
        first, last = days(year, month)[0], days(year, month)[-1]
        entries = [day.isoformat() for day in days(year, month) if day <= LATER.date()]
    counted = recount(rows, mandates, first=first, last=last, by=grain, names=names, where=where)
    return counted.answered(entries)


@pytest.mark.parametrize("zone", ["Europe/Zurich", "America/St_Johns", "Pacific/Auckland"])
async def test_the_night_in_which_the_clock_changes_has_its_borders(api: BillingApi, zone: str) -> None:
    # Amounts that tell where each went, at the same local moments in every zone; in Zurich the 25th has 25 hours.
    mandate, place = await made(api.database, zone), ZoneInfo(zone)
    moments = {
        32: (2026, 11, 1, timedelta()),
        1: (2026, 10, 25, -timedelta(milliseconds=1)),
        16: (2026, 11, 1, -TICK),
        2: (2026, 10, 25, timedelta()),
        8: (2026, 10, 26, timedelta()),
        4: (2026, 10, 26, -timedelta(seconds=1)),
    }
    records = [
        usage_record(mandate, amount=str(amount), at=datetime(year, month, day, tzinfo=place).astimezone(UTC) + offset)
        for amount, (year, month, day, offset) in moments.items()
    ]
    await use(api.database, records)
    admin = Scope.of(admin_of(mandate))
    october = await shown(api.database, admin, "day", 2026, 10)
    by_day = {entry["date"]: entry["cost"] for entry in october["timeSeries"] if entry["cost"]}
    assert by_day == {"2026-10-24": 1, "2026-10-25": 6, "2026-10-26": 8, "2026-10-31": 16}
    assert october["totalCost"] == 31
    year = await shown(api.database, admin, "month", 2026)
    assert {entry["month"]: entry["cost"] for entry in year["timeSeries"] if entry["cost"]} == {
        "2026-10": 31,
        "2026-11": 32,
    }
    # The caller's own, by the paths that take a period.
    for query, cost in (
        ("day?year=2026&month=10", 31),
        ("day?year=2026&month=11", 32),
        ("month?year=2026", 63),
        ("year?year=2026&month=13", 63),
        ("year?year=2025", 0),
    ):
        answer = await api.call(member_of(mandate), "GET", f"/api/billing/statistics/{query}")
        assert answer.status_code == 200, answer.text
        assert Decimal(str(answer.json()["totalCost"])) == cost, query


@pytest.mark.parametrize("summed", [(), (IN_BETWEEN,), (IN_BETWEEN, LATER)])
async def test_statistics_are_the_ledger_over_zones_corrections_and_late_usage(
    api: BillingApi, books: Books, summed: tuple[datetime, ...]
) -> None:
    rng = random.Random(f"statistics {len(summed)}")
    zones = {await made(api.database, zone, label=f"In {zone}"): zone for zone in ZONES}
    names = {mandate: f"In {zone}" for mandate, zone in zones.items()}
    records = [
        usage_record(
            mandate,
            rng.choice(["admin-1", "user-1", "user-2", "stranger"]),
            amount=f"{rng.randrange(10**4)}.{rng.randrange(10**9):09}",
            at=at,
            provider=rng.choice(["anthropic", "openai", "mistral"]),
            model=rng.choice(["one", "two", "unknown"]),
            feature_code=rng.choice([None, "chat", "search"]),
            feature_instance_id=rng.choice([None, "instance-1", "instance-2"]),
        )
        for mandate, zone in zones.items()
        for at in borders(zone, (2024, 2025, 2026))
        if at <= LATER
    ]
    rng.shuffle(records)
    # What comes after a part of it was summed falls on days that are summed, and on later ones; some is taken back.
    third = len(records) // 3
    for number, part in enumerate((records[:third], records[third : 2 * third], records[2 * third :])):
        await use(api.database, part)
        if summed[number:]:
            await sum_all(api.database, summed[number], many=2)
    taken_back = rng.sample(records, 60)
    await use(api.database, [voided_record(key_of(each), each.event_id, at=LATER) for each in taken_back])
    days_summed = await books.fetch("SELECT summed_until FROM mandates WHERE id = ANY($1)", list(zones))
    assert all((row["summed_until"] is not None) == bool(summed) for row in days_summed)
    everybody = Caller(user_id="admin-1", mandates=dict.fromkeys(zones, True))
    some = Caller(user_id="user-1", mandates={mandate: n % 2 == 0 for n, mandate in enumerate(zones)})
    instances = Caller(
        user_id="user-2",
        mandates=dict.fromkeys(list(zones)[:2], False),
        instances=frozenset({"instance-1"}),
        instance_mandates=frozenset(list(zones)[1:4]),
    )
    first = next(iter(zones))

    def of_some(row: Any) -> bool:
        return some.mandates[row["mandate_id"]] or row["user_id"] == "user-1"

    def of_instances(row: Any) -> bool:
        mandate = row["mandate_id"]
        own = mandate in instances.mandates and row["user_id"] == "user-2"
        # A publisher may name an instance of another mandate.
        return own or (mandate in instances.instance_mandates and row["feature_instance_id"] == "instance-1")

    cases: list[tuple[Scope, Any]] = [
        (Scope.of(everybody), lambda row: True),
        (Scope.of(everybody, only_mine=True), lambda row: row["user_id"] == "admin-1"),
        (Scope.of(everybody, "personal"), lambda row: row["user_id"] == "admin-1"),
        (Scope.of(everybody, "mandate", mandate_id=first), lambda row: row["mandate_id"] == first),
        (Scope.of(system_admin(), "mandate", mandate_id=first), lambda row: row["mandate_id"] == first),
        (Scope.of(some), of_some),
        (Scope.of(some, only_mine=True), lambda row: row["user_id"] == "user-1"),
        (Scope.of(instances), of_instances),
        (
            Scope.of(instances, "personal"),
            lambda row: of_instances(row) and row["user_id"] == "user-2" and row["mandate_id"] in instances.mandates,
        ),
    ]
    asked: list[tuple[str, int, int | None]] = [("month", year, None) for year in (2024, 2025, 2026)]
    asked += [("day", 2025, 3), ("day", 2025, 10), ("day", 2026, 4), ("day", 2026, 11), ("day", 2024, 12)]
    for scope, where in cases:
        for period in asked:
            answer = await shown(api.database, scope, *period)
            assert answer == await expected(books, zones, names, period, where), (scope, period)
    assert await books.failing() == {}


async def test_two_mandates_of_one_name_are_told_apart_and_keys_without_a_name_are_unknown(api: BillingApi) -> None:
    mandates = [await made(api.database, "Europe/Zurich", label="Acme AG") for _ in range(2)]
    mandates.append(await made(api.database, "Europe/Zurich", name="Other GmbH"))
    at = datetime(2026, 5, 4, 10, tzinfo=UTC)
    for number, mandate in enumerate(mandates, start=1):
        await use(api.database, [usage_record(mandate, amount=str(number), at=at, feature_code=None)])
    answer = await shown(api.database, Scope.of(admin_of(*mandates)), "day", 2026, 5)
    shown_names = [f"Acme AG ({mandates[0]})", f"Acme AG ({mandates[1]})", "Other GmbH"]
    assert answer["costByMandate"] == {shown_names[0]: 1, shown_names[1]: 2, shown_names[2]: 3}
    assert answer["costByFeature"] == {f"{name} / unknown": number for number, name in enumerate(shown_names, start=1)}
    alone = await shown(api.database, Scope.of(admin_of(mandates[0])), "day", 2026, 5)
    assert alone["costByMandate"] == {"Acme AG": 1}


async def test_entries_go_up_to_now_in_the_zone_of_the_only_mandate_or_of_the_platform(api: BillingApi) -> None:
    ahead, behind = await made(api.database, "Pacific/Kiritimati"), await made(api.database, "Etc/GMT+12")
    # Eleven in the morning of the last of July in Zurich: August in Kiritimati, the day before at the other end.
    now = datetime(2026, 7, 31, 10, 30, tzinfo=UTC)
    for mandates, today in (([ahead], (2026, 8, 1)), ([behind], (2026, 7, 30)), ([ahead, behind], (2026, 7, 31))):
        for grain in ("day", "month"):
            answer = await show_statistics(
                api.database,
                Scope.of(admin_of(*mandates)),
                Asked(grain),  # type: ignore[arg-type]
                platform=PLATFORM,
                language="de",
                clock=lambda: now,
            )
            entries = answer["timeSeries"]
            assert len(entries) == (today[2] if grain == "day" else today[1])
            assert entries[-1]["date" if grain == "day" else "month"] == (
                date(*today).isoformat() if grain == "day" else f"{today[0]}-{today[1]:02}"
            )
            assert {entry["cost"] for entry in entries} == {0}
    empty = await show_statistics(
        api.database,
        Scope.of(admin_of(ahead)),
        Asked("month", 2027),
        platform=PLATFORM,
        language="en",
        clock=system_clock,
    )
    assert empty["timeSeries"] == []


async def test_charges_beside_the_summing_of_days_are_in_the_sums_once(api: BillingApi, books: Books) -> None:
    # Days around the ones that are being summed, charged by several at once, while two jobs sum ever more of them.
    mandate = await made(api.database)
    first, rng = datetime(2026, 3, 1, 12, tzinfo=UTC), random.Random(11)
    records = [
        usage_record(
            mandate, f"user-{rng.randrange(1, 3)}", amount="0.01", at=first + timedelta(days=rng.randrange(40))
        )
        for _ in range(600)
    ]
    await use(api.database, records[:50])

    async def sum_days() -> None:
        for day in range(45):
            await sum_all(api.database, first + timedelta(days=day), many=2)

    async def charge_part(part: Sequence[RawRecord]) -> None:
        for at in range(0, len(part), 10):
            await use(api.database, part[at : at + 10])

    # No more at once than get a connection soon, however busy the machine is.
    await asyncio.gather(sum_days(), sum_days(), *(charge_part(records[50 + number :: 4]) for number in range(4)))
    until = await books.value("SELECT summed_until FROM mandates WHERE id = $1", mandate)
    assert until == (first + timedelta(days=43)).date()
    answer = await shown(api.database, Scope.of(admin_of(mandate)), "month", 2026)
    names = {mandate: mandate}
    zones = {mandate: "Europe/Zurich"}
    assert answer == await expected(books, zones, names, ("month", 2026, None), lambda row: True)
    assert answer["transactionCount"] == 600
    assert await books.failing() == {}
