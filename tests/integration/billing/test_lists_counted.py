"""Lists whose charges the rollups count have every row all the same: also where charges were taken back, say something
of their own, or are of days that are summed."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from services.billing.ledger.domain import transaction_id
from services.chassis.caller import Caller
from tests.integration.billing.conftest import BillingApi
from tests.support.callers import admin_of, member_of, system_admin
from tests.support.events import RawRecord, usage_record, uuid7
from tests.support.ledger import Books
from tests.support.listing import COLUMNS, Expected
from tests.support.used import LATER, made, sum_all, use

LIST = "/api/billing/view/users/transactions"
AT = datetime(2026, 5, 4, 10, tzinfo=UTC)
MODELS = [("anthropic", "claude"), ("openai", "gpt-5"), ("mistral", "large")]
USERS = ["user-1", "user-2"]
# Those whose values a charge has by its member and what it was for.
COUNTED = ("userId", "userName", "createdByUserId", "aicoreProvider", "aicoreModel", "featureCode", "transactionType")


@dataclass(frozen=True)
class World:
    """A mandate, and its rows as its administrator is shown them without any filter."""

    mandate: str
    expected: Expected

    async def require(self, api: BillingApi, caller: Caller, asked: dict[str, Any], expected: Expected) -> int:
        """Asserts what a list has, in all and on a page, and the values of its columns; gives how many rows it has."""
        page = await _ask(api, caller, self.mandate, {**asked, "pageSize": 7, "page": 2})
        listed = expected.listed(asked)
        assert page["pagination"]["totalItems"] == len(listed), asked
        assert page["items"] == listed[7:14], asked
        for name in COUNTED:
            answer = await api.call(caller, "GET", f"{LIST}/filter-values", params=_params(self.mandate, asked, name))
            others = {each: it for each, it in asked["filters"].items() if each != name}
            found = {row[name] for row in expected.listed({**asked, "filters": others})}
            assert answer.json() == sorted((value for value in found if value), key=str.encode), (name, asked)
        return len(listed)


def _params(mandate: str, asked: dict[str, Any], column: str | None = None) -> dict[str, Any]:
    named = {} if column is None else {"column": column}
    return {"mandateId": mandate, "pagination": json.dumps(asked), **named}


async def _ask(api: BillingApi, caller: Caller, mandate: str, asked: dict[str, Any]) -> Any:
    answer = await api.call(caller, "GET", LIST, params=_params(mandate, asked))
    assert answer.status_code == 200, (asked, answer.text)
    return json.loads(answer.text, parse_float=Decimal)


def _usage(chance: random.Random, mandate: str, number: int) -> RawRecord:
    provider, model = MODELS[0] if number < 3 else chance.choice(MODELS[1:])
    said = chance.choice([{}, {}, {}, {"workflow_id": "flow-gpt"}, {"description": "Read for user-2"}])
    return usage_record(
        mandate,
        chance.choice(USERS),
        amount=f"0.{number + 1:03}",
        at=AT + timedelta(days=chance.randrange(40), seconds=number),
        event_id=uuid7(),
        provider=provider,
        model=model,
        feature_code=chance.choice(["chat", "code", None]),
        **said,
    )


@pytest.fixture(params=["not summed", "summed", "summed in part"])
async def world(request: pytest.FixtureRequest, api: BillingApi, books: Books) -> World:
    chance, summed = random.Random(5), request.param
    mandate = await made(api.database)
    await use(api.database, [_usage(chance, mandate, number) for number in range(40)])
    if summed != "not summed":
        await sum_all(api.database, LATER if summed == "summed" else AT + timedelta(days=20))
    # All charges of the first model are taken back, and some others.
    for row in await books.rows(mandate):
        if row["dimension_no"] is not None and (row["amount"] <= 3_000 or chance.random() < 0.2):
            named = transaction_id(row["posted_account_no"], row["seq"])
            path = f"/api/billing/transactions/{named}/reverse"
            answer = await api.call(system_admin(), "POST", path, json={"reason": "Sent twice"})
            assert answer.status_code == 200, answer.text
    until = await books.value("SELECT summed_until IS NOT NULL FROM mandates WHERE id = $1", mandate)
    assert until is (summed != "not summed")
    every = await _ask(api, admin_of(mandate), mandate, {"pageSize": 1000})
    assert len(every["items"]) > 45
    assert set(every["items"][0]) == set(COLUMNS)
    return World(mandate, Expected(every["items"]))


def _asked(chance: random.Random) -> dict[str, Any]:
    filters: dict[str, Any] = {
        "userId": chance.choice([*USERS, {"operator": "notEquals", "value": "user-1"}]),
        "userName": {"operator": "startsWith", "value": chance.choice(["user", "USER-2", "admin"])},
        "aicoreProvider": chance.choice(["openai", "anthropic", ["openai", "mistral"]]),
        "featureCode": chance.choice(["chat", None, {"operator": "contains", "value": "C"}]),
        "description": {"operator": "contains", "value": chance.choice(["Usage: o", "Reversal", "user"])},
        "transactionType": chance.choice(["DEBIT", "ADJUSTMENT"]),
        "createdAt": {"operator": "gte", "value": "2026-05-20"},
    }
    names = chance.sample(sorted(filters), chance.randrange(3))
    found: dict[str, Any] = {"filters": {name: filters[name] for name in names}}
    if chance.random() < 0.6:
        found["search"] = chance.choice(["gpt", "user-2", "flow", "usage: m", "reversal", "sent", "DEBIT", "4", "e"])
    if chance.random() < 0.5:
        fields = ["amount", "userName", "aicoreModel", "createdAt", "recordedAt", "transactionType", "referenceType"]
        found["sort"] = [{"field": chance.choice(fields), "direction": chance.choice(["asc", "desc"])}]
    return found


async def test_a_list_has_the_rows_that_its_filters_and_its_search_say(api: BillingApi, world: World) -> None:
    chance = random.Random(23)
    asked = [_asked(chance) for _ in range(25)]
    found = [await world.require(api, admin_of(world.mandate), each, world.expected) for each in asked]
    assert sum(found) > 200


async def test_a_member_counts_their_own(api: BillingApi, world: World) -> None:
    chance = random.Random(29)
    caller = member_of(world.mandate, user_id="user-2")
    every = await _ask(api, caller, world.mandate, {"pageSize": 1000})
    own = [row for row in world.expected.rows if row["userId"] == "user-2"]
    assert [row["id"] for row in every["items"]] == [row["id"] for row in own]
    for _ in range(8):
        await world.require(api, caller, _asked(chance), Expected(every["items"]))


async def test_a_member_sorts_their_own_by_every_column(api: BillingApi, world: World) -> None:
    caller = member_of(world.mandate, user_id="user-2")
    every = Expected((await _ask(api, caller, world.mandate, {"pageSize": 1000}))["items"])
    for number, name in enumerate(COLUMNS):
        asked = {"filters": {}, "sort": [{"field": name, "direction": ("asc", "desc")[number % 2]}]}
        page = await _ask(api, caller, world.mandate, {**asked, "pageSize": 9, "page": 2})
        assert page["items"] == every.listed(asked)[9:18] != [], asked
