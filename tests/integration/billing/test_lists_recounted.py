"""Lists of several mandates have for every caller what is counted again from the rows: whatever usage is described by,
and whatever became of it."""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from services.billing.ledger.descriptions import KEPT_MAX
from services.billing.ledger.domain import BillingModel, transaction_id
from services.billing.mandates.apply_directory import ApplyDirectory
from services.billing.reports.distinct_values import distinct_values
from services.billing.reports.export_movements import RunningExports, export_movements
from services.billing.reports.list_movements import list_page, list_part
from services.billing.reports.listing import ListLimits
from services.billing.reports.scope import Scope
from services.chassis.caller import Caller
from services.chassis.clock import system_clock
from services.chassis.database import Database
from tests.integration.billing.conftest import BillingApi
from tests.support.callers import admin_of, member_of, system_admin
from tests.support.charging import settling
from tests.support.events import RawRecord, usage_record, uuid7, voided_record
from tests.support.holding import Holding, chf, publisher, usage_event
from tests.support.ledger import Books
from tests.support.listing import COLUMNS, SEARCHED, Expected, user_change
from tests.support.rerating import of_model, rerate
from tests.support.used import LATER, made, sum_all, use

Row = Mapping[str, Any]

AT = datetime(2026, 5, 4, 10, tzinfo=UTC)
CALLS = [("anthropic", "claude"), ("openai", "GPT-5"), ("mistral", "Lärge İ"), ("storage", "DEBIT")]
# What is asked of each caller's list.
ASKED = 3
# Few texts, also those that rows without one are given, that are names of something, or that cases and patterns break.
SPECIAL = (
    *("", " ", "x" * 500, "😀" * 500, "line\nbreak\r\nand\ttab", "100%", "a_b", "back\\slash", "slash/es", "=1+1"),
    *(
        "say \"hi\" and 'ho'",
        "İstanbul \u0131I",
        "STRASSE Straße ẞ",
        "ΟΔΟΣ οδός ς",
        "e\u0301 é É",
        "👩\u200d👩\u200d👧",
    ),
    *("AI Usage: openai", "AI Usage: x", "Debit", "DEBİT", "Storage", "GPT-5", "claude", "user-1", "User Zwei", "12"),
    *("flow-9", "\u212aelvin"),
)
MANY = tuple(f"Number {number} of Many" for number in range(KEPT_MAX + 20))
WORDS = (
    *("i", "I", "İ", "\u0131", "ß", "SS", "ẞ", "ς", "Σ", "É", "e\u0301", "\u0301", "😀", "%", "_", "\\", "/", "'", '"'),
    *("debit", "DEBİT", "AI Usage", "ai usage: x", "usage: o", "storage", "Storage: chat", "gpt", "user-", "USER-1"),
    *("zwei", "FLOW-İ", "\u212aelvin", "number 1", "MANY", "reversal", "4", "12", "inst-1", "x" * 200, "İnc", "inc"),
    *("e", "-", "gift", "null", "bit"),
)
FILTERS: dict[str, list[Any]] = {
    "userId": ["user-1", ["user-1", "gpt"], {"operator": "notEquals", "value": "user-1"}],
    "userName": [{"operator": "startsWith", "value": "user"}, "User Zwei İ"],
    "aicoreProvider": ["openai", None, {"operator": "isEmpty", "value": True}, ["storage", "mistral"]],
    "aicoreModel": [{"operator": "contains", "value": "e"}, "GPT-5"],
    "featureCode": ["chat", None],
    "description": [
        *SPECIAL[1:],
        *({"operator": "contains", "value": text} for text in ("usage: o", "%", "İ")),
        {"operator": "notEquals", "value": "Debit"},
    ],
    "transactionType": ["DEBIT", "ADJUSTMENT"],
    "referenceType": ["STORAGE", "WORKFLOW", {"operator": "notEquals", "value": "WORKFLOW"}],
    "workflowId": ["flow-gpt", None, {"operator": "contains", "value": "I"}],
}
VALUES = (
    "userId",
    "userName",
    "aicoreModel",
    "featureCode",
    "description",
    "transactionType",
    "mandateId",
    "accountId",
)


def _usage(
    chance: random.Random, mandate: str, event_id: UUID, descriptions: Sequence[str | None], unpriced: str
) -> RawRecord:
    provider, model = chance.choice(CALLS)
    said: dict[str, Any] = {"provider": provider, "model": model, "cost": chf(f"0.{chance.randrange(1, 1000):03}")}
    instance, kind = chance.choice(["inst-1", "inst-2", None]), chance.random()
    if kind < 0.1:
        instance = "inst-1"
        said |= {"kind": "storage", "bytes_in_use": 5}
        said |= {"provider": None, "model": None} if kind < 0.05 else {}
    elif kind < 0.2:
        said |= {"cost": None, "provider": "anthropic", "model": unpriced, "tokens": {"input": 5}}
    elif kind < 0.25:
        said["cost"] = chf("0")
    return usage_record(
        mandate,
        chance.choice(["user-1", "zwei-2", "gpt"]),
        at=AT + timedelta(days=chance.randrange(40), seconds=chance.randrange(5000)),
        event_id=event_id,
        feature_code=chance.choice(["chat", "code", None]),
        feature_instance_id=instance,
        workflow_id=chance.choice([None, None, "flow-gpt", "Flow-i", "user-1", "KELVIN"]),
        description=chance.choice(descriptions),
        **said,
    )


def _unpriced(ids: Sequence[UUID]) -> str:
    return f"model-{ids[0]}"


async def _used(api: BillingApi, books: Books, ids: Sequence[UUID], model: BillingModel, texts: Sequence[Any]) -> str:
    """A mandate with usage of those ids, some of it taken back, captured by holds, or waiting for a price."""
    chance = random.Random(model)
    mandate = await made(api.database, label=chance.choice(["Acme", "İnc", "Debit GmbH"]))
    if model != "PREPAY_MANDATE":
        await api.switch(mandate, model)
    for user, text in ((None, "AI Usage: x"), ("user-1", "Gift")):
        body = {"amount": 500, "userId": user, "description": text}
        await api.call(system_admin(), "POST", f"/api/billing/admin/credit/{mandate}", json=body)
    records = [_usage(chance, mandate, each, texts, _unpriced(ids)) for each in ids]
    if MANY[0] in texts:
        like = {"provider": "mistral", "model": "Lärge İ", "at": AT}
        records += [usage_record(mandate, description=text, **like) for text in MANY]
    voided_at = AT + timedelta(days=50)
    records += [voided_record(mandate, each, chance.choice(SPECIAL) or "-", at=voided_at) for each in ids[::9]]
    for at in range(0, len(records), 50):
        await use(api.database, records[at : at + 50])
    for text in chance.sample(SPECIAL, 3):
        hold = (await Holding(api, books, mandate).ask()).json()["holdId"]
        body = {"event": usage_event(mandate, description=text, hold_id=hold)}
        answer = await api.call(publisher(), "POST", f"/api/billing/holds/{hold}/capture", json=body)
        assert answer.status_code == 200, answer.text
    return mandate


async def _rows(api: BillingApi, books: Books, chance: random.Random, described: Sequence[Sequence[Any]]) -> list[Row]:
    """Rows of mandates in which usage has the same ids, as the operator is shown them."""
    database = api.database
    names = [user_change("zwei-2", "User Zwei İ"), user_change("gpt", "Straße ΟΔΟΣ")]
    await ApplyDirectory(database, clock=system_clock)(names, [])
    ids = [uuid7() for _ in range(60)]
    models: list[BillingModel] = ["PREPAY_USER", "UNLIMITED", "PREPAY_MANDATE"]
    mandates = [await _used(api, books, ids, *each) for each in zip(models, described, strict=True)]
    await api.price(_unpriced(ids), "0.000123")
    settle = settling(database, clock=lambda: LATER)
    while await settle():
        pass
    await api.price(_unpriced(ids), "0.000001")
    assert (await rerate(database, of_model(_unpriced(ids))))["state"] == "DONE"
    await sum_all(database, AT + timedelta(days=chance.choice([20, 60])))
    for mandate in mandates:
        for row in [row for row in await books.rows(mandate) if row["transaction_type"] == "DEBIT"][::9]:
            path = f"/api/billing/transactions/{transaction_id(row['posted_account_no'], row['seq'])}/reverse"
            await api.call(system_admin(), "POST", path, json={"reason": chance.choice(SPECIAL).strip() or "-"})
    assert not await books.failing()
    shown: list[Row] = []
    for mandate in mandates:
        params = {"mandateId": mandate, "pagination": '{"pageSize": 1000}'}
        answer = await api.call(system_admin(), "GET", "/api/billing/view/users/transactions", params=params)
        every = json.loads(answer.text, parse_float=Decimal)
        assert len(every["items"]) == every["pagination"]["totalItems"] == len(await books.rows(mandate)) > 50
        shown += every["items"]
    return shown


def _callers(rows: Sequence[Row]) -> list[tuple[Caller, str | None, list[Row]]]:
    """Callers, the mandate that each names, and the rows that are theirs."""
    a, b, c = dict.fromkeys(row["mandateId"] for row in rows)
    member = member_of(a, b, c)
    instance = Caller(user_id="nobody", instances=frozenset({"inst-1"}), instance_mandates=frozenset({a, b}))
    of_inst_2 = {"instances": frozenset({"inst-2"}), "instance_mandates": frozenset({c})}
    mixed = Caller(user_id="zwei-2", mandates={a: True, b: False}, **of_inst_2)

    def of(mandate: str, **values: str) -> list[Row]:
        return [
            row for row in rows if row["mandateId"] == mandate and all(row[name] == values[name] for name in values)
        ]

    return [
        (system_admin(), b, of(b)),
        (admin_of(a, b, c), None, list(rows)),
        (admin_of(c), c, of(c)),
        (member, None, [row for each in (a, b, c) for row in of(each, userId="user-1")]),
        (member, a, of(a, userId="user-1")),
        (instance, None, [*of(a, featureInstanceId="inst-1"), *of(b, featureInstanceId="inst-1")]),
        (mixed, None, [*of(a), *of(b, userId="zwei-2"), *of(c, featureInstanceId="inst-2")]),
    ]


def _asked(chance: random.Random, texts: Sequence[str]) -> dict[str, Any]:
    names = chance.sample(sorted(FILTERS), chance.choice([0, 0, 1, 2]))
    asked: dict[str, Any] = {"filters": {name: chance.choice(FILTERS[name]) for name in names}}
    if chance.random() < 0.8:
        asked["search"] = chance.choice(texts)
    if chance.random() < 0.5:
        # Not by a balance, which is not shown of all rows.
        fields = chance.sample(sorted(COLUMNS.keys() - {"balanceAfter"}), chance.randrange(1, 3))
        asked["sort"] = [{"field": each, "direction": chance.choice(["asc", "desc"])} for each in fields]
    return asked


async def _require(
    database: Database, scope: Scope, limits: ListLimits, asked: dict[str, Any], expected: Expected
) -> int:
    """Asserts what every form of a list has; gives how many rows that is."""
    ids = [row["id"] for row in expected.listed(asked)]
    page = await list_page(database, scope, json.dumps({**asked, "pageSize": 7, "page": 3}), limits)
    assert [str(row["id"]) for row in page["items"]] == ids[14:21]
    assert page["pagination"]["totalItems"] == len(ids)
    cursor, walked = None, list[str]()
    while True:
        part = await list_part(database, scope, json.dumps(asked), limits, cursor=cursor, limit=71)
        walked += [str(row["id"]) for row in part["items"]]
        cursor = part["nextCursor"]
        if cursor is None:
            break
    assert walked == ids
    for name in VALUES[len(ids) % 2 :: 2]:
        values = await distinct_values(database, scope, name, json.dumps(asked), limits)
        filters = {each: it for each, it in asked["filters"].items() if each != name}
        found = {str(row[name]) for row in expected.listed({**asked, "filters": filters}) if row[name]}
        assert values == sorted(found, key=str.encode), name
    return len(ids)


async def _exported(database: Database, scope: Scope, limits: ListLimits) -> list[tuple[str, str]]:
    parts = export_movements(database, RunningExports(1), scope, "{}", limits, export_s=60)
    text = b"".join([part async for part in parts]).decode()
    lines = csv.DictReader(io.StringIO(text, newline=""))
    return [(line["id"], line["description"].removeprefix("'")) for line in lines]


@pytest.mark.parametrize(
    "described",
    [[(*SPECIAL, None), (None,), (*MANY, *SPECIAL)], [("",), SPECIAL, (None, None, None, "GPT-5")]],
    ids=["some, none, many", "empty, all, few"],
)
async def test_every_form_of_a_list_has_the_rows_that_it_should(
    api: BillingApi, books: Books, described: Sequence[Sequence[Any]]
) -> None:
    chance = random.Random(17)
    rows = await _rows(api, books, chance, described)
    parts = [str(row[chance.choice(SEARCHED)] or "-")[:200] for row in rows[::7]]
    texts = [*WORDS, *(text.strip() or "-" for text in parts), *(text[2:6].strip() or "-" for text in parts)]
    given = {text for row in rows for text in row.values() if isinstance(text, str)}
    given |= {"", *texts, *(each["value"] for of in FILTERS.values() for each in of if isinstance(each, dict))}
    given.discard(True)
    folded = await books.fetch("SELECT t, lower(t) AS folded FROM unnest($1::text[]) AS t", list(given))
    fold = {row["t"]: row["folded"] for row in folded}.__getitem__
    found = 0
    limits = ListLimits(1000, 10_000, statement_s=60)
    everything = Scope.of(admin_of(*dict.fromkeys(row["mandateId"] for row in rows)))
    for text in texts:
        page = await list_page(api.database, everything, json.dumps({"search": text, "pageSize": 1000}), limits)
        ids = [row["id"] for row in Expected(rows, fold=fold).listed({"filters": {}, "search": text})]
        assert ([str(row["id"]) for row in page["items"]], page["pagination"]["totalItems"]) == (ids, len(ids)), text
    for caller, mandate, theirs in _callers(rows):
        scope, expected = Scope.of(caller, mandate_id=mandate), Expected(theirs, fold=fold)
        assert len(theirs) > 10
        for _ in range(ASKED):
            asked = _asked(chance, texts)
            most = chance.choice([0, 3, 10_000, 10_000])
            limits = ListLimits(1000, 10_000, 60, found_max=most, recent_rows=chance.choice([0, 5, 10_000]))
            try:
                found += await _require(api.database, scope, limits, asked, expected)
            except AssertionError as error:
                raise AssertionError(scope, most, asked) from error
        exported = [(row["id"], row["description"].removeprefix("'")) for row in expected.listed({"filters": {}})]
        assert await _exported(api.database, scope, limits) == exported
    assert found > 100
