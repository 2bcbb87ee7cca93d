"""The kept paths to the letter: every name of an answer, its order, its defaults and its limits."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from services.billing.mandates.apply_directory import ApplyDirectory
from services.chassis.caller import Caller
from services.chassis.clock import system_clock
from tests.integration.billing.conftest import BillingApi
from tests.support.callers import system_admin
from tests.support.charging import charge
from tests.support.events import new_mandate, usage_record
from tests.support.listing import user_change

ROWS = 205
NOW = datetime.now(UTC).replace(microsecond=0)
BEGIN = NOW - timedelta(seconds=ROWS)
FEATURE = "kept"


@dataclass(frozen=True)
class World:
    """A mandate with a pool, usage of one member and a credit; and one that is billed afterwards."""

    pool: str
    after: str

    @property
    def mia(self) -> str:
        return f"mia-{self.pool}"

    @property
    def ada(self) -> str:
        return f"ada-{self.pool}"

    def caller(self, role: str) -> Caller:
        return {
            "member": Caller(user_id=self.mia, mandates={self.pool: False, self.after: False}),
            "admin": Caller(user_id=self.ada, mandates={self.pool: True}),
            "nobody": Caller(user_id=f"nobody-{self.pool}"),
            "operator": system_admin(),
        }[role]


@pytest.fixture(scope="module")
async def world(api: BillingApi) -> World:
    made = World(new_mandate(), new_mandate())
    await api.directory(made.pool, {made.mia: ["member"], made.ada: ["admin"]}, name="acme", label="Acme AG")
    await api.directory(made.after, {made.mia: ["member"]}, name="beta")
    await ApplyDirectory(api.database, clock=system_clock)([user_change(made.mia, "Mia Muster")], [])
    address = {"company": "Beta AG", "street": "Weg 1", "zip": "8000", "city": "Zürich"}
    for path, body in (
        (f"credit/{made.pool}", {"amount": 10}),
        (f"settings/{made.after}", {"billingAddress": address}),
        (f"model/{made.after}", {"billingModel": "CREDIT_POSTPAY"}),
    ):
        answer = await api.call(system_admin(), "POST", f"/api/billing/admin/{path}", json=body)
        assert answer.status_code == 200, answer.text
    terms = {"markupPercent": None, "creditLimit": {"amount": "20", "currency": "CHF"}}
    answer = await api.call(system_admin(), "PUT", f"/api/billing/admin/terms/{made.after}", json=terms)
    assert answer.status_code == 200, answer.text
    usage = [
        usage_record(made.pool, made.mia, amount="0.02", feature_code=FEATURE, at=BEGIN + timedelta(seconds=number))
        for number in range(ROWS)
    ]
    await charge(api.database, *usage, usage_record(made.after, made.mia, amount="12", feature_code=FEATURE, at=BEGIN))
    return made


async def read(api: BillingApi, caller: Caller, path: str, **params: Any) -> Any:
    answer = await api.call(caller, "GET", f"/api/billing/{path}", params=params)
    assert answer.status_code == 200, answer.text
    return json.loads(answer.text, parse_float=Decimal)


@pytest.mark.parametrize(
    ("role", "path", "params", "count"),
    [
        ("member", "transactions", {}, 50),
        ("member", "transactions", {"limit": 500}, ROWS + 1),
        ("member", "transactions", {"limit": 1}, 1),
        ("member", "transactions", {"offset": 200}, 6),
        ("member", "transactions", {"offset": 206}, 0),
        ("admin", "transactions", {"limit": 500}, ROWS + 1),
        ("operator", "view/mandates/transactions", {}, 100),
        ("operator", "view/mandates/transactions", {"limit": 3}, 3),
        ("admin", "admin/transactions/{pool}", {}, 200),
        ("operator", "admin/transactions/{pool}", {"pagination": ""}, 200),
        ("admin", "admin/transactions/{pool}", {"pagination": '{"pageSize": 1000}'}, ROWS + 1),
        ("member", "view/users/transactions", {}, 50),
        ("admin", "view/users/transactions", {"pagination": '{"page": 5}'}, 6),
        ("member", "view/users/transactions", {"pagination": '{"page": 6}'}, 0),
    ],
)
async def test_a_list_has_its_length_and_the_newest_first(
    api: BillingApi, world: World, *, role: str, path: str, params: dict[str, Any], count: int
) -> None:
    answer = await read(api, world.caller(role), path.format(pool=world.pool), **params)
    rows = answer if isinstance(answer, list) else answer["items"]
    assert len(rows) == count
    times = [datetime.fromisoformat(row["createdAt"]) for row in rows]
    assert times == sorted(times, reverse=True)


async def test_the_pages_of_a_list(api: BillingApi, world: World) -> None:
    page = await read(api, world.caller("member"), "view/users/transactions")
    assert page.keys() == {"items", "pagination"}
    told = {"currentPage": 1, "pageSize": 50, "totalItems": ROWS + 1, "totalPages": 5, "sort": [], "filters": {}}
    assert page["pagination"] == told
    newest = await read(api, world.caller("admin"), f"admin/transactions/{world.pool}")
    assert newest["pagination"] is None
    asked = {
        "page": 2,
        "pageSize": 3,
        "sort": [{"field": "createdAt", "direction": "asc"}],
        "filters": {"transactionType": "DEBIT"},
    }
    second = await read(api, world.caller("member"), "view/users/transactions", pagination=json.dumps(asked))
    pages = -(-(ROWS + 1) // 3)
    assert second["pagination"] == {
        "currentPage": 2,
        "pageSize": 3,
        "totalItems": ROWS + 1,
        "totalPages": pages,
        "sort": asked["sort"],
        "filters": asked["filters"],
    }


async def test_a_transaction_has_these_names_wherever_it_is_shown(api: BillingApi, world: World) -> None:
    shown = (await read(api, world.caller("admin"), "transactions", limit=2, offset=1))[0]
    latest = NOW - timedelta(seconds=1)
    varying = {name: shown.pop(name) for name in ("id", "accountId", "referenceId", "recordedAt")}
    assert shown == {
        "transactionType": "DEBIT",
        "amount": Decimal("0.03"),
        "description": "AI Usage: anthropic",
        "referenceType": "WORKFLOW",
        "workflowId": None,
        "featureCode": FEATURE,
        "featureInstanceId": None,
        "aicoreProvider": "anthropic",
        "aicoreModel": "claude-sonnet-4-5",
        "createdByUserId": world.mia,
        "createdAt": f"{latest:%Y-%m-%dT%H:%M:%S}Z",
        "mandateId": world.pool,
        "mandateName": "Acme AG",
        "balanceAfter": 10 - ROWS * Decimal("0.03"),
        "processingTime": None,
        "bytesSent": None,
        "bytesReceived": None,
        "errorCount": None,
        "inputTokens": None,
        "outputTokens": None,
    }
    assert all(isinstance(text, str) and text for text in varying.values())
    shown |= varying
    filters = json.dumps({"filters": {"id": shown["id"]}})
    for role, path in (("admin", f"admin/transactions/{world.pool}"), ("member", "view/users/transactions")):
        (item,) = (await read(api, world.caller(role), path, pagination=filters))["items"]
        assert item == {**shown, "userId": world.mia, "userName": "Mia Muster"}
    everybodys = await read(api, system_admin(), "view/mandates/transactions")
    assert all(row.keys() == shown.keys() for row in everybodys)


async def test_balances_are_told_for_each_mandate(api: BillingApi, world: World) -> None:
    spent = ROWS * Decimal("0.03")
    of_pool = {
        "mandateId": world.pool,
        "mandateName": "Acme AG",
        "billingModel": "PREPAY_MANDATE",
        "balance": 10 - spent,
        "currency": "CHF",
        "warningThreshold": 1,
        "isWarning": False,
        "creditLimit": None,
    }
    # 18 of 20 are used, and the warning begins at a tenth of them.
    of_after = {
        "mandateId": world.after,
        "mandateName": "beta",
        "billingModel": "CREDIT_POSTPAY",
        "balance": -18,
        "currency": "CHF",
        "warningThreshold": 2,
        "isWarning": True,
        "creditLimit": 20,
    }
    told = await read(api, world.caller("member"), "balance")
    assert told == sorted((of_pool, of_after), key=lambda each: str(each["mandateId"]))
    assert await read(api, world.caller("member"), f"balance/{world.after}") == of_after
    assert await read(api, world.caller("operator"), f"balance/{world.pool}") == of_pool


async def test_accounts_have_the_pool_first(api: BillingApi, world: World) -> None:
    accounts = await read(api, world.caller("admin"), f"admin/accounts/{world.pool}")
    ids = [account.pop("id") for account in accounts]
    assert len(set(ids)) == len(ids) == 3
    common = {"mandateId": world.pool, "enabled": True, "creditLimit": None, "heldAmount": 0}
    pool = {"userId": None, "accountType": "MANDATE", "balance": 10 - ROWS * Decimal("0.03"), "warningThreshold": 1}
    own = {"accountType": "USER", "balance": 0, "warningThreshold": 0}
    assert accounts[0] == {**common, **pool}
    members = sorted(accounts[1:], key=lambda account: str(account["userId"]))
    assert members == [{**common, **own, "userId": user} for user in (world.ada, world.mia)]


async def test_values_are_told_as_texts_in_order(api: BillingApi, world: World) -> None:
    async def values(column: str, role: str = "member", **asked: Any) -> list[str]:
        found: list[str] = await read(
            api, world.caller(role), "view/users/transactions/filter-values", column=column, **asked
        )
        return found

    assert await values("amount") == ["0.03", "18"]
    assert await values("mandateName") == ["Acme AG", "beta"]
    assert await values("userName") == ["Mia Muster"]
    # What is null or empty is no value; one's own filter does not narrow a column.
    assert await values("workflowId") == []
    filters = json.dumps({"filters": {"mandateId": world.after, "amount": 18}})
    assert await values("mandateId", pagination=filters) == [world.after]
    assert await values("mandateId", pagination=json.dumps({"filters": {"mandateId": world.after}})) == sorted(
        (world.pool, world.after)
    )
    assert await values("transactionType", role="admin") == ["CREDIT", "DEBIT"]


EMPTY_PAGE = {"items": [], "pagination": None}
NOTHING_USED = {
    "totalCost": 0,
    "transactionCount": 0,
    **{f"{what}By{name}": {} for what in ("cost", "count") for name in ("Provider", "Model", "Feature")},
}


@pytest.mark.parametrize(
    ("path", "params", "expected"),
    [
        ("balance", {}, []),
        ("transactions", {}, []),
        ("providers", {}, []),
        ("view/users/balances", {}, []),
        ("view/users/transactions", {}, EMPTY_PAGE),
        ("view/users/transactions", {"scope": "mandate"}, EMPTY_PAGE),
        ("view/users/transactions", {"pagination": '{"page": 3, "search": "x"}', "onlyMine": "true"}, EMPTY_PAGE),
        ("view/users/transactions/filter-values", {"column": "amount"}, []),
        ("statistics/year", {"year": 2026}, {"period": "year", **NOTHING_USED}),
        ("statistics/day", {"year": 2026, "month": 2}, {"period": "day", **NOTHING_USED}),
    ],
)
async def test_who_has_no_mandate_is_told_of_nothing(
    api: BillingApi, world: World, path: str, params: dict[str, Any], expected: Any
) -> None:
    assert await read(api, world.caller("nobody"), path, **params) == expected


async def test_who_has_no_mandate_has_statistics_of_zeros(api: BillingApi, world: World) -> None:
    told = await read(api, world.caller("nobody"), "view/statistics", period="day", year=2026, month=2)
    series = told.pop("timeSeries")
    assert {name: told[name] for name in (*NOTHING_USED, "costByMandate")} == {**NOTHING_USED, "costByMandate": {}}
    assert [entry["date"] for entry in series] == [f"2026-02-{day:02d}" for day in range(1, 29)]
    assert {(entry["cost"], entry["totalCost"], entry["count"]) for entry in series} == {(0, 0, 0)}
    assert all(entry["byProvider"] == {} for entry in series)
