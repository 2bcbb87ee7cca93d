"""What a list, its values and its export are not to be asked, and what they cost at most."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest

from services.billing.reports.distinct_values import distinct_values
from services.billing.reports.errors import TooManyExports, TooManyValues
from services.billing.reports.export_movements import RunningExports, export_movements
from services.billing.reports.list_movements import list_newest, list_page, list_part
from services.billing.reports.listing import ListLimits
from services.billing.reports.scope import Scope
from services.chassis.caller import Caller
from services.chassis.lists.errors import ListTooCostly
from tests.integration.billing.conftest import BillingApi
from tests.support.callers import admin_of, system_admin
from tests.support.charging import charge
from tests.support.databases import connected
from tests.support.events import new_mandate, usage_record
from tests.support.stack import ServerPair

USERS = "/api/billing/view/users/transactions"
ADMIN = "/api/billing/admin/transactions/{}"
FORMS = (USERS, f"{USERS}/filter-values", f"{USERS}/export")
LIMITS = ListLimits(page_size_max=1000, values_max=10_000, statement_s=4)

MALFORMED = [
    "{",
    "[]",
    "null",
    "7",
    '{"page": 0}',
    '{"page": 1e400}',
    '{"page": 99999999999999999999}',
    '{"pageSize": 0}',
    '{"pageSize": 1001}',
    '{"pageSize": "50"}',
    '{"page": 1, "page": 2}',
    '{"sort": [{"field": "password"}]}',
    '{"sort": [{"field": "metadata.team"}]}',
    '{"sort": [{"field": "amount; DROP TABLE transactions"}]}',
    '{"sort": [{"field": "amount", "direction": "up"}]}',
    '{"sort": [{"field": "amount", "direction": "asc; --"}]}',
    '{"filters": {"password": "x"}}',
    '{"filters": {"metadata.": "x"}}',
    '{"filters": {"derivation": "x"}}',
    '{"filters": {"amount": {"operator": "like", "value": 1}}}',
    '{"filters": {"amount": {"operator": "contains", "value": "1"}}}',
    '{"filters": {"amount": "1e9"}}',
    '{"filters": {"amount": 1e300}}',
    '{"filters": {"amount": "NaN"}}',
    '{"filters": {"createdAt": "0000-01-01"}}',
    '{"filters": {"createdAt": "yesterday"}}',
    '{"filters": {"createdAt": {"operator": "between", "value": ["2026-01-01"]}}}',
    '{"filters": {"featureCode": "a\\u0000b"}}',
    '{"search": "\\ud800"}',
    '{"search": 7}',
    '{"search": "' + "x" * 201 + '"}',
    "[" * 20_000,
    '{"search": "' + "x" * 50_000 + '"}',
    json.dumps({"filters": {"featureCode": ["x"] * 1001}}),
    json.dumps({"filters": {f"metadata.{number}": "x" for number in range(51)}}),
]

# Well formed, of nothing that is there.
EMPTY = [
    '{"page": 1000000000, "pageSize": 1000}',
    '{"search": "\'; DROP TABLE transactions; --"}',
    '{"search": "%\' OR 1=1 --"}',
    '{"filters": {"featureCode": "x\' OR \'1\'=\'1"}}',
    '{"filters": {"id": "x\' OR \'1\'=\'1"}}',
    '{"filters": {"id": "ffffffff-ffff-8fff-bfff-ffffffffffff"}}',
    '{"filters": {"metadata.a\'||pg_sleep(9)||\'": "x"}}',
    '{"filters": {"aicoreModel": {"operator": "contains", "value": "\\\\"}}}',
    '{"filters": {"createdAt": "0001-01-01"}}',
    '{"filters": {"createdAt": "9999-12-31"}}',
    '{"filters": {"createdAt": {"operator": "gt", "value": "9999-12-31"}}}',
    '{"filters": {"createdAt": {"operator": "lt", "value": "0001-01-01T00:00:00Z"}}}',
    '{"filters": {"recordedAt": "9999-12-31T23:59:59.999999Z"}}',
    '{"filters": {"amount": 9999999999999999999999999999999999999999}}',
    '{"filters": {"amount": "0.0000000000000000000000000000000000000001"}}',
    '{"filters": {"featureCode": []}}',
    '{"filters": {"userName": "\\u202e\\ud83d\\ude00"}}',
]


@pytest.fixture(scope="module")
async def acme(api: BillingApi) -> str:
    mandate = new_mandate()
    await api.directory(mandate, {"user-1": ["member"]})
    await charge(api.database, *(usage_record(mandate, amount=f"{number + 1}") for number in range(5)))
    return mandate


@pytest.mark.parametrize("pagination", MALFORMED, ids=lambda text: text[:60])
async def test_a_malformed_pagination_is_named_in_every_form(api: BillingApi, acme: str, pagination: str) -> None:
    for path in (*FORMS, ADMIN.format(acme)):
        params = {"pagination": pagination, **({"column": "amount"} if path.endswith("values") else {})}
        answer = await api.call(admin_of(acme), "GET", path, params=params)
        assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_PAGINATION"), answer.text
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("pagination", EMPTY, ids=lambda text: text[:60])
async def test_what_nothing_is_like_is_an_empty_list(api: BillingApi, acme: str, pagination: str) -> None:
    page = await api.call(admin_of(acme), "GET", USERS, params={"pagination": pagination})
    assert (page.status_code, page.json()["items"]) == (200, []), page.text
    if json.loads(pagination).get("page") is not None:
        return
    assert page.json()["pagination"]["totalItems"] == 0
    params = {"pagination": pagination, "column": "transactionType"}
    values = await api.call(admin_of(acme), "GET", f"{USERS}/filter-values", params=params)
    assert (values.status_code, values.json()) == (200, [])
    export = await api.call(admin_of(acme), "GET", f"{USERS}/export", params={"pagination": pagination})
    assert (export.status_code, len(export.text.splitlines())) == (200, 1)


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"scope": "everything"}, "MALFORMED_PARAMETER"),
        ({"scope": ""}, "MALFORMED_PARAMETER"),
        ({"mandateId": "a b"}, "MALFORMED_PARAMETER"),
        ({"mandateId": ""}, "MALFORMED_PARAMETER"),
        ({"onlyMine": "perhaps"}, "MALFORMED_PARAMETER"),
        ({"limit": "0"}, "MALFORMED_PARAMETER"),
        ({"limit": "1001"}, "INVALID_PAGINATION"),
        ({"limit": "5", "pagination": '{"page": 2}'}, "INVALID_PAGINATION"),
        ({"cursor": "x"}, "INVALID_PAGINATION"),
        ({"cursor": "W10"}, "INVALID_PAGINATION"),
        ({"cursor": "WyIiLDEsMl0"}, "INVALID_PAGINATION"),
    ],
)
async def test_other_faults_are_named(api: BillingApi, acme: str, params: dict[str, str], code: str) -> None:
    answer = await api.call(admin_of(acme), "GET", USERS, params=params)
    assert (answer.status_code, answer.json()["code"]) == (400, code), answer.text


@pytest.mark.parametrize("column", [None, "", "password", "metadata", "metadata.", "a" * 1000, "a\x00b", "amount--"])
async def test_values_are_those_of_a_column_that_there_is(api: BillingApi, acme: str, column: str | None) -> None:
    params = {} if column is None else {"column": column}
    answer = await api.call(admin_of(acme), "GET", f"{USERS}/filter-values", params=params)
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")


async def test_an_unknown_mandate_is_told_to_the_operator_alone(api: BillingApi, acme: str) -> None:
    for path in FORMS:
        params = {"mandateId": new_mandate(), "column": "amount"}
        answer = await api.call(system_admin(), "GET", path, params=params)
        assert (answer.status_code, answer.json()["code"]) == (404, "MANDATE_UNKNOWN")
        assert (await api.call(admin_of(acme), "GET", path, params=params)).status_code == 403


@pytest.mark.parametrize("path", ["transactions", "statistics/month?year=2026"])
async def test_an_unknown_context_mandate_is_told_to_the_operator(api: BillingApi, acme: str, path: str) -> None:
    def root(mandate: str) -> Caller:
        return system_admin().model_copy(update={"context_mandate": mandate})

    answer = await api.call(root("no-such-mandate"), "GET", f"/api/billing/{path}")
    assert (answer.status_code, answer.json()["code"]) == (404, "MANDATE_UNKNOWN")
    assert (await api.call(root(acme), "GET", f"/api/billing/{path}")).status_code == 200


async def test_a_cursor_with_other_values_is_refused(api: BillingApi, acme: str) -> None:
    first = (await api.call(admin_of(acme), "GET", USERS, params={"limit": 2})).json()["nextCursor"]
    mark, *place = json.loads(base64.urlsafe_b64decode(first + "=" * (-len(first) % 4)))
    assert len(place) == 3
    others: list[Any] = [None, "x", True, 2**70, -1.5, [], {}, "0000-00-00", "2026-01-01T00:00:00", "a\x00"]
    for index in range(3):
        for other in others:
            changed = [mark, *place[:index], other, *place[index + 1 :]]
            cursor = base64.urlsafe_b64encode(json.dumps(changed).encode()).decode().rstrip("=")
            answer = await api.call(admin_of(acme), "GET", USERS, params={"cursor": cursor})
            assert answer.status_code in (200, 400), (changed, answer.text)
            assert answer.status_code == 400 or other is None
    sort = '{"sort": [{"field": "amount", "direction": "desc"}]}'
    other_order = await api.call(admin_of(acme), "GET", USERS, params={"cursor": first, "pagination": sort})
    assert (other_order.status_code, other_order.json()["code"]) == (400, "INVALID_PAGINATION")


async def test_what_takes_the_database_too_long_is_given_up(api: BillingApi, servers: ServerPair, acme: str) -> None:
    scope, short = Scope.of(admin_of(acme)), ListLimits(1000, 10_000, statement_s=0.2)
    async with connected(servers.dsn("billing", owner=True), schema="billing") as holder:
        async with holder.transaction():
            await holder.execute("LOCK TABLE transactions IN ACCESS EXCLUSIVE MODE")
            for asked in (
                list_page(api.database, scope, '{"search": "x"}', short),
                list_part(api.database, scope, "{}", short, cursor=None, limit=5),
                list_newest(api.database, scope, short, limit=5),
                distinct_values(api.database, scope, "amount", "{}", short),
            ):
                with pytest.raises(ListTooCostly):
                    await asked
            answer = await api.call(admin_of(acme), "GET", USERS)
            assert (answer.status_code, answer.json()["code"]) == (503, "LIST_TOO_COSTLY")
    assert (await api.call(admin_of(acme), "GET", USERS)).status_code == 200


async def test_more_values_than_an_answer_can_have_are_not_cut_off(api: BillingApi, acme: str) -> None:
    scope = Scope.of(admin_of(acme))
    for column in ("amount", "id"):
        assert len(await distinct_values(api.database, scope, column, "{}", ListLimits(1000, 5, 4))) == 5
        with pytest.raises(TooManyValues):
            await distinct_values(api.database, scope, column, "{}", ListLimits(1000, 4, 4))


async def test_an_export_has_a_place_until_it_ends_or_is_left(api: BillingApi, acme: str) -> None:
    exports, scope = RunningExports(1), Scope.of(admin_of(acme))

    def an_export(export_s: float = 60) -> Any:
        return export_movements(api.database, exports, scope, "{}", LIMITS, export_s=export_s)

    left = an_export()
    assert (await anext(left)).startswith(b"id,accountId,")
    with pytest.raises(TooManyExports):
        await anext(an_export())
    await left.aclose()
    assert len([piece async for piece in an_export()]) == 2
    slow = an_export(export_s=2)
    await anext(slow)
    await asyncio.sleep(2.1)
    with pytest.raises(TimeoutError):
        await anext(slow)
    assert len([piece async for piece in an_export()]) == 2


async def test_a_caller_has_one_export_at_a_time(api: BillingApi, acme: str) -> None:
    exports = RunningExports(2)

    def an_export(user_id: str) -> Any:
        scope = Scope.of(admin_of(acme).model_copy(update={"user_id": user_id}))
        return export_movements(api.database, exports, scope, "{}", LIMITS, export_s=60)

    slow = an_export("slow")
    await anext(slow)
    with pytest.raises(TooManyExports):
        await anext(an_export("slow"))
    assert len([piece async for piece in an_export("other")]) == 2
    # Who waits a moment gets the place of who has ended.
    next_one = an_export("slow")
    waiting = asyncio.create_task(anext(next_one))
    await asyncio.sleep(0.1)
    await slow.aclose()
    assert (await waiting).startswith(b"id,accountId,")
    await next_one.aclose()
