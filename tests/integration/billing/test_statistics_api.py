"""The paths of statistics: what they answer whom, word for word, and what they refuse."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from services.chassis.caller import Caller
from services.chassis.database import Database
from tests.integration.billing.conftest import BillingApi
from tests.support.callers import admin_of, checker, member_of, system_admin
from tests.support.events import usage_record, voided_record
from tests.support.used import LATER, made, use


@dataclass(frozen=True)
class Tenants:
    """Two mandates with usage in May 2026, of two members and two instances."""

    acme: str
    other: str


@pytest.fixture(scope="module")
async def tenants(database: Database) -> Tenants:
    acme, other = await made(database, label="Acme AG"), await made(database, label="Other GmbH")
    first, last = datetime(2026, 5, 1, 10, tzinfo=UTC), datetime(2026, 5, 31, 10, tzinfo=UTC)
    openai = {"provider": "openai", "model": "gpt-5", "feature_code": "search", "feature_instance_id": "search-1"}
    cancelled = usage_record(acme, "user-1", amount="100", at=first)
    records = [
        usage_record(acme, "user-1", amount="1.25", at=first, feature_instance_id="chat-1"),
        usage_record(acme, "user-2", amount="2", at=last, **openai),
        usage_record(acme, "user-1", amount="0.000001", at=last, **openai),
        usage_record(other, "user-1", amount="8", at=first, feature_code=None),
        cancelled,
    ]
    await use(database, records)
    await use(database, [voided_record(acme, cancelled.event_id, at=LATER)])
    return Tenants(acme, other)


CLAUDE = "claude-sonnet-4-5"
BY = ("cost", "count")


def books(costs: dict[str, dict[str, tuple[str, int]]], series: dict[str, tuple[str, int]]) -> dict[str, Any]:
    """An answer, by costs and counts under each name, and days with usage."""
    found: dict[str, Any] = {"series": series}
    for what, by_name in costs.items():
        found[f"costBy{what}"] = {name: cost for name, (cost, _) in by_name.items()}
        found[f"countBy{what}"] = {name: count for name, (_, count) in by_name.items()}
    found["totalCost"] = str(sum((Decimal(cost) for cost, _ in series.values()), Decimal("0.000000")))
    found["transactionCount"] = sum(count for _, count in series.values())
    return found


ACME = books(
    {
        "Provider": {"anthropic": ("1.250000", 1), "openai": ("2.000001", 2)},
        "Model": {CLAUDE: ("1.250000", 1), "gpt-5": ("2.000001", 2)},
        "Feature": {"Acme AG / chat": ("1.250000", 1), "Acme AG / search": ("2.000001", 2)},
        "Mandate": {"Acme AG": ("3.250001", 3)},
    },
    {"1 May": ("1.250000", 1), "31 May": ("2.000001", 2)},
)
OTHER = books(
    {
        "Provider": {"anthropic": ("8.000000", 1)},
        "Model": {CLAUDE: ("8.000000", 1)},
        "Feature": {"Other GmbH / unknown": ("8.000000", 1)},
        "Mandate": {"Other GmbH": ("8.000000", 1)},
    },
    {"1 May": ("8.000000", 1)},
)
OWN_IN_ACME = books(
    {
        "Provider": {"anthropic": ("1.250000", 1), "openai": ("0.000001", 1)},
        "Model": {CLAUDE: ("1.250000", 1), "gpt-5": ("0.000001", 1)},
        "Feature": {"Acme AG / chat": ("1.250000", 1), "Acme AG / search": ("0.000001", 1)},
        "Mandate": {"Acme AG": ("1.250001", 2)},
    },
    {"1 May": ("1.250000", 1), "31 May": ("0.000001", 1)},
)
OWN = books(
    {
        "Provider": {"anthropic": ("9.250000", 2), "openai": ("0.000001", 1)},
        "Model": {CLAUDE: ("9.250000", 2), "gpt-5": ("0.000001", 1)},
        "Feature": {
            "Acme AG / chat": ("1.250000", 1),
            "Acme AG / search": ("0.000001", 1),
            "Other GmbH / unknown": ("8.000000", 1),
        },
        "Mandate": {"Acme AG": ("1.250001", 2), "Other GmbH": ("8.000000", 1)},
    },
    {"1 May": ("9.250000", 2), "31 May": ("0.000001", 1)},
)
SEARCH = books(
    {
        "Provider": {"openai": ("2.000001", 2)},
        "Model": {"gpt-5": ("2.000001", 2)},
        "Feature": {"Acme AG / search": ("2.000001", 2)},
        "Mandate": {"Acme AG": ("2.000001", 2)},
    },
    {"31 May": ("2.000001", 2)},
)
# All of Acme, and all of the other mandate, which is one member's.
ACME_AND_OTHER = books(
    {
        "Provider": {"anthropic": ("9.250000", 2), "openai": ("2.000001", 2)},
        "Model": {CLAUDE: ("9.250000", 2), "gpt-5": ("2.000001", 2)},
        "Feature": {
            "Acme AG / chat": ("1.250000", 1),
            "Acme AG / search": ("2.000001", 2),
            "Other GmbH / unknown": ("8.000000", 1),
        },
        "Mandate": {"Acme AG": ("3.250001", 3), "Other GmbH": ("8.000000", 1)},
    },
    {"1 May": ("9.250000", 2), "31 May": ("2.000001", 2)},
)
NOTHING = books({"Provider": {}, "Model": {}, "Feature": {}, "Mandate": {}}, {})


def caller(who: str, tenants: Tenants) -> Caller:
    """The people of the table."""
    return {
        "root": system_admin(),
        "admin of both": admin_of(tenants.acme, tenants.other),
        "admin of acme": admin_of(tenants.acme),
        "member of both": member_of(tenants.acme, tenants.other),
        "member of acme": member_of(tenants.acme),
        "admin of acme, member of other": Caller(user_id="user-1", mandates={tenants.acme: True, tenants.other: False}),
        "admin of search": Caller(
            user_id="outsider", instances=frozenset({"search-1"}), instance_mandates=frozenset({tenants.acme})
        ),
        "member of acme, admin of search": Caller(
            user_id="user-1",
            mandates={tenants.acme: False},
            instances=frozenset({"search-1"}),
            instance_mandates=frozenset({tenants.acme}),
        ),
        "stranger": Caller(user_id="user-1"),
    }[who]


def answer_of(expected: dict[str, Any]) -> dict[str, Any]:
    """The whole answer for May 2026, with every day of it."""
    series = []
    for day in range(1, 32):
        cost, count = expected["series"].get(f"{day} May", ("0.000000", 0))
        providers = {} if not count else _providers_of(expected, day)
        entry = {"label": f"{day} May", "date": f"2026-05-{day:02}", "cost": cost, "totalCost": cost}
        series.append({**entry, "count": count, "byProvider": providers})
    return {**{name: value for name, value in expected.items() if name != "series"}, "timeSeries": series}


def _providers_of(expected: dict[str, Any], day: int) -> dict[str, str]:
    # In these books anthropic was used on the first of the month alone, openai on the last.
    provider = "anthropic" if day == 1 else "openai"
    return {provider: expected["series"][f"{day} May"][0]}


@pytest.mark.parametrize(
    ("who", "query", "expected"),
    [
        ("admin of both", "", ACME_AND_OTHER),
        ("admin of acme", "", ACME),
        ("admin of acme", "&scope=mandate", ACME),
        ("admin of acme", "&scope=mandate&mandateId={acme}", ACME),
        ("admin of acme", "&scope=personal", NOTHING),
        ("admin of acme", "&onlyMine=true", NOTHING),
        ("admin of both", "&scope=mandate&mandateId={other}", OTHER),
        ("root", "&scope=mandate&mandateId={acme}", ACME),
        ("root", "&scope=all&mandateId={other}", OTHER),
        ("root", "&scope=personal", NOTHING),
        ("member of acme", "", OWN_IN_ACME),
        ("member of acme", "&scope=mandate&mandateId={acme}", OWN_IN_ACME),
        ("member of both", "&scope=all", OWN),
        ("member of both", "&scope=personal", OWN),
        ("member of both", "&scope=mandate&mandateId={other}", OTHER),
        ("admin of acme, member of other", "", ACME_AND_OTHER),
        ("admin of acme, member of other", "&onlyMine=true", OWN),
        ("admin of acme, member of other", "&scope=mandate&mandateId={acme}&onlyMine=true", OWN_IN_ACME),
        ("admin of search", "", SEARCH),
        ("admin of search", "&scope=personal", NOTHING),
        ("stranger", "", NOTHING),
        ("stranger", "&scope=personal", NOTHING),
    ],
)
async def test_each_sees_what_is_theirs(
    api: BillingApi, tenants: Tenants, who: str, query: str, expected: dict[str, Any]
) -> None:
    query = query.format(acme=tenants.acme, other=tenants.other)
    path = f"/api/billing/view/statistics?period=day&year=2026&month=5{query}"
    answer = await api.call(caller(who, tenants), "GET", path)
    assert answer.status_code == 200, answer.text
    told = json.loads(answer.text, parse_float=str)
    assert told == answer_of(expected)


async def test_an_administrator_of_an_instance_who_is_a_member_sees_both(api: BillingApi, tenants: Tenants) -> None:
    path = "/api/billing/view/statistics?year=2026"
    answer = await api.call(caller("member of acme, admin of search", tenants), "GET", path)
    told = json.loads(answer.text, parse_float=str)
    assert told["costByFeature"] == {"Acme AG / chat": "1.250000", "Acme AG / search": "2.000001"}
    assert [entry["month"] for entry in told["timeSeries"]][:5] == [f"2026-{month:02}" for month in range(1, 6)]
    assert told["timeSeries"][4] == {
        "label": "May 2026",
        "month": "2026-05",
        "cost": "3.250001",
        "totalCost": "3.250001",
        "count": 3,
        "byProvider": {"anthropic": "1.250000", "openai": "2.000001"},
    }


@pytest.mark.parametrize(
    ("who", "costs", "counts"),
    [
        ("admin of acme", {"user-1": "1.250001", "user-2": "2.000000"}, {"user-1": 2, "user-2": 1}),
        ("member of both", {"user-1": "9.250001"}, {"user-1": 3}),
        ("admin of search", {"user-1": "0.000001", "user-2": "2.000000"}, {"user-1": 1, "user-2": 1}),
        ("stranger", {}, {}),
    ],
)
async def test_members_are_shown_where_they_are_asked_for(
    api: BillingApi, tenants: Tenants, who: str, costs: dict[str, str], counts: dict[str, int]
) -> None:
    for query in ("year=2026", "period=day&year=2026&month=5"):
        path = f"/api/billing/view/statistics?{query}&byMember=true"
        told = json.loads((await api.call(caller(who, tenants), "GET", path)).text, parse_float=str)
        assert (told["costByMember"], told["countByMember"]) == (costs, counts)


async def test_year_is_read_as_month_and_the_month_of_a_year_is_passed_over(api: BillingApi, tenants: Tenants) -> None:
    asked = ("?year=2026", "?period=month&year=2026", "?period=year&year=2026", "?period=year&year=2026&month=nonsense")
    answers = [await api.call(admin_of(tenants.acme), "GET", f"/api/billing/view/statistics{query}") for query in asked]
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1
    german = await api.call(
        Caller(**{**dict(admin_of(tenants.acme)), "language": "de"}),
        "GET",
        "/api/billing/view/statistics?period=day&year=2026&month=3",
    )
    assert [entry["label"] for entry in german.json()["timeSeries"]][:2] == ["1. März", "2. März"]


async def test_ones_own_are_of_the_mandate_of_the_context_or_of_all(api: BillingApi, tenants: Tenants) -> None:
    for context, expected in ((None, OWN), (tenants.acme, OWN_IN_ACME)):
        asking = Caller(user_id="user-1", mandates={tenants.acme: True, tenants.other: False}, context_mandate=context)
        for query in ("day?year=2026&month=5", "month?year=2026", "year?year=2026"):
            answer = await api.call(asking, "GET", f"/api/billing/statistics/{query}")
            told = json.loads(answer.text, parse_float=str)
            assert told == {
                "period": query.split("?")[0],
                "totalCost": expected["totalCost"],
                "transactionCount": expected["transactionCount"],
                **{f"{what}By{name}": expected[f"{what}By{name}"] for what in BY for name in ("Provider", "Model")},
                **{
                    f"{what}ByFeature": {
                        name.split(" / ")[1]: each for name, each in expected[f"{what}ByFeature"].items()
                    }
                    for what in BY
                },
            }
    empty = await api.call(asking, "GET", "/api/billing/statistics/day?year=2026&month=6")
    assert Decimal(str(empty.json()["totalCost"])) == 0
    assert empty.json()["costByFeature"] == {}


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("statistics/day?year=2026", "month"),
        ("statistics/day?year=2026&month=0", "month"),
        ("statistics/day?year=2026&month=13", "month"),
        ("statistics/day?year=2026&month=null", "month"),
        ("statistics/day?month=5", "year"),
        ("statistics/month", "year"),
        ("statistics/year?year=", "year"),
        ("statistics/year?year=0", "year"),
        ("statistics/year?year=-1", "year"),
        ("statistics/year?year=10000", "year"),
        ("statistics/year?year=2026.0", "year"),
        ("statistics/week?year=2026", "period"),
        ("statistics/DAY?year=2026&month=5", "period"),
        ("view/statistics?period=week", "period"),
        ("view/statistics?period=", "period"),
        ("view/statistics?period=day&month=13", "month"),
        ("view/statistics?period=day&year=2026&month=", "month"),
        ("view/statistics?year=twenty", "year"),
        ("view/statistics?scope=everything", "scope"),
        ("view/statistics?onlyMine=perhaps", "onlyMine"),
        ("view/statistics?byMember=perhaps", "byMember"),
        ("view/statistics?mandateId=%00", "mandateId"),
    ],
)
async def test_what_is_malformed_is_400_and_named(api: BillingApi, tenants: Tenants, path: str, named: str) -> None:
    answer = await api.call(admin_of(tenants.acme), "GET", f"/api/billing/{path}")
    assert (answer.status_code, answer.json()["code"]) == (400, "MALFORMED_PARAMETER")
    assert answer.json()["detail"].startswith(f"{named} is malformed: ")


async def test_the_years_at_both_ends_are_empty(api: BillingApi, tenants: Tenants) -> None:
    for query, entries in (("year=1", 12), ("year=9999", 0), ("period=day&year=9999&month=12", 0)):
        answer = await api.call(admin_of(tenants.acme), "GET", f"/api/billing/view/statistics?{query}")
        assert answer.status_code == 200, answer.text
        assert len(answer.json()["timeSeries"]) == entries
        assert answer.json()["transactionCount"] == 0


async def test_a_foreign_mandate_and_a_service_account_are_refused(api: BillingApi, tenants: Tenants) -> None:
    for asking in (member_of(tenants.acme), admin_of(tenants.acme), Caller(user_id="user-1")):
        for mandate in (tenants.other, "nobody-knows-it"):
            path = f"/api/billing/view/statistics?scope=mandate&mandateId={mandate}"
            answer = await api.call(asking, "GET", path)
            assert (answer.status_code, answer.json()["code"]) == (403, "FORBIDDEN")
    path = "/api/billing/view/statistics?scope=mandate&mandateId=nobody-knows-it"
    assert (await api.call(system_admin(), "GET", path)).status_code == 404
    for path in ("view/statistics", "statistics/month?year=2026"):
        assert (await api.call(checker(), "GET", f"/api/billing/{path}")).status_code == 403
        assert (await api.call(None, "GET", f"/api/billing/{path}")).status_code == 401
