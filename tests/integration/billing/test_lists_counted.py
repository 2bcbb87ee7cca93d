"""Lists whose charges the rollups count have every row all the same: also where charges were taken back, say something
of their own, or are of days that are summed."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from services.billing.ledger.descriptions import KEPT_MAX
from services.billing.ledger.domain import transaction_id
from services.billing.reports.distinct_values import distinct_values
from services.billing.reports.list_movements import list_page
from services.billing.reports.listing import Listing, ListLimits
from services.billing.reports.scope import Scope
from services.chassis.caller import Caller
from services.chassis.lists.reading import list_reading
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


def _usage(chance: random.Random, mandate: str, number: int, descriptions: Sequence[str | None]) -> RawRecord:
    provider, model = MODELS[0] if number < 3 else chance.choice(MODELS[1:])
    return usage_record(
        mandate,
        chance.choice(USERS),
        amount=f"0.{number + 1:03}",
        at=AT + timedelta(days=chance.randrange(40), seconds=number),
        event_id=uuid7(),
        provider=provider,
        model=model,
        feature_code=chance.choice(["chat", "code", None]),
        workflow_id=chance.choice([None, None, None, "flow-gpt"]),
        description=chance.choice(descriptions),
    )


# Few are described, none, or all, in few ways or in more than are kept.
FEW = (None, None, None, "Read for user-2")
ALL = ("READ for user-2", "gpt for chat", "", "Usage: many\nlines of é")
MANY = tuple(f"Number {number} of many" for number in range(2 * KEPT_MAX))


@pytest.fixture(
    params=[
        ("not summed", FEW),
        ("summed", FEW),
        ("summed in part", FEW),
        ("not summed", (None,)),
        ("summed in part", ALL),
        ("summed", (*ALL, None, None)),
        ("not summed", MANY),
    ],
    ids=["not summed", "summed", "summed in part", "undescribed", "all described", "half described", "many described"],
)
async def world(request: pytest.FixtureRequest, api: BillingApi, books: Books) -> World:
    chance = random.Random(5)
    summed, descriptions = request.param
    mandate = await made(api.database)
    if descriptions is MANY:
        like = {"provider": "mistral", "model": "large", "amount": "0.01", "at": AT}
        await use(api.database, [usage_record(mandate, "user-1", description=text, **like) for text in MANY])
        many = (
            "SELECT count(*) FROM usage_descriptions d JOIN mandates m ON m.no = d.mandate_no"
            " WHERE m.id = $1 AND d.description IS NULL"
        )
        assert await books.value(many, mandate) == 1
    await use(api.database, [_usage(chance, mandate, number, descriptions) for number in range(40)])
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


SEARCHED = ["gpt", "user-2", "flow", "usage: m", "reversal", "sent", "DEBIT", "4", "e", "number 7", "é", "for chat"]


def _asked(chance: random.Random) -> dict[str, Any]:
    filters: dict[str, Any] = {
        "userId": chance.choice([*USERS, {"operator": "notEquals", "value": "user-1"}]),
        "userName": {"operator": "startsWith", "value": chance.choice(["user", "USER-2", "admin"])},
        "aicoreProvider": chance.choice(["openai", "anthropic", ["openai", "mistral"]]),
        "featureCode": chance.choice(["chat", None, {"operator": "contains", "value": "C"}]),
        "description": {"operator": "contains", "value": chance.choice(["Usage: o", "Reversal", "user", "Number"])},
        "transactionType": chance.choice(["DEBIT", "ADJUSTMENT"]),
        "createdAt": {"operator": "gte", "value": "2026-05-20"},
    }
    names = chance.sample(sorted(filters), chance.randrange(3))
    found: dict[str, Any] = {"filters": {name: filters[name] for name in names}}
    if chance.random() < 0.6:
        found["search"] = chance.choice(SEARCHED)
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


async def test_what_is_found_in_too_many_places_is_looked_for_in_each_row(api: BillingApi, world: World) -> None:
    scope = Scope.of(admin_of(world.mandate), mandate_id=world.mandate)
    numbers = sorted({row["accountId"] for row in world.expected.rows})
    first, last = world.expected.rows[0], world.expected.rows[-1]
    ids = [last["referenceId"][:8], last["referenceId"].upper(), last["id"][-4:], first["id"], last["id"].upper()]
    ids += [str(uuid7()), str(uuid4()), "00000000-0000-8000-8000-000000000000"]
    ids += [*"01789af", "00", "-8", "00-8", "0-8", "8000-0", "8000000", "0" * 12, first["id"][:20], last["id"][-12:]]
    ids += [last["id"][-5:], last["id"][-2:], first["id"][-2:].upper(), last["id"][20:], last["id"][:12]]
    texts = ["flow", "FLOW-G", "gpt", "usage: m", "user-1", "e", "4", "-", "é", "no row has it", world.mandate]
    for number, text in enumerate([*texts, *numbers, *ids]):
        sort = [{"field": ("amount", "createdAt", "userName")[number % 3], "direction": ("asc", "desc")[number % 2]}]
        asked: dict[str, Any] = {"filters": {}, "search": text, "sort": sort}
        listed = world.expected.listed(asked)
        for most in ((0, 20), (1, 10_000))[number // 2 % 2]:
            limits = ListLimits(1000, 10_000, statement_s=60, found_max=most)
            page = await list_page(api.database, scope, json.dumps({**asked, "pageSize": 1000}), limits)
            assert [str(row["id"]) for row in page["items"]] == [row["id"] for row in listed], (text, most)
            assert page["pagination"]["totalItems"] == len(listed)
            values = await distinct_values(api.database, scope, "aicoreModel", json.dumps(asked), limits)
            assert values == sorted({row["aicoreModel"] for row in listed if row["aicoreModel"]}), (text, most)


async def test_rows_are_looked_at_only_where_some_of_what_usage_was_for_has_a_description(api: BillingApi) -> None:
    mandate = await made(api.database)
    scope, limits = Scope.of(admin_of(mandate), mandate_id=mandate), ListLimits(1000, 10_000, statement_s=60)
    said: list[tuple[str, str | None]] = [("a", "Read it"), ("b", None), ("b", ""), ("c", "Write it"), ("c", "Redo it")]

    async def require(text: str, *, count: int, looks: bool) -> None:
        asked = json.dumps({"search": text})
        async with list_reading(api.database, statement_s=60) as connection:
            listing = await Listing.read(connection, scope, asked, limits)
        assert listing.search is not None
        assert (listing.search.beside() is not None) is looks, text
        page = await list_page(api.database, scope, asked, limits)
        assert (len(page["items"]), page["pagination"]["totalItems"]) == (count, count), text

    def usages() -> list[RawRecord]:
        return [
            usage_record(mandate, amount="0.001", at=AT, provider="maker", model=model, description=text)
            for model, text in said
        ]

    await use(api.database, usages())
    # Of all, of all but one kind, of one without a description, and of nothing.
    for text, count in (("READ", 1), (" it", 3), ("usage: m", 2), ("ask", 0)):
        await require(text, count=count, looks=False)
    await require("redo", count=1, looks=True)
    said.append(("a", None))
    await use(api.database, usages())
    await require("READ", count=2, looks=True)
    await require("usage: m", count=5, looks=True)
    await require(" it", count=6, looks=True)


async def test_what_most_members_have_in_their_name_is_counted_by_the_others(api: BillingApi) -> None:
    mandate = await made(api.database)
    many, few = [f"many-{number}" for number in range(9)], ["few-1", "few-2"]
    kinds: list[tuple[str, dict[str, Any]]] = [
        ("openai", {}),
        ("mistral", {"description": "Of many"}),
        ("google", {"workflow_id": "many"}),
    ]
    charges = [
        usage_record(mandate, user, amount="0.001", at=AT + timedelta(hours=number), provider=provider, **said)
        for number, user in enumerate([*many, *few] * 2)
        for provider, said in kinds
    ]
    await use(api.database, charges)
    every = Expected((await _ask(api, admin_of(mandate), mandate, {"pageSize": 1000}))["items"])
    scope, limits = Scope.of(admin_of(mandate), mandate_id=mandate), ListLimits(1000, 10_000, statement_s=60)
    filters: list[dict[str, Any]] = [{}, {"aicoreProvider": "openai"}, {"userId": "few-1"}, {"userId": "many-1"}]
    for text, most in (("many-", True), ("MANY-", True), ("many-1", False), ("few", False)):
        for each in filters:
            asked = {"filters": each, "search": text}
            async with list_reading(api.database, statement_s=60) as connection:
                listing = await Listing.read(connection, scope, json.dumps(asked), limits)
            assert listing.search is not None
            assert listing.search.is_of_most_members is most
            await World(mandate, every).require(api, admin_of(mandate), asked, every)
