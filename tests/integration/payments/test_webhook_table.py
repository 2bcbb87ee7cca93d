"""What each type of Stripe's events does: a test for every row that no other file has by its name. The events are sent
by themselves, so that nothing else tells of their object."""

import json
from functools import partial
from typing import Any
from uuid import uuid4

import pytest

from rappen_contracts.payment.v1 import PaymentSucceeded
from rappen_contracts.registry import PAYMENT_FAILED_V1, PAYMENT_REFUNDED_V1
from services.payments.inbox.event_types import fetch_for
from tests.integration.payments.charging import Recharging
from tests.integration.payments.subscribing import Subscribed
from tests.integration.payments.test_taken_over import opened_before
from tests.integration.payments.world import ORIGIN, World
from tests.support.waiting import eventually

# Every type that the table names, with those of its families.
TYPES = (
    "checkout.session.completed",
    "checkout.session.async_payment_succeeded",
    "checkout.session.async_payment_failed",
    "checkout.session.expired",
    "setup_intent.succeeded",
    "customer.subscription.created",
    "customer.subscription.updated",
    "customer.subscription.paused",
    "customer.subscription.resumed",
    "customer.subscription.deleted",
    "customer.subscription.trial_will_end",
    "invoice.paid",
    "invoice.payment_failed",
    "invoice.payment_action_required",
    "payment_intent.succeeded",
    "payment_intent.processing",
    "payment_intent.payment_failed",
    "payment_intent.requires_action",
    "payment_intent.canceled",
    "charge.refunded",
    "refund.created",
    "refund.updated",
    "refund.failed",
    "charge.dispute.created",
    "charge.dispute.updated",
    "charge.dispute.closed",
    "charge.dispute.funds_withdrawn",
    "charge.dispute.funds_reinstated",
)


@pytest.mark.parametrize("type_", TYPES)
def test_something_listens_to_every_type_of_the_table_also_as_a_thin_event(type_: str) -> None:
    assert fetch_for(type_) is not None
    assert fetch_for(f"v1.{type_}") is fetch_for(type_)


async def tell(world: World, type_: str, object_id: str, kind: str) -> str:
    """Delivers an event about an object; gives its outcome."""
    event: dict[str, Any] = {"id": f"evt_{uuid4().hex}", "type": type_, "livemode": False}
    event["data"] = {"object": {"id": object_id, "object": kind}}
    assert (await world.deliver(json.dumps(event).encode())).status_code == 200
    return await world.event_outcome(event["id"])


async def put(world: World, given: dict[str, Any], **changes: Any) -> None:
    """Has Stripe answer an object so from now on, and tells nobody."""
    assert (await world.control.post("/objects", json={**given, **changes})).status_code == 200


async def test_a_completed_checkout_of_nothing_credits_nothing(world: World) -> None:
    person = world.person()
    session_id = await opened_before(world, person, units=0)
    await world.pay(session_id, drop=True)
    assert await tell(world, "checkout.session.completed", session_id, "checkout.session") == "NOTHING_PAID"
    assert (await world.checkout_of(session_id))["state"] == "PAID"
    answer = await person.confirm(session_id)
    assert await world.published(person.mandate_id, count=0) == []
    assert answer.json().get("credited", False) is False


async def test_an_expired_checkout_tells_nobody_and_a_failed_one_the_administrators(world: World) -> None:
    person = world.person()
    expired, failed = await person.session(), await person.session()
    await world.stripe.v1.checkout.sessions.expire_async(expired)
    assert await world.processed(expired) == ["EXPIRED"]
    assert await world.told(PAYMENT_FAILED_V1, person.mandate_id, count=0) == []
    await world.pay(failed, "unpaid", drop=True)
    await world.pay(failed, "async_failed", drop=True)
    type_ = "checkout.session.async_payment_failed"
    assert [await tell(world, type_, failed, "checkout.session") for _ in range(2)] == ["FAILED", "FAILED"]
    (told,) = await world.told(PAYMENT_FAILED_V1, person.mandate_id)
    assert (told.outcome, told.reference) == ("declined", failed)


async def test_async_payment_succeeded_credits_by_itself(world: World) -> None:
    person = world.person()
    session_id = await person.session()
    await world.pay(session_id, "async_paid", drop=True)
    type_ = "checkout.session.async_payment_succeeded"
    assert await tell(world, type_, session_id, "checkout.session") == "CREDITED"
    assert len(await world.published(person.mandate_id)) == 1


async def test_setup_intent_succeeded_stores_the_method_by_itself(world: World) -> None:
    recharging = Recharging(world)
    path = f"/api/payments/setup/{recharging.mandate_id}"
    answer = await world.http.post(path, json={"returnUrl": f"{ORIGIN}/billing"}, headers=recharging.person.headers)
    session_id = await world.session_id_of(answer.json()["redirectUrl"])
    (session,) = [each for each in await world.sessions() if each["id"] == session_id]
    setup = session["setup_intent"]
    # Before it has succeeded there is no method.
    assert await tell(world, "setup_intent.succeeded", setup, "setup_intent") == "NOT_OURS"
    await world.pay(session_id, drop=True)
    assert await tell(world, "setup_intent.succeeded", setup, "setup_intent") == "METHOD_SAVED"
    found = await world.stripe.v1.setup_intents.retrieve_async(setup)
    assert (await recharging.customer())["payment_method_id"] == found.payment_method


async def test_a_chosen_method_and_a_deleted_customer_are_noted(world: World) -> None:
    recharging = Recharging(world)
    customer_id = await recharging.set_up()
    assert (await world.control.post("/webhooks", json={"drop": True})).status_code == 200
    try:
        stripe = world.stripe.v1
        attached = await stripe.payment_methods.attach_async("pm_card_visa", {"customer": customer_id})
        chosen: Any = {"invoice_settings": {"default_payment_method": attached.id}}
        await stripe.customers.update_async(customer_id, chosen)
        assert await tell(world, "customer.updated", customer_id, "customer") == "METHOD_SAVED"
        await stripe.customers.delete_async(customer_id)
        assert await tell(world, "customer.deleted", customer_id, "customer") == "CUSTOMER_FORGOTTEN"
    finally:
        assert (await world.control.post("/webhooks", json={})).status_code == 200
    customer = await recharging.customer()
    assert (customer["stripe_customer_id"], customer["payment_method_id"]) == (None, None)


@pytest.mark.parametrize(
    ("type_", "status"),
    [
        ("customer.subscription.paused", "paused"),
        ("customer.subscription.updated", "unpaid"),
        ("customer.subscription.updated", "past_due"),
        ("customer.subscription.deleted", "canceled"),
        # What counts is the subscription, not what the event is called.
        ("customer.subscription.deleted", "past_due"),
    ],
)
async def test_an_event_of_a_subscription_tells_of_its_status_now(world: World, type_: str, status: str) -> None:
    team = Subscribed(world)
    await team.begin()
    before = await team.at_stripe()
    await put(world, before, status=status)
    assert await tell(world, type_, team.stripe_id, "subscription") == "OBSERVED"
    await team.observed(lambda each: each.subscription and each.subscription.status == status, what=status)
    await put(world, before, status="active")
    assert await tell(world, "customer.subscription.resumed", team.stripe_id, "subscription") == "OBSERVED"
    newest = await team.observed(lambda each: each.subscription)
    assert newest.subscription is not None
    assert newest.subscription.status == "active"


@pytest.mark.parametrize("status", ["trialing", "active"])
async def test_trial_will_end_reminds_of_a_trial_alone(world: World, status: str) -> None:
    team = Subscribed(world)
    await team.begin()
    await put(world, await team.at_stripe(), status=status)
    assert await tell(world, "customer.subscription.trial_will_end", team.stripe_id, "subscription") == "OBSERVED"
    newest = await team.observed(lambda each: each.subscription and each.subscription.status == status)
    assert newest.trial_will_end is (status == "trialing")


async def invoice_of(team: Subscribed) -> dict[str, Any]:
    (invoice,) = (await team.world.stripe.v1.invoices.list_async({"subscription": team.stripe_id})).data
    return dict(invoice.to_dict(for_json=True))


async def unpaid_invoice(team: Subscribed, intent_status: str) -> dict[str, Any]:
    """An invoice of its next period whose payment stands so; no event tells of it."""
    stripe, paid = team.world.stripe.v1, await invoice_of(team)
    (link,) = (await stripe.invoice_payments.list_async({"invoice": paid["id"]})).data
    payment = link.to_dict(for_json=True)
    intent = (await stripe.payment_intents.retrieve_async(payment["payment"]["payment_intent"])).to_dict(for_json=True)
    new = uuid4().hex
    await put(
        team.world, intent, id=f"pi_{new}", status=intent_status, amount_received=0, latest_charge=None, metadata={}
    )
    named = {"type": "payment_intent", "payment_intent": f"pi_{new}"}
    await put(team.world, payment, id=f"inpay_{new}", invoice=f"in_{new}", payment=named, status="open")
    unpaid = {**paid, "id": f"in_{new}", "status": "open", "billing_reason": "subscription_cycle", "amount_paid": 0}
    unpaid |= {"attempt_count": 1, "hosted_invoice_url": f"{team.world.fake.url}/invoice/in_{new}"}
    await put(team.world, unpaid)
    return unpaid


@pytest.mark.parametrize(
    ("type_", "intent_status", "outcome"),
    [
        ("invoice.payment_action_required", "requires_action", "action_required"),
        ("invoice.payment_failed", "requires_payment_method", "declined"),
    ],
)
async def test_a_payment_of_an_invoice_that_failed_or_waits_is_told_of_once_with_the_link(
    world: World, type_: str, intent_status: str, outcome: str
) -> None:
    team = Subscribed(world)
    await team.begin()
    invoice = await unpaid_invoice(team, intent_status)
    assert [await tell(world, type_, invoice["id"], "invoice") for _ in range(2)] == ["OBSERVED", "OBSERVED"]
    # Stripe sends both for one attempt.
    assert await tell(world, "invoice.payment_failed", invoice["id"], "invoice") == "OBSERVED"
    (told,) = await world.told(PAYMENT_FAILED_V1, team.mandate_id)
    assert (told.reason, told.outcome, told.reference) == ("subscription", outcome, invoice["id"])
    assert told.action_url == invoice["hosted_invoice_url"]


async def test_invoice_paid_tells_of_the_period_that_it_paid_for(world: World) -> None:
    team = Subscribed(world)
    await team.begin()
    invoice = await unpaid_invoice(team, "requires_payment_method")
    paid = {**invoice, "status": "paid", "amount_paid": invoice["total"], "amount_remaining": 0}
    await put(world, paid, attempt_count=1)
    assert await tell(world, "invoice.paid", invoice["id"], "invoice") == "OBSERVED"
    seen = await team.observed(lambda each: each.invoice and each.invoice.stripe_invoice_id == invoice["id"])
    assert seen.invoice is not None
    assert (seen.invoice.status, seen.invoice.billing_reason) == ("paid", "subscription_cycle")
    assert seen.invoice.period_start is not None
    assert await world.told(PAYMENT_FAILED_V1, team.mandate_id, count=0) == []


@pytest.mark.parametrize(
    "type_", ["payment_intent.succeeded", "payment_intent.payment_failed", "payment_intent.processing"]
)
async def test_a_recharge_that_was_declined_counts_once_its_money_arrives(world: World, type_: str) -> None:
    recharging = Recharging(world)
    await recharging.set_up("pm_card_chargeCustomerFail")
    request = recharging.request("30")
    await recharging.ask(request)
    assert len(await recharging.failed()) == 1
    await eventually(partial(recharging.outcome, request), what="the request settled")
    (intent,) = await recharging.intents()
    found = intent.to_dict(for_json=True)
    for status in ("processing", "requires_action", "requires_payment_method", "canceled"):
        await put(world, found, status=status)
        outcome = "PROCESSING" if status == "processing" else "DECLINED"
        assert await tell(world, type_, intent.id, "payment_intent") == outcome
    await put(world, found, status="succeeded", amount_received=3000)
    assert await tell(world, type_, intent.id, "payment_intent") == "CREDITED"
    assert await tell(world, type_, intent.id, "payment_intent") == "ALREADY_CREDITED"
    (event,) = await world.published(recharging.mandate_id)
    assert isinstance(event.data, PaymentSucceeded)
    assert event.data.recharge_id == request.recharge_id
    assert len(await recharging.failed()) == 1


@pytest.mark.parametrize(
    "type_", ["charge.refunded", "refund.created", "refund.updated", "refund.failed", "charge.refund.updated"]
)
async def test_each_event_of_a_refund_tells_of_it_by_itself(world: World, type_: str) -> None:
    person, intent_id, charge_id = await topped_up(world)
    assert (await world.control.post("/webhooks", json={"drop": True})).status_code == 200
    try:
        refund = await world.stripe.v1.refunds.create_async({"payment_intent": intent_id, "amount": 1000})
    finally:
        assert (await world.control.post("/webhooks", json={})).status_code == 200
    object_id, kind = (charge_id, "charge") if type_ == "charge.refunded" else (refund.id, "refund")
    # As it is now: also refund.failed tells of one that has succeeded.
    assert await tell(world, type_, object_id, kind) == "REFUND"
    assert await tell(world, type_, object_id, kind) == "NOTHING_REFUNDED"
    (told,) = await world.told(PAYMENT_REFUNDED_V1, person.mandate_id)
    assert told.refund_id == refund.id


@pytest.mark.parametrize(
    "type_",
    [
        "charge.dispute.created",
        "charge.dispute.updated",
        "charge.dispute.closed",
        "charge.dispute.funds_withdrawn",
        "charge.dispute.funds_reinstated",
    ],
)
async def test_each_event_of_a_dispute_tells_of_it_by_itself(world: World, type_: str) -> None:
    person, intent_id, _ = await topped_up(world)
    silent = {"webhooks": {"drop": True}}
    dispute = (await world.control.post("/disputes", json={"payment_intent": intent_id, **silent})).json()
    assert await tell(world, type_, dispute["id"], "dispute") == "NOTHING_REFUNDED"
    answer = await world.control.post(f"/disputes/{dispute['id']}", json={"outcome": "lost", **silent})
    assert answer.status_code == 200, answer.text
    assert await tell(world, type_, dispute["id"], "dispute") == "DISPUTE_LOST"
    assert await tell(world, type_, dispute["id"], "dispute") == "NOTHING_REFUNDED"
    (told,) = await world.told(PAYMENT_REFUNDED_V1, person.mandate_id)
    assert (told.refund_id, told.outcome) == (dispute["id"], "dispute_lost")


async def topped_up(world: World) -> tuple[Any, str, str]:
    """A paid top-up: who paid it, its payment at Stripe and the charge of that."""
    person = world.person()
    session_id = await person.session(amount=50)
    await world.pay(session_id)
    assert await world.processed(session_id) == ["CREDITED"]
    (session,) = [each for each in await world.sessions() if each["id"] == session_id]
    intent = await world.stripe.v1.payment_intents.retrieve_async(session["payment_intent"])
    return person, intent.id, str(intent.latest_charge)
