"""Top-ups that the system before this one has opened at Stripe: recognised by what they carry, credited once, and of
the amount that Stripe says."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import uuid4

import pytest

from rappen_contracts.payment.v1 import PaymentSucceeded
from rappen_contracts.registry import PAYMENT_FAILED_V1, PAYMENT_REFUNDED_V1, STRIPE_OBSERVED_V1
from services.payments.checkouts.settle_checkout import ObservedSession, Settlement
from services.payments.observations import numbers_of
from services.payments.refunds.observe_payment import ObservedRefunds
from services.payments.stripe.gateway import StripeGateway
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


async def test_what_was_paid_before_the_take_over_is_not_credited_again_and_its_refund_is_taken_back(
    world: World,
) -> None:
    """The system before this one has credited it, and has taken back what went back then."""
    person = world.person()
    # No event tells of it, so that the looks are those of the test.
    assert (await world.control.post("/webhooks", json={"drop": True})).status_code == 200
    stripe = None
    try:
        session_id = await opened_before(world, person)
        await world.pay(session_id)
        (session,) = [each for each in await world.sessions() if each["id"] == session_id]
        intent_id = session["payment_intent"]
        await world.stripe.v1.refunds.create_async({"payment_intent": intent_id, "amount": 1000})
        taken_over_at = datetime.fromtimestamp(session["created"], UTC) + timedelta(seconds=30)
        assert (await world.control.post("/clock/advance", json={"seconds": 60})).status_code == 200
        stripe = StripeGateway(API_KEY, api_base=world.fake.url, timeout_s=10, taken_over_at=taken_over_at)
        async with opened(world.servers.dsn("payments"), pool_size=2) as database:

            async def settled() -> Settlement | None:
                observed = await ObservedSession.fetch(stripe, session_id, numbers_of(database))
                assert observed is not None
                async with database.transaction() as connection:
                    return await observed.apply(connection, cause="tests", now=datetime.now(UTC) + timedelta(hours=1))

            async def looked_at_refunds() -> None:
                number = await numbers_of(database)()
                observed = await ObservedRefunds.fetch(stripe, intent_id, number=number)
                assert observed is not None
                async with database.transaction() as connection:
                    await observed.apply(connection, cause="tests", now=datetime.now(UTC) + timedelta(hours=1))

            for _ in range(2):
                settlement = await settled()
                assert settlement is not None
                assert (settlement.outcome, settlement.credited) == ("ALREADY_CREDITED", False)
                await looked_at_refunds()
            assert await world.told(PAYMENT_REFUNDED_V1, person.mandate_id, count=0) == []
            await world.stripe.v1.refunds.create_async({"payment_intent": intent_id, "amount": 1500})
            for _ in range(2):
                await looked_at_refunds()
    finally:
        assert (await world.control.post("/webhooks", json={})).status_code == 200
        if stripe is not None:
            await stripe.stop()
    assert await payments_of(world, person) == []
    (refunded,) = await world.told(PAYMENT_REFUNDED_V1, person.mandate_id)
    assert (refunded.reference, refunded.amount.amount) == (session_id, Decimal(15))


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
