"""A switch of the billing model against each kind of movement, each first in turn, at accounts that somebody holds.

Whichever commits first: afterwards all money is where the model in force looks for it, and the books add up.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple
from uuid import NAMESPACE_OID, UUID, uuid4, uuid5

import asyncpg
import pytest

from services.billing.corrections.reverse_charge import cancel_event
from services.billing.credits.apply_subscription import ApplySubscription
from services.billing.credits.payment_events import CreditPayments
from services.chassis.clock import system_clock
from services.chassis.database import is_transient
from tests.integration.billing.conftest import BillingApi
from tests.support.callers import checker, system_admin
from tests.support.charging import charge, settling
from tests.support.databases import connected
from tests.support.events import new_mandate, usage_record, voided_record
from tests.support.facts import paid, subscription
from tests.support.ledger import Books
from tests.support.locks import held_accounts
from tests.support.stack import ServerPair

MEMBERS = {"user-1": ["member"], "user-2": ["member"], "user-3": ["admin"]}

Movement = Callable[[BillingApi, str], Awaitable[None]]


async def _usage(api: BillingApi, mandate: str) -> None:
    await charge(api.database, usage_record(mandate, "user-1", amount="1"))


async def _usage_of_a_newcomer(api: BillingApi, mandate: str) -> None:
    await charge(api.database, usage_record(mandate, "newcomer", amount="1"))


async def _membership(api: BillingApi, mandate: str) -> None:
    await api.directory(mandate, {"newcomer": ["member"]})


async def _check_of_a_newcomer(api: BillingApi, mandate: str) -> None:
    await api.directory(mandate, {"newcomer": ["member"]})
    body = {"mandateId": mandate, "userId": "newcomer", "estimatedCost": {"amount": "1", "currency": "CHF"}}
    answer = await api.call(checker(), "POST", "/api/billing/check", json=body)
    assert answer.status_code == 200, answer.text


async def _credit_for_a_member(api: BillingApi, mandate: str) -> None:
    path = f"/api/billing/admin/credit/{mandate}"
    answer = await api.call(system_admin(), "POST", path, json={"userId": "user-2", "amount": 100})
    assert answer.status_code == 200, answer.text


async def _credit_without_a_member(api: BillingApi, mandate: str) -> None:
    answer = await api.call(system_admin(), "POST", f"/api/billing/admin/credit/{mandate}", json={"amount": 100})
    # In PREPAY_USER it has to be said for whom.
    assert answer.status_code in (200, 422), answer.text


async def _payment(api: BillingApi, mandate: str) -> None:
    await CreditPayments(api.database, clock=system_clock)([paid(mandate)], [])


async def _budget(api: BillingApi, mandate: str) -> None:
    due = subscription(mandate, uuid4(), 1, "ACTIVE", budget_due=True)
    await ApplySubscription(api.database, clock=system_clock)([due], [])


def _charged_before(mandate: str) -> UUID:
    """The id of usage that a mandate has when the movement begins."""
    return uuid5(NAMESPACE_OID, mandate)


async def _cancellation(api: BillingApi, mandate: str) -> None:
    await charge(api.database, voided_record(mandate, _charged_before(mandate)))


async def _cancellation_by_word(api: BillingApi, mandate: str) -> None:
    done = await cancel_event(api.database, mandate, _charged_before(mandate), "by hand", clock=system_clock)
    assert (done.state, done.new) == ("reversed", True)


MOVEMENTS: list[Movement] = [
    _usage,
    _usage_of_a_newcomer,
    _membership,
    _check_of_a_newcomer,
    _credit_for_a_member,
    _credit_without_a_member,
    _payment,
    _budget,
    _cancellation,
    _cancellation_by_word,
]


class Switch(NamedTuple):
    """From one model to another, begun before or after the movement."""

    old: str
    new: str
    first: bool

    def __str__(self) -> str:
        return f"{self.old}-{self.new}-{'switch' if self.first else 'movement'}-first"


SWITCHES = [
    Switch(old, new, first)
    for old, new in (
        ("PREPAY_MANDATE", "PREPAY_USER"),
        ("PREPAY_USER", "PREPAY_MANDATE"),
        ("PREPAY_USER", "UNLIMITED"),
        ("UNLIMITED", "PREPAY_USER"),
    )
    for first in (True, False)
]


async def _switch(api: BillingApi, mandate: str, model: str) -> None:
    answer = await api.call(system_admin(), "POST", f"/api/billing/admin/model/{mandate}", json={"billingModel": model})
    assert answer.status_code in (200, 409), answer.text


async def _mandate(api: BillingApi, model: str) -> str:
    mandate = new_mandate()
    await api.directory(mandate, MEMBERS)
    await _credit_without_a_member(api, mandate)
    await _switch(api, mandate, model)
    return mandate


@pytest.mark.parametrize("switch", SWITCHES, ids=str)
@pytest.mark.parametrize("movement", MOVEMENTS)
async def test_a_movement_is_before_or_after_a_switch_and_leaves_no_money_behind(
    api: BillingApi, books: Books, servers: ServerPair, movement: Movement, switch: Switch
) -> None:
    mandate = await _mandate(api, switch.old)
    await charge(api.database, usage_record(mandate, "user-1", event_id=_charged_before(mandate), amount="0.333333"))
    async with held_accounts(servers.admin_dsn, mandate) as lock:
        both = (_switch(api, mandate, switch.new), movement(api, mandate))
        await lock.begin(*(both if switch.first else reversed(both)))
        outcomes = await lock.release()
    assert lock.waited >= 1, "nobody had to wait, so nothing was in between"
    assert outcomes == [None, None]
    assert await books.failing() == {}
    await _assert_money_is_in_place(books, mandate, switch.new)


async def _assert_money_is_in_place(books: Books, mandate: str, model: str) -> None:
    rows = await books.fetch(
        "SELECT a.type, a.user_id, a.balance, a.opening_credit_at FROM accounts a"
        " JOIN mandates m ON m.no = a.mandate_no WHERE m.id = $1 AND a.type IN ('MANDATE', 'USER')",
        mandate,
    )
    empty = "MANDATE" if model == "PREPAY_USER" else "USER"
    assert {row["user_id"]: row["balance"] for row in rows if row["type"] == empty and row["balance"]} == {}
    if model == "PREPAY_USER":
        known = await books.fetch("SELECT user_id FROM directory_members WHERE mandate_id = $1 AND enabled", mandate)
        opened = {row["user_id"] for row in rows if row["opening_credit_at"] is not None}
        assert opened == {row["user_id"] for row in known}


async def test_a_switch_is_not_kept_waiting_by_charges_that_follow_each_other(api: BillingApi, books: Books) -> None:
    mandate = await _mandate(api, "PREPAY_MANDATE")
    stop = asyncio.Event()

    async def keep_charging() -> int:
        count = 0
        while not stop.is_set():
            await _usage(api, mandate)
            count += 1
        return count

    charging = [asyncio.create_task(keep_charging()) for _ in range(2)]
    for model in ("PREPAY_USER", "PREPAY_MANDATE", "UNLIMITED", "PREPAY_MANDATE"):
        await asyncio.wait_for(_switch(api, mandate, model), 30)
    stop.set()
    counts = await asyncio.gather(*charging)
    assert min(counts) > 0, "nobody charged meanwhile"
    assert await books.charged([mandate]) == sum(counts)
    assert await books.failing() == {}
    await _assert_money_is_in_place(books, mandate, "PREPAY_MANDATE")


async def test_an_event_that_is_free_for_one_worker_and_charged_by_another_stands_once(
    api: BillingApi, books: Books, servers: ServerPair
) -> None:
    for free_first in (True, False):
        mandate = await _mandate(api, "PREPAY_MANDATE")
        event_id = uuid4()
        free = charge(api.database, usage_record(mandate, event_id=event_id, amount="0"))
        charged = charge(api.database, usage_record(mandate, event_id=event_id, amount="5"))
        async with held_accounts(servers.admin_dsn, mandate) as lock:
            await lock.begin(*((free, charged) if free_first else (charged, free)))
            assert await lock.release() == [None, None]
        # What is free moves no account, so it waits for nobody but for a charge that has begun before it.
        assert free_first or lock.waited == 2
        assert await books.event_ids([mandate]) == [event_id]
        assert await books.refused(mandate) == {"CONFLICT": 1}
        assert await books.failing() == {}


async def test_an_event_that_is_parked_by_one_worker_and_charged_by_another_stands_once(
    api: BillingApi, books: Books, servers: ServerPair
) -> None:
    mandate = await _mandate(api, "PREPAY_MANDATE")
    event_id, model = uuid4(), f"model-{uuid4()}"
    parked = charge(api.database, usage_record(mandate, event_id=event_id, cost=None, tokens={"input": 1}, model=model))
    charged = charge(api.database, usage_record(mandate, event_id=event_id, amount="5"))
    async with held_accounts(servers.admin_dsn, mandate) as lock:
        await lock.begin(charged, parked)
        assert await lock.release() == [None, None]
    assert lock.waited >= 1
    assert await books.event_ids([mandate]) == [event_id]
    assert await books.refused(mandate) == {"CONFLICT": 1}
    assert await settling(api.database)() >= 0
    assert await books.failing() == {}


async def test_an_account_that_somebody_moves_without_the_lock_of_its_mandate_is_charged_nothing(
    api: BillingApi, books: Books, servers: ServerPair
) -> None:
    mandate = await _mandate(api, "PREPAY_MANDATE")
    move = (
        "UPDATE billing.accounts a SET seq = a.seq + $2 FROM billing.mandates m"
        " WHERE m.no = a.mandate_no AND m.id = $1 AND a.type = 'MANDATE'"
    )
    async with connected(servers.admin_dsn) as hand:
        try:
            async with held_accounts(servers.admin_dsn, mandate) as lock:
                # Both stand at the accounts that are held: the hand first, the charge, which has read them, behind it.
                await lock.begin(hand.execute(move, mandate, 1), _usage(api, mandate))
                _, outcome = await lock.release()
            assert lock.waited == 2
            assert isinstance(outcome, asyncpg.SerializationError), outcome
            assert is_transient(outcome), "the events would be refused instead of tried again"
            assert "without the lock of their mandate" in str(outcome)
            assert await books.charged([mandate]) == 0
        finally:
            await hand.execute(move, mandate, -1)
    await _usage(api, mandate)
    assert await books.charged([mandate]) == 1
    assert await books.failing() == {}
