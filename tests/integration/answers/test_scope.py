"""Who sees what: every path that reads, as every kind of caller, about their own, a foreign and an unknown mandate.

Every cost is another power of two and every text names whose it is, so an answer says by itself whose rows it was made
from.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import product
from typing import Any, NamedTuple
from uuid import uuid4

import httpx
import pytest

from tests.integration.answers.conftest import Headers, Surface
from tests.integration.answers.test_refusals import operations
from tests.support.waiting import eventually

OWN, FOREIGN, UNKNOWN = "tenant-a", "tenant-b", "tenant-nowhere"
NOW = datetime.now(UTC)
# Mandate, user, feature instance, cost in CHF.
USAGE = (
    (OWN, "mia-a", "inst-a", 1),
    (OWN, "mia-a", None, 2),
    (OWN, "ned-a", None, 4),
    (OWN, "dan-a", None, 8),
    (OWN, "chief-a", None, 16),
    (FOREIGN, "mia-b", "inst-b", 32),
    (FOREIGN, "chief-b", None, 64),
)
# It reads, and gives a mandate to whoever administers none.
MAKING = {"store-list-mandates"}
# Whose answer names no mandate, or an object that only a test of its own can make: who finds it is asked there.
ELSEWHERE = {
    *MAKING,
    "billing-explain-transaction",
    "billing-get-invoice",
    "billing-get-invoice-pdf",
    "billing-get-rerating",
    "payments-confirm-checkout",
    "payments-receive-stripe-event",
    "store-deactivate",
}
# What is changed in the mandate that the body names.
NAMED_IN_BODY = {"billing-redeem": {"code": "NONE"}, "store-activate": {"featureCode": "chat"}}
# The query names the mandate, which its administrators alone may ask about.
FOR_ADMINISTRATORS = {"billing-list-invoices"}
# Who has a mandate, which the header that names another must not lead out of.
INSIDERS = ("root", "chief", "member")
USERS = ("chief-a", "mia-a", "ned-a", "dan-a", "ina-a", "chief-b", "mia-b", "outsider")
COLUMNS = """
    id accountId transactionType amount description referenceType workflowId featureCode featureInstanceId
    aicoreProvider aicoreModel createdByUserId createdAt mandateId mandateName referenceId balanceAfter processingTime
    bytesSent bytesReceived errorCount inputTokens outputTokens recordedAt userId userName metadata.job
""".split()  # noqa: SIM905 - a table reads better than quoted words.


@dataclass(frozen=True)
class Asking:
    """A caller: the mandates that they are a member of and administer, whose usage they see, whose names they may."""

    headers: Headers
    status: int = 403
    everything: bool = False
    member_of: frozenset[str] = frozenset()
    admin_of: frozenset[str] = frozenset()
    # Whose rows they see, and those of these rows that are of an instance alone.
    sees: frozenset[str] = frozenset()
    instance: bool = False
    # Names that an answer may have beside those of the users whose rows they see.
    knows: frozenset[str] = field(default_factory=frozenset)

    @property
    def costs(self) -> set[int]:
        """The costs that their totals are made of."""
        return {
            cost for _, user, instance, cost in USAGE if user in self.sees or (self.instance and instance == "inst-a")
        }

    @property
    def hidden(self) -> list[str]:
        """What no answer to them may have in it."""
        if self.everything:
            return []
        users = [user for user in USERS if user not in self.sees | self.knows]
        texts = [text for user in users for text in texts_of(user)]
        foreign = {OWN: "-a", FOREIGN: "-b"}
        mandates = [
            mandate for mandate in foreign if mandate not in self.member_of and not (self.instance and mandate == OWN)
        ]
        return texts + [f"Label {mandate}" for mandate in mandates]


def texts_of(user: str) -> list[str]:
    """What is only in rows and entries of this user."""
    return [
        f"work of {user}",
        f"provider-{user}",
        f"model-{user}",
        f"feature-{user}",
        f"flow-{user}",
        f"Name {user}",
        f"job {user}",
    ]


@pytest.fixture(scope="module")
async def asking(surface: Surface) -> dict[str, Asking]:
    """The tenants with their usage, charged; and who asks."""
    await _tenants(surface)
    issuer = surface.issuer
    ours = frozenset({"chief-a", "mia-a", "ned-a", "dan-a"})
    return {
        "root": Asking(issuer.person("root", system_admin=True), everything=True, sees=frozenset(USERS)),
        "chief": Asking(
            issuer.person("chief-a"),
            member_of=frozenset({OWN}),
            admin_of=frozenset({OWN}),
            sees=ours,
            knows=frozenset({"ina-a"}),
        ),
        "member": Asking(issuer.person("mia-a"), member_of=frozenset({OWN}), sees=frozenset({"mia-a"})),
        "instance-admin": Asking(issuer.person("ina-a"), instance=True, knows=frozenset({"ina-a", "mia-a"})),
        "disabled": Asking(issuer.person("dan-a"), knows=frozenset({"dan-a"})),
        "outsider": Asking(issuer.person("outsider"), knows=frozenset({"outsider"})),
        "service": Asking(issuer.service_account("openid")),
        "anonymous": Asking({}, status=401),
    }


async def _tenants(surface: Surface) -> None:
    root = surface.issuer.person("root", system_admin=True)

    async def put(path: str, body: dict[str, Any]) -> None:
        answer = await surface.http.put(f"/api/{path}", json=body, headers=root)
        assert answer.status_code == 200, answer.text

    for mandate in (OWN, FOREIGN):
        await put(f"directory/mandates/{mandate}", {"label": f"Label {mandate}"})
    for user in USERS:
        await put(f"directory/users/{user}", {"username": user, "firstName": "Name", "lastName": user})
        letter = user[-2:]
        for mandate, end in ((OWN, "-a"), (FOREIGN, "-b")):
            if letter == end and user != "ina-a":
                await put(
                    f"directory/memberships/{mandate}/{user}", {"roles": ["admin" if "chief" in user else "member"]}
                )
    for mandate, letter in ((OWN, "a"), (FOREIGN, "b")):
        await put(
            f"directory/feature-instances/inst-{letter}", {"mandateId": mandate, "featureCode": f"feature-mia-{letter}"}
        )
        await put(f"billing/admin/terms/{mandate}", {"markupPercent": 0, "creditLimit": None})
        await put(f"directory/feature-access/inst-{letter}/mia-{letter}", {"roles": ["user"]})
        await put(f"directory/provider-permissions/{mandate}/member", {"providers": ["openai"]})
    await put("directory/feature-access/inst-a/ina-a", {"roles": ["admin"]})
    program = surface.issuer.service_account("usage:write usage:check")
    for mandate, user, instance, cost in USAGE:
        answer = await surface.http.post(
            "/api/usage",
            json=_event(mandate, user, instance, cost),
            headers={**program, "Content-Type": "application/cloudevents+json"},
        )
        assert answer.status_code == 202, answer.text

    async def charged() -> bool:
        answer = await surface.http.get(
            "/api/billing/view/users/transactions", headers=root, params={"pagination": _page()}
        )
        return int(answer.json()["pagination"]["totalItems"]) == len(USAGE)

    await eventually(charged, what="the usage of the tenants is charged", timeout_s=60)
    # Who was a member is one no more.
    answer = await surface.http.delete(f"/api/directory/memberships/{OWN}/dan-a", headers=root)
    assert answer.status_code == 200, answer.text


def _event(mandate: str, user: str, instance: str | None, cost: int) -> dict[str, Any]:
    data = {
        "mandate_id": mandate,
        "user_id": user,
        "provider": f"provider-{user}",
        "model": f"model-{user}",
        "cost": {"amount": str(cost), "currency": "CHF"},
        "feature_code": f"feature-{user}",
        "feature_instance_id": instance,
        "workflow_id": f"flow-{user}",
        "description": f"work of {user}",
        "metadata": {"job": f"job {user}"},
    }
    return {
        "specversion": "1.0",
        "id": str(uuid4()),
        "source": "/tests/scope",
        "type": "ch.rappen.usage.recorded.v1",
        "time": NOW.isoformat(),
        "data": data,
    }


def _page() -> str:
    return '{"filters": {"referenceType": "WORKFLOW", "mandateId": ["tenant-a", "tenant-b"]}}'


def _queries(operation: Mapping[str, Any]) -> list[dict[str, str]]:
    """The ways of asking for it, beside the mandate."""
    names = {each["name"] for each in operation["parameters"] if each["in"] == "query"}
    if "column" in names:
        return [{"column": column} for column in COLUMNS]
    if {"year", "month"} <= names:
        when = {"year": str(NOW.year), "month": str(NOW.month)}
        periods = [{"period": name} for name in ("day", "month")] if "period" in names else [{}]
        scopes = [{"scope": name} for name in ("personal", "mandate", "all")] if "scope" in names else [{}]
        return [{**when, **period, **scope} for period, scope in product(periods, scopes)]
    if "scope" in names:
        mine = [{}, {"onlyMine": "true"}]
        return [{"scope": name, **more} for name, more in product(("personal", "mandate", "all"), mine)]
    return [{"pagination": "{}"}, {}] if "pagination" in names else [{}]


def _paths(path: str) -> list[tuple[str | None, str]]:
    """The path about each mandate; with the mandate where the path names one, or an object of one."""
    found = []
    collection = path.partition("/{id}")[0].rsplit("/", 1)[-1]
    for mandate, letter in ((OWN, "a"), (FOREIGN, "b"), (UNKNOWN, "nowhere")):
        values = {
            "mandateId": mandate,
            "instanceId": f"inst-{letter}",
            "userId": f"mia-{letter}",
            "role": "member",
            "id": {"mandates": mandate, "accounts": mandate, "users": f"mia-{letter}"}.get(
                collection, f"inst-{letter}"
            ),
            "period": "month",
        }
        names = set(re.findall(r"\{(\w+)\}", path))
        if not names <= values.keys():
            return []
        of = mandate if names - {"period"} else None
        found.append((of, re.sub(r"\{(\w+)\}", lambda each, values=values: values[each[1]], path)))
        if of is None:
            break
    return found


class Asked(NamedTuple):
    """A request of an operation that reads, and the mandate that it names, or of which it names an object."""

    operation: dict[str, Any]
    named: str | None
    path: str
    query: dict[str, str]

    def __str__(self) -> str:
        return f"{self.path} {self.query}"


def _requests(document: dict[str, Any]) -> Iterator[Asked]:
    """Every operation that reads, in every way."""
    for method, path, operation in operations(document):
        if method != "GET" or operation["x-access"] == "nobody" or operation["operationId"] in MAKING:
            continue
        names = {each["name"] for each in operation["parameters"] if each["in"] == "query"}
        mandates: list[str | None] = [OWN, FOREIGN, UNKNOWN]
        if "mandateId" in names and not any(
            e["name"] == "mandateId" and e["required"] for e in operation["parameters"]
        ):
            mandates = [None, *mandates]
        if "column" in names:
            mandates = [None, FOREIGN]
        for (of, where), query in product(_paths(path), _queries(operation)):
            if "mandateId" not in names:
                yield Asked(operation, of, where, query)
                continue
            for named in mandates:
                yield Asked(operation, named, where, query if named is None else {**query, "mandateId": named})


async def test_nothing_of_others_is_in_any_answer_and_a_foreign_mandate_is_refused_whether_it_exists_or_not(
    surface: Surface, asking: dict[str, Asking]
) -> None:
    at_once, exporting = asyncio.Semaphore(8), asyncio.Semaphore(1)

    async def ask(asked: Asked, name: str, context: Headers) -> tuple[int, str | None]:
        caller = asking[name]
        async with exporting if asked.path.endswith("export") else at_once:
            answer = await surface.http.get(asked.path, params=asked.query, headers={**caller.headers, **context})
        sent = f"{asked.operation['operationId']} {asked.path} {asked.query} {context} as {name}: {answer.status_code}"
        leaked = [text for text in caller.hidden if text in answer.text]
        expected = _expected(asked, caller)
        if leaked or answer.status_code >= 500 or (expected and answer.status_code not in expected):
            return answer.status_code, f"{sent}, expected {expected}, leaked {leaked}"
        return answer.status_code, None

    sent = [
        ask(asked, name, context)
        for asked in _requests(surface.document)
        for name in asking
        for context in ([{}, {"X-Mandate-Id": FOREIGN}] if asked.named is None and name in INSIDERS else [{}])
    ]
    answers = await asyncio.gather(*sent)
    faults = [fault for _, fault in answers if fault]
    assert not faults, "\n".join(faults)
    assert sum(status == 200 for status, _ in answers) > 300
    assert sum(status == 403 for status, _ in answers) > 500


def _expected(asked: Asked, caller: Asking) -> set[int]:
    """The statuses that may come, of which there is one wherever the mandate itself is named; none where none is."""
    access, of_object = asked.operation["x-access"], asked.named is not None and asked.named not in str(asked)
    if caller.status == 401:
        return {401}
    if asked.named is None:
        return set()
    if caller.everything:
        # A list of the directory about a mandate that is not there is empty.
        return {200, 404} if asked.named == UNKNOWN or of_object else {200}
    if access == "system-admin":
        return {403}
    let_in = {"member": caller.member_of, "member-or-program": caller.member_of, "mandate-admin": caller.admin_of}
    if asked.operation["operationId"] in FOR_ADMINISTRATORS:
        access = "mandate-admin"
    seen = let_in.get(access, caller.member_of | (frozenset({OWN}) if caller.instance else frozenset()))
    if asked.named in seen:
        # Whoever administers an instance alone sees its rows, and is refused what is not about rows.
        return {200, 403} if caller.instance else {200}
    return {403, 404} if of_object else {403}


class Change(NamedTuple):
    """A request of an operation that changes something, and the mandate of which it names it."""

    operation: dict[str, Any]
    named: str | None
    method: str
    path: str
    body: dict[str, str]

    def is_for(self, name: str) -> bool:
        """Whether a caller may get as far as to be told what is wrong with the body."""
        access = self.operation["x-access"]
        if access == "program":
            return False
        return name == "root" or (name == "chief" and access != "system-admin" and self.named in (OWN, None))


def _changes(document: dict[str, Any]) -> Iterator[Change]:
    """Every operation that changes something, in each mandate that it can name."""
    for method, path, operation in operations(document):
        if method == "GET" or operation["operationId"] in ELSEWHERE:
            continue
        names, body = set(re.findall(r"\{(\w+)\}", path)), NAMED_IN_BODY.get(operation["operationId"])
        for mandate, letter in ((OWN, "a"), (FOREIGN, "b"), (UNKNOWN, "nowhere")):
            if not names and body is None and mandate != OWN:
                continue
            values = {"mandateId": mandate, "userId": f"mia-{letter}", "instanceId": f"inst-{letter}", "role": "member"}
            collection = path.partition("/{id}")[0].rsplit("/", 1)[-1]
            values["id"] = {"mandates": mandate, "users": f"mia-{letter}"}.get(collection, f"inst-{letter}")
            where = re.sub(r"\{(\w+)\}", lambda each, values=values: values.get(each[1], str(uuid4())), path)
            named = {} if body is None else {**body, "mandateId": mandate}
            yield Change(operation, mandate if names or body else None, method, where, named)


async def test_nobody_changes_what_they_do_not_administer(surface: Surface, asking: dict[str, Asking]) -> None:
    at_once = asyncio.Semaphore(8)

    async def ask(change: Change, name: str) -> str | None:
        caller = asking[name]
        async with at_once:
            answer = await surface.http.request(change.method, change.path, json=change.body, headers=caller.headers)
        if answer.status_code == (401 if caller.status == 401 else 403):
            return None
        return f"{change.method} {change.path} {change.body} as {name}: {answer.status_code} {answer.text}"

    sent = [ask(change, name) for change in _changes(surface.document) for name in asking if not change.is_for(name)]
    faults = [fault for fault in await asyncio.gather(*sent) if fault]
    assert not faults, "\n".join(faults)
    assert len(sent) > 500


def test_every_operation_is_asked(surface: Surface) -> None:
    asked = {each.operation["operationId"] for each in _requests(surface.document)}
    asked |= {each.operation["operationId"] for each in _changes(surface.document)}
    every = {operation["operationId"] for _, _, operation in operations(surface.document)}
    assert every - asked == ELSEWHERE


async def test_totals_are_made_of_the_rows_that_are_seen(surface: Surface, asking: dict[str, Asking]) -> None:
    for name, caller in asking.items():
        if caller.status == 401 or name == "service":
            continue
        answer = await surface.http.get(
            "/api/billing/view/users/transactions", params={"pagination": _page()}, headers=caller.headers
        )
        costs = {int(item["amount"]) for item in answer.json()["items"]}
        assert costs == caller.costs, name
        page = answer.json()["pagination"]
        assert (page["totalItems"] if page else 0) == len(caller.costs), name
        exported = await surface.http.get(
            "/api/billing/view/users/transactions/export", params={"pagination": _page()}, headers=caller.headers
        )
        assert exported.text.count("work of ") == len(caller.costs), name


@pytest.mark.parametrize("scope", ["personal", "mandate", "all"])
async def test_sums_of_statistics_are_those_of_the_rows_that_are_seen(
    surface: Surface, asking: dict[str, Asking], scope: str
) -> None:
    for name, caller in asking.items():
        if caller.status == 401 or name in ("service", "root"):
            continue
        query = {"period": "month", "year": str(NOW.year), "scope": scope}
        answer = await surface.http.get("/api/billing/view/statistics", params=query, headers=caller.headers)
        assert answer.status_code == 200, answer.text
        own = {cost for _, user, _, cost in USAGE if caller.headers == _headers_of(asking, user)}
        expected = own & caller.costs if scope == "personal" else caller.costs
        told = answer.json()
        assert (told["totalCost"], told["transactionCount"]) == (sum(expected), len(expected)), name
        assert sum(told["costByProvider"].values()) == sum(expected), name


def _headers_of(asking: Mapping[str, Asking], user: str) -> Headers | None:
    callers = {"chief-a": "chief", "mia-a": "member", "dan-a": "disabled"}
    return asking[callers[user]].headers if user in callers else None


async def test_a_row_of_others_is_not_there(surface: Surface, asking: dict[str, Asking]) -> None:
    root = asking["root"]
    listed: httpx.Response = await surface.http.get(
        "/api/billing/view/users/transactions", params={"pagination": _page()}, headers=root.headers
    )
    for item in listed.json()["items"]:
        for name, caller in asking.items():
            if caller.status == 401 or name == "service":
                continue
            answer = await surface.http.get(f"/api/billing/transactions/{item['id']}/explain", headers=caller.headers)
            assert answer.status_code == (200 if int(item["amount"]) in caller.costs else 404), (name, item)
            if answer.status_code == 200:
                told = answer.json()
                left = {each["balanceAfter"] is None for each in [told["transaction"], *told["postings"]]}
                assert left == {name == "instance-admin"}, (name, told)
