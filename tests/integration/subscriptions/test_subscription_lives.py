"""A sample of the lives that `tests/unit/subscriptions/test_subscription_orders.py` tries in memory: told through the
topic in another order and twice, they come out as there."""

import random
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from uuid import UUID, uuid4

from rappen_contracts.stripe.v1 import StripeObserved
from services.subscriptions.lifecycle.domain import open_record
from services.subscriptions.lifecycle.record_changes import record_changes
from services.subscriptions.lifecycle.repository import credited_of, lock_records
from tests.integration.subscriptions.harness import WAIT_S, Service, changed
from tests.support.events import new_mandate
from tests.support.lives import GRACE, Mail, ending_in_order, is_over, lives, mails_of
from tests.support.settling import DAY
from tests.support.settling import GRACE as GRACE_OF_SERVICE
from tests.support.waiting import eventually

# All lives of two events, of those of four every so many, and each with its own order.
EVERY = 40
SHUFFLES = 20261130


async def test_a_sample_of_lives_told_in_any_order_and_twice_comes_out_as_in_memory(service: Service) -> None:
    sample = [*lives(2), *list(lives(4))[::EVERY]]
    # All of it is heard of late, and no grace that is over by then ends anything before the clock is looked at.
    service.clock.now = max(told[-1].observed_at for told in sample) + DAY
    orders = random.Random(SHUFFLES)
    mandates = {new_mandate(): told for told in sample}
    records = {mandate_id: await _opened(service, mandate_id) for mandate_id in mandates}
    for mandate_id, told in mandates.items():
        order = list(told) * 2
        orders.shuffle(order)
        await _tell(service, mandate_id, records[mandate_id], order)
    states = set()
    for mandate_id, told in mandates.items():
        await _read(service, mandate_id)
        states.add(await _comes_out(service, mandate_id, records[mandate_id], told))
    assert states >= {"TRIALING", "ACTIVE", "PAST_DUE", "CANCELED", "EXPIRED"}


async def _opened(service: Service, mandate_id: str) -> UUID:
    """A record whose checkout is open."""
    opened = open_record(
        service.catalogue.plan("TEAM"),
        subscription_id=uuid4(),
        mandate_id=mandate_id,
        user_id=f"u-{uuid4()}",
        starts_at=None,
        now=service.clock(),
    )
    async with service.database.transaction() as connection:
        await record_changes(connection, [opened], cause="test", actor=None, now=service.clock())
    return opened.after.id


async def _tell(service: Service, mandate_id: str, record: UUID, told: Sequence[StripeObserved]) -> None:
    """Tells it, and after it, under the same key, of a record that there is not."""
    for each in told:
        await service.payments.observe(each.model_copy(update={"mandate_id": mandate_id, "subscription_id": record}))
    await service.payments.observe(told[0].model_copy(update={"mandate_id": mandate_id, "subscription_id": uuid4()}))


async def _read(service: Service, mandate_id: str) -> None:
    """Waits until all that was told of the mandate was read."""
    of_nobody = "SELECT 1 FROM stripe_facts AS f WHERE mandate_id = $1 AND NOT EXISTS"
    found = partial(
        service.fetch, of_nobody + " (SELECT 1 FROM subscriptions AS s WHERE s.id = f.subscription_id)", mandate_id
    )
    await eventually(found, what="all of it read", timeout_s=3 * WAIT_S)


async def _comes_out(service: Service, mandate_id: str, identity: UUID, told: Sequence[StripeObserved]) -> str:
    expected = ending_in_order(told)
    async with service.database.transaction() as connection:
        record = (await lock_records(connection, mandate_id, [identity]))[identity]
        budgets = (await credited_of(connection, [identity])).get(identity, [])
    grace_ends_at = expected.record.grace_ends_at
    grace_ends_at = grace_ends_at and grace_ends_at - GRACE + GRACE_OF_SERVICE
    as_expected = replace(
        expected.record,
        id=identity,
        mandate_id=mandate_id,
        plan=record.plan,
        version=record.version,
        settle_at=record.settle_at,
        grace_ends_at=grace_ends_at,
        created_by=record.created_by,
        created_at=record.created_at,
    )
    assert record == as_expected, told
    assert tuple(sorted(budgets)) == expected.budgets, told
    mails: set[Mail] = set()
    events = [changed(event) for event in await service.billing.events(mandate_id, record.version)]
    assert [event.version for event in events] == list(range(1, record.version + 1))
    for event in events:
        mails |= mails_of(event.from_state, event.to_state, period_end=event.period_end)
    assert mails <= expected.mails, told
    assert all(is_over(mail, record) or mail[0] == "trial ending" for mail in expected.mails - mails), told
    trial = await service.fetch("SELECT 1 FROM trials WHERE mandate_id = $1", mandate_id)
    assert bool(trial) == (record.trial_ends_at is not None)
    return record.state
