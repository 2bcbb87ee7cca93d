"""Payments of subscriptions that go back: of one that was taken back while its payment was under way, and by refunds
and disputes of an invoice."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import uuid4

import pytest

from rappen_contracts.payment.v1 import PaymentRefunded, PaymentSucceeded
from rappen_contracts.registry import PAYMENT_REFUNDED_V1, STRIPE_OBSERVED_V1
from rappen_contracts.stripe.v1 import StripeRequested
from services.chassis.clock import system_clock
from services.chassis.faults import FaultPoints
from services.payments.customers.ensure_customer import EnsureCustomer
from services.payments.stripe.gateway import StripeGateway
from services.payments.stripe.objects import CheckoutSession
from services.payments.subscriptions.perform_action import PerformAction
from tests.integration.payments.subscribing import Subscribed
from tests.integration.payments.test_subscriptions import taken
from tests.integration.payments.world import API_KEY, World
from tests.support.databases import opened
from tests.support.waiting import eventually


async def under_way(team: Subscribed, *, told: bool) -> StripeRequested:
    """A checkout whose payment takes days, and what asks for it to be cancelled, by somebody who did not know of it."""
    settled = await team.settled(team.action("checkout"))
    team.session_id, asked = str(settled.checkout_session_id), team.action("cancel")
    await team.world.pay(team.session_id, "unpaid", drop=not told)
    if told:
        await team.observed(lambda each: each.subscription and each.subscription.status == "active")
    session = await team.world.stripe.v1.checkout.sessions.retrieve_async(team.session_id)
    team.stripe_id = str(session.subscription)
    return asked


async def refunds_of(team: Subscribed) -> list[Any]:
    """The refunds of what was paid for it."""
    stripe, found = team.world.stripe.v1, []
    for invoice in (await stripe.invoices.list_async({"subscription": team.stripe_id})).data:
        found += (await stripe.refunds.list_async({"payment_intent": await intent_of(team.world, invoice.id)})).data
    return found


async def intent_of(world: World, invoice_id: str) -> str:
    (payment,) = (await world.stripe.v1.invoice_payments.list_async({"invoice": invoice_id})).data
    return str(payment.to_dict(for_json=True)["payment"]["payment_intent"])


async def quiet(world: World) -> bool:
    """Whether nothing that was told or asked waits."""
    waiting = (
        "SELECT 1 FROM webhook_events WHERE processed_at IS NULL",
        "SELECT 1 FROM stripe_requests WHERE topic = 'take_back' AND settled_at IS NULL",
    )
    return not any([await world.rows(statement) for statement in waiting])


@pytest.mark.parametrize("told", [False, True])
async def test_a_payment_that_was_under_way_when_its_checkout_was_cancelled_goes_back_when_it_arrives(
    world: World, told: bool
) -> None:
    """Another one was begun in its place, and nobody is to pay for two."""
    team = Subscribed(world)
    asked = await under_way(team, told=told)
    answer = await team.settled(asked)
    assert (answer.outcome, answer.code) == ("done", "CANCELED_AND_REFUNDED")
    assert (await team.at_stripe())["status"] == "canceled"
    assert await refunds_of(team) == []
    await world.pay(team.session_id, "async_paid", duplicate=3, shuffle=True)
    (refund,) = await eventually(partial(refunds_of, team), what="the refund")
    (invoice,) = (await world.stripe.v1.invoices.list_async({"subscription": team.stripe_id})).data
    assert (refund.amount, refund.reason) == (invoice.amount_paid, "duplicate")
    assert invoice.amount_paid > 0
    await eventually(partial(quiet, world), what="nothing waiting")
    # Whatever tells of it once more, and whoever asks once more, nothing more goes back.
    for type_, object_id, kind in (
        ("invoice.paid", invoice.id, "invoice"),
        ("checkout.session.async_payment_succeeded", team.session_id, "checkout.session"),
    ):
        event: dict[str, Any] = {"id": f"evt_{uuid4().hex}", "type": type_, "livemode": False}
        event["data"] = {"object": {"id": object_id, "object": kind}}
        assert (await world.deliver(json.dumps(event).encode())).status_code == 200
        assert await world.event_outcome(event["id"]) == "OBSERVED"
    assert (await team.settled(team.action("cancel"))).outcome == "done"
    await eventually(partial(quiet, world), what="nothing waiting")
    assert len(await refunds_of(team)) == 1
    # It pays for no period, so nobody is told of it as paid.
    observed = await world.told(STRIPE_OBSERVED_V1, team.mandate_id)
    assert not [each for each in observed if each.invoice is not None and each.invoice.status == "paid"]


async def test_a_payment_that_was_under_way_and_fails_needs_nothing(world: World) -> None:
    team = Subscribed(world)
    assert (await team.settled(await under_way(team, told=True))).code == "CANCELED_AND_REFUNDED"
    await world.pay(team.session_id, "async_failed")
    await world.processed(team.session_id, count=2)
    await eventually(partial(quiet, world), what="nothing waiting")
    assert await refunds_of(team) == []


@pytest.mark.parametrize("point", ["payments_request_begun", "payments_request_done"])
async def test_a_payment_that_goes_back_when_it_arrives_does_so_once_whatever_crashes(world: World, point: str) -> None:
    team = Subscribed(world)
    assert (await team.settled(await under_way(team, told=True))).code == "CANCELED_AND_REFUNDED"
    await eventually(partial(quiet, world), what="nothing waiting")
    hit = world.arm(point)
    await world.pay(team.session_id, "async_paid")
    await world.killed(hit)
    await eventually(partial(refunds_of, team), what="the refund")
    await eventually(partial(quiet, world), what="nothing waiting")
    assert len(await refunds_of(team)) == 1


async def test_a_subscription_that_is_begun_only_when_its_payment_arrives_is_cancelled_then(world: World) -> None:
    """Of a checkout that is complete there may be no subscription yet."""
    team = Subscribed(world)
    complete = await completed(team)
    answer = await team.settled(team.action("cancel"))
    assert (answer.outcome, answer.code) == ("done", "CANCELED_AND_REFUNDED")
    await arrives(team, complete)

    async def is_canceled() -> bool:
        return bool((await team.at_stripe())["status"] == "canceled")

    await eventually(is_canceled, what="the subscription cancelled")
    assert len(await eventually(partial(refunds_of, team), what="the refund")) == 1


class ArrivesWhileLookedAt(StripeGateway):
    """Stripe, where the payment of a checkout arrives just after it was seen to be under way, and is told of."""

    def __init__(self, team: Subscribed, complete: dict[str, Any]) -> None:
        super().__init__(API_KEY, api_base=team.world.fake.url, timeout_s=10)
        self._team = team
        self._complete = complete
        self.arrived = 0

    async def checkout_session(self, session_id: str) -> CheckoutSession:
        session = await super().checkout_session(session_id)
        if session.subscription_id is None:
            await arrives(self._team, self._complete)
            await eventually(partial(observed_as_paid, self._team), what="the observation of the paid invoice")
            self.arrived += 1
        return session


async def observed_as_paid(team: Subscribed) -> bool:
    told = await team.world.told(STRIPE_OBSERVED_V1, team.mandate_id, count=0)
    is_paid = any(each.invoice is not None and each.invoice.status == "paid" for each in told)
    return is_paid and await quiet(team.world)


async def test_a_subscription_that_is_begun_while_its_checkout_is_looked_at_is_cancelled(world: World) -> None:
    team = Subscribed(world)
    complete = await completed(team)
    stripe = ArrivesWhileLookedAt(team, complete)
    try:
        async with opened(world.servers.dsn("payments"), pool_size=2) as database:
            customer = EnsureCustomer(database, stripe, clock=system_clock, faults=FaultPoints(None))
            done = await PerformAction(database, stripe, customer, clock=system_clock).perform(
                taken(team.action("cancel"))
            )
    finally:
        await stripe.stop()
    assert (stripe.arrived, done.outcome) == (1, "DONE")
    await eventually(partial(quiet, world), what="nothing waiting")
    assert (await team.at_stripe())["status"] == "canceled"
    assert len(await refunds_of(team)) == 1


async def test_a_payment_that_arrives_after_it_was_told_of_as_under_way_goes_back_too(world: World) -> None:
    """The worker that took it back died before it was cancelled, or Stripe was away then."""
    team = Subscribed(world)
    await under_way(team, told=True)
    await eventually(partial(quiet, world), what="nothing waiting")
    await world.rows("UPDATE stripe_subscriptions SET taken_back_at = now() WHERE subscription_id = $1", team.id)
    (invoice,) = (await world.stripe.v1.invoices.list_async({"subscription": team.stripe_id})).data
    async with world.unavailable(f"/v1/subscriptions/{team.stripe_id}", "DELETE"):
        for type_, object_id, kind in (
            ("invoice.finalized", invoice.id, "invoice"),
            ("checkout.session.completed", team.session_id, "checkout.session"),
            ("customer.subscription.updated", team.stripe_id, "subscription"),
        ):
            event: dict[str, Any] = {"id": f"evt_{uuid4().hex}", "type": type_, "livemode": False}
            event["data"] = {"object": {"id": object_id, "object": kind}}
            assert (await world.deliver(json.dumps(event).encode())).status_code == 200
            assert await world.event_outcome(event["id"]) == "OBSERVED"
        in_vain = "SELECT 1 FROM stripe_requests WHERE topic = 'take_back' AND mandate_id = $1 AND error IS NOT NULL"
        await eventually(partial(world.rows, in_vain, team.mandate_id), what="a try in vain")
    await world.rows("UPDATE stripe_requests SET next_attempt_at = now() WHERE settled_at IS NULL")
    await eventually(partial(quiet, world), what="nothing waiting")
    assert (await team.at_stripe())["status"] == "canceled"
    assert await refunds_of(team) == []
    await world.pay(team.session_id, "async_paid")
    await eventually(partial(refunds_of, team), what="the refund")
    await eventually(partial(quiet, world), what="nothing waiting")
    assert len(await refunds_of(team)) == 1


async def completed(team: Subscribed) -> dict[str, Any]:
    """A checkout that is complete, whose payment is under way, as its JSON."""
    settled = await team.settled(team.action("checkout"))
    found = await team.world.stripe.v1.checkout.sessions.retrieve_async(str(settled.checkout_session_id))
    complete = {**found.to_dict(for_json=True), "status": "complete", "payment_status": "unpaid", "url": None}
    assert (await team.world.control.post("/objects", json=complete)).status_code == 200
    return complete


async def arrives(team: Subscribed, complete: dict[str, Any]) -> None:
    """Its payment arrives, by which its subscription begins."""
    world = team.world
    prices = (await world.stripe.v1.prices.list_async({"product": "rappen_TEAM", "limit": 1})).data
    customer = str(complete["customer"])
    method = await world.stripe.v1.payment_methods.attach_async("pm_card_visa", {"customer": customer})
    order: Any = {
        "customer": customer,
        "items": [{"price": prices[0].id}],
        "default_payment_method": method.id,
        "metadata": complete["metadata"],
    }
    team.stripe_id = (await world.stripe.v1.subscriptions.create_async(order)).id
    begun_by = {**complete, "payment_status": "paid", "subscription": team.stripe_id}
    assert (await world.control.post("/objects", json=begun_by)).status_code == 200


async def begun(world: World) -> tuple[Subscribed, str, str, datetime]:
    """A subscription that was paid: with its invoice, the payment, and the start of the period that it pays for."""
    team = Subscribed(world)
    await team.begin()
    paid = await team.observed(lambda each: each.invoice and each.invoice.status == "paid")
    assert paid.invoice is not None
    assert paid.invoice.period_start is not None
    invoice_id = paid.invoice.stripe_invoice_id
    return team, invoice_id, await intent_of(world, invoice_id), paid.invoice.period_start


async def refunded(world: World, team: Subscribed, *, count: int = 1) -> list[PaymentRefunded]:
    return await world.told(PAYMENT_REFUNDED_V1, team.mandate_id, count=count)


async def test_a_chargeback_of_a_renewal_names_the_period_that_it_paid_for(world: World) -> None:
    team, invoice_id, intent_id, period_start = await begun(world)
    answer = await world.control.post("/disputes", json={"payment_intent": intent_id})
    dispute_id = answer.json()["id"]
    await eventually(partial(quiet, world), what="nothing waiting")
    assert await refunded(world, team, count=0) == []
    assert (await world.control.post(f"/disputes/{dispute_id}", json={"outcome": "lost"})).status_code == 200
    (told,) = await refunded(world, team)
    paid = (await world.stripe.v1.payment_intents.retrieve_async(intent_id)).amount_received
    assert (told.reason, told.outcome, told.reference) == ("subscription", "dispute_lost", invoice_id)
    assert (told.refund_id, told.subscription_id, told.period_start) == (dispute_id, team.id, period_start)
    assert told.paid_amount is not None
    assert told.amount.amount == told.paid_amount.amount == Decimal(paid) / 100
    # What a subscription paid is no credit of its own.
    assert await world.published(team.mandate_id, count=0) == []
    # It is won after all.
    found = (await world.stripe.v1.disputes.retrieve_async(dispute_id)).to_dict(for_json=True)
    assert (await world.control.post("/objects", json={**found, "status": "won"})).status_code == 200
    for _ in range(2):
        event: dict[str, Any] = {"id": f"evt_{uuid4().hex}", "type": "charge.dispute.closed", "livemode": False}
        event["data"] = {"object": {"id": dispute_id, "object": "dispute"}}
        assert (await world.deliver(json.dumps(event).encode())).status_code == 200
        await world.event_outcome(event["id"])
    (again,) = [each.data for each in await world.published(team.mandate_id)]
    assert isinstance(again, PaymentSucceeded)
    assert (again.reason, again.reference, again.amount) == ("subscription", dispute_id, told.amount)


async def test_a_refund_that_is_told_of_before_its_subscription_is_told_of_too(world: World) -> None:
    team = Subscribed(world)
    settled = await team.settled(team.action("checkout"))
    team.session_id = str(settled.checkout_session_id)
    await world.pay(team.session_id, drop=True)
    session = await world.stripe.v1.checkout.sessions.retrieve_async(team.session_id)
    team.stripe_id = str(session.subscription)
    (invoice,) = (await world.stripe.v1.invoices.list_async({"subscription": team.stripe_id})).data
    refund = await world.stripe.v1.refunds.create_async({"payment_intent": await intent_of(world, invoice.id)})
    (told,) = await refunded(world, team)
    assert (told.subscription_id, told.refund_id, told.reference) == (team.id, refund.id, invoice.id)
    assert told.period_start is not None


async def test_refunds_of_a_renewal_in_part_are_told_of_each_once(world: World) -> None:
    team, _, intent_id, period_start = await begun(world)
    for units in (1000, 500):
        await world.stripe.v1.refunds.create_async({"payment_intent": intent_id, "amount": units})
    told = await refunded(world, team, count=2)
    assert sorted(each.amount.amount for each in told) == [Decimal(5), Decimal(10)]
    assert {(each.outcome, each.period_start) for each in told} == {("refund", period_start)}
    report = world.command("reconcile", "--json")
    differences = [each for each in json.loads(report.stdout)["differences"] if each["mandateId"] == team.mandate_id]
    assert differences == []


async def test_a_refund_of_an_invoice_for_a_change_names_no_period(world: World) -> None:
    team, _, _, _ = await begun(world)
    assert (await team.set(team.quantities(1, 5, 1, paid_at_once=True))).outcome == "settled"
    invoices = (await world.stripe.v1.invoices.list_async({"subscription": team.stripe_id})).data
    (change,) = [each for each in invoices if each.billing_reason == "subscription_update"]
    intent_id = await intent_of(world, change.id)
    await world.stripe.v1.refunds.create_async({"payment_intent": intent_id, "amount": 100})
    (told,) = await refunded(world, team)
    assert (told.reference, told.period_start, told.subscription_id) == (change.id, None, team.id)
    assert told.refunded_at <= datetime.now(UTC)
