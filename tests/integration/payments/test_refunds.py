"""Money that goes back: each refund and lost dispute is told of once, and never more than was paid."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import uuid4

import pytest

from rappen_contracts.payment.v1 import PaymentRefunded, PaymentSucceeded
from rappen_contracts.registry import PAYMENT_FAILED_V1, PAYMENT_REFUNDED_V1
from services.chassis.database import Database
from services.payments.observations import FetchedTooEarly, next_observation
from services.payments.refunds.observe_payment import ObservedRefunds
from services.payments.stripe.gateway import StripeGateway
from tests.integration.payments.charging import Recharging
from tests.integration.payments.world import API_KEY, Person, World
from tests.support.databases import opened
from tests.support.waiting import eventually


async def topped_up(world: World, amount: int = 100) -> tuple[Person, str, str]:
    """A paid top-up: who paid it, its session and its payment at Stripe."""
    person = world.person()
    session_id = await person.session(amount=amount)
    await world.pay(session_id)
    assert await world.processed(session_id) == ["CREDITED"]
    (session,) = [each for each in await world.sessions() if each["id"] == session_id]
    return person, session_id, session["payment_intent"]


async def refunded(world: World, person: Person, *, count: int = 1) -> list[PaymentRefunded]:
    """What is told to have gone back."""
    await eventually(partial(idle, world), what="all events processed")
    return await world.told(PAYMENT_REFUNDED_V1, person.mandate_id, count=count)


async def idle(world: World) -> bool:
    return not await world.rows("SELECT 1 FROM webhook_events WHERE processed_at IS NULL")


async def refund(world: World, intent_id: str, units: int | None = None) -> str:
    params: Any = {"payment_intent": intent_id} | ({} if units is None else {"amount": units})
    return (await world.stripe.v1.refunds.create_async(params)).id


async def dispute(world: World, intent_id: str, **more: Any) -> str:
    answer = await world.control.post("/disputes", json={"payment_intent": intent_id, **more})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


async def decide(world: World, dispute_id: str, outcome: str) -> None:
    answer = await world.control.post(f"/disputes/{dispute_id}", json={"outcome": outcome})
    assert answer.status_code == 200, answer.text


async def test_refunds_in_part_are_told_of_each_once(world: World) -> None:
    person, session_id, intent_id = await topped_up(world)
    first, second = await refund(world, intent_id, 3000), await refund(world, intent_id, 7000)
    told = await refunded(world, person, count=2)
    assert sorted((each.refund_id, each.amount.amount) for each in told) == sorted(
        [(first, Decimal(30)), (second, Decimal(70))]
    )
    assert {(each.outcome, each.reference, each.reason) for each in told} == {("refund", session_id, "top_up")}
    events = await world.rows("SELECT event_id FROM webhook_events WHERE object_id = ANY($1)", [first, second])
    for event in events:
        assert world.command("events", "retry", event["event_id"]).returncode == 0
    assert len(await refunded(world, person, count=2)) == 2


async def test_a_refund_that_is_told_of_before_its_payment_credits_that_first(world: World) -> None:
    person = world.person()
    session_id = await person.session(amount=50)
    await world.pay(session_id, drop=True)
    (session,) = [each for each in await world.sessions() if each["id"] == session_id]
    refund_id = await refund(world, session["payment_intent"])
    (told,) = await refunded(world, person)
    assert (told.refund_id, told.amount.amount) == (refund_id, Decimal(50))
    (event,) = await world.published(person.mandate_id)
    assert isinstance(event.data, PaymentSucceeded)
    assert (event.data.reference, event.data.amount.amount) == (session_id, Decimal(50))


async def test_a_refund_of_a_recharge_names_its_payment(world: World) -> None:
    recharging = Recharging(world)
    await recharging.set_up()
    request = recharging.request("40", user_id="member-1")
    await recharging.ask(request)
    await world.published(recharging.mandate_id)
    (intent,) = await recharging.intents()
    await refund(world, intent.id, 1500)
    (told,) = await refunded(world, recharging.person)
    assert told.recharge_id == request.recharge_id
    assert (told.reason, told.reference, told.user_id, told.amount.amount) == (
        "recharge",
        intent.id,
        "member-1",
        Decimal(15),
    )


async def test_a_dispute_takes_when_it_is_lost_and_not_when_it_is_won(world: World) -> None:
    lost, won = await topped_up(world), await topped_up(world)
    for person, _, intent_id in (lost, won):
        dispute_id = await dispute(world, intent_id)
        await eventually(partial(idle, world), what="all events processed")
        assert await world.told(PAYMENT_REFUNDED_V1, person.mandate_id, count=0) == []
        await decide(world, dispute_id, "lost" if person is lost[0] else "won")
    (told,) = await refunded(world, lost[0])
    assert (told.outcome, told.amount.amount) == ("dispute_lost", Decimal(100))
    (told,) = await refunded(world, won[0])
    assert told.outcome == "dispute_won"


async def test_a_dispute_that_is_won_and_lost_after_all_takes_again(world: World) -> None:
    person, _, intent_id = await topped_up(world)
    dispute_id = await dispute(world, intent_id)
    await decide(world, dispute_id, "lost")
    assert len(await refunded(world, person)) == 1
    found = (await world.stripe.v1.disputes.retrieve_async(dispute_id)).to_dict(for_json=True)
    for status in ("won", "lost"):
        assert (await world.control.post("/objects", json={**found, "status": status})).status_code == 200
        # However often it is told of.
        for _ in range(3):
            event: dict[str, Any] = {"id": f"evt_{uuid4().hex}", "type": "charge.dispute.closed", "livemode": False}
            event["data"] = {"object": {"id": dispute_id, "object": "dispute"}}
            assert (await world.deliver(json.dumps(event).encode())).status_code == 200
        await eventually(partial(idle, world), what="all events processed")
    told = await refunded(world, person, count=2)
    assert [(each.refund_id, each.outcome, each.amount.amount) for each in told] == [
        (dispute_id, "dispute_lost", Decimal(100)),
        (f"{dispute_id}/2", "dispute_lost", Decimal(100)),
    ]
    credited = [each.data for each in await world.published(person.mandate_id, count=2)]
    back = [each for each in credited if isinstance(each, PaymentSucceeded)][1:]
    assert [(each.reference, each.description) for each in back] == [(dispute_id, "Won dispute: Stripe payment")]
    (row,) = await world.rows("SELECT * FROM refunds WHERE refund_id = $1", dispute_id)
    assert (row["state"], row["amount"], row["taken_count"]) == ("TAKEN", Decimal(100), 2)


async def test_a_look_at_refunds_that_was_begun_before_another_one_is_taken_again(world: World) -> None:
    """Else what was seen earlier and is settled later would give back what has been lost since."""
    person, _, intent_id = await topped_up(world)
    dispute_id = await dispute(world, intent_id)
    await decide(world, dispute_id, "lost")
    assert len(await refunded(world, person)) == 1
    stripe = StripeGateway(API_KEY, api_base=world.fake.url, timeout_s=10)
    try:
        async with opened(world.servers.dsn("payments"), pool_size=1) as database:
            async with database.reading() as connection:
                looks = [await next_observation(connection) for _ in range(2)]
            early, late = [await ObservedRefunds.fetch(stripe, intent_id, number=number) for number in looks]
            assert early is not None
            assert late is not None
            async with database.transaction() as connection:
                assert await late.apply(connection, cause="tests", now=datetime.now(UTC)) is not None
            with pytest.raises(FetchedTooEarly):
                async with database.transaction() as connection:
                    await early.apply(connection, cause="tests", now=datetime.now(UTC))
    finally:
        await stripe.stop()


async def test_a_look_at_a_refund_from_before_it_failed_takes_nothing(world: World) -> None:
    """Also where the refund was never told of before."""
    person, _, intent_id = await topped_up(world)
    stripe = StripeGateway(API_KEY, api_base=world.fake.url, timeout_s=10)

    async def look(database: Database) -> ObservedRefunds:
        async with database.reading() as connection:
            number = await next_observation(connection)
        found = await ObservedRefunds.fetch(stripe, intent_id, number=number)
        assert found is not None
        return found

    # No event tells of it, so that the looks are those of the test.
    assert (await world.control.post("/webhooks", json={"drop": True})).status_code == 200
    try:
        refund_id = await refund(world, intent_id, 2500)
        async with opened(world.servers.dsn("payments"), pool_size=1) as database:
            early = await look(database)
            answer = await world.control.post(f"/refunds/{refund_id}", json={"status": "failed"})
            assert answer.status_code == 200, answer.text
            late = await look(database)
            assert [each.status for seen in (early, late) for each in seen.backs] == ["succeeded", "failed"]
            async with database.transaction() as connection:
                await late.apply(connection, cause="tests", now=datetime.now(UTC))
            with pytest.raises(FetchedTooEarly):
                async with database.transaction() as connection:
                    await early.apply(connection, cause="tests", now=datetime.now(UTC))
    finally:
        assert (await world.control.post("/webhooks", json={})).status_code == 200
        await stripe.stop()
    assert await world.told(PAYMENT_REFUNDED_V1, person.mandate_id, count=0) == []


async def test_a_dispute_after_a_refund_takes_what_is_left(world: World) -> None:
    person, _, intent_id = await topped_up(world)
    await refund(world, intent_id, 4000)
    await decide(world, await dispute(world, intent_id), "lost")
    told = await refunded(world, person, count=2)
    assert sum(each.amount.amount for each in told) == Decimal(100)


async def test_a_charge_that_was_released_gives_nothing_back_and_closes_the_checkout(world: World) -> None:
    person = world.person()
    session_id = await person.session(amount=50)
    await world.pay(session_id, "unpaid", drop=True)
    (session,) = [each for each in await world.sessions() if each["id"] == session_id]
    intent_id = session["payment_intent"]
    found = (await world.stripe.v1.payment_intents.retrieve_async(intent_id)).to_dict(for_json=True)
    canceled = {**found, "status": "canceled", "amount_received": 0, "latest_charge": None}
    assert (await world.control.post("/objects", json=canceled)).status_code == 200
    charge = {"id": f"ch_{uuid4().hex}", "object": "charge", "payment_intent": intent_id, "amount": 5000}
    charge |= {"amount_captured": 0, "amount_refunded": 5000, "captured": False, "refunded": True}
    charge |= {"currency": "chf", "status": "succeeded"}
    assert (await world.control.post("/objects", json=charge)).status_code == 200
    event: dict[str, Any] = {"id": f"evt_{uuid4().hex}", "type": "charge.refunded", "livemode": False}
    event["data"] = {"object": charge}
    assert (await world.deliver(json.dumps(event).encode())).status_code == 200
    assert await world.event_outcome(event["id"]) == "FAILED"
    assert (await world.checkout_of(session_id))["state"] == "FAILED"
    assert await world.told(PAYMENT_REFUNDED_V1, person.mandate_id, count=0) == []


async def test_a_payment_that_was_on_its_way_and_did_not_arrive_is_told(world: World) -> None:
    person = world.person()
    session_id = await person.session(amount=25)
    await world.pay(session_id, "unpaid")
    await world.pay(session_id, "async_failed")
    (failed,) = await world.told(PAYMENT_FAILED_V1, person.mandate_id)
    assert (failed.outcome, failed.reason, failed.reference) == ("declined", "top_up", session_id)
    await eventually(partial(idle, world), what="all events processed")
    assert len(await world.told(PAYMENT_FAILED_V1, person.mandate_id)) == 1


async def test_a_refund_that_failed_after_all_is_credited_again(world: World) -> None:
    person, _, intent_id = await topped_up(world)
    refund_id = await refund(world, intent_id, 2500)
    assert len(await refunded(world, person)) == 1
    answer = await world.control.post(f"/refunds/{refund_id}", json={"status": "failed"})
    assert answer.status_code == 200, answer.text
    events = await world.published(person.mandate_id, count=2)
    back = next(
        each.data for each in events if isinstance(each.data, PaymentSucceeded) and each.data.reference == refund_id
    )
    assert (back.amount.amount, back.reason) == (Decimal(25), "top_up")
    # Beside the payment, of the same day, it would else look as if that was credited twice.
    assert back.description == "Failed refund: Stripe payment"
    (row,) = await world.rows("SELECT state FROM refunds WHERE refund_id = $1", refund_id)
    assert row["state"] == "GIVEN_BACK"


async def test_a_refund_that_waits_moves_nothing_until_it_is_done(world: World) -> None:
    recharging = Recharging(world)
    await recharging.set_up("pm_card_pendingRefund")
    await recharging.ask(recharging.request("40"))
    await world.published(recharging.mandate_id)
    (intent,) = await recharging.intents()
    refund_id = await refund(world, intent.id)
    await eventually(partial(idle, world), what="all events processed")
    assert await world.told(PAYMENT_REFUNDED_V1, recharging.mandate_id, count=0) == []
    for status in ("requires_action", "succeeded"):
        answer = await world.control.post(f"/refunds/{refund_id}", json={"status": status})
        assert answer.status_code == 200, answer.text
    (told,) = await refunded(world, recharging.person)
    assert (told.refund_id, told.amount.amount) == (refund_id, Decimal(40))


async def test_a_refund_cut_off_by_a_crash_is_told_of_once(world: World) -> None:
    person, _, intent_id = await topped_up(world)
    hit = world.arm("payments_before_commit")
    refund_id = await refund(world, intent_id, 5000)
    await world.killed(hit)
    (told,) = await refunded(world, person)
    assert (told.refund_id, told.amount.amount) == (refund_id, Decimal(50))
