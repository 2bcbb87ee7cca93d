"""Lists of transactions give what the same filters, search and order give in Python."""

from __future__ import annotations

import csv
import io
import json
import random
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from services.billing.mandates.apply_directory import ApplyDirectory
from services.chassis.clock import system_clock
from tests.integration.billing.conftest import BillingApi
from tests.support.callers import admin_of, system_admin
from tests.support.charging import charge
from tests.support.events import new_mandate
from tests.support.listing import COLUMNS, Expected, a_pagination, a_row_of_usage, user_change

LIST = "/api/billing/view/users/transactions"
# The last Sunday of March: a day of 23 hours in Zurich.
START = datetime(2026, 3, 27, 12, tzinfo=UTC)
ROWS = 120


@dataclass(frozen=True)
class World:
    """A mandate with rows of every kind."""

    mandate: str
    expected: Expected

    async def ask(self, api: BillingApi, pagination: dict[str, Any], path: str = LIST, **params: Any) -> Any:
        """An answer of the mandate's administrator's list, with exact numbers."""
        params = {"scope": "mandate", "mandateId": self.mandate, "pagination": _json(pagination), **params}
        answer = await api.call(admin_of(self.mandate), "GET", path, params=params)
        assert answer.status_code == 200, (pagination, answer.text)
        return json.loads(answer.text, parse_float=Decimal) if path != LIST + "/export" else answer.text


def _json(value: Any) -> str:
    """JSON whose decimals are number literals."""
    return json.dumps(value, default=lambda number: float(number) if isinstance(number, Decimal) else number)


@pytest.fixture(scope="module")
async def world(api: BillingApi) -> World:
    chance = random.Random(7)
    mandate = new_mandate()
    users = [f"{mandate}-u{number}" for number in range(3)]
    await api.directory(mandate, {user: ["member"] for user in users}, label="Zürcher Käse & Co")
    names = [user_change(users[0], "Élodie Müller"), user_change(users[1], "=cmd()", "bob")]
    await ApplyDirectory(api.database, clock=system_clock)(names, [])
    records = [a_row_of_usage(chance, mandate, users, START) for _ in range(ROWS)]
    # Several of one moment, so that ties have to be broken.
    await charge(api.database, *records[: ROWS // 2])
    await charge(api.database, *records[ROWS // 2 :])
    for amount, said in (("5", {}), ("-2.5", {}), ("1", {"description": "@SUM(A1)"})):
        path, body = f"/api/billing/admin/credit/{mandate}", {"amount": float(amount), **said}
        assert (await api.call(system_admin(), "POST", path, json=body)).status_code == 200
    params = {"mandateId": mandate, "pagination": '{"pageSize": 1000}'}
    answer = await api.call(admin_of(mandate), "GET", LIST, params=params)
    assert answer.status_code == 200, answer.text
    rows = json.loads(answer.text, parse_float=Decimal)["items"]
    assert len(rows) == ROWS + 3
    assert all(list(row) >= list(COLUMNS) and set(row) == set(COLUMNS) for row in rows)
    return World(mandate, Expected(rows))


async def test_a_list_is_what_its_filters_search_and_order_say(api: BillingApi, world: World) -> None:
    chance = random.Random(11)
    found = 0
    for _ in range(150):
        asked = a_pagination(chance, world.expected.rows)
        size, page = chance.choice([1, 7, 50, 200]), chance.choice([1, 1, 2, 3])
        answer = await world.ask(api, {**asked, "page": page, "pageSize": size})
        expected = world.expected.listed(asked)
        shown = expected[(page - 1) * size : page * size]
        assert [row["id"] for row in answer["items"]] == [row["id"] for row in shown], asked
        assert answer["items"] == shown
        told = answer["pagination"]
        pages = -(-len(expected) // size)
        assert (told["totalItems"], told["totalPages"]) == (len(expected), pages), asked
        assert (told["currentPage"], told["pageSize"]) == (page, size)
        found += len(expected)
    # Not all of them ask for nothing.
    assert found > 1000


async def test_a_walk_by_cursor_meets_every_row_once_and_in_order(api: BillingApi, world: World) -> None:
    chance = random.Random(13)
    for _ in range(12):
        asked = a_pagination(chance, world.expected.rows)
        met: list[Any] = []
        cursor: dict[str, Any] = {}
        while True:
            answer = await world.ask(api, asked, limit=17, **cursor)
            met += answer["items"]
            if answer["nextCursor"] is None:
                break
            assert len(answer["items"]) == 17
            cursor = {"cursor": answer["nextCursor"]}
        assert met == world.expected.listed(asked), asked


async def test_an_export_has_every_row_of_the_list_in_its_order(api: BillingApi, world: World) -> None:
    chance = random.Random(17)
    for _ in range(12):
        asked = a_pagination(chance, world.expected.rows)
        text = await world.ask(api, {**asked, "page": 3, "pageSize": 1}, LIST + "/export")
        header, *lines = csv.reader(io.StringIO(text, newline=""), strict=True)
        assert header == list(COLUMNS)
        expected = world.expected.listed(asked)
        assert [line[0] for line in lines] == [row["id"] for row in expected], asked
        for line, row in zip(lines, expected, strict=True):
            assert line == [_cell(name, row[name]) for name in COLUMNS]


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    if COLUMNS[name] == "time":
        return datetime.fromisoformat(value).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if COLUMNS[name] == "number":
        places = {"amount": 6, "balanceAfter": 6, "processingTime": 3}.get(name, 0)
        return f"{Decimal(value):.{places}f}"
    return f"'{value}" if value[:1] in ("=", "+", "-", "@") else value


async def test_distinct_values_are_those_under_the_filters_of_other_columns(api: BillingApi, world: World) -> None:
    chance = random.Random(19)
    for name, kind in [*COLUMNS.items()] * 3:
        asked = a_pagination(chance, world.expected.rows)
        asked["filters"].setdefault(name, "nothing has this" if kind == "text" else None)
        answer = await world.ask(api, asked, LIST + "/filter-values", column=name)
        others = {each: it for each, it in asked["filters"].items() if each != name}
        found = [row[name] for row in world.expected.listed({**asked, "filters": others, "sort": []})]
        if kind == "time":
            expected = sorted({world.expected.day(value) for value in found})
        elif kind == "number":
            numbers = sorted({Decimal(value) for value in found if value is not None})
            expected = [format(number.normalize(), "f") for number in numbers]
        else:
            expected = sorted({value for value in found if value}, key=str.encode)
        assert answer == expected, (name, asked)


async def test_metadata_of_usage_is_filtered_by_key(api: BillingApi, world: World) -> None:
    async def total(condition: Any, key: str = "team") -> int:
        answer = await world.ask(api, {"filters": {f"metadata.{key}": condition}})
        return int(answer["pagination"]["totalItems"])

    red, blue = await total("red"), await total("blue")
    assert red > 5
    assert blue > 5
    assert await total(["red", "blue"]) == red + blue
    assert await total("=x", "a.b") == blue
    assert await total({"operator": "isEmpty", "value": True}) == ROWS + 3 - red - blue
    assert await total({"operator": "contains", "value": "LU"}) == blue
    assert await total("red", "colour") == 0
    assert await total("red", "team'}) --") == 0
