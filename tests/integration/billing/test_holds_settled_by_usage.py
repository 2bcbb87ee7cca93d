"""Usage that names a hold settles it, once, in the transaction of its charge; time and repeats change nothing else."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.billing.charging.usage_events import Usage
from services.billing.checks.check_funds import CheckFunds, Question
from services.billing.checks.release_holds import ReleaseHolds
from services.billing.pricing.repository import Tariffs
from services.billing.settings import BillingSettings
from services.chassis.database import Database
from tests.integration.billing.conftest import BillingApi
from tests.support.callers import system_admin
from tests.support.charging import charge, charging, received, settling
from tests.support.events import new_mandate, usage_record
from tests.support.holding import Holding
from tests.support.ledger import Books
from tests.support.statements import CountedDatabase


@pytest.fixture
async def holding(api: BillingApi, books: Books, mandate: str) -> Holding:
    made = Holding(api, books, mandate)
    await made.credit(20)
    return made


async def test_usage_that_names_an_open_hold_settles_it_once(holding: Holding, database: Database) -> None:
    hold, event = await holding.hold("2"), uuid4()
    first = usage_record(holding.mandate, event_id=event, amount="0.1", hold_id=hold)
    await charge(database, first, usage_record(holding.mandate, hold_id=hold), usage_record(holding.mandate))
    assert await holding.state(hold) == ("CAPTURED", event)
    assert await holding.held() == {}
    # A repeat changes nothing, and a later one is charged without a hold.
    await charge(database, first, usage_record(holding.mandate, hold_id=hold))
    assert await holding.state(hold) == ("CAPTURED", event)
    assert await holding.books.charged([holding.mandate]) == 4
    assert await holding.books.failing() == {}


@pytest.mark.parametrize("spelled", ["{}", "{{{}}}", "urn:uuid:{}"])
async def test_however_a_hold_is_spelled_it_is_the_same(holding: Holding, database: Database, spelled: str) -> None:
    hold, event = await holding.hold("2"), uuid4()
    first = usage_record(holding.mandate, event_id=event, hold_id=spelled.format(hold.upper()))
    usages = received([first, usage_record(holding.mandate, hold_id=hold)])
    # One is read in the published form, the other in the fast one.
    assert [isinstance(usage, Usage) and usage.event is not None for usage in usages] == [True, False]
    await charging(database)(usages, [])
    assert await holding.state(hold) == ("CAPTURED", event)
    assert await holding.held() == {}
    assert await holding.books.failing() == {}


async def test_usage_that_names_no_hold_of_its_mandate_is_charged_without_one(
    holding: Holding, database: Database
) -> None:
    hold, voided, other = await holding.hold("2"), await holding.hold("1"), new_mandate()
    await holding.void(voided)
    records = [
        usage_record(other, hold_id=hold),
        usage_record(holding.mandate, hold_id=voided),
        usage_record(holding.mandate, hold_id=str(uuid4())),
        usage_record(holding.mandate, hold_id=str(UUID(int=UUID(hold).int ^ 1))),
    ]
    await charge(database, *records)
    assert await holding.books.charged([holding.mandate, other]) == 4
    assert await holding.state(hold) == ("OPEN", None)
    assert await holding.state(voided) == ("VOIDED", None)
    assert await holding.held() == {None: 2_000_000}
    assert await holding.books.failing() == {}


@pytest.mark.parametrize("amount", ["0.1", "0"])
async def test_a_capture_by_cost_whose_event_is_another_of_the_same_id_is_refused_alone(
    holding: Holding, database: Database, amount: str
) -> None:
    taken, others = await holding.hold("2"), [await holding.hold("1") for _ in range(3)]
    # A publisher has given its own event the id of the hold.
    await charge(database, usage_record(holding.mandate, event_id=UUID(taken), amount=amount))
    cost = {"amount": amount, "currency": "CHF"}
    answers = await asyncio.gather(*(holding.capture(hold, cost=cost) for hold in [taken, *others]))
    assert [answer.status_code for answer in answers] == [409, 200, 200, 200]
    assert answers[0].json()["code"] == "CONFLICT"
    assert (await holding.capture(taken, cost=cost)).status_code == 409
    assert await holding.state(taken) == ("OPEN", None)
    assert await holding.held() == {None: 2_000_000}
    assert await holding.books.failing() == {}


async def test_free_usage_settles_its_hold(holding: Holding, database: Database) -> None:
    hold, event = await holding.hold("2"), uuid4()
    await charge(database, usage_record(holding.mandate, event_id=event, amount="0", hold_id=hold))
    assert await holding.state(hold) == ("CAPTURED", event)
    assert await holding.held() == {}
    assert await holding.books.failing() == {}


async def test_usage_that_is_refused_or_waits_for_a_price_leaves_its_hold_until_it_is_charged(
    holding: Holding, database: Database
) -> None:
    hold, event, model = await holding.hold("2"), uuid4(), f"model-{uuid4()}"
    waiting = usage_record(holding.mandate, event_id=event, cost=None, model=model, tokens={"input": 10}, hold_id=hold)
    await charge(database, waiting)
    assert await holding.held() == {None: 2_000_000}
    await _price(holding.api, model)
    settle = settling(database)
    while await settle():
        pass
    assert await holding.books.charged([holding.mandate]) == 1
    assert await holding.state(hold) == ("CAPTURED", event)
    assert await holding.held() == {}
    assert await holding.books.failing() == {}


async def _price(api: BillingApi, model: str) -> None:
    entry = {"provider": "anthropic", "model": model, "currency": "CHF", "valid_from": "2026-01-01T00:00:00Z"}
    file = {"format": "rappen.prices.v1", "prices": [{**entry, "lists": [{"prices": {"input": "0.01"}}]}]}
    answer = await api.call(
        system_admin(), "POST", "/api/billing/admin/prices", content=json.dumps(file), params={"format": "rappen"}
    )
    assert answer.status_code == 200, answer.text


async def _seen(database: Database, mandate: str, at: datetime) -> int:
    """What a check sees as held (micro-CHF) at a time of the platform."""
    check = CheckFunds(database, Tariffs(), BillingSettings.model_construct(), lambda: at)
    return (await check(Question(mandate, "user-1", Decimal(0), None, None))).funds.held


async def test_a_hold_is_over_at_its_time_before_any_job_has_run(holding: Holding, database: Database) -> None:
    now = datetime.now(UTC)
    short, long = await holding.hold("2", ttlSeconds=100), await holding.hold("1", ttlSeconds=3600)
    assert await _seen(database, holding.mandate, now + timedelta(seconds=99)) == 3_000_000
    assert await _seen(database, holding.mandate, now + timedelta(seconds=110)) == 1_000_000
    assert await holding.held() == {None: 3_000_000}
    # Usage that comes later is charged without it; the other one is settled.
    later = now + timedelta(seconds=110)
    records = [usage_record(holding.mandate, hold_id=short), usage_record(holding.mandate, hold_id=long)]
    await charging(database, clock=lambda: later)(received(records), [])
    assert (await holding.state(short), (await holding.state(long))[0]) == (("OPEN", None), "CAPTURED")
    release = ReleaseHolds(database, clock=lambda: later)
    assert await release() >= 1
    assert await holding.state(short) == ("EXPIRED", None)
    assert await holding.held() == {}
    assert await release() == 0
    assert await holding.books.charged([holding.mandate]) == 2
    assert await holding.books.failing() == {}


async def test_an_expired_hold_can_neither_be_captured_nor_voided(holding: Holding, database: Database) -> None:
    hold = await holding.hold("2", ttlSeconds=1)
    await asyncio.sleep(1.1)
    assert (await holding.check())["heldAmount"]["amount"] == "0.000000"
    for released in (False, True):
        if released:
            await ReleaseHolds(database, clock=lambda: datetime.now(UTC))()
        answers = [
            await holding.capture(hold, cost={"amount": "1", "currency": "CHF"}),
            await holding.void(hold),
        ]
        assert [(a.status_code, a.json()["code"]) for a in answers] == [(409, "HOLD_EXPIRED")] * 2
    # What was held is there again for others.
    assert (await holding.ask("20")).status_code == 201
    assert await holding.books.failing() == {}


async def test_many_due_holds_of_many_mandates_are_given_back(
    api: BillingApi, books: Books, database: Database
) -> None:
    made = []
    for _ in range(3):
        mandate = new_mandate()
        await api.directory(mandate, {"user-1": ["member"]})
        holding = Holding(api, books, mandate)
        await holding.credit(5)
        made += [(holding, await holding.hold("0.5", ttlSeconds=10)) for _ in range(4)]
    later = datetime.now(UTC) + timedelta(seconds=20)
    await ReleaseHolds(database, clock=lambda: later)()
    for holding, hold in made:
        assert await holding.state(hold) == ("EXPIRED", None)
        assert await holding.held() == {}
    assert await books.failing() == {}


async def test_a_batch_whose_usage_names_holds_takes_one_statement_more_whatever_their_number(
    holding: Holding, database: Database
) -> None:
    counted, statements = CountedDatabase(database), {}
    handler = charging(counted)
    await handler(received([usage_record(holding.mandate)]), [])
    for count in (0, 1, 10):
        holds = [await holding.hold("0.1") for _ in range(count)]
        named: list[dict[str, Any]] = [{"hold_id": hold} for hold in holds] or [{}]
        counted.calls.clear()
        await handler(received([usage_record(holding.mandate, **each) for each in named]), [])
        statements[count] = len(counted.calls)
    assert statements[1] == statements[10] == statements[0] + 1
    assert await holding.held() == {}
