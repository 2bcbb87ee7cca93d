"""Saved payment methods: what is charged follows from what Stripe did, whichever event tells of it and when."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import uuid4

import pytest

from services.chassis.database import Database
from services.payments.checkouts.settle_checkout import ObservedSession
from services.payments.customers.observe_methods import MethodNoted, ObservedMethod
from services.payments.observations import FetchedTooEarly, numbers_of
from services.payments.stripe.gateway import StripeGateway
from tests.integration.payments.charging import Recharging
from tests.integration.payments.world import API_KEY, ORIGIN, World
from tests.support.databases import opened
from tests.support.locks import held
from tests.support.waiting import eventually


async def idle(world: World) -> bool:
    return not await world.rows("SELECT 1 FROM webhook_events WHERE processed_at IS NULL")


async def told_again(world: World, type_: str, object_id: str, kind: str) -> str:
    """Delivers one more event about an object, as Stripe does late; gives its outcome."""
    event: dict[str, Any] = {"id": f"evt_{uuid4().hex}", "type": type_, "livemode": False}
    event["data"] = {"object": {"id": object_id, "object": kind}}
    assert (await world.deliver(json.dumps(event).encode())).status_code == 200
    return await world.event_outcome(event["id"])


async def set_up(recharging: Recharging) -> tuple[str, str]:
    """Saves a method by a setup session; gives the session and the method."""
    await recharging.set_up()
    newest = [each for each in await recharging.world.sessions() if each["mode"] == "setup"][-1]
    setup = await recharging.world.stripe.v1.setup_intents.retrieve_async(newest["setup_intent"])
    await becomes(recharging, str(setup.payment_method))
    return newest["id"], str(setup.payment_method)


async def becomes(recharging: Recharging, method_id: str | None) -> None:
    """Waits until that is the stored method, and nothing waits that could change it."""

    async def is_stored() -> bool:
        return await stored(recharging) == method_id and await idle(recharging.world)

    await eventually(is_stored, what=f"the method {method_id}")


async def stored(recharging: Recharging) -> Any:
    return (await recharging.customer())["payment_method_id"]


async def test_a_method_that_was_taken_away_does_not_come_back_by_a_late_event_of_its_setup(world: World) -> None:
    recharging = Recharging(world)
    session_id, method_id = await set_up(recharging)
    assert await stored(recharging) == method_id
    (session,) = [each for each in await world.sessions() if each["id"] == session_id]
    await world.stripe.v1.payment_methods.detach_async(method_id)
    await becomes(recharging, None)
    # Both still name the method that they have saved.
    await told_again(world, "setup_intent.succeeded", session["setup_intent"], "setup_intent")
    await told_again(world, "checkout.session.completed", session_id, "checkout.session")
    assert await stored(recharging) is None


async def test_a_method_that_a_top_up_has_saved_does_not_come_back_either(world: World) -> None:
    recharging = Recharging(world)
    session_id = await recharging.person.session(amount=25, savePaymentMethod=True)
    await world.pay(session_id)
    await world.processed(session_id)
    method_id = await stored(recharging)
    await world.stripe.v1.payment_methods.detach_async(method_id)
    await becomes(recharging, None)
    assert await told_again(world, "checkout.session.completed", session_id, "checkout.session") == "ALREADY_CREDITED"
    assert (await recharging.person.confirm(session_id)).json()["alreadyCredited"]
    assert await stored(recharging) is None


async def test_a_late_event_of_an_older_method_does_not_take_the_place_of_a_newer_one(world: World) -> None:
    recharging = Recharging(world)
    first_session, first = await set_up(recharging)
    # A second of Stripe's time later.
    assert (await world.control.post("/clock/advance", json={"seconds": 1})).status_code == 200
    _, second = await set_up(recharging)
    assert await stored(recharging) == second != first
    await told_again(world, "checkout.session.completed", first_session, "checkout.session")
    assert await stored(recharging) == second
    # What is left is charged once the newer one is gone.
    await world.stripe.v1.payment_methods.detach_async(second)
    await becomes(recharging, first)


async def test_a_look_at_a_method_from_before_it_was_taken_away_saves_nothing(world: World) -> None:
    """Also where it was never stored: that it was taken away is known first."""
    recharging = Recharging(world)
    path = f"/api/payments/setup/{recharging.mandate_id}"
    answer = await world.http.post(path, json={"returnUrl": f"{ORIGIN}/billing"}, headers=recharging.person.headers)
    session_id = await world.session_id_of(answer.json()["redirectUrl"])
    await world.pay(session_id, drop=True)
    (session,) = [each for each in await world.sessions() if each["id"] == session_id]
    stripe = StripeGateway(API_KEY, api_base=world.fake.url, timeout_s=10)
    try:
        async with opened(world.servers.dsn("payments"), pool_size=2) as database:
            numbers = numbers_of(database)
            early = await ObservedMethod.of_setup(stripe, session["setup_intent"], numbers)
            as_session = await ObservedSession.fetch(stripe, session_id, numbers)
            assert early is not None
            assert as_session is not None
            await world.stripe.v1.payment_methods.detach_async(early.method.id)
            taken_away = "SELECT 1 FROM webhook_events WHERE object_id = $1 AND processed_at IS NOT NULL"
            await eventually(partial(world.rows, taken_away, early.method.id), what="the event processed")
            for look in (early, as_session):
                with pytest.raises(FetchedTooEarly):
                    await applied(database, look.apply)
            again = await ObservedMethod.of_setup(stripe, session["setup_intent"], numbers)
            assert again is not None
            assert again.method.customer_id is None
    finally:
        await stripe.stop()
    assert await stored(recharging) is None


async def applied(database: Database, apply: Callable[..., Awaitable[Any]]) -> Any:
    async with database.transaction() as connection:
        return await apply(connection, cause="tests", now=datetime.now(UTC))


async def test_of_two_methods_that_are_taken_away_at_the_same_time_none_is_charged(world: World) -> None:
    recharging = Recharging(world)
    await set_up(recharging)
    first = await stored(recharging)
    assert (await world.control.post("/clock/advance", json={"seconds": 1})).status_code == 200
    _, second = await set_up(recharging)
    # No event tells of it, so that the looks are those of the test.
    assert (await world.control.post("/webhooks", json={"drop": True})).status_code == 200
    stripe = StripeGateway(API_KEY, api_base=world.fake.url, timeout_s=10)
    try:
        for each in (first, second):
            await world.stripe.v1.payment_methods.detach_async(each)
        async with opened(world.servers.dsn("payments"), pool_size=4) as database:
            of_first, of_second = [
                await ObservedMethod.fetch(stripe, each, numbers_of(database)) for each in (first, second)
            ]
            async with database.transaction() as connection:
                await of_second.apply(connection, cause="tests", now=datetime.now(UTC))
                # The first is chosen in its place, which nobody else sees before the commit.
                beside = asyncio.create_task(applied(database, of_first.apply))
                await asyncio.wait([beside], timeout=1)
            await beside
    finally:
        await stripe.stop()
        assert (await world.control.post("/webhooks", json={})).status_code == 200
    assert await stored(recharging) is None


async def test_of_two_methods_that_are_saved_at_the_same_time_the_newer_one_is_charged(world: World) -> None:
    recharging = Recharging(world)
    customer_id = await recharging.set_up()
    attached = []
    for _ in range(2):
        assert (await world.control.post("/clock/advance", json={"seconds": 1})).status_code == 200
        attached.append(await world.stripe.v1.payment_methods.attach_async("pm_card_visa", {"customer": customer_id}))
    stripe = StripeGateway(API_KEY, api_base=world.fake.url, timeout_s=10)
    database = Database(world.servers.dsn("payments"), pool_size=4)
    row = "SELECT 1 FROM payments.customers WHERE mandate_id = $1 FOR UPDATE"
    try:
        looks = [await ObservedMethod.fetch(stripe, each.id, numbers_of(database)) for each in reversed(attached)]
        async with held(world.servers.admin_dsn, row, recharging.mandate_id) as lock:
            await lock.begin(*(applied(database, look.apply) for look in looks))
            outcomes = await lock.release()
        assert lock.waited == 2
        assert outcomes == [MethodNoted("METHOD_SAVED")] * 2
    finally:
        await stripe.stop()
        await database.stop()
    assert await stored(recharging) == attached[-1].id
