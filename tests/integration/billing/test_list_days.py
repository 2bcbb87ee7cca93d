"""Days of lists are those of the mandate whose row it is, in the zone that it had then, also when the clock changes."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.integration.billing.conftest import BillingApi
from tests.support.callers import admin_of, system_admin
from tests.support.charging import charge
from tests.support.databases import connected
from tests.support.events import new_mandate, usage_record
from tests.support.stack import ServerPair

USERS = "/api/billing/view/users/transactions"
MOMENT = timedelta(microseconds=1)
# In Zurich, a day of 25 hours.
SUNDAY = date(2026, 10, 25)


def begin(day: date, zone: str) -> datetime:
    """The first moment of a day."""
    return datetime.combine(day, time.min, ZoneInfo(zone)).astimezone(UTC)


async def a_mandate(api: BillingApi, servers: ServerPair, zone: str, past: list[Any] | None = None) -> str:
    """A mandate whose calendar is this one from its beginning on."""
    mandate = new_mandate()
    await api.directory(mandate, {"user-1": ["member"]})
    assert (await api.call(system_admin(), "GET", f"/api/billing/balance/{mandate}")).status_code == 200
    async with connected(servers.dsn("billing", owner=True), schema="billing") as connection:
        change = "UPDATE mandates SET time_zone = $2, past_time_zones = $3 WHERE id = $1"
        assert await connection.execute(change, mandate, zone, json.dumps(past or [])) == "UPDATE 1"
    return mandate


async def asked(api: BillingApi, mandates: list[str], path: str, pagination: Any = None, **more: Any) -> Any:
    params = {"pagination": json.dumps(pagination or {}), **more}
    answer = await api.call(admin_of(*mandates), "GET", path, params=params)
    assert answer.status_code == 200, answer.text
    return answer.text if path.endswith("export") else answer.json()


async def costs_of(api: BillingApi, mandates: list[str], condition: Any) -> float:
    """The costs of a filter of createdAt, by the list; the export has the same rows."""
    pagination = {"filters": {"createdAt": condition}}
    page = await asked(api, mandates, USERS, pagination)
    lines = list(csv.DictReader(io.StringIO(await asked(api, mandates, f"{USERS}/export", pagination))))
    assert [line["id"] for line in lines] == [row["id"] for row in page["items"]]
    assert page["pagination"]["totalItems"] == len(lines)
    return sum(row["amount"] for row in page["items"]) / 1.5


@pytest.mark.parametrize("zone", ["Europe/Zurich", "America/St_Johns", "Pacific/Auckland", "UTC"])
async def test_a_day_has_its_hours_when_the_clock_changes(api: BillingApi, servers: ServerPair, zone: str) -> None:
    mandate = await a_mandate(api, servers, zone)
    following, november = SUNDAY + timedelta(days=1), date(2026, 11, 1)
    at = {
        "32": begin(november, zone),
        "1": begin(SUNDAY, zone) - timedelta(milliseconds=1),
        "16": begin(november, zone) - MOMENT,
        "2": begin(SUNDAY, zone),
        "8": begin(following, zone),
        "4": begin(following, zone) - timedelta(seconds=1),
    }
    await charge(api.database, *(usage_record(mandate, amount=amount, at=time) for amount, time in at.items()))
    days = {"2026-10-24": 1, "2026-10-25": 6, "2026-10-26": 8, "2026-10-31": 16, "2026-11-01": 32}
    for day, costs in days.items():
        assert await costs_of(api, [mandate], day) == costs
    assert await asked(api, [mandate], f"{USERS}/filter-values", column="createdAt") == list(days)
    for operator, value, costs in (
        ("gt", "2026-10-25", 56),
        ("gte", "2026-10-25", 62),
        ("lt", "2026-10-25", 1),
        ("lte", "2026-10-25", 7),
        ("between", ["2026-10-25", "2026-10-31"], 30),
        ("in", ["2026-10-24", "2026-10-31", "2026-10-27"], 17),
        ("notEquals", "2026-10-25", 57),
        ("equals", at["2"].isoformat(), 2),
        ("between", [at["2"].isoformat(), "2026-10-26"], 14),
    ):
        assert await costs_of(api, [mandate], {"operator": operator, "value": value}) == costs, operator
    # Under another filter, the days are those of what is left.
    only = {"filters": {"amount": {"operator": "gt", "value": 10}, "createdAt": "2026-10-24"}}
    values = await asked(api, [mandate], f"{USERS}/filter-values", only, column="createdAt")
    assert values == ["2026-10-26", "2026-10-31", "2026-11-01"]


async def test_in_one_list_each_row_has_the_days_of_its_own_mandate(api: BillingApi, servers: ServerPair) -> None:
    zurich, auckland = await a_mandate(api, servers, "Europe/Zurich"), await a_mandate(api, servers, "Pacific/Auckland")
    noon = datetime(2026, 5, 1, 12, tzinfo=UTC)
    await charge(api.database, usage_record(zurich, amount="1", at=noon), usage_record(auckland, amount="2", at=noon))
    both = [zurich, auckland]
    assert await costs_of(api, both, "2026-05-01") == 1
    assert await costs_of(api, both, "2026-05-02") == 2
    assert await costs_of(api, both, ["2026-05-01", "2026-05-02"]) == 3
    assert await asked(api, both, f"{USERS}/filter-values", column="createdAt") == ["2026-05-01", "2026-05-02"]
    ours = {"filters": {"mandateId": both}}
    answer = await api.call(
        system_admin(),
        "GET",
        f"{USERS}/filter-values",
        params={"column": "createdAt", "pagination": json.dumps(ours)},
    )
    assert answer.json() == ["2026-05-01", "2026-05-02"]


async def test_a_time_has_the_day_of_the_zone_that_the_mandate_had_then(api: BillingApi, servers: ServerPair) -> None:
    until = begin(date(2026, 6, 1), "Europe/Zurich")
    mandate = await a_mandate(api, servers, "Pacific/Auckland", [[until.isoformat(), "Europe/Zurich"]])
    noon = timedelta(hours=14)
    await charge(
        api.database,
        usage_record(mandate, amount="1", at=until - timedelta(days=1) + noon),
        usage_record(mandate, amount="2", at=until + noon),
    )
    assert await asked(api, [mandate], f"{USERS}/filter-values", column="createdAt") == ["2026-05-31", "2026-06-02"]
    assert await costs_of(api, [mandate], "2026-05-31") == 1
    assert await costs_of(api, [mandate], "2026-06-02") == 2


async def test_days_of_when_rows_were_recorded_are_given_too(api: BillingApi, servers: ServerPair) -> None:
    mandate = await a_mandate(api, servers, "UTC")
    before = datetime.now(UTC).date().isoformat()
    await charge(api.database, usage_record(mandate, amount="1", at=datetime(2026, 5, 1, tzinfo=UTC)))
    after = datetime.now(UTC).date().isoformat()
    (day,) = await asked(api, [mandate], f"{USERS}/filter-values", column="recordedAt")
    assert before <= day <= after
