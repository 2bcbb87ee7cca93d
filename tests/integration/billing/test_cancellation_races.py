"""Cancellations against usage that arrives, and against the job that prices it, at the same moment."""

import asyncio
from uuid import uuid4

import pytest

from services.billing.corrections.reverse_charge import Cancelled, cancel_event
from services.chassis.clock import system_clock
from services.chassis.database import Contended, is_transient
from tests.integration.billing.conftest import BillingApi
from tests.support.charging import charge, charging, received, settling
from tests.support.events import new_mandate, usage_record, voided_record
from tests.support.ledger import Books
from tests.support.locks import held
from tests.support.stack import ServerPair


@pytest.mark.parametrize("first", ["usage", "cancellation"])
@pytest.mark.parametrize("unpriced", [True, False])
async def test_usage_and_its_cancellation_that_meet_at_the_lock_of_their_mandate_find_each_other(
    api: BillingApi, books: Books, servers: ServerPair, first: str, unpriced: bool
) -> None:
    """Each was prepared when the mandate had no cancellation yet, and neither had seen the other."""
    mandate = new_mandate()
    no_price = {"cost": None, "model": f"model-{uuid4()}", "tokens": {"input": 1}}
    usage = usage_record(mandate, amount="1", **(no_price if unpriced else {}))
    # A worker that had the same member and model before stands at the lock with what it is priced by in hand.
    worker = charging(api.database)
    await worker(received([usage_record(mandate, amount="1", **(no_price if unpriced else {}))]), [])
    works = [worker(received([usage]), []), charge(api.database, voided_record(mandate, usage.event_id))]
    async with held(servers.admin_dsn, "SELECT 1 FROM billing.mandates WHERE id = $1 FOR UPDATE", mandate) as lock:
        await lock.begin(*(works if first == "usage" else reversed(works)))
        assert await lock.release() == ([[], None] if first == "usage" else [None, []])
    assert lock.waited == 2
    rows = [row["transaction_type"] for row in await books.rows(mandate)]
    assert rows == ([] if unpriced else ["DEBIT", "DEBIT", "ADJUSTMENT"])
    assert await books.parked([mandate]) == (1 if unpriced else 0)
    assert await books.refused(mandate) == {}
    assert await books.failing() == {}


async def test_an_event_is_tried_again_where_its_usage_is_being_priced(
    api: BillingApi, books: Books, servers: ServerPair, mandate: str
) -> None:
    usage = usage_record(mandate, cost=None, model=f"model-{uuid4()}", tokens={"input": 1})
    await charge(api.database, usage)
    cancelling = voided_record(mandate, usage.event_id)
    parked = "SELECT 1 FROM billing.unposted_events WHERE event_id = $1 FOR UPDATE"
    async with held(servers.admin_dsn, parked, usage.event_id) as lock:
        with pytest.raises(Contended) as given_way:
            await charge(api.database, cancelling)
        await lock.release()
    assert is_transient(given_way.value), "the event would be refused instead of tried again"
    assert await books.cancelled([mandate]) == set()
    await charge(api.database, cancelling)
    assert await books.parked([mandate]) == 0
    assert await books.failing() == {}


async def test_the_job_that_prices_parked_usage_and_a_cancellation_do_not_wait_for_each_other(
    api: BillingApi, books: Books, mandate: str
) -> None:
    """The job locks parked usage before its mandate, a cancellation its mandate first: whoever gives way begins
    again, and each event is charged or cancelled, never both."""
    for _ in range(5):
        model = f"model-{uuid4()}"
        usages = [usage_record(mandate, cost=None, model=model, tokens={"input": 1}) for _ in range(20)]
        await charge(api.database, *usages)
        await api.price(model, "0.1")
        cancelling = [
            cancel_event(api.database, mandate, usage.event_id, "by hand", clock=system_clock) for usage in usages[:10]
        ]
        settle = settling(api.database)
        done = await asyncio.gather(settle(), *cancelling, settling(api.database)())
        while await settle():
            pass
        assert {each.state for each in done if isinstance(each, Cancelled)} <= {"reversed", "unpriced"}
        assert await books.parked([mandate]) == 0
    assert len(await books.event_ids([mandate])) == 100
    cost, count = await books.rollups(mandate)
    assert (cost, count) == (50 * 150_000, 50)
    assert await books.failing() == {}
