"""Top-ups that the system before this one has opened at Stripe: recognised by what they carry, credited once, and of
the amount that Stripe says."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import uuid4

import pytest

from rappen_contracts.payment.v1 import PaymentSucceeded
from rappen_contracts.registry import PAYMENT_FAILED_V1, PAYMENT_REFUNDED_V1, STRIPE_OBSERVED_V1
from services.chassis.database import Database
from services.payments.checkouts.settle_checkout import ObservedSession, Settlement
from services.payments.observations import numbers_of
from services.payments.refunds.observe_payment import ObservedRefunds
from services.payments.stripe import refunds
from services.payments.stripe.events import events_since
from services.payments.stripe.gateway import StripeGateway
from services.payments.stripe.payment_intents import read_intent
from services.payments.stripe.refunds import money_back
from tests.integration.payments.world import API_KEY, ORIGIN, Person, World
from tests.support.databases import opened
from tests.support.events import new_mandate
from tests.support.waiting import eventually

OLD_PLATFORM = "https://before.example.ch"


async def opened_before(world: World, person: Person, *, units: int = 5000, **metadata: str) -> str:
    """A session as the system before this one opened them: without a reference, with metadata of its own."""
    carried = {"mandateId": person.mandate_id, "userId": "", "amountChf": "500.0", "platformUrl": OLD_PLATFORM}
    params: Any = {
        "mode": "payment",
        "locale": "de",
        "success_url": f"{OLD_PLATFORM}/billing?session_id={{CHECKOUT_SESSION_ID}}",
        "metadata": {**carried, **metadata},
        "line_items": [
            {
                "quantity": 1,
                "price_data": {"currency": "chf", "unit_amount": units, "product_data": {"name": "AI credit"}},
            }
        ],
    }
    return (await world.stripe.v1.checkout.sessions.create_async(params)).id


async def payments_of(world: World, person: Person) -> list[PaymentSucceeded]:
    return [
        each.data
        for each in await world.published(person.mandate_id, count=0)
        if isinstance(each.data, PaymentSucceeded)
    ]


async def test_a_session_of_the_system_before_is_credited_by_the_webhook_and_confirmed(world: World) -> None:
    person = world.person()
    session_id = await opened_before(world, person, userId="member-1")
    await world.pay(session_id, duplicate=3, shuffle=True)
    # The event of its payment may come first, and credit it.
    assert set(await world.processed(session_id)) <= {"CREDITED", "ALREADY_CREDITED"}
    # What it carries of an amount is not believed.
    (payment,) = await payments_of(world, person)
    assert (payment.amount.amount, payment.amount.currency) == (Decimal(50), "CHF")
    assert payment.requested_amount == payment.amount
    assert (payment.mandate_id, payment.user_id, payment.reason) == (person.mandate_id, "member-1", "top_up")
    assert (payment.reference, payment.created_by_user_id) == (session_id, None)
    assert payment.description == "Stripe-Zahlung"
    answer = await person.confirm(session_id)
    assert answer.status_code == 200, answer.text
    assert (answer.json()["credited"], answer.json()["alreadyCredited"]) == (False, True)
    assert (answer.json()["mandateId"], answer.json()["amountChf"]) == (person.mandate_id, 50)
    assert len(await payments_of(world, person)) == 1


async def test_a_session_of_the_system_before_is_confirmed_before_the_webhook_by_its_administrators(
    world: World,
) -> None:
    person = world.person()
    session_id = await opened_before(world, person)
    unpaid = await person.confirm(session_id)
    assert (unpaid.status_code, unpaid.json()["code"]) == (409, "NOT_PAID")
    await world.pay(session_id, delay_s=1)
    assert (await world.person().confirm(session_id)).status_code == 403
    answers = await asyncio.gather(*(person.confirm(session_id) for _ in range(10)))
    assert {each.status_code for each in answers} == {200}
    assert sum(each.json()["credited"] for each in answers) == 1
    assert await world.processed(session_id) == ["ALREADY_CREDITED"]
    (payment,) = await payments_of(world, person)
    assert payment.user_id is None


async def test_a_late_payment_and_a_refund_of_the_system_before_are_settled_too(world: World) -> None:
    person = world.person()
    paid_later, failed_later = await opened_before(world, person), await opened_before(world, person)
    await world.pay(paid_later, "unpaid")
    await world.pay(failed_later, "unpaid")
    assert await world.processed(paid_later) == ["WAITING"]
    await world.pay(paid_later, "async_paid")
    await world.pay(failed_later, "async_failed")
    credited, waited = await world.processed(paid_later, count=2)
    assert (credited in ("CREDITED", "ALREADY_CREDITED"), waited) == (True, "WAITING")
    assert "FAILED" in await world.processed(failed_later, count=2)
    (failed,) = await world.told(PAYMENT_FAILED_V1, person.mandate_id)
    assert failed.reference == failed_later
    (session,) = [each for each in await world.sessions() if each["id"] == paid_later]
    await world.stripe.v1.refunds.create_async({"payment_intent": session["payment_intent"], "amount": 2000})
    (refunded,) = await world.told(PAYMENT_REFUNDED_V1, person.mandate_id)
    assert (refunded.reference, refunded.amount.amount) == (paid_later, Decimal(20))


@pytest.mark.parametrize(
    "metadata",
    [
        {"mandateId": ""},
        {"mandateId": "no mandate"},
        {"userId": "no user"},
        # A session of another installation of this platform on the same account.
        {"checkoutId": str(uuid4())},
    ],
)
async def test_what_does_not_say_whose_it_is_is_not_ours(world: World, metadata: dict[str, str]) -> None:
    person = world.person()
    session_id = await opened_before(world, person, **metadata)
    await world.pay(session_id)
    assert await world.processed(session_id) == ["NOT_OURS"]
    assert (await world.person(system_admin=True).confirm(session_id)).status_code == 404
    assert await payments_of(world, person) == []


class TakeOver:
    """A moment from which on money is settled here, and looks at Stripe as of a worker of then; no event tells of
    anything, so that the looks are those of the test."""

    def __init__(self, world: World, database: Database) -> None:
        self._world = world
        self._database = database
        self.stripe: StripeGateway | None = None

    async def begin(self, session_id: str) -> None:
        """Takes over 30 seconds after the session was made, and goes on 30 seconds later."""
        (session,) = [each for each in await self._world.sessions() if each["id"] == session_id]
        taken_over_at = datetime.fromtimestamp(session["created"], UTC) + timedelta(seconds=30)
        assert (await self._world.control.post("/clock/advance", json={"seconds": 60})).status_code == 200
        self.stripe = StripeGateway(API_KEY, api_base=self._world.fake.url, timeout_s=10, taken_over_at=taken_over_at)

    async def settled(self, session_id: str) -> Settlement | None:
        assert self.stripe is not None
        observed = await ObservedSession.fetch(self.stripe, session_id, numbers_of(self._database))
        assert observed is not None
        async with self._database.transaction() as connection:
            return await observed.apply(connection, cause="tests", now=datetime.now(UTC) + timedelta(hours=1))

    async def looked_at_refunds(self, intent_id: str) -> None:
        """Twice, which is no more than once."""
        assert self.stripe is not None
        for _ in range(2):
            number = await numbers_of(self._database)()
            observed = await ObservedRefunds.fetch(self.stripe, intent_id, number=number)
            assert observed is not None
            async with self._database.transaction() as connection:
                await observed.apply(connection, cause="tests", now=datetime.now(UTC) + timedelta(hours=1))


@pytest.fixture
async def take_over(world: World) -> AsyncIterator[TakeOver]:
    assert (await world.control.post("/webhooks", json={"drop": True})).status_code == 200
    async with opened(world.servers.dsn("payments"), pool_size=2) as database:
        made = TakeOver(world, database)
        try:
            yield made
        finally:
            assert (await world.control.post("/webhooks", json={})).status_code == 200
            if made.stripe is not None:
                await made.stripe.stop()


async def paid_before(world: World, person: Person) -> tuple[str, str]:
    """A session of the system before and its payment of 50 CHF."""
    session_id = await opened_before(world, person)
    await world.pay(session_id)
    (session,) = [each for each in await world.sessions() if each["id"] == session_id]
    return session_id, session["payment_intent"]


async def refund(world: World, intent_id: str, units: int) -> str:
    return (await world.stripe.v1.refunds.create_async({"payment_intent": intent_id, "amount": units})).id


async def become(world: World, refund_id: str, status: str) -> None:
    answer = await world.control.post(f"/refunds/{refund_id}", json={"status": status})
    assert answer.status_code == 200, answer.text


async def dispute(world: World, intent_id: str) -> str:
    answer = await world.control.post("/disputes", json={"payment_intent": intent_id})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


async def decide(world: World, dispute_id: str, outcome: str) -> None:
    answer = await world.control.post(f"/disputes/{dispute_id}", json={"outcome": outcome})
    assert answer.status_code == 200, answer.text


async def test_what_was_paid_before_the_take_over_is_not_credited_again_and_its_refund_is_taken_back(
    world: World, take_over: TakeOver
) -> None:
    """The system before this one has credited it, and has taken back what went back then."""
    person = world.person()
    session_id, intent_id = await paid_before(world, person)
    await refund(world, intent_id, 1000)
    await take_over.begin(session_id)
    for _ in range(2):
        settlement = await take_over.settled(session_id)
        assert settlement is not None
        assert (settlement.outcome, settlement.credited) == ("ALREADY_CREDITED", False)
        await take_over.looked_at_refunds(intent_id)
    assert await world.told(PAYMENT_REFUNDED_V1, person.mandate_id, count=0) == []
    await refund(world, intent_id, 1500)
    await take_over.looked_at_refunds(intent_id)
    assert await payments_of(world, person) == []
    (refunded,) = await world.told(PAYMENT_REFUNDED_V1, person.mandate_id)
    assert (refunded.reference, refunded.amount.amount) == (session_id, Decimal(15))


async def test_a_payment_that_was_under_way_at_the_take_over_is_credited_when_it_arrives(
    world: World, take_over: TakeOver
) -> None:
    """Its charge is older than the take-over; so is that of one that had arrived by then, which is not credited."""
    before, after = world.person(), world.person()
    arrived, under_way = await opened_before(world, before), await opened_before(world, after)
    for session_id in (arrived, under_way):
        await world.pay(session_id, "unpaid")
    await world.pay(arrived, "async_paid")
    await take_over.begin(arrived)
    waiting = await take_over.settled(under_way)
    assert (waiting.outcome if waiting else None) == "WAITING"
    await world.pay(under_way, "async_paid")
    (session,) = [each for each in await world.sessions() if each["id"] == under_way]
    assert take_over.stripe is not None
    paid_at = (await read_intent(take_over.stripe, session["payment_intent"])).paid_at
    assert paid_at < (take_over.stripe.taken_over_at or paid_at)
    for _ in range(2):
        for session_id in (arrived, under_way):
            assert await take_over.settled(session_id) is not None
    assert await payments_of(world, before) == []
    (payment,) = await payments_of(world, after)
    assert (payment.reference, payment.amount.amount) == (under_way, Decimal(50))


async def test_a_payment_whose_arrival_stripe_tells_of_late_is_credited_once_it_does(
    world: World, take_over: TakeOver
) -> None:
    """Who looks at a session between its payment and the event of it cannot know that it arrived after the take-over.
    Here by a look that counts all as before."""
    person = world.person()
    session_id = await opened_before(world, person)
    await world.pay(session_id, "unpaid")
    await take_over.begin(session_id)
    await world.pay(session_id, "async_paid")
    assert take_over.stripe is not None
    since = take_over.stripe.taken_over_at
    assert since is not None
    take_over.stripe.taken_over_at = since + timedelta(days=365)
    for _ in range(2):
        early = await take_over.settled(session_id)
        assert early is not None
        assert (early.outcome, early.credited) == ("ALREADY_CREDITED", False)
    # Nor does one that knows of no take-over, as after the setting was lost, give what another system may have given.
    take_over.stripe.taken_over_at = None
    assert await take_over.settled(session_id) is not None
    assert await payments_of(world, person) == []
    take_over.stripe.taken_over_at = since
    looks = await asyncio.gather(*(take_over.settled(session_id) for _ in range(4)))
    assert sorted(each.credited for each in looks if each is not None) == [False, False, False, True]
    (payment,) = await payments_of(world, person)
    assert (payment.reference, payment.amount.amount) == (session_id, Decimal(50))
    # What was told of stays so, whatever a later look knows.
    take_over.stripe.taken_over_at = since + timedelta(days=365)
    last = await take_over.settled(session_id)
    assert (last is not None and last.credited) is False
    assert len(await payments_of(world, person)) == 1


@pytest.mark.parametrize(("seconds", "credited"), [(-1, True), (0, True), (1, False)])
async def test_the_second_of_the_charge_says_who_credits_it(
    world: World, take_over: TakeOver, seconds: int, credited: bool
) -> None:
    """Taken over so many seconds after it."""
    person = world.person()
    session_id, intent_id = await paid_before(world, person)
    await take_over.begin(session_id)
    assert take_over.stripe is not None
    paid_at = (await read_intent(take_over.stripe, intent_id)).paid_at
    take_over.stripe.taken_over_at = paid_at + timedelta(seconds=seconds)
    for _ in range(2):
        await take_over.settled(session_id)
    assert len(await payments_of(world, person)) == int(credited)


@pytest.mark.parametrize(("seconds", "taken"), [(-1, True), (0, True), (1, False)])
async def test_the_second_of_a_refund_and_of_a_lost_dispute_says_who_takes_it(
    world: World, take_over: TakeOver, seconds: int, taken: bool
) -> None:
    refunded_, disputed = world.person(), world.person()
    session_id, intent_id = await paid_before(world, refunded_)
    await refund(world, intent_id, 1000)
    other_id, other_intent = await paid_before(world, disputed)
    await decide(world, await dispute(world, other_intent), "lost")
    await take_over.begin(session_id)
    stripe = take_over.stripe
    assert stripe is not None
    for person, session, intent in ((refunded_, session_id, intent_id), (disputed, other_id, other_intent)):
        (back,) = await money_back(stripe, intent)
        since = back.created_at + timedelta(seconds=seconds)
        if back.kind == "DISPUTE":
            (closed,) = [
                each
                for each in await events_since(stripe, back.created_at, ["charge.dispute.closed"])
                if each.object_id == back.id
            ]
            since = closed.created_at + timedelta(seconds=seconds)
        stripe.taken_over_at = since
        await take_over.settled(session)
        await take_over.looked_at_refunds(intent)
        assert len(await world.told(PAYMENT_REFUNDED_V1, person.mandate_id, count=0)) == int(taken)


async def test_a_dispute_is_taken_back_by_who_settled_money_when_it_was_lost(world: World, take_over: TakeOver) -> None:
    lost_before, lost_after = world.person(), world.person()
    (session_id, decided), (other_id, open_) = [await paid_before(world, each) for each in (lost_before, lost_after)]
    await decide(world, await dispute(world, decided), "lost")
    dispute_id = await dispute(world, open_)
    await take_over.begin(session_id)
    for intent_id in (decided, open_):
        await take_over.looked_at_refunds(intent_id)
    assert await world.told(PAYMENT_REFUNDED_V1, lost_after.mandate_id, count=0) == []
    await decide(world, dispute_id, "lost")
    for intent_id in (decided, open_):
        await take_over.looked_at_refunds(intent_id)
    assert await world.told(PAYMENT_REFUNDED_V1, lost_before.mandate_id, count=0) == []
    (refunded,) = await world.told(PAYMENT_REFUNDED_V1, lost_after.mandate_id)
    assert (refunded.reference, refunded.outcome) == (other_id, "dispute_lost")
    assert refunded.amount.amount == Decimal(50)
    # What is told of no more by events stays as it is.
    assert await payments_of(world, lost_after) == await payments_of(world, lost_before) == []


async def test_a_refund_is_settled_by_who_settled_money_when_it_became_what_it_is(
    world: World, take_over: TakeOver
) -> None:
    """One that was under way then is taken back here; one that had succeeded and fails after all is given again, and
    one that had failed is nothing."""
    person = world.person()
    session_id, intent_id = await paid_before(world, person)
    under_way, succeeded, failed = [await refund(world, intent_id, units) for units in (1000, 700, 300)]
    await become(world, under_way, "pending")
    await become(world, failed, "failed")
    await take_over.begin(session_id)
    await take_over.looked_at_refunds(intent_id)
    assert await world.told(PAYMENT_REFUNDED_V1, person.mandate_id, count=0) == []
    await become(world, under_way, "succeeded")
    await become(world, succeeded, "failed")
    await take_over.looked_at_refunds(intent_id)
    (refunded,) = await world.told(PAYMENT_REFUNDED_V1, person.mandate_id)
    assert (refunded.refund_id, refunded.amount.amount) == (under_way, Decimal(10))
    (payment,) = await payments_of(world, person)
    assert (payment.reference, payment.amount.amount) == (succeeded, Decimal(7))


async def test_what_the_system_before_has_refunded_is_not_refunded_once_more(world: World, take_over: TakeOver) -> None:
    """Of a subscription that is taken back, whose payment went back before."""
    person = world.person()
    session_id, intent_id = await paid_before(world, person)
    await refund(world, intent_id, 1000)
    await take_over.begin(session_id)
    assert take_over.stripe is not None
    (went_back,) = await money_back(take_over.stripe, intent_id)
    assert (went_back.taken_before, went_back.status) == (True, "succeeded")
    await refunds._refund(take_over.stripe, intent_id, idempotency_key=f"tests:{intent_id}")
    assert [each.id for each in await money_back(take_over.stripe, intent_id)] == [went_back.id]


async def test_a_subscription_of_which_the_session_alone_is_marked_is_taken_over(world: World) -> None:
    mandate_id, record_id = new_mandate(), uuid4()
    product = await world.stripe.v1.products.create_async({"name": "As before"})
    price = await world.stripe.v1.prices.create_async(
        {"product": product.id, "currency": "chf", "unit_amount": 500, "recurring": {"interval": "month"}}
    )
    params: Any = {
        "mode": "subscription",
        "success_url": ORIGIN,
        "line_items": [{"price": price.id, "quantity": 1}],
        "metadata": {"mandateId": mandate_id, "subscriptionRecordId": str(record_id), "planKey": "STARTER"},
    }
    session = await world.stripe.v1.checkout.sessions.create_async(params)
    await world.pay(session.id, drop=True)
    event = {"id": f"evt_{uuid4().hex}", "type": "checkout.session.completed", "livemode": False}
    about = {"data": {"object": {"id": session.id, "object": "checkout.session"}}}
    assert (await world.deliver(json.dumps({**event, **about}).encode())).status_code == 200
    assert await world.event_outcome(event["id"]) == "OBSERVED"
    told = await eventually(partial(world.told, STRIPE_OBSERVED_V1, mandate_id), what="an observation")
    newest = max(told, key=lambda each: each.version)
    assert newest.subscription_id == record_id
    assert newest.subscription is not None
