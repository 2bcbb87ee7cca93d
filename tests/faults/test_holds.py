"""Holds under kills and races: made once, captured once, settled by one event, whatever dies and whoever is first."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import pytest

from services.billing.mandates.apply_directory import ApplyDirectory
from services.chassis.clock import system_clock
from services.chassis.database import Database
from tests.integration.billing.conftest import BillingApi
from tests.support.databases import opened
from tests.support.directory import directory_events
from tests.support.events import new_mandate, publish, scattered, usage_record
from tests.support.holding import Holding, chf, usage_event
from tests.support.ledger import Books
from tests.support.limiting import Limiting
from tests.support.processes import Crew, FaultFolder, ServiceProcess
from tests.support.stack import ServerPair
from tests.support.waiting import eventually


@pytest.fixture
async def database(servers: ServerPair) -> AsyncIterator[Database]:
    async with opened(servers.dsn("billing"), pool_size=2) as database:
        yield database


@pytest.fixture
async def process(servers: ServerPair, faults: FaultFolder, tmp_path: Path) -> AsyncIterator[ServiceProcess]:
    async with ServiceProcess(servers, "billing", "api", tmp_path / "api.log", more=faults.settings) as process:
        yield process


@pytest.fixture
async def holding(
    process: ServiceProcess, servers: ServerPair, database: Database, books: Books
) -> AsyncIterator[Holding]:
    """A mandate with a credit of 100, and a limit that refuses nothing here: the audit sees what counts towards it."""
    mandate = new_mandate()
    await ApplyDirectory(database, clock=system_clock)(directory_events(mandate, {"user-1": ["member"]}), [])
    async with httpx.AsyncClient(base_url=process.url, trust_env=False, timeout=20) as client:
        made = Holding(BillingApi(client, servers.secret, database), books, mandate)
        await made.credit(100)
        await Limiting(database, mandate, system_clock()).set(("member", "user-1", "month", "1e6"))
        yield made


async def _died(process: ServiceProcess, faults: FaultFolder, point: str) -> None:
    """The fault was there, and somebody started the process again."""
    await eventually(lambda: faults.hits(point) == 1 and not process.running, what="the kill")
    process.start()
    await process.ready()


@pytest.mark.parametrize("point", ["authorize_before_transaction", "authorize_before_commit", "authorize_after_commit"])
async def test_an_api_killed_around_a_hold_makes_it_once(
    holding: Holding, process: ServiceProcess, faults: FaultFolder, point: str
) -> None:
    faults.arm(point)
    with pytest.raises(httpx.TransportError):
        await holding.ask("3", key="one")
    await _died(process, faults, point)
    assert await holding.held() == ({None: 3_000_000} if point == "authorize_after_commit" else {})
    first = await holding.ask("3", key="one")
    assert first.status_code == 201
    assert (await holding.ask("3", key="one")).json() == first.json()
    assert await holding.held() == {None: 3_000_000}
    assert await holding.books.failing() == {}


@pytest.mark.parametrize("by_event", [False, True])
@pytest.mark.parametrize("point", ["capture_before_transaction", "capture_before_commit", "capture_after_commit"])
async def test_an_api_killed_around_a_capture_charges_once(
    holding: Holding, process: ServiceProcess, faults: FaultFolder, point: str, by_event: bool
) -> None:
    hold = await holding.hold("3")
    event = usage_event(holding.mandate, amount="0.1")
    body = {"event": event} if by_event else {"cost": chf("0.1")}
    faults.arm(point)
    with pytest.raises(httpx.TransportError):
        await holding.capture(hold, **body)
    await _died(process, faults, point)
    committed = point == "capture_after_commit"
    assert await holding.held() == ({} if committed else {None: 3_000_000})
    assert await holding.books.charged([holding.mandate]) == int(committed)
    answer = await holding.capture(hold, **body)
    assert (answer.status_code, answer.json()["amount"]) == (200, chf("0.150000"))
    assert (await holding.capture(hold, **body)).json() == answer.json()
    assert await holding.state(hold) == ("CAPTURED", UUID(event["id"] if by_event else hold))
    assert await holding.books.charged([holding.mandate]) == 1
    assert await holding.held() == {}
    assert await holding.books.failing() == {}


async def test_fifty_events_that_name_one_hold_settle_it_once(
    holding: Holding, bootstrap_servers: str, books: Books, crew: Crew
) -> None:
    holds = [await holding.hold("3") for _ in range(4)]
    ids = [uuid4() for _ in range(200)]
    records = [
        usage_record(holding.mandate, event_id=event_id, hold_id=holds[number % 4])
        for number, event_id in enumerate(ids)
    ]
    async with crew.at_work(2):
        await crew.sharing()
        # Every event comes twice, and on all partitions, so that both workers have events of each hold.
        await publish(bootstrap_servers, scattered([*records, *records]))
        await books.wait_charged([holding.mandate], 200)
        await books.settled([holding.mandate], ids)
    assert await holding.held() == {}
    for number, hold in enumerate(holds):
        state, settled_by = await holding.state(hold)
        assert state == "CAPTURED"
        assert settled_by in ids[number::4]


@pytest.mark.parametrize("point", ["before_commit", "after_commit"])
async def test_a_worker_killed_around_its_commit_settles_the_holds_of_its_usage_once(
    holding: Holding, bootstrap_servers: str, faults: FaultFolder, crew: Crew, point: str
) -> None:
    books = holding.books
    holds = [await holding.hold("0.5") for _ in range(20)]
    ids = [uuid4() for _ in holds]
    records = [usage_record(holding.mandate, event_id=id_, hold_id=hold) for id_, hold in zip(ids, holds, strict=True)]
    faults.arm(point)
    async with crew.at_work(1):
        await publish(bootstrap_servers, records)
        await eventually(lambda: faults.hits(point) == 1, what="the kill", timeout_s=60)
        await books.wait_charged([holding.mandate], 20)
        await books.settled([holding.mandate], ids)
    assert crew.restarts == 1
    assert await holding.held() == {}
    assert [await holding.state(hold) for hold in holds] == [("CAPTURED", id_) for id_ in ids]


async def test_captures_voids_and_events_at_once_settle_a_hold_once(
    holding: Holding, bootstrap_servers: str, books: Books, crew: Crew
) -> None:
    async with crew.at_work(1):
        await crew.workers[0].ready()
        charges = 0
        for _ in range(5):
            hold, event = await holding.hold("3"), uuid4()
            record = usage_record(holding.mandate, event_id=event, hold_id=hold)
            body = usage_event(holding.mandate, event_id=event, hold_id=hold)
            _, *answers = await asyncio.gather(
                publish(bootstrap_servers, [record]),
                holding.void(hold),
                holding.capture(hold, cost=chf("0.1")),
                holding.capture(hold, event=body),
            )
            # The event is charged in any case; beside it at most the capture by cost.
            charges += 1 + (answers[1].status_code == 200)
            await books.wait_charged([holding.mandate], charges)
            state, settled_by = await holding.state(hold)
            settled = [answers[0].status_code == 200, settled_by == UUID(hold), settled_by == event]
            assert settled.count(True) == 1, (state, settled_by)
            assert await holding.held() == {}
        await eventually(lambda: _charged(books, holding.mandate, charges), what="no further charge")
    assert await books.failing() == {}


async def _charged(books: Books, mandate: str, count: int) -> bool:
    return await books.charged([mandate]) == count
