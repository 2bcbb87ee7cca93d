"""A mandate's terms follow from what was told of its subscriptions, whatever the order in which it was told."""

import itertools
import random
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from services.billing.credits.apply_subscription import ApplySubscription
from services.chassis.clock import system_clock
from services.chassis.consumer import Received
from tests.integration.billing.conftest import BillingApi
from tests.support.callers import checker
from tests.support.events import new_mandate
from tests.support.facts import AT, subscription
from tests.support.ledger import Books

TERMS = "subscription_id, subscription_version, subscription_operative, plan_key, plan_markup_percent::text"
ORDERS = 40


async def _tell(api: BillingApi, *events: Received) -> None:
    for event in events:
        await ApplySubscription(api.database, clock=system_clock)([event], [])


async def _terms(books: Books, mandate: str) -> tuple[object, ...]:
    (row,) = await books.fetch(f"SELECT {TERMS} FROM mandates WHERE id = $1", mandate)
    return tuple(row)


def _life(mandate: str, trial: UUID, paid: UUID, internal: UUID) -> list[Received]:
    """A trial, a paid plan that is renewed, falls behind and ends, and the operator's own plan that runs now."""
    days = [AT + timedelta(days=number) for number in range(7)]
    return [
        subscription(mandate, trial, 1, "TRIALING", at=days[0], plan_key="TRIAL_7D"),
        subscription(mandate, trial, 2, "EXPIRED", at=days[1], plan_key="TRIAL_7D"),
        subscription(mandate, paid, 1, "PENDING", at=days[0]),
        subscription(mandate, paid, 2, "ACTIVE", at=days[1], markup_percent="30"),
        subscription(mandate, paid, 3, "PAST_DUE", at=days[2], markup_percent="30"),
        subscription(mandate, paid, 4, "EXPIRED", at=days[3]),
        subscription(mandate, internal, 1, "ACTIVE", at=days[4], plan_key="INTERNAL", markup_percent="5"),
        subscription(mandate, internal, 2, "ACTIVE", at=days[5], plan_key="INTERNAL", markup_percent="4"),
    ]


async def test_every_order_of_a_life_ends_in_the_same_terms(api: BillingApi, books: Books) -> None:
    chance = random.Random(7)
    for _ in range(ORDERS):
        mandate, ids = new_mandate(), [uuid4() for _ in range(3)]
        life = _life(mandate, *ids)
        replayed = [*life, *chance.sample(life, 3)]
        chance.shuffle(replayed)
        await _tell(api, *replayed)
        assert await _terms(books, mandate) == (ids[2], 2, True, "INTERNAL", "4"), [
            (entry.event.data.plan.key, entry.event.data.version) for entry in replayed
        ]


async def test_every_order_of_an_end_leaves_nothing_operative(api: BillingApi, books: Books) -> None:
    for order in itertools.permutations(range(4)):
        mandate, ids = new_mandate(), [uuid4() for _ in range(3)]
        life = _life(mandate, *ids)
        ended = [life[0], life[1], life[3], life[5]]
        await _tell(api, *(ended[number] for number in order))
        assert await _terms(books, mandate) == (ids[1], 4, False, "STARTER", None)


async def test_an_old_letter_replayed_under_a_plan_that_runs_changes_nothing(api: BillingApi, books: Books) -> None:
    mandate, ids = new_mandate(), [uuid4() for _ in range(3)]
    life = _life(mandate, *ids)
    await _tell(api, *life)
    before = await _terms(books, mandate)
    for letter in life:
        await _tell(api, letter)
        assert await _terms(books, mandate) == before


@pytest.mark.parametrize("states", [["PENDING"], ["PENDING", "EXPIRED"]])
async def test_a_checkout_that_was_never_finished_takes_nothing_away(
    api: BillingApi, books: Books, states: list[str]
) -> None:
    mandate, subscription_id = new_mandate(), uuid4()
    await api.directory(mandate, {"user-1": ["member"]})
    await _tell(
        api,
        *(subscription(mandate, subscription_id, number, state) for number, state in enumerate(states, start=1)),
    )
    body = {"mandateId": mandate, "userId": "user-1", "estimatedCost": {"amount": "0", "currency": "CHF"}}
    answer = await api.call(checker(), "POST", "/api/billing/check", json=body)
    assert answer.json()["reason"] == "INSUFFICIENT_BALANCE"
    await _tell(api, subscription(mandate, uuid4(), 1, "ACTIVE"), subscription(mandate, uuid4(), 1, "EXPIRED"))
    assert (await _terms(books, mandate))[2] is True
