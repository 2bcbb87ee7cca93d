"""Usage that names a hold, or captures one, and is cancelled: whoever is first, it is charged once, taken back once,
and the hold is settled once."""

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import permutations
from uuid import UUID, uuid4

import pytest

from services.billing.charging.charge_usage import ChargeUsage
from services.billing.checks.release_holds import ReleaseHolds
from services.billing.corrections.reverse_charge import cancel_event
from services.chassis.clock import Clock, system_clock
from services.chassis.database import Contended, Database
from tests.integration.billing.conftest import BillingApi
from tests.support.charging import charge, charging, received, settling
from tests.support.events import RawRecord, usage_record, voided_record
from tests.support.holding import Holding, chf, usage_event
from tests.support.ledger import Books
from tests.support.locks import held
from tests.support.stack import ServerPair

MANDATE_LOCK = "SELECT 1 FROM billing.mandates WHERE id = $1 FOR UPDATE"


@pytest.fixture
async def holding(api: BillingApi, books: Books, mandate: str) -> Holding:
    made = Holding(api, books, mandate)
    await made.credit(20)
    return made


async def _at_work(database: Database, mandate: str, *, clock: Clock = system_clock) -> ChargeUsage:
    """A worker that knows the charge keys of usage, so that its next charge is at the lock with the terms in hand."""
    worker = charging(database, clock=clock)
    await worker(received([usage_record(mandate, amount="0")]), [])
    return worker


async def _taken_back(holding: Holding, hold: str, event: UUID) -> None:
    """The hold was settled by the usage, whose only charge was taken back once."""
    assert await holding.state(hold) == ("CAPTURED", event)
    assert await holding.held() == {}
    assert (await holding.books.balances(holding.mandate))["pool"] == 20_000_000
    rows = [row["transaction_type"] for row in await holding.books.rows(holding.mandate)]
    assert rows == ["CREDIT", "DEBIT", "ADJUSTMENT"]
    assert await holding.books.failing() == {}


@pytest.mark.parametrize("order", ["before", "first in the batch", "last in the batch", "after"])
async def test_usage_that_names_a_hold_and_is_cancelled_settles_it(
    holding: Holding, database: Database, order: str
) -> None:
    hold, event = await holding.hold("2"), uuid4()
    usage = usage_record(holding.mandate, event_id=event, amount="0.1", hold_id=hold)
    void = voided_record(holding.mandate, event)
    batches = {
        "before": [[void], [usage]],
        "first in the batch": [[void, usage]],
        "last in the batch": [[usage, void]],
        "after": [[usage], [void]],
    }[order]
    for batch in [*batches, *batches[::-1]]:
        await charge(database, *batch)
    await _taken_back(holding, hold, event)
    # Its capture is a repeat, as it would be without the cancellation.
    body = usage_event(holding.mandate, event_id=event, amount="0.1", hold_id=hold)
    answer = await holding.capture(hold, event=body)
    assert (answer.status_code, answer.json()["amount"]) == (200, chf("0.150000"))
    await _taken_back(holding, hold, event)


@pytest.mark.parametrize("first", ["capture", "cancellation"])
async def test_a_capture_by_cost_is_cancelled_by_the_id_of_its_hold(
    holding: Holding, database: Database, first: str
) -> None:
    hold = await holding.hold("2")
    void = voided_record(holding.mandate, UUID(hold))
    if first == "cancellation":
        await charge(database, void)
        assert await holding.held() == {None: 2_000_000}
    answers = [await holding.capture(hold, cost=chf("0.1")) for _ in range(2)]
    if first == "capture":
        await charge(database, void)
    answers.append(await holding.capture(hold, cost=chf("0.1")))
    assert [answer.status_code for answer in answers] == [200] * 3
    assert answers[0].json() == answers[1].json() == answers[2].json()
    await _taken_back(holding, hold, UUID(hold))


@pytest.mark.parametrize("order", list(permutations(["capture", "usage", "cancellation"])))
async def test_a_capture_its_event_and_its_cancellation_that_meet_at_the_lock_find_each_other(
    holding: Holding, database: Database, servers: ServerPair, order: tuple[str, ...]
) -> None:
    hold, event = await holding.hold("2"), uuid4()
    worker = await _at_work(database, holding.mandate)
    works = {
        "capture": holding.capture(hold, event=usage_event(holding.mandate, event_id=event, amount="0.1")),
        "usage": worker(received([usage_record(holding.mandate, event_id=event, amount="0.1")]), []),
        "cancellation": charge(database, voided_record(holding.mandate, event)),
    }
    async with held(servers.admin_dsn, MANDATE_LOCK, holding.mandate) as lock:
        await lock.begin(*(works[name] for name in order))
        done = dict(zip(order, await lock.release(), strict=True))
    assert lock.waited == 3
    assert (done["usage"], done["cancellation"]) == ([], None)
    assert (done["capture"].status_code, done["capture"].json()["amount"]) == (200, chf("0.150000"))
    assert await holding.books.refused(holding.mandate) == {}
    await _taken_back(holding, hold, event)


@pytest.mark.parametrize("order", ["usage first", "cancellation first"])
async def test_usage_that_is_cancelled_without_a_price_leaves_its_hold_to_its_owner_and_to_time(
    holding: Holding, database: Database, order: str
) -> None:
    hold, other, event, model = await holding.hold("2"), await holding.hold("1"), uuid4(), f"model-{uuid4()}"
    unpriced = {"event_id": event, "cost": None, "model": model, "tokens": {"input": 10}, "hold_id": hold}
    batch = [usage_record(holding.mandate, **unpriced), voided_record(holding.mandate, event)]
    for record in batch if order == "usage first" else batch[::-1]:
        await charge(database, record)
    await holding.api.price(model, "0.01")
    settle = settling(database)
    while await settle():
        pass
    assert await holding.books.charged([holding.mandate]) == 0
    refused = await holding.capture(hold, event=usage_event(holding.mandate, **unpriced))
    assert (refused.status_code, refused.json()["code"]) == (409, "CONFLICT")
    assert "cancelled" in refused.json()["detail"], "it says that the event was recorded with other data"
    assert await holding.held() == {None: 3_000_000}
    assert (await holding.void(other)).status_code == 200
    later = datetime.now(UTC) + timedelta(days=1)
    await ReleaseHolds(database, clock=lambda: later)()
    assert [await holding.state(each) for each in (hold, other)] == [("EXPIRED", None), ("VOIDED", None)]
    assert await holding.held() == {}
    assert await holding.books.failing() == {}


@pytest.mark.parametrize("first", ["release", "usage", "cancelled usage"])
async def test_a_charge_and_the_release_of_its_hold_that_meet_at_the_lock_settle_it_once(
    holding: Holding, database: Database, servers: ServerPair, first: str
) -> None:
    """The clock of the charge is before the hold's end, the clock of the job after it."""
    hold, event, now = await holding.hold("2", ttlSeconds=100), uuid4(), datetime.now(UTC)
    usage = usage_record(holding.mandate, event_id=event, amount="0.1", hold_id=hold)
    batch = [usage, *([voided_record(holding.mandate, event)] if first == "cancelled usage" else [])]
    worker = await _at_work(database, holding.mandate, clock=lambda: now)
    works = [
        worker(received(batch), []),
        ReleaseHolds(database, clock=lambda: now + timedelta(seconds=100, minutes=1))(),
    ]
    async with held(servers.admin_dsn, MANDATE_LOCK, holding.mandate) as lock:
        await lock.begin(*(reversed(works) if first == "release" else works))
        done = await lock.release()
    assert lock.waited == 2
    assert not [each for each in done if isinstance(each, BaseException)]
    assert await holding.state(hold) == (("EXPIRED", None) if first == "release" else ("CAPTURED", event))
    assert await holding.held() == {}
    assert await holding.books.charged([holding.mandate]) == 1
    assert await holding.books.failing() == {}


async def test_switches_between_a_hold_its_usage_and_the_cancellation_keep_money_and_holds_together(
    holding: Holding, database: Database
) -> None:
    spent, kept, event = await holding.hold("2"), await holding.hold("1"), uuid4()
    assert (await holding.switch("PREPAY_USER")).status_code == 200
    before = await holding.books.balances(holding.mandate)
    assert await holding.held() == {"user-1": 3_000_000}
    await charge(database, usage_record(holding.mandate, event_id=event, amount="4", hold_id=spent))
    assert await holding.held() == {"user-1": 1_000_000}
    assert (await holding.switch("PREPAY_MANDATE")).status_code == 200
    # The account that was charged is used by nobody by now; what is given back goes on to the pool.
    await charge(database, voided_record(holding.mandate, event))
    assert await holding.held() == {None: 1_000_000}
    balances = await holding.books.balances(holding.mandate)
    assert {name: amount for name, amount in balances.items() if amount} == {"pool": sum(before.values())}
    assert await holding.books.failing() == {}
    assert (await holding.switch("UNLIMITED")).status_code == 200
    assert (await holding.capture(kept, cost=chf("1"))).status_code == 200
    await charge(database, voided_record(holding.mandate, UUID(kept)))
    assert await holding.held() == {}
    assert await holding.books.failing() == {}


async def test_everything_at_once_ends_and_the_books_add_up_at_every_moment(
    holding: Holding, database: Database, books: Books
) -> None:
    """Usage with and without a price, captures, cancellations, voids, switches and the jobs, with nothing between."""
    for number in range(3):
        model = f"model-{uuid4()}"
        holds = [await holding.hold("0.1") for _ in range(12)]
        ids = [uuid4() for _ in holds]
        unpriced = {"cost": None, "model": model, "tokens": {"input": 1}}
        records = [
            usage_record(holding.mandate, event_id=event, hold_id=hold, **(unpriced if place % 3 == 0 else {}))
            for place, (hold, event) in enumerate(zip(holds, ids, strict=True))
        ]
        voids = [voided_record(holding.mandate, event) for event in (*ids[::2], *map(UUID, holds[::4]))]
        await charge(database, *records[:6])
        await holding.api.price(model, "0.01")
        release = ReleaseHolds(database, clock=lambda: datetime.now(UTC) + timedelta(minutes=1))
        work = [
            _begun_again(database, *records, *voids[:4]),
            _begun_again(database, *voids, *records[::-1]),
            settling(database)(),
            settling(database)(),
            *(holding.capture(hold, cost=chf("0.1")) for hold in holds[1::4]),
            *(holding.void(hold) for hold in holds[2::4]),
            cancel_event(holding.api.database, holding.mandate, ids[1], "by hand", clock=system_clock),
            holding.switch("PREPAY_USER" if number % 2 == 0 else "PREPAY_MANDATE"),
            release(),
        ]
        done = asyncio.gather(*work)
        while not done.done():
            assert await books.failing() == {}
        answers = [each for each in await done if hasattr(each, "status_code")]
        assert {answer.status_code for answer in answers} <= {200, 409}
        settle = settling(database)
        while await settle():
            pass
        assert await books.failing() == {}
    assert await books.parked([holding.mandate]) == 0


async def _begun_again(database: Database, *records: RawRecord) -> None:
    """Charges the records, again where parked usage is being priced, as a worker does."""
    for _ in range(100):
        try:
            await charge(database, *records)
        except Contended:
            await asyncio.sleep(0.05)
        else:
            return
    raise AssertionError("the batch never came through")
