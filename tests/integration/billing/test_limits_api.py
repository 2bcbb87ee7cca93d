"""GET, PUT /api/billing/admin/limits, and limits at checks and holds as a program meets them: also many at once."""

import asyncio
import json
from itertools import pairwise
from typing import Any

import httpx
import pytest

from services.billing.checks.set_limits import LIMITS_MAX
from services.chassis.caller import Caller
from tests.integration.billing.conftest import BillingApi
from tests.support.callers import admin_of, checker, member_of, system_admin
from tests.support.charging import charge
from tests.support.events import new_mandate, usage_record
from tests.support.holding import Holding, chf, publisher
from tests.support.ledger import Books

PATH = "/api/billing/admin/limits/{}"
GOOD = {"kind": "model", "key": "gpt-5", "period": "month", "limit": chf("5")}
Limits = list[dict[str, Any]]


@pytest.fixture
def holding(api: BillingApi, books: Books, mandate: str) -> Holding:
    return Holding(api, books, mandate)


def limit(kind: str, key: str, amount: str, period: str = "month") -> dict[str, Any]:
    return {"kind": kind, "key": key, "period": period, "limit": chf(amount)}


async def put(api: BillingApi, mandate: str, body: Any, **request: Any) -> httpx.Response:
    caller = request.pop("caller", admin_of(mandate))
    return await api.call(caller, "PUT", PATH.format(mandate), json=body, **request)


async def given(api: BillingApi, mandate: str, *limits: dict[str, Any]) -> None:
    answer = await put(api, mandate, list(limits))
    assert answer.status_code == 200, answer.text


async def get(api: BillingApi, mandate: str) -> Limits:
    answer = await api.call(admin_of(mandate), "GET", PATH.format(mandate))
    assert answer.status_code == 200, answer.text
    found: Limits = answer.json()
    return found


async def test_a_list_replaces_the_one_before_and_is_audited(api: BillingApi, mandate: str, books: Books) -> None:
    assert await get(api, mandate) == []
    first = [
        limit("provider", "öffentlich/a b", "12.5", "day"),
        limit("member", "user-1", "10000"),
        limit("member", "user-1", "0", "day"),
        limit("feature", "chat-1", "999999999.999999"),
    ]
    shown = [
        limit("feature", "chat-1", "999999999.999999"),
        limit("member", "user-1", "0.000000", "day"),
        limit("member", "user-1", "10000.000000"),
        limit("provider", "öffentlich/a b", "12.500000", "day"),
    ]
    answer = await put(api, mandate, first)
    assert (answer.status_code, answer.json()) == (200, shown)
    assert await get(api, mandate) == shown
    # What is shown may be sent back as it is, with whatever a frontend has added to it.
    assert (await put(api, mandate, [{**each, "id": 7} for each in shown])).json() == shown
    second = [limit("model", "gpt-5", "3.000000")]
    assert (await put(api, mandate, second, caller=system_admin())).json() == second
    assert (await put(api, mandate, [])).json() == await get(api, mandate) == []
    rows = await books.fetch(
        "SELECT l.actor, l.before, l.after FROM audit_log l JOIN mandates m ON m.no = l.mandate_no"
        " WHERE m.id = $1 AND l.action = 'limits' ORDER BY l.id",
        mandate,
    )
    lists = [[], shown, shown, second, []]
    assert [(json.loads(row["before"]), json.loads(row["after"])) for row in rows] == [
        ({"limits": before}, {"limits": after}) for before, after in pairwise(lists)
    ]
    assert [row["actor"] for row in rows] == ["admin-1", "admin-1", "root", "admin-1"]
    assert await books.failing() == {}


@pytest.mark.parametrize(
    ("caller", "status"),
    [
        (member_of("M"), 403),
        (admin_of("another"), 403),
        (checker({"usage:check": True, "usage:write": True}), 403),
        (None, 401),
    ],
)
async def test_only_an_administrator_of_the_mandate_may(
    api: BillingApi, mandate: str, caller: Caller | None, status: int
) -> None:
    if caller is not None and "M" in caller.mandates:
        caller = member_of(mandate)
    assert (await api.call(caller, "GET", PATH.format(mandate))).status_code == status
    # Access comes first, whatever the body.
    for body in ([GOOD], [{}], "x"):
        assert (await put(api, mandate, body, caller=caller)).status_code == status
    assert await get(api, mandate) == []


async def test_a_mandate_that_the_directory_does_not_know_has_no_limits(api: BillingApi, books: Books) -> None:
    unknown = new_mandate()
    await charge(api.database, usage_record(unknown))
    for answer in (
        await api.call(system_admin(), "GET", PATH.format(unknown)),
        await put(api, unknown, [GOOD], caller=system_admin()),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "MANDATE_UNKNOWN")
    assert await books.value("SELECT count(*) FROM mandates WHERE id = $1 AND limits_since IS NOT NULL", unknown) == 0


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (None, "body"),
        ({}, "body"),
        (GOOD, "body"),
        ("x", "body"),
        ([7], "0"),
        ([GOOD, None], "1"),
        ([GOOD | {"kind": "team"}], "0.kind"),
        ([GOOD | {"kind": None}], "0.kind"),
        ([GOOD | {"period": "week"}], "0.period"),
        ([GOOD, {name: GOOD[name] for name in ("kind", "key", "period")}], "1.limit"),
        ([GOOD | {"key": ""}], "0.key"),
        ([GOOD | {"key": 7}], "0.key"),
        ([GOOD | {"key": "x" * 121}], "0.key"),
        ([GOOD | {"key": "a\x00"}], "0.key"),
        ([GOOD | {"kind": "member", "key": "no id"}], "0.key"),
        ([GOOD | {"kind": "feature", "key": "x" * 65}], "0.key"),
        ([GOOD | {"limit": 5}], "0.limit"),
        ([GOOD | {"limit": None}], "0.limit"),
        ([GOOD | {"limit": {"amount": 5, "currency": "CHF"}}], "0.limit.amount"),
        ([GOOD | {"limit": chf("-0.01")}], "0.limit.amount"),
        ([GOOD | {"limit": chf("1e9")}], "0.limit.amount"),
        ([GOOD | {"limit": chf("0.0000001")}], "0.limit.amount"),
        ([GOOD | {"limit": {"amount": "5", "currency": "EUR"}}], "0.limit.currency"),
        ([GOOD | {"limit": {"amount": "5", "currency": "chf"}}], "0.limit.currency"),
        ([GOOD, GOOD | {"period": "day"}, GOOD | {"limit": chf("6")}], "2"),
        ([GOOD | {"key": f"m-{number}"} for number in range(LIMITS_MAX + 1)], "body"),
    ],
)
async def test_what_is_no_limit_names_its_field(api: BillingApi, mandate: str, body: Any, field: str) -> None:
    answer = await put(api, mandate, body)
    document = answer.json()
    assert (answer.status_code, document["code"]) == (422, "VALIDATION"), answer.text
    assert [fault["field"] for fault in document["errors"]] == [field]
    german = (await put(api, mandate, body, headers={"Accept-Language": "de"})).json()
    assert german["errors"][0]["message"] != document["errors"][0]["message"]
    assert await get(api, mandate) == []


async def test_as_many_limits_as_there_may_be_are_taken(api: BillingApi, mandate: str, books: Books) -> None:
    many = [limit("model", f"m-{number:04}", "1.000000") for number in range(LIMITS_MAX)]
    answer = await put(api, mandate, many)
    assert (answer.status_code, answer.json()) == (200, many)
    await charge(api.database, *(usage_record(mandate, model=f"m-{number:04}", amount="1") for number in range(50)))
    assert await books.failing() == {}


async def test_a_refused_hold_says_which_limit_it_was(holding: Holding) -> None:
    await holding.credit(100)
    await given(holding.api, holding.mandate, limit("model", "gpt-5", "2.5"), limit("member", "user-1", "7", "day"))
    for asked, english, german in (
        (
            {"amount": "3", "model": "gpt-5"},
            "2.500000 CHF a month for the model gpt-5",
            "pro Monat für das Modell gpt-5",
        ),
        ({"amount": "8"}, "7.000000 CHF a day for the member user-1", "pro Tag für das Mitglied user-1"),
    ):
        refused = await holding.ask(**asked)
        document = refused.json()
        assert (refused.status_code, document["code"]) == (402, "SUB_LIMIT_EXCEEDED"), refused.text
        assert document["detail"] == f"Nothing is reserved: the limit of {english} would be exceeded."
        body = {"mandateId": holding.mandate, "userId": "user-1", "estimatedCost": chf(asked.pop("amount")), **asked}
        in_german = {"Accept-Language": "de"}
        said = await holding.api.call(publisher(), "POST", "/api/billing/holds", json=body, headers=in_german)
        assert said.json()["detail"].endswith(f"{german} würde überschritten.")
        answer = (await holding.api.call(publisher(), "POST", "/api/billing/check", json=body)).json()
        assert (answer["allowed"], answer["reason"]) == (False, "SUB_LIMIT_EXCEEDED")
        # The figures are those of the balance, as ever.
        assert (answer["currentBalance"], answer["shortfall"]) == (chf("100.000000"), chf("0.000000"))
    assert await holding.held() == {}


async def test_what_the_estimate_names_is_limited_where_nothing_else_is_named(holding: Holding) -> None:
    api, mandate, model = holding.api, holding.mandate, f"model-{new_mandate()}"
    await holding.credit(100)
    await api.price(model, "0.01")
    await api.price(f"{model}-free", "0")
    await given(api, mandate, limit("model", model, "1.5"), limit("provider", "anthropic", "2"))
    estimate = {"provider": "anthropic", "model": model, "tokens": {"input": 100}}
    # A hundred tokens are 1.50 with the markup.
    assert (await holding.ask(None, estimate=estimate)).status_code == 201
    for refused in (estimate, estimate | {"tokens": {"input": 1}}, {"cost": chf("0.1"), "model": model}):
        assert (await holding.ask(None, estimate=refused)).json()["code"] == "SUB_LIMIT_EXCEEDED"
    # The name beside the estimate counts before the one in it.
    assert (await holding.ask(None, estimate=estimate | {"tokens": {"input": 20}}, model="other")).status_code == 201
    assert (await holding.ask(None, estimate={"cost": chf("0.2"), "provider": "anthropic"})).status_code == 402
    # Nothing is left of the model's limit, and yet what is free is given.
    free = {"provider": "anthropic", "model": f"{model}-free", "tokens": {"input": 5}}
    await given(api, mandate, limit("model", f"{model}-free", "0"), limit("member", "user-1", "0"))
    made = await holding.ask(None, estimate=free)
    assert (made.status_code, made.json()["amount"]) == (201, chf("0.000000"))
    assert (await holding.ask("0", model=f"{model}-free")).json()["code"] == "SUB_LIMIT_EXCEEDED"


async def test_what_is_free_is_not_refused_for_money(holding: Holding) -> None:
    model = f"model-{new_mandate()}"
    await holding.api.price(model, "0")
    estimate = {"provider": "anthropic", "model": model, "tokens": {"input": 5}}
    body = {"mandateId": holding.mandate, "userId": "user-1"}
    answer = await holding.api.call(publisher(), "POST", "/api/billing/check", json={**body, "estimate": estimate})
    assert (answer.json()["allowed"], answer.json()["currentBalance"]) == (True, chf("0.000000"))
    assert (await holding.ask(None, estimate=estimate)).status_code == 201
    assert (await holding.check("0"))["reason"] == "INSUFFICIENT_BALANCE"
    assert (await holding.ask(None, estimate={"cost": chf("0.000001")})).status_code == 402


async def test_fifty_holds_at_once_never_exceed_a_limit(holding: Holding) -> None:
    api, mandate = holding.api, holding.mandate
    await holding.credit(1_000)
    await given(
        api,
        mandate,
        limit("member", "user-1", "9"),
        limit("model", "gpt-5", "7", "day"),
        limit("provider", "openai", "8"),
    )
    named = [{"model": "gpt-5", "provider": "openai"}, {"model": "gpt-5"}, {"provider": "openai"}, {}]
    asked = [("1", f"user-{1 + number % 2}", named[number % 4]) for number in range(50)]
    answers = await asyncio.gather(*(holding.ask(amount, user, **more) for amount, user, more in asked))
    taken = [each for each, answer in zip(asked, answers, strict=True) if answer.status_code == 201]
    refused = {answer.json()["code"] for answer in answers if answer.status_code != 201}
    assert refused == {"SUB_LIMIT_EXCEEDED"}
    # Numbers 0 and 2 of each four are of user-1, 1 and 3 of user-2, who is not limited as such.
    of_member = sum(user == "user-1" for _, user, _ in taken)
    of_model = sum("model" in more for _, _, more in taken)
    of_provider = sum("provider" in more for _, _, more in taken)
    assert of_member <= 9
    assert of_model <= 7
    assert of_provider <= 8
    # One more is refused exactly where nothing is left.
    for user, more, full in (
        ("user-2", {"model": "gpt-5"}, of_model == 7),
        ("user-2", {"provider": "openai"}, of_provider == 8),
        ("user-1", {}, of_member == 9),
    ):
        assert ((await holding.ask("1", user, **more)).status_code == 402) is full
    assert await holding.books.failing() == {}


async def test_a_capture_moves_what_was_held_to_what_was_spent(holding: Holding) -> None:
    api, mandate = holding.api, holding.mandate
    await holding.credit(100)
    await given(api, mandate, limit("model", "gpt-5", "5"))

    async def left(amount: str) -> bool:
        """Whether exactly so much is left."""
        answers = [await holding.ask(each, model="gpt-5") for each in (f"{amount}.000001", amount)]
        if answers[1].status_code == 201:
            await holding.void(answers[1].json()["holdId"])
        return [answer.status_code for answer in answers] == [402, 201]

    hold = await holding.hold("3", provider="openai", model="gpt-5")
    assert await left("2")
    # 1 with the markup of 50 percent.
    assert (await holding.capture(hold, cost=chf("2"))).status_code == 200
    assert await left("2")
    more = await holding.hold("1", provider="openai", model="gpt-5")
    assert await left("1")
    assert (await holding.capture(more, cost=chf("0"))).status_code == 200
    assert await left("2")
    # What is captured beyond the hold is spent all the same.
    last = await holding.hold("2", provider="openai", model="gpt-5")
    assert (await holding.capture(last, cost=chf("20"))).status_code == 200
    assert (await holding.ask("0", model="gpt-5")).json()["code"] == "SUB_LIMIT_EXCEEDED"
    assert await holding.books.failing() == {}


async def test_limits_that_are_set_among_charges_count_each_of_them_once(holding: Holding, books: Books) -> None:
    api, mandate = holding.api, holding.mandate
    lists = [[limit("member", "user-1", "5"), limit("model", f"m-{number % 2}", "5")] for number in range(8)]

    async def charges(worker: int) -> None:
        for number in range(12):
            record = usage_record(mandate, f"user-{1 + number % 2}", model=f"m-{(worker + number) % 2}", amount="0.1")
            await charge(api.database, record)

    async def settings() -> None:
        for number in range(8):
            await given(api, mandate, *(lists[number] if number % 3 else []))
            assert "limits" not in await books.failing()

    await asyncio.gather(*(charges(worker) for worker in range(3)), settings())
    assert await get(api, mandate)
    assert await books.charged([mandate]) == 36
    assert await books.failing() == {}
    spent = await books.value(
        "SELECT sum(c.cost) FROM limit_costs c JOIN mandates m ON m.no = c.mandate_no"
        " WHERE m.id = $1 AND c.kind = 'member'",
        mandate,
    )
    assert spent == 18 * 150_000
