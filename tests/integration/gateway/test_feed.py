"""GET /api/billing/stream: what is published arrives in the scope of whoever listens, and again where they go on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import httpx

from rappen_contracts import encode
from rappen_contracts.billing.v1 import BalanceChanged
from rappen_contracts.registry import BALANCE_CHANGED_V1, SUBSCRIPTION_CHANGED_V1
from rappen_contracts.subscription.v1 import Plan, SubscriptionChanged
from rappen_contracts.types import Contract, Money, NonNegativeBalance, NonNegativeMoney
from services.gateway.feed.domain import PLACES
from services.gateway.feed.live_feed import STREAMS_PER_CALLER
from tests.integration.gateway.support import Headers, Peer, a_tenant, assert_problem, put, unique
from tests.support.events import RawRecord, publish
from tests.support.gateway import GatewayProcess, Issuer
from tests.support.stack import ServerPair

PATH = "/api/billing/stream"


class Sent(NamedTuple):
    """An event as it arrived."""

    id: str
    name: str
    data: dict[str, Any]


class Listening:
    """A stream that is read."""

    def __init__(self, answer: httpx.Response) -> None:
        self._lines = answer.aiter_lines()

    async def next(self, timeout_s: float = 60.0) -> Sent | None:
        """The next event; None where the stream ended."""
        fields: dict[str, str] = {}
        async with asyncio.timeout(timeout_s):
            async for line in self._lines:
                if not line and "event" in fields:
                    return Sent(fields["id"], fields["event"], json.loads(fields["data"]))
                name, _, value = line.partition(": ")
                fields[name] = value
        return None


@asynccontextmanager
async def listening(
    client: httpx.AsyncClient, headers: Headers, last: str | None = None, **query: str
) -> AsyncIterator[Listening]:
    """An open stream, whose event `ready` was read."""
    more = {} if last is None else {"Last-Event-ID": last}
    async with client.stream("GET", PATH, headers={**headers, **more}, params=query) as answer:
        assert answer.status_code == 200, await answer.aread()
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        stream = Listening(answer)
        ready = await stream.next()
        assert ready is not None
        assert ready.name == "ready"
        assert last is None or ready.id == last
        yield stream


def balance(mandate: str, account: str, amount: str, *, user: str | None = None, rows: int = 1) -> RawRecord:
    changed = BalanceChanged(
        mandate_id=mandate,
        account_id=account,
        account_type="MANDATE" if user is None else "USER",
        user_id=user,
        balance=Money(amount=Decimal(amount), currency="CHF"),
        held=NonNegativeBalance(amount=Decimal(0), currency="CHF"),
        version=rows,
        rows=rows,
    )
    return record(changed, BALANCE_CHANGED_V1.type, f"{mandate}/{account}")


def record(data: Contract, type_: str, key: str) -> RawRecord:
    made = encode(data, type=type_, id=uuid4(), source="/tests", time=datetime.now(UTC), key=key)
    return RawRecord(made.value, list(made.headers), made.key)


async def tell(servers: ServerPair, *records: RawRecord, topic: str = BALANCE_CHANGED_V1.name) -> None:
    await publish(servers.kafka.bootstrap_servers, records, topic)


def amounts(sent: list[Sent | None]) -> list[str]:
    return [event.data["balance"]["amount"] for event in sent if event is not None and event.name == "balance"]


async def test_everybody_is_sent_what_is_in_their_scope(
    client: httpx.AsyncClient, admin: Headers, issuer: Issuer, servers: ServerPair
) -> None:
    mandate, member = await a_tenant(client, admin, "member")
    chief = unique("user")
    await put(client, admin, f"users/{chief}", {"username": "chief"})
    await put(client, admin, f"memberships/{mandate}/{chief}", {"roles": ["admin"]})
    foreign, _ = await a_tenant(client, admin, "member")
    pool, own, other = unique("a"), unique("a"), unique("a")
    async with (
        listening(client, issuer.person(member)) as members,
        listening(client, issuer.person(chief)) as chiefs,
        listening(client, admin, mandateId=mandate) as roots,
    ):
        await tell(servers, balance(foreign, unique("a"), "999"))
        await tell(servers, balance(mandate, other, "3", user="somebody"))
        await tell(servers, balance(mandate, own, "2", user=member))
        await tell(servers, balance(mandate, pool, "1"))
        seen = {"member": [await members.next() for _ in range(4)]}
        seen["chief"] = [await chiefs.next() for _ in range(6)]
        seen["root"] = [await roots.next() for _ in range(6)]
    assert amounts(seen["member"]) == ["2.000000", "1.000000"]
    assert amounts(seen["chief"]) == amounts(seen["root"]) == ["3.000000", "2.000000", "1.000000"]
    told = [event for event in seen["member"] if event is not None and event.name == "transaction"]
    assert [event.data for event in told] == [
        {"mandateId": mandate, "accountId": own, "accountType": "USER", "userId": member, "transactionCount": 1},
        {"mandateId": mandate, "accountId": pool, "accountType": "MANDATE", "userId": None, "transactionCount": 1},
    ]


async def test_transactions_that_others_were_told_of_are_news_to_whoever_comes_again(
    client: httpx.AsyncClient, admin: Headers, issuer: Issuer, servers: ServerPair
) -> None:
    mandate, member = await a_tenant(client, admin, "member")
    me, account = issuer.person(member), unique("a")
    async with listening(client, me) as stays:
        async with listening(client, me) as leaves:
            await tell(servers, balance(mandate, account, "1", rows=1))
            await leaves.next()
            last = await leaves.next()
            assert last is not None
        await tell(servers, balance(mandate, account, "2", rows=2))
        told = [await stays.next() for _ in range(4)]
        assert [event.name for event in told if event is not None] == ["balance", "transaction"] * 2
        async with listening(client, me, last.id) as again:
            missed = [await again.next() for _ in range(2)]
    assert [event.name for event in missed if event is not None] == ["balance", "transaction"]
    assert missed[1] is not None
    assert missed[1].data["transactionCount"] == 2


async def test_a_stream_goes_on_after_its_last_event_and_misses_nothing(
    client: httpx.AsyncClient, admin: Headers, issuer: Issuer, servers: ServerPair
) -> None:
    mandate, member = await a_tenant(client, admin, "member")
    me, account = issuer.person(member), unique("a")
    async with listening(client, me) as stream:
        await tell(servers, balance(mandate, account, "1", rows=1))
        await stream.next()
        last = await stream.next()
        assert last is not None
    # The same number of transactions, which is told once: how many they knew of is not known any more.
    await tell(servers, *(balance(mandate, account, str(amount), rows=1) for amount in range(2, 30)))
    async with listening(client, me, last.id) as stream:
        missed = [await stream.next() for _ in range(29)]
        await tell(servers, balance(mandate, account, "30", rows=1))
        live = await stream.next()
    assert amounts([*missed, live]) == [f"{amount}.000000" for amount in range(2, 31)]
    (known,) = [event for event in missed if event is not None and event.name == "transaction"]
    assert known.data["transactionCount"] == 1
    balances = [event for event in (*missed, live) if event is not None and event.name == "balance"]
    places = [tuple(map(int, event.id.split("."))) for event in (last, *balances)]
    # The first is one of two events of its record, so it has the id of what was sent before.
    assert places == sorted(places)
    assert len(set(places)) == len(places) - 1
    # Nothing was missed: nothing comes again.
    assert live is not None
    async with listening(client, me, live.id) as stream:
        await tell(servers, balance(mandate, account, "31", rows=1))
        assert amounts([await stream.next()]) == ["31.000000"]


async def test_a_stream_that_ended_between_two_events_of_one_change_gets_both_again(
    client: httpx.AsyncClient, admin: Headers, issuer: Issuer, servers: ServerPair
) -> None:
    mandate, member = await a_tenant(client, admin, "member")
    me, account = issuer.person(member), unique("a")

    def told(*sent: Sent | None) -> list[tuple[str, Any]]:
        return [(each.name, each.data.get("version", each.data.get("transactionCount"))) for each in sent if each]

    async with listening(client, me) as stream:
        await tell(servers, balance(mandate, account, "1", rows=1))
        first = await stream.next()
        assert told(first) == [("balance", 1)]
        assert first is not None
    # The same where it ends again while it catches up.
    async with listening(client, me, first.id) as stream:
        first = await stream.next()
        assert told(first) == [("balance", 1)]
        assert first is not None
    async with listening(client, me, first.id) as stream:
        missed = [await stream.next(), await stream.next()]
        assert told(*missed) == [("balance", 1), ("transaction", 1)]
    assert missed[1] is not None
    async with listening(client, me, missed[1].id) as stream:
        await tell(servers, balance(mandate, account, "2", rows=2))
        assert told(await stream.next()) == [("balance", 2)]


async def test_an_id_of_a_topic_that_is_no_more_begins_with_what_there_is(
    client: httpx.AsyncClient, admin: Headers, issuer: Issuer, servers: ServerPair
) -> None:
    mandate, member = await a_tenant(client, admin, "member")
    await tell(servers, balance(mandate, unique("a"), "5"))
    async with listening(client, issuer.person(member), ".".join(["9" * 15] * len(PLACES))) as stream:
        assert amounts([await stream.next()]) == ["5.000000"]


async def test_subscriptions_are_told_to_the_members(
    client: httpx.AsyncClient, admin: Headers, issuer: Issuer, servers: ServerPair
) -> None:
    mandate, member = await a_tenant(client, admin, "member")
    changed = SubscriptionChanged(
        mandate_id=mandate,
        subscription_id=UUID(int=5),
        version=2,
        to_state="ACTIVE",
        operative=True,
        plan=Plan(key="TEAM", budget=NonNegativeMoney(amount=Decimal(1), currency="CHF")),
        cause="evt",
    )
    async with listening(client, issuer.person(member)) as stream:
        told = record(changed, SUBSCRIPTION_CHANGED_V1.type, mandate)
        await tell(servers, RawRecord(b"{", told.headers, told.key), told, topic=SUBSCRIPTION_CHANGED_V1.name)
        event = await stream.next()
    assert event is not None
    assert (event.name, event.data["status"], event.data["planKey"]) == ("subscription", "ACTIVE", "TEAM")


async def test_whoever_is_taken_out_is_sent_nothing_more(
    client: httpx.AsyncClient, admin: Headers, issuer: Issuer, servers: ServerPair
) -> None:
    mandate, member = await a_tenant(client, admin, "member")
    second, _ = await a_tenant(client, admin, "member")
    await put(client, admin, f"memberships/{second}/{member}", {"roles": ["member"]})
    me = issuer.person(member)
    async with listening(client, me) as both, listening(client, me, mandateId=mandate) as one:
        answer = await client.delete(f"/api/directory/memberships/{mandate}/{member}", headers=admin)
        assert answer.status_code == 200, answer.text
        # The one about that mandate alone ends.
        assert await one.next() is None
        await asyncio.sleep(3)
        await tell(servers, balance(mandate, unique("a"), "1"))
        await tell(servers, balance(second, unique("a"), "2"))
        assert amounts([await both.next()]) == ["2.000000"]


async def test_refusals(client: httpx.AsyncClient, admin: Headers, issuer: Issuer) -> None:
    mandate, member = await a_tenant(client, admin, "member")
    me = issuer.person(member)

    async def refused(status: int, code: str, headers: Mapping[str, str], **query: str) -> None:
        assert_problem(await client.get(PATH, headers=headers, params=query), status, code)

    await refused(401, "UNAUTHENTICATED", {})
    await refused(403, "FORBIDDEN", issuer.service_account("usage:check"))
    await refused(403, "FORBIDDEN", issuer.person(unique("user")), mandateId=mandate)
    await refused(403, "FORBIDDEN", me, mandateId="nowhere")
    await refused(422, "VALIDATION", me, mandateId="a b")
    for text in ("7", "x", ".".join(["0"] * (len(PLACES) + 1)), "-" + ".".join(["0"] * len(PLACES))):
        await refused(400, "BAD_LAST_EVENT_ID", {**me, "Last-Event-ID": text})


async def test_a_caller_has_so_many_streams_and_a_closed_one_makes_room(
    client: httpx.AsyncClient, admin: Headers, issuer: Issuer
) -> None:
    _, member = await a_tenant(client, admin, "member")
    me = issuer.person(member)
    open_ones = [client.stream("GET", PATH, headers=me) for _ in range(STREAMS_PER_CALLER)]
    answers = await asyncio.gather(*(each.__aenter__() for each in open_ones))
    assert {answer.status_code for answer in answers} == {200}
    refused = assert_problem(await client.get(PATH, headers=me), 429, "TOO_MANY_STREAMS")
    assert refused["status"] == 429
    await open_ones[0].__aexit__(None, None, None)
    async with asyncio.timeout(60):
        while True:
            async with client.stream("GET", PATH, headers=me) as answer:
                if answer.status_code == 200:
                    break
            await asyncio.sleep(0.1)
    for each in open_ones[1:]:
        await each.__aexit__(None, None, None)


async def test_a_gateway_that_stops_ends_its_streams(
    *,
    servers: ServerPair,
    issuer: Issuer,
    peers: dict[str, Peer],
    directory_read: None,
    folder: Path,
    client: httpx.AsyncClient,
    admin: Headers,
) -> None:
    _, member = await a_tenant(client, admin, "member")
    async with (
        GatewayProcess(servers, issuer, peers, folder) as gateway,
        httpx.AsyncClient(base_url=gateway.url, timeout=20, trust_env=False) as http,
        listening(http, issuer.person(member)) as stream,
    ):
        gateway.terminate()
        assert await stream.next() is None
        assert await asyncio.to_thread(gateway.wait, 20) == 0
