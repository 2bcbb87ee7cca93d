"""Recharges: the stored method is charged once without anybody there, and whatever comes of it is told."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import uuid4

import pytest

from rappen_contracts.payment.v1 import PaymentSucceeded
from tests.integration.payments.charging import Recharging
from tests.integration.payments.world import ORIGIN, World
from tests.support.waiting import eventually


async def paid(world: World, recharging: Recharging) -> PaymentSucceeded:
    """The one payment of the mandate on the topic."""
    (event,) = await world.published(recharging.mandate_id)
    assert isinstance(event.data, PaymentSucceeded)
    return event.data


async def test_a_recharge_charges_the_stored_method_once(world: World) -> None:
    recharging = Recharging(world)
    await recharging.set_up()
    request = recharging.request("20", user_id="member-1")
    await recharging.ask(request, request)
    payment = await paid(world, recharging)
    assert (payment.amount.amount, payment.reason, payment.recharge_id) == (
        Decimal(20),
        "recharge",
        request.recharge_id,
    )
    assert (payment.user_id, payment.description) == ("member-1", "Automatic recharge")
    (intent,) = await recharging.intents()
    assert payment.reference == payment.stripe_payment_intent_id == intent.id
    assert (intent.status, intent.amount_received) == ("succeeded", 2000)
    (row,) = await world.rows("SELECT state FROM recharges WHERE recharge_id = $1", request.recharge_id)
    assert row["state"] == "SUCCEEDED"


@pytest.mark.parametrize("point", ["payments_request_begun", "payments_request_done", "payments_before_commit"])
async def test_a_recharge_cut_off_by_a_crash_is_charged_once(world: World, point: str) -> None:
    recharging = Recharging(world)
    await recharging.set_up()
    request = recharging.request()
    hit = world.arm(point)
    await recharging.ask(request)
    await world.killed(hit)
    assert (await paid(world, recharging)).recharge_id == request.recharge_id
    await eventually(partial(recharging.outcome, request), what="the request settled")
    assert len(await recharging.intents()) == 1
    assert await recharging.failed(count=0) == []


async def test_an_answer_that_got_lost_is_found_again(world: World) -> None:
    recharging = Recharging(world)
    await recharging.set_up()
    # The client itself tries three times; by then Stripe has a stored answer, and it is another one here.
    await world.fault("/v1/payment_intents", 500, times=3, after_effect=True, method="POST")
    await recharging.ask(recharging.request())
    assert (await paid(world, recharging)).amount.amount == Decimal(20)
    assert len(await recharging.intents()) == 1


async def test_a_declined_card_is_told_and_charged_no_more(world: World) -> None:
    recharging = Recharging(world)
    await recharging.set_up("pm_card_chargeCustomerFail")
    request = recharging.request()
    await recharging.ask(request)
    (failed,) = await recharging.failed()
    assert (failed.outcome, failed.recharge_id, failed.reason) == ("declined", request.recharge_id, "recharge")
    assert failed.decline_code == "generic_decline"
    assert failed.stripe_payment_intent_id == (await recharging.intents())[0].id
    # The event of Stripe's about the same payment tells nothing more.
    await eventually(partial(no_event_waits, world), what="all events processed")
    assert len(await recharging.failed()) == 1


async def no_event_waits(world: World) -> bool:
    return not await world.rows("SELECT 1 FROM webhook_events WHERE processed_at IS NULL")


async def test_who_has_to_confirm_in_person_gets_a_link_and_pays_by_it(world: World) -> None:
    recharging = Recharging(world)
    await recharging.set_up("pm_card_authenticationRequired")
    request = recharging.request("30")
    await recharging.ask(request)
    (failed,) = await recharging.failed()
    assert (failed.outcome, failed.recharge_id) == ("action_required", request.recharge_id)
    assert failed.action_url is not None
    session_id = await world.session_id_of(failed.action_url)
    await world.pay(session_id)
    payment = await paid(world, recharging)
    assert (payment.amount.amount, payment.reason, payment.recharge_id) == (
        Decimal(30),
        "recharge",
        request.recharge_id,
    )


async def test_without_a_method_it_is_declined_and_the_next_top_up_saves_one(world: World) -> None:
    recharging = Recharging(world)
    await recharging.ask(recharging.request())
    (failed,) = await recharging.failed()
    assert (failed.outcome, failed.decline_code) == ("declined", "no_payment_method")
    session_id = await recharging.person.session(amount=25)
    await world.pay(session_id)
    await world.processed(session_id)
    customer = await recharging.customer()
    assert customer["payment_method_id"]
    assert not customer["wants_method"]
    request = recharging.request("50")
    await recharging.ask(request)
    events = await world.published(recharging.mandate_id, count=2)
    assert {each.data.reason for each in events if isinstance(each.data, PaymentSucceeded)} == {"top_up", "recharge"}


async def test_twint_that_a_top_up_saved_is_charged_until_its_holder_revokes_that(world: World) -> None:
    recharging = Recharging(world)
    session_id = await recharging.person.session(amount=25, savePaymentMethod=True)
    by_twint = {"outcome": "paid", "method": "twint"}
    assert (await world.control.post(f"/checkout/sessions/{session_id}/pay", json=by_twint)).status_code == 200
    await world.processed(session_id)
    request = recharging.request("50")
    await recharging.ask(request)
    events = await world.published(recharging.mandate_id, count=2)
    assert {each.data.reason for each in events if isinstance(each.data, PaymentSucceeded)} == {"top_up", "recharge"}

    charge_id = (await recharging.intents())[0].latest_charge
    charge = (await world.stripe.v1.charges.retrieve_async(str(charge_id))).to_dict(for_json=True)
    mandate_id = charge["payment_method_details"]["twint"]["mandate"]
    assert (await world.control.post(f"/mandates/{mandate_id}", json={"status": "inactive"})).status_code == 200
    refused = recharging.request("30")
    await recharging.ask(refused)
    (failed,) = await recharging.failed()
    assert (failed.outcome, failed.recharge_id) == ("declined", refused.recharge_id)
    assert failed.decline_code == "payment_intent_mandate_invalid"


async def test_a_top_up_saves_its_method_where_that_is_asked_for(world: World) -> None:
    recharging = Recharging(world)
    session_id = await recharging.person.session(amount=25, savePaymentMethod=True)
    await world.pay(session_id)
    await world.processed(session_id)
    customer = await recharging.customer()
    (session,) = [each for each in await world.sessions() if each["id"] == session_id]
    assert session["customer"] == customer["stripe_customer_id"]
    assert customer["payment_method_id"]
    other = Recharging(world)
    plain = await other.person.session(amount=25)
    await world.pay(plain)
    assert await world.rows("SELECT 1 FROM customers WHERE mandate_id = $1", other.mandate_id) == []


async def test_a_recharge_that_nobody_waits_for_is_not_charged(world: World) -> None:
    recharging = Recharging(world)
    await recharging.set_up()
    late = recharging.request(expires_at=datetime.now(UTC) - timedelta(seconds=1))
    await recharging.ask(late)
    assert await eventually(partial(recharging.outcome, late), what="the request settled") == "EXPIRED"
    assert await recharging.intents() == []


async def test_a_charge_is_not_begun_again_after_its_time(world: World) -> None:
    recharging = Recharging(world)
    await recharging.set_up()
    async with world.unavailable("/v1/payment_intents", method="POST"):
        request = recharging.request()
        await recharging.ask(request)
        await world.expire(request.recharge_id)
        outcome = await eventually(partial(recharging.outcome, request), what="the request settled")
    assert outcome == "EXPIRED"
    assert await recharging.intents() == []


async def test_a_method_that_was_taken_away_is_not_charged(world: World) -> None:
    recharging = Recharging(world)
    await recharging.set_up()
    method_id = (await recharging.customer())["payment_method_id"]
    await world.stripe.v1.payment_methods.detach_async(method_id)

    async def forgotten() -> bool:
        return (await recharging.customer())["payment_method_id"] is None

    await eventually(forgotten, what="the method forgotten")
    await recharging.ask(recharging.request())
    (failed,) = await recharging.failed()
    assert failed.decline_code == "no_payment_method"


async def test_recharges_of_one_mandate_are_charged_one_after_the_other(world: World) -> None:
    recharging = Recharging(world)
    await recharging.set_up()
    async with world.process("worker"):
        requests = [recharging.request(str(amount)) for amount in (10, 11, 12, 13)]
        await recharging.ask(*requests)
        events = await world.published(recharging.mandate_id, count=4)
    assert len(events) == 4
    assert sorted(each.amount for each in await recharging.intents()) == [1000, 1100, 1200, 1300]


@pytest.mark.parametrize("path", ["setup", "portal"])
async def test_the_pages_are_for_administrators_and_lead_back_to_us(world: World, path: str) -> None:
    person = world.person()

    async def post(mandate_id: str, who: Any, page: Any = f"{ORIGIN}/billing") -> tuple[int, str]:
        answer = await world.http.post(
            f"/api/payments/{path}/{mandate_id}", json={"returnUrl": page}, headers=who.headers
        )
        return answer.status_code, answer.json().get("code", "")

    assert (await post(person.mandate_id, person))[0] == 200
    member = world.person(admin=False)
    assert (await post(member.mandate_id, member))[0] == 403
    assert (await post(person.mandate_id, member))[0] == 403
    for page in ("https://evil.example/billing", "//evil.example", "/billing", f"{ORIGIN}.evil.example/"):
        assert await post(person.mandate_id, person, page) == (400, "RETURN_URL_NOT_ALLOWED")
    assert await post(person.mandate_id, person, 7) == (422, "VALIDATION")


def owner_of(customer: Any) -> Any:
    return (customer.to_dict(for_json=True).get("metadata") or {}).get("mandateId")


async def test_a_setup_with_a_key_is_one_session_and_customers_are_made_once(world: World) -> None:
    person = world.person()
    path = f"/api/payments/setup/{person.mandate_id}"
    body = {"returnUrl": f"{ORIGIN}/billing"}
    first = await world.http.post(path, json=body, headers={**person.headers, "Idempotency-Key": "k"})
    again = await world.http.post(path, json=body, headers={**person.headers, "Idempotency-Key": "k"})
    assert first.json() == again.json()
    answers = await asyncio.gather(
        *(world.http.post(path, json=body, headers=person.headers) for _ in range(5)),
        *(
            world.http.post(f"/api/payments/portal/{person.mandate_id}", json=body, headers=person.headers)
            for _ in range(3)
        ),
    )
    assert {each.status_code for each in answers} == {200}
    customers = (await world.stripe.v1.customers.list_async({"limit": 100})).data
    assert len([each for each in customers if owner_of(each) == person.mandate_id]) == 1


async def test_an_event_of_a_recharge_that_is_not_ours_changes_nothing(world: World) -> None:
    recharging = Recharging(world)
    await recharging.set_up()
    request = recharging.request()
    await recharging.ask(request)
    await paid(world, recharging)
    forged = await world.stripe.v1.payment_intents.create_async(
        {
            "amount": 99900,
            "currency": "chf",
            "payment_method": "pm_card_visa",
            "confirm": True,
            "return_url": ORIGIN,
            "metadata": {"rechargeId": str(request.recharge_id), "mandateId": "somebody-else"},
        }
    )
    event: dict[str, Any] = {
        "id": f"evt_{uuid4().hex}",
        "type": "payment_intent.succeeded",
        "livemode": False,
        "data": {"object": {"id": forged.id, "object": "payment_intent"}},
    }
    assert (await world.deliver(json.dumps(event).encode())).status_code == 200
    assert await world.event_outcome(event["id"]) == "NOT_OURS"
    assert len(await world.published(recharging.mandate_id)) == 1


async def test_without_a_page_for_it_what_has_to_be_confirmed_is_told_all_the_same(world: World) -> None:
    recharging = Recharging(world)
    customer_id = await recharging.set_up("pm_card_authenticationRequired")
    await world.fault("/v1/checkout/sessions", 400, times=1, method="POST")
    await recharging.ask(recharging.request())
    (failed,) = await recharging.failed()
    assert (failed.outcome, failed.action_url) == ("action_required", None)
    # The next one is not held up by it.
    stripe = world.stripe.v1
    attached = await stripe.payment_methods.attach_async("pm_card_visa", {"customer": customer_id})
    chosen: Any = {"invoice_settings": {"default_payment_method": attached.id}}
    await stripe.customers.update_async(customer_id, chosen)
    await recharging.ask(recharging.request("12"))
    assert (await paid(world, recharging)).amount.amount == Decimal(12)


async def test_a_customer_who_was_deleted_at_stripe_can_pay_again(world: World) -> None:
    recharging = Recharging(world)
    customer_id = await recharging.set_up()
    await world.stripe.v1.customers.delete_async(customer_id)

    async def forgotten() -> bool:
        return (await recharging.customer())["stripe_customer_id"] is None

    await eventually(forgotten, what="the customer forgotten")
    await recharging.ask(recharging.request())
    (failed,) = await recharging.failed()
    assert failed.decline_code == "no_payment_method"
    session_id = await recharging.person.session(amount=25)
    await world.pay(session_id)
    await world.processed(session_id)
    customer = await recharging.customer()
    assert customer["stripe_customer_id"] not in (None, customer_id)
    assert customer["payment_method_id"]


@pytest.mark.parametrize("status", [401, 403])
async def test_a_key_that_stripe_does_not_take_declines_nobodys_card(world: World, status: int) -> None:
    recharging = Recharging(world)
    await recharging.set_up()
    await world.fault("/v1/payment_intents", status, times=2, method="POST")
    await recharging.ask(recharging.request())
    assert (await paid(world, recharging)).amount.amount == Decimal(20)
    assert await recharging.failed(count=0) == []
