"""Who sees which transactions, in whichever form: page, part, total, filter value, export line, balance."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest

from services.billing.mandates.apply_directory import ApplyDirectory
from services.chassis.caller import Caller
from services.chassis.clock import system_clock
from tests.integration.billing.conftest import BillingApi
from tests.support.callers import checker, system_admin
from tests.support.charging import charge
from tests.support.events import new_mandate, usage_record
from tests.support.listing import user_change

USERS = "/api/billing/view/users/transactions"
CREDIT = Decimal(100)


@dataclass(frozen=True)
class World:
    """Two mandates: in one of them usage of two members, some of it of a feature instance."""

    acme: str
    beta: str

    def callers(self) -> dict[str, Caller]:
        """People by what they are."""
        acme, beta = self.acme, self.beta
        return {
            "member": Caller(user_id=f"mia-{acme}", mandates={acme: False, beta: False}),
            "admin": Caller(user_id=f"ada-{acme}", mandates={acme: True}),
            "instance admin": Caller(
                user_id=f"ina-{acme}", instances=frozenset({f"i-{acme}"}), instance_mandates=frozenset({acme})
            ),
            "instance admin in the other": Caller(
                user_id=f"ina-{acme}",
                mandates={beta: False},
                instances=frozenset({f"i-{acme}"}),
                instance_mandates=frozenset({acme}),
            ),
            "stranger": Caller(user_id=f"sam-{acme}"),
            "admin of the other": Caller(user_id=f"bob-{beta}", mandates={beta: True}),
            "operator": system_admin(),
        }


@pytest.fixture(scope="module")
async def world(api: BillingApi) -> World:
    acme, beta = new_mandate(), new_mandate()
    mia, max_, ada, bob, instance = f"mia-{acme}", f"max-{acme}", f"ada-{acme}", f"bob-{beta}", f"i-{acme}"
    await api.directory(acme, {mia: ["member"], max_: ["member"], ada: ["admin"]}, name="acme", label="Acme AG")
    await api.directory(beta, {mia: ["member"], bob: ["admin"]}, name="beta")
    await ApplyDirectory(api.database, clock=system_clock)([user_change(mia, "Mia Muster")], [])
    await charge(
        api.database,
        usage_record(acme, mia, amount="1", feature_instance_id=instance),
        usage_record(acme, mia, amount="2"),
        usage_record(acme, max_, amount="3", feature_instance_id=instance),
        usage_record(beta, mia, amount="4"),
        usage_record(beta, bob, amount="5", feature_instance_id="another"),
        # A publisher may name an instance of another mandate.
        usage_record(beta, bob, amount="6", feature_instance_id=instance),
    )
    given = await api.call(system_admin(), "POST", f"/api/billing/admin/credit/{acme}", json={"amount": int(CREDIT)})
    assert given.status_code == 200
    return World(acme, beta)


# By role and what is asked, the cost before a markup of half as much again of the rows that are seen, in both mandates;
# 100 is a credit. None: 403.
SEEN: list[tuple[str, dict[str, str], list[int] | None]] = [
    ("member", {}, [1, 2, 4]),
    ("member", {"scope": "all"}, [1, 2, 4]),
    ("member", {"scope": "personal"}, [1, 2, 4]),
    ("member", {"scope": "mandate"}, [1, 2, 4]),
    ("member", {"scope": "mandate", "mandateId": "acme"}, [1, 2]),
    ("member", {"mandateId": "beta"}, [4]),
    ("member", {"onlyMine": "true"}, [1, 2, 4]),
    ("member", {"scope": "mandate", "mandateId": "elsewhere"}, None),
    ("admin", {}, [1, 2, 3, 100]),
    ("admin", {"scope": "mandate", "mandateId": "acme"}, [1, 2, 3, 100]),
    ("admin", {"scope": "personal"}, []),
    ("admin", {"scope": "mandate", "mandateId": "acme", "onlyMine": "true"}, []),
    ("admin", {"mandateId": "beta"}, None),
    ("admin", {"scope": "personal", "mandateId": "beta"}, None),
    ("instance admin", {}, [1, 3]),
    ("instance admin", {"scope": "mandate", "mandateId": "acme"}, [1, 3]),
    ("instance admin", {"scope": "personal"}, []),
    ("instance admin", {"onlyMine": "1"}, []),
    ("instance admin", {"mandateId": "beta"}, None),
    ("instance admin in the other", {}, [1, 3]),
    ("instance admin in the other", {"mandateId": "acme"}, [1, 3]),
    ("instance admin in the other", {"mandateId": "beta"}, []),
    ("stranger", {}, []),
    ("stranger", {"scope": "personal"}, []),
    ("stranger", {"mandateId": "acme"}, None),
    ("admin of the other", {}, [4, 5, 6]),
    ("admin of the other", {"scope": "personal"}, [5, 6]),
    ("admin of the other", {"scope": "mandate", "mandateId": "acme"}, None),
    ("operator", {"mandateId": "acme"}, [1, 2, 3, 100]),
    ("operator", {"scope": "mandate", "mandateId": "beta"}, [4, 5, 6]),
    ("operator", {"scope": "all"}, [1, 2, 3, 4, 5, 6, 100]),
    ("operator", {"scope": "personal"}, []),
]


def amount_of(cost: int) -> Decimal:
    return Decimal(cost) if cost == CREDIT else Decimal(cost) * 3 / 2


@pytest.mark.parametrize(("role", "asked", "seen"), SEEN)
async def test_whatever_the_form_the_same_rows_are_seen(
    api: BillingApi, world: World, role: str, asked: dict[str, str], seen: list[int] | None
) -> None:
    caller = world.callers()[role]
    named = {"acme": world.acme, "beta": world.beta, "elsewhere": new_mandate()}
    params = {name: named.get(value, value) for name, value in asked.items()}
    # Of what other tests left the operator sees everything too.
    ours = json.dumps({"filters": {"mandateId": [world.acme, world.beta]}})
    params["pagination"] = ours

    async def get(path: str, **more: Any) -> Any:
        answer = await api.call(caller, "GET", path, params={**params, **more})
        if seen is None:
            assert (answer.status_code, answer.json()["code"]) == (403, "FORBIDDEN")
            return None
        assert answer.status_code == 200, answer.text
        csv_ = answer.headers["content-type"].startswith("text/csv")
        return answer.text if csv_ else json.loads(answer.text, parse_float=Decimal)

    page, part = await get(USERS), await get(USERS, limit=100)
    amounts = await get(f"{USERS}/filter-values", column="amount")
    users = await get(f"{USERS}/filter-values", column="userId")
    export = await get(f"{USERS}/export")
    if seen is None:
        return
    expected = sorted(map(amount_of, seen))
    assert sorted(row["amount"] for row in page["items"]) == expected
    assert part == {"items": page["items"], "nextCursor": None}
    if caller.mandates or caller.instances or caller.system_admin:
        assert page["pagination"] is None or page["pagination"]["totalItems"] == len(seen)
    else:
        assert page == {"items": [], "pagination": None}
    assert sorted(map(Decimal, amounts)) == expected
    assert users == sorted({row["userId"] for row in page["items"]})
    lines = list(csv.DictReader(io.StringIO(export, newline="")))
    assert sorted(Decimal(line["amount"]) for line in lines) == expected
    # Whose instance it is sees the usage, and no balance, under no name.
    hidden = role.startswith("instance admin")
    assert all((row["balanceAfter"] is None) == hidden for row in page["items"])
    assert all((line["balanceAfter"] == "") == hidden for line in lines)


async def test_a_balance_that_is_not_shown_is_not_told_by_filter_or_order_either(api: BillingApi, world: World) -> None:
    caller = world.callers()["instance admin"]
    rows = {}
    for name, asked in {
        "below": {"filters": {"balanceAfter": {"operator": "lt", "value": 0}}},
        "above": {"filters": {"balanceAfter": {"operator": "gte", "value": -1000}}},
        "none": {"filters": {"balanceAfter": {"operator": "isEmpty"}}},
        "up": {"sort": [{"field": "balanceAfter", "direction": "asc"}, {"field": "amount", "direction": "asc"}]},
        "down": {"sort": [{"field": "balanceAfter", "direction": "desc"}, {"field": "amount", "direction": "asc"}]},
    }.items():
        answer = await api.call(caller, "GET", USERS, params={"pagination": json.dumps(asked)})
        rows[name] = [row["amount"] for row in answer.json()["items"]]
    assert rows["below"] == rows["above"] == []
    assert sorted(rows["none"]) == [1.5, 4.5]
    assert rows["up"] == rows["down"] == [1.5, 4.5]
    values = await api.call(caller, "GET", f"{USERS}/filter-values", params={"column": "balanceAfter"})
    assert values.json() == []


async def test_the_list_of_a_mandate_is_its_administrators(api: BillingApi, world: World) -> None:
    path = f"/api/billing/admin/transactions/{world.acme}"
    for role, caller in world.callers().items():
        for params in ({}, {"pagination": ""}, {"pagination": "{}"}, {"pagination": '{"pageSize": 2}'}):
            answer = await api.call(caller, "GET", path, params=params)
            if role not in ("admin", "operator"):
                assert (answer.status_code, answer.json()["code"]) == (403, "FORBIDDEN")
                continue
            assert answer.status_code == 200, answer.text
            shown = answer.json()
            if params.get("pagination") == '{"pageSize": 2}':
                assert len(shown["items"]) == 2
                assert shown["pagination"] == {
                    "currentPage": 1,
                    "pageSize": 2,
                    "totalItems": 4,
                    "totalPages": 2,
                    "sort": [],
                    "filters": {},
                }
            else:
                assert shown["pagination"] is None
                assert sorted(row["amount"] for row in shown["items"]) == [1.5, 3, 4.5, 100]
    nowhere = f"/api/billing/admin/transactions/{new_mandate()}"
    for caller, status in ((system_admin(), 404), (world.callers()["admin"], 403), (checker(), 403)):
        assert (await api.call(caller, "GET", nowhere)).status_code == status


async def test_a_row_is_shown_with_all_its_names(api: BillingApi, world: World) -> None:
    params = {"pagination": json.dumps({"filters": {"amount": 1.5}})}
    answer = await api.call(world.callers()["admin"], "GET", USERS, params=params)
    (row,) = json.loads(answer.text, parse_float=Decimal)["items"]
    mia = f"mia-{world.acme}"
    ids = {
        name: row.pop(name) for name in ("id", "accountId", "createdAt", "recordedAt", "referenceId", "balanceAfter")
    }
    assert row == {
        "transactionType": "DEBIT",
        "amount": Decimal("1.500000"),
        "description": "AI Usage: anthropic",
        "referenceType": "WORKFLOW",
        "workflowId": None,
        "featureCode": "chat",
        "featureInstanceId": f"i-{world.acme}",
        "aicoreProvider": "anthropic",
        "aicoreModel": "claude-sonnet-4-5",
        "createdByUserId": mia,
        "mandateId": world.acme,
        "mandateName": "Acme AG",
        "processingTime": None,
        "bytesSent": None,
        "bytesReceived": None,
        "errorCount": None,
        "inputTokens": None,
        "outputTokens": None,
        "userId": mia,
        "userName": "Mia Muster",
    }
    assert all(ids.values())
    credit = {"pagination": json.dumps({"filters": {"transactionType": "CREDIT"}})}
    (row,) = (await api.call(world.callers()["admin"], "GET", USERS, params=credit)).json()["items"]
    assert (row["userId"], row["userName"], row["createdByUserId"]) == ("root", "root", "root")


async def test_the_newest_of_all_mandates_are_the_operators(api: BillingApi, world: World) -> None:
    path = "/api/billing/view/mandates/transactions"
    answer = await api.call(system_admin(), "GET", path, params={"limit": 1000})
    assert {world.acme, world.beta} <= {row["mandateId"] for row in answer.json()}
    times = [datetime.fromisoformat(row["createdAt"]) for row in answer.json()]
    assert times == sorted(times, reverse=True)
    assert len((await api.call(system_admin(), "GET", path, params={"limit": 1})).json()) == 1
    for caller in (world.callers()["admin"], world.callers()["instance admin"], checker()):
        assert (await api.call(caller, "GET", path)).status_code == 403
    for limit in ("0", "1001", "x", "-1"):
        refused = await api.call(system_admin(), "GET", path, params={"limit": limit})
        assert (refused.status_code, refused.json()["code"]) == (400, "MALFORMED_PARAMETER")


async def test_balances_of_members_are_those_of_ones_own_mandates(api: BillingApi, world: World) -> None:
    path = "/api/billing/view/users/balances"

    async def seen(role: str) -> list[tuple[str, str]]:
        answer = await api.call(world.callers()[role], "GET", path)
        assert answer.status_code == 200
        return [(row["mandateId"], row["userId"]) for row in answer.json()]

    acme, beta = world.acme, world.beta
    ada, max_, mia, bob = f"ada-{acme}", f"max-{acme}", f"mia-{acme}", f"bob-{beta}"
    assert await seen("admin") == [(acme, ada), (acme, max_), (acme, mia)]
    assert await seen("member") == sorted([(acme, mia), (beta, mia)])
    assert await seen("admin of the other") == sorted([(beta, bob), (beta, mia)])
    assert await seen("instance admin") == await seen("stranger") == []
    assert {(acme, mia), (beta, bob)} <= set(await seen("operator"))


async def test_balances_are_the_budgets_or_the_pool(api: BillingApi, world: World) -> None:
    mandate = new_mandate()
    mia, tom = f"mia-{mandate}", f"tom-{mandate}"
    await api.directory(mandate, {mia: ["member"], tom: ["member"]}, label="Budgets")
    admin = Caller(user_id="boss", mandates={mandate: True})

    async def both() -> tuple[Any, Any]:
        all_ = await api.call(system_admin(), "GET", "/api/billing/view/mandates/balances")
        assert all_.status_code == 200
        (of_mandate,) = [row for row in json.loads(all_.text, parse_float=Decimal) if row["mandateId"] == mandate]
        members = await api.call(admin, "GET", "/api/billing/view/users/balances")
        return of_mandate, json.loads(members.text, parse_float=Decimal)

    credit = f"/api/billing/admin/credit/{mandate}"
    assert (await api.call(system_admin(), "POST", credit, json={"amount": 30})).status_code == 200
    of_mandate, members = await both()
    assert of_mandate == {
        "mandateId": mandate,
        "mandateName": "Budgets",
        "totalBalance": 30,
        "userCount": 2,
        "warningThresholdPercent": 10,
        "billingModel": "PREPAY_MANDATE",
        "defaultUserCredit": 10,
        "blockOnZeroBalance": True,
    }
    assert [(row["balance"], row["warningThreshold"], row["isWarning"]) for row in members] == [(0, 0, False)] * 2
    await api.switch(mandate, "PREPAY_USER")
    # Half of the pool, and the opening credit.
    assert (await api.call(system_admin(), "POST", credit, json={"amount": -24, "userId": tom})).status_code == 200
    of_mandate, members = await both()
    assert (of_mandate["totalBalance"], of_mandate["billingModel"]) == (26, "PREPAY_USER")
    shown = {row["userId"]: row for row in members}
    account_id = shown[mia].pop("accountId")
    assert account_id.isdigit()
    assert shown[mia] == {
        "mandateId": mandate,
        "mandateName": "Budgets",
        "userId": mia,
        "userName": mia,
        "balance": 25,
        "warningThreshold": Decimal("2.5"),
        "isWarning": False,
        "enabled": True,
    }
    assert (shown[tom]["balance"], shown[tom]["isWarning"]) == (1, True)
    await api.switch(mandate, "UNLIMITED")
    of_mandate, members = await both()
    assert (of_mandate["totalBalance"], [row["balance"] for row in members]) == (0, [0, 0])
    for caller in (admin, world.callers()["member"], checker()):
        assert (await api.call(caller, "GET", "/api/billing/view/mandates/balances")).status_code == 403
