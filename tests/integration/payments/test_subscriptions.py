"""Subscriptions at Stripe: what is asked for is done once, and what Stripe has is told of, in order."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import pytest

from rappen_contracts.registry import (
    PAYMENT_FAILED_V1,
    QUANTITY_REQUESTED_V1,
    QUANTITY_SETTLED_V1,
    STRIPE_OBSERVED_V1,
    STRIPE_REQUESTED_V1,
    STRIPE_SETTLED_V1,
)
from rappen_contracts.stripe.v1 import Quantities, StripeRequested
from services.chassis.clock import system_clock
from services.chassis.database import Database
from services.chassis.faults import FaultPoints
from services.payments.customers.ensure_customer import EnsureCustomer
from services.payments.observations import FetchedTooEarly, next_observation
from services.payments.requests.domain import StoredRequest, request_of
from services.payments.stripe.gateway import StripeGateway
from services.payments.stripe.objects import CheckoutSession
from services.payments.subscriptions.observe_objects import ObservedSubscription
from services.payments.subscriptions.perform_action import PerformAction
from services.payments.subscriptions.publish_observation import Observed
from tests.integration.payments.subscribing import Subscribed, plan
from tests.integration.payments.world import API_KEY, World
from tests.support.events import new_mandate
from tests.support.locks import held
from tests.support.waiting import eventually


async def test_a_checkout_begins_a_subscription_that_is_told_of(world: World) -> None:
    team = Subscribed(world)
    await team.begin()
    seen = await team.observed(lambda each: each.subscription and each.subscription.status == "active")
    assert seen.subscription is not None
    assert {(each.kind, each.quantity) for each in seen.subscription.items} == {
        ("members", 2),
        ("feature_instances", 1),
    }
    assert all(each.period_end > each.period_start for each in seen.subscription.items)
    assert (seen.subscription.plan_key, seen.subscription.ends_at) == ("TEAM", None)
    paid = await team.observed(lambda each: each.invoice and each.invoice.status == "paid")
    assert paid.invoice is not None
    assert paid.invoice.billing_reason == "subscription_create"
    assert paid.subscription is not None
    told = await world.told(STRIPE_OBSERVED_V1, team.mandate_id)
    assert sorted({each.version for each in told}) == sorted(each.version for each in told)
    found = await team.at_stripe()
    assert found["metadata"]["subscriptionRecordId"] == str(team.id)
    (row,) = await world.rows("SELECT * FROM stripe_subscriptions WHERE subscription_id = $1", team.id)
    assert (row["stripe_subscription_id"], row["checkout_session_id"]) == (team.stripe_id, team.session_id)
    (customer,) = await world.rows("SELECT * FROM customers WHERE mandate_id = $1", team.mandate_id)
    assert customer["stripe_customer_id"] == found["customer"]


async def test_a_plan_is_mirrored_once_and_a_new_price_takes_over_its_key(world: World) -> None:
    key = f"P{uuid4().hex[:8].upper()}"
    for _ in range(2):
        await Subscribed(world).begin(plan=plan(key))
    dearer = Subscribed(world)
    await dearer.begin(plan=plan(key, member="31.005"))
    prices = (await world.stripe.v1.prices.list_async({"product": f"rappen_{key}", "limit": 100})).data
    amounts = sorted((str(each.unit_amount_decimal), each.lookup_key or "") for each in prices)
    assert amounts == [
        ("1900", f"rappen_{key}_feature_instances"),
        ("2900", ""),
        ("3100.5", f"rappen_{key}_members"),
    ]
    found = await dearer.at_stripe()
    assert {str(each["price"]["unit_amount_decimal"]) for each in found["items"]["data"]} == {"3100.5", "1900"}


async def test_nothing_is_charged_before_the_start_that_was_asked_for(world: World) -> None:
    later = Subscribed(world)
    start = datetime.now(UTC).replace(microsecond=0) + timedelta(days=10)
    await later.begin(start_at=start)
    seen = await later.observed(lambda each: each.subscription and each.subscription.status == "trialing")
    assert seen.subscription is not None
    assert seen.subscription.trial_ends_at == start


async def test_what_waits_for_its_start_is_begun_before_it_and_charged_once(world: World) -> None:
    later = Subscribed(world)
    start = datetime.now(UTC).replace(microsecond=0) + timedelta(days=10)
    await later.begin(start_at=start)
    await later.observed(lambda each: each.subscription and each.subscription.status == "trialing")
    for _ in range(2):
        assert (await later.settled(later.action("begin"))).code == "BEGUN"
    paid = await later.observed(lambda each: each.invoice and each.invoice.billing_reason == "subscription_update")
    assert paid.subscription is not None
    assert paid.invoice is not None
    (period,) = {(item.period_start, item.period_end) for item in paid.subscription.items}
    assert (paid.subscription.status, paid.invoice.status) == ("active", "paid")
    # What subscriptions knows the invoice of a beginning by.
    assert (paid.invoice.period_start, paid.invoice.period_end) == period
    assert paid.subscription.trial_ends_at == period[0] < start
    invoices = (await world.stripe.v1.invoices.list_async({"subscription": later.stripe_id})).data
    assert sorted(str(each.billing_reason) for each in invoices) == ["subscription_create", "subscription_update"]


async def test_a_subscription_is_set_to_end_goes_on_and_is_ended(world: World) -> None:
    team = Subscribed(world)
    await team.begin()
    assert (await team.settled(team.action("end_at_period_end"))).code == "SET_TO_END"
    ending = await team.observed(lambda each: each.subscription and each.subscription.ends_at is not None)
    assert ending.subscription is not None
    assert ending.subscription.status == "active"
    assert (await team.settled(team.action("resume"))).code == "RESUMED"
    going_on = await team.observed(lambda each: each.version > ending.version and each.subscription)
    assert going_on.subscription is not None
    assert going_on.subscription.ends_at is None
    for _ in range(2):
        assert (await team.settled(team.action("cancel"))).outcome == "done"
    ended = await team.observed(lambda each: each.subscription and each.subscription.status == "canceled")
    assert ended.subscription is not None
    assert ended.subscription.ended_at is not None
    refused = await team.settled(team.action("resume"))
    assert (refused.outcome, refused.code) == ("refused", "SUBSCRIPTION_ENDED")


async def test_a_subscription_that_the_portal_has_set_to_end_goes_on_too(world: World) -> None:
    team = Subscribed(world)
    await team.begin()
    at = int((datetime.now(UTC) + timedelta(days=9)).timestamp())
    await world.stripe.v1.subscriptions.update_async(team.stripe_id, {"cancel_at": at})
    await team.observed(lambda each: each.subscription and each.subscription.ends_at is not None)
    assert (await team.settled(team.action("resume"))).code == "RESUMED"
    assert (await team.at_stripe())["cancel_at"] is None


async def test_what_was_not_begun_is_refused_and_its_checkout_can_be_closed(world: World) -> None:
    team = Subscribed(world)
    refused = await team.settled(team.action("resume"))
    assert (refused.outcome, refused.code) == ("refused", "UNKNOWN_SUBSCRIPTION")
    opened = await team.settled(team.action("checkout"))
    assert opened.redirect_url is not None
    refused = await team.settled(team.action("end_at_period_end"))
    assert (refused.outcome, refused.code) == ("refused", "NO_STRIPE_SUBSCRIPTION")
    assert (await team.settled(team.action("cancel"))).code == "CHECKOUT_CLOSED"
    closed = await team.observed(lambda each: each.checkout and each.checkout.state == "closed")
    assert closed.subscription is None


async def test_a_checkout_that_is_opened_again_closes_the_one_before(world: World) -> None:
    team = Subscribed(world)
    first = await team.settled(team.action("checkout"))
    second = await team.settled(team.action("checkout"))
    assert second.checkout_session_id != first.checkout_session_id
    states = {each["id"]: each["status"] for each in await world.sessions()}
    assert (states[first.checkout_session_id], states[second.checkout_session_id]) == ("expired", "open")
    assert await world.processed(first.checkout_session_id or "") == ["SUPERSEDED"]
    assert await world.told(STRIPE_OBSERVED_V1, team.mandate_id, count=0) == []
    await world.pay(second.checkout_session_id or "")
    await team.observed(lambda each: each.checkout and each.checkout.state == "completed")
    third = await team.settled(team.action("checkout"))
    assert (third.outcome, third.code) == ("refused", "ALREADY_BEGUN")


async def test_a_second_subscription_of_one_record_is_reported_and_told_to_nobody(world: World) -> None:
    team = Subscribed(world)
    await team.begin()
    first = await team.at_stripe()
    price = first["items"]["data"][0]["price"]["id"]
    second = await world.stripe.v1.subscriptions.create_async(
        {"customer": first["customer"], "items": [{"price": price}], "metadata": first["metadata"]}
    )

    async def outcomes() -> list[str]:
        rows = await world.rows(
            "SELECT outcome FROM webhook_events WHERE object_id = $1 AND processed_at IS NOT NULL", second.id
        )
        return [row["outcome"] for row in rows]

    assert set(await eventually(outcomes, what="the event of the second")) == {"UNPLACED"}
    told = await world.told(STRIPE_OBSERVED_V1, team.mandate_id)
    assert {each.subscription.stripe_subscription_id for each in told if each.subscription} == {team.stripe_id}


@pytest.mark.parametrize("told", [False, True])
async def test_a_checkout_that_was_paid_before_it_could_be_closed_is_paid_back(world: World, told: bool) -> None:
    """Another one was begun in its place, and nobody is to pay for two."""
    team = Subscribed(world)
    settled = await team.settled(team.action("checkout"))
    session_id, asked = str(settled.checkout_session_id), team.action("cancel")
    await world.pay(session_id, drop=not told)
    if told:
        # After it was asked, so that who asked did not know.
        await team.observed(lambda each: each.subscription and each.subscription.status == "active")
    answer = await team.settled(asked)
    assert (answer.outcome, answer.code) == ("done", "CANCELED_AND_REFUNDED")
    stripe = world.stripe.v1
    session = await stripe.checkout.sessions.retrieve_async(session_id)
    found = await stripe.subscriptions.retrieve_async(str(session.subscription))
    assert found.status == "canceled"
    (invoice,) = (await stripe.invoices.list_async({"subscription": found.id})).data
    refunds = [each for each in (await stripe.refunds.list_async({"limit": 100})).data if each.reason == "duplicate"]
    charges = [(await stripe.charges.retrieve_async(str(each.charge))).customer for each in refunds]
    assert [each.amount for each, owner in zip(refunds, charges, strict=True) if owner == found.customer] == [
        invoice.amount_paid
    ]
    # Asked once more, nothing more goes back.
    again = await team.settled(team.action("cancel"))
    assert again.outcome == "done"
    assert len((await stripe.refunds.list_async({"charge": str(refunds[0].charge)})).data) == 1


class PaidWhenLookedAt(StripeGateway):
    """Stripe, where a checkout is paid just after it was seen to be open."""

    def __init__(self, world: World) -> None:
        super().__init__(API_KEY, api_base=world.fake.url, timeout_s=10)
        self._world = world
        self.paid = 0

    async def checkout_session(self, session_id: str) -> CheckoutSession:
        session = await super().checkout_session(session_id)
        if session.status == "open":
            await self._world.pay(session_id, drop=True)
            self.paid += 1
        return session


@pytest.mark.parametrize(
    ("action", "answer"),
    [("cancel", ("done", "CANCELED_AND_REFUNDED")), ("checkout", ("refused", "ALREADY_BEGUN"))],
)
async def test_a_checkout_that_is_paid_while_it_is_closed_was_paid(
    world: World, action: str, answer: tuple[str, str]
) -> None:
    """Stripe closes no session that was completed since it was looked at."""
    team = Subscribed(world)
    opened_ = await team.settled(team.action("checkout"))
    asked = team.action(action)
    stripe = PaidWhenLookedAt(world)
    database = Database(world.servers.dsn("payments"), pool_size=2)
    clock, faults = system_clock, FaultPoints(None)
    try:
        work = PerformAction(
            database, stripe, EnsureCustomer(database, stripe, clock=clock, faults=faults), clock=clock
        )
        done = await work.perform(taken(asked))
        async with database.transaction() as connection:
            await done.write(connection)
    finally:
        await stripe.stop()
        await database.stop()
    assert stripe.paid == 1
    settled = await team.answer(asked)
    assert (settled.outcome, settled.code) == answer
    session = await world.stripe.v1.checkout.sessions.retrieve_async(str(opened_.checkout_session_id))
    begun = await world.stripe.v1.subscriptions.retrieve_async(str(session.subscription))
    assert begun.status == ("canceled" if action == "cancel" else "active")


def taken(asked: StripeRequested) -> StoredRequest:
    """The request as a worker takes it."""
    fresh = request_of(asked)
    return StoredRequest(
        no=0,
        topic=STRIPE_REQUESTED_V1.name,
        request_id=fresh.request_id,
        mandate_id=fresh.mandate_id,
        lane=fresh.lane,
        version=fresh.version,
        data=asked.model_dump_json(),
        received_at=asked.requested_at,
        expires_at=fresh.expires_at,
        begun_at=asked.requested_at,
        attempts=1,
        stripe_attempt=1,
    )


async def test_what_tells_of_a_new_subscription_at_the_same_time_is_all_of_it(world: World) -> None:
    """The record learns the id from the first; the second, which looked for it before, waits for the record."""
    team = Subscribed(world)
    settled = await team.settled(team.action("checkout"))
    await world.pay(str(settled.checkout_session_id), drop=True)
    session = await world.stripe.v1.checkout.sessions.retrieve_async(str(settled.checkout_session_id))
    stripe = StripeGateway(API_KEY, api_base=world.fake.url, timeout_s=10)
    database = Database(world.servers.dsn("payments"), pool_size=3)

    async def observe() -> Observed | None:
        async with database.transaction() as connection:
            number = await next_observation(connection)
            observed = await ObservedSubscription.fetch(stripe, str(session.subscription), number=number)
            assert observed is not None
            return await observed.apply(connection, cause="tests", now=datetime.now(UTC))

    row = "SELECT 1 FROM payments.stripe_subscriptions WHERE subscription_id = $1 FOR UPDATE"
    try:
        async with held(world.servers.admin_dsn, row, team.id) as lock:
            await lock.begin(observe(), observe())
            first, second = await lock.release()
        assert lock.waited == 2
        assert first.outcome == "OBSERVED"
        # It is fetched again.
        assert isinstance(second, FetchedTooEarly)
        again = await observe()
        assert again is not None
        assert again.outcome == "OBSERVED"
    finally:
        await stripe.stop()
        await database.stop()


async def test_what_was_asked_too_late_is_not_begun(world: World) -> None:
    team = Subscribed(world)
    late = team.action("checkout", expires_at=datetime.now(UTC) - timedelta(seconds=1))
    assert (await team.settled(late)).outcome == "expired"
    sessions = [each for each in await world.sessions() if each["metadata"].get("mandateId") == team.mandate_id]
    assert sessions == []


async def test_a_request_that_is_repeated_or_contradicts_itself_is_done_once(world: World) -> None:
    team = Subscribed(world)
    first = team.action("checkout")
    other = first.model_copy(update={"action": "cancel"})
    await world.ask(STRIPE_REQUESTED_V1, first, first, other)
    assert (await team.answer(first)).code == "CHECKOUT_OPENED"
    assert len(await world.told(STRIPE_SETTLED_V1, team.mandate_id)) == 1
    (letter,) = await world.rows("SELECT error_code FROM quarantine WHERE key = $1", team.mandate_id.encode())
    assert letter["error_code"] == "CONFLICT"


async def test_quantities_are_set_as_they_were_asked_for(world: World) -> None:
    team = Subscribed(world)
    await team.begin(quantities=Quantities(members=1, feature_instances=0))
    settled = await team.set(team.quantities(1, 3, 2))
    assert (settled.outcome, settled.quantities) == ("settled", Quantities(members=3, feature_instances=2))
    settled = await team.set(team.quantities(2, 3, 0))
    assert (settled.outcome, settled.quantities) == ("settled", Quantities(members=3, feature_instances=0))
    settled = await team.set(team.quantities(3, 3, 1, paid_at_once=True))
    assert (settled.outcome, settled.quantities) == ("settled", Quantities(members=3, feature_instances=1))
    old = await team.set(team.quantities(1, 9, 9))
    assert old.outcome == "superseded"
    found = await team.at_stripe()
    assert sorted(each["quantity"] for each in found["items"]["data"]) == [1, 3]


async def test_quantities_that_must_be_paid_at_once_are_declined_with_the_card(world: World) -> None:
    team = Subscribed(world)
    await team.begin()
    await bad_card(world, team)
    settled = await team.set(team.quantities(1, 2, 5, paid_at_once=True))
    assert (settled.outcome, settled.quantities) == ("declined", Quantities(members=2, feature_instances=1))
    assert settled.code
    assert (await team.set(team.quantities(2, 2, 4))).outcome == "settled"
    found = await team.at_stripe()
    assert sorted(each["quantity"] for each in found["items"]["data"]) == [2, 4]


async def bad_card(world: World, team: Subscribed) -> None:
    """Gives the subscription a card that is declined from now on."""
    customer = (await team.at_stripe())["customer"]
    method = await world.stripe.v1.payment_methods.attach_async("pm_card_chargeCustomerFail", {"customer": customer})
    await world.stripe.v1.subscriptions.update_async(team.stripe_id, {"default_payment_method": method.id})


async def test_quantities_wait_for_stripe_and_are_given_up_when_nobody_waits(world: World) -> None:
    team = Subscribed(world)
    await team.begin()
    path = f"/v1/subscriptions/{team.stripe_id}"
    await world.fault(path, 500, times=3)
    settled = await team.set(team.quantities(1, 4, 1))
    assert (settled.outcome, settled.quantities) == ("settled", Quantities(members=4, feature_instances=1))
    async with world.unavailable(path):
        given_up = team.quantities(2, 5, 1, paid_at_once=True, expires_at=datetime.now(UTC) + timedelta(minutes=5))
        await world.ask(QUANTITY_REQUESTED_V1, given_up)
        await world.expire(given_up.request_id)
        settled = await team.set_answer(given_up)
    assert (settled.outcome, settled.quantities) == ("unavailable", None)
    settled = await team.set(team.quantities(3, 4, 1))
    assert (settled.outcome, settled.quantities) == ("settled", Quantities(members=4, feature_instances=1))


@pytest.mark.parametrize(
    "point",
    ["payments_request_begun", "payments_customer_made", "payments_request_done", "payments_before_commit"],
)
async def test_a_checkout_cut_off_by_a_crash_is_opened_once(world: World, point: str) -> None:
    team = Subscribed(world)
    hit = world.arm(point)
    request = team.action("checkout")
    await world.ask(STRIPE_REQUESTED_V1, request)
    await world.killed(hit)
    settled = await team.answer(request)
    assert settled.code == "CHECKOUT_OPENED"
    sessions = [each for each in await world.sessions() if each["metadata"].get("mandateId") == team.mandate_id]
    assert [each["id"] for each in sessions] == [settled.checkout_session_id]
    customers = await world.stripe.v1.customers.list_async({"limit": 100})
    assert len([each for each in customers.data if owner_of(each) == team.mandate_id]) == 1
    assert len(await world.told(STRIPE_SETTLED_V1, team.mandate_id)) == 1


@pytest.mark.parametrize("point", ["payments_request_done", "payments_before_commit"])
async def test_quantities_cut_off_by_a_crash_are_settled_once(world: World, point: str) -> None:
    team = Subscribed(world)
    await team.begin()
    hit = world.arm(point)
    request = team.quantities(1, 7, 3)
    await world.ask(QUANTITY_REQUESTED_V1, request)
    await world.killed(hit)
    settled = await team.set_answer(request)
    assert (settled.outcome, settled.quantities) == ("settled", Quantities(members=7, feature_instances=3))
    assert len(await world.told(QUANTITY_SETTLED_V1, team.mandate_id)) == 1


async def test_events_in_any_order_end_with_what_stripe_has(world: World) -> None:
    async with world.process("worker"):
        team = Subscribed(world)
        settled = await team.settled(team.action("checkout"))
        team.session_id = settled.checkout_session_id or ""
        await world.pay(team.session_id, duplicate=2, shuffle=True)
        begun = await team.observed(lambda each: each.subscription is not None)
        assert begun.subscription is not None
        team.stripe_id = begun.subscription.stripe_subscription_id
        changes = [team.quantities(number, number, 1) for number in range(3, 9)]
        await world.ask(QUANTITY_REQUESTED_V1, *changes)
        await team.set_answer(changes[-1])
        await eventually(partial(waiting_events, world), what="all events processed")
        told = await world.told(STRIPE_OBSERVED_V1, team.mandate_id)
        newest = max((each for each in told if each.subscription), key=lambda each: each.version)
        assert {each.kind: each.quantity for each in newest.subscription.items}["members"] == 8


def owner_of(customer: Any) -> Any:
    return (customer.to_dict(for_json=True).get("metadata") or {}).get("mandateId")


async def waiting_events(world: World) -> bool:
    return not await world.rows("SELECT 1 FROM webhook_events WHERE processed_at IS NULL")


def snapshot(kind: str, object_: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": f"evt_{uuid4().hex}", "type": kind, "livemode": False, "data": {"object": object_}, **more}


async def test_what_is_not_ours_or_cannot_be_found_is_stored_and_changes_nothing(world: World) -> None:
    customer = await world.stripe.v1.customers.create_async({"payment_method": "pm_card_visa"})
    product = await world.stripe.v1.products.create_async({"name": "Of somebody else"})
    price = await world.stripe.v1.prices.create_async(
        {"product": product.id, "currency": "chf", "unit_amount": 500, "recurring": {"interval": "month"}}
    )
    methods = (await world.stripe.v1.customers.payment_methods.list_async(customer.id)).data
    other = await world.stripe.v1.subscriptions.create_async(
        {"customer": customer.id, "items": [{"price": price.id}], "default_payment_method": methods[0].id}
    )
    events = [
        snapshot("customer.subscription.updated", {"id": other.id, "object": "subscription"}),
        snapshot("customer.subscription.updated", {"id": "sub_unknown", "object": "subscription"}),
        snapshot("invoice.upcoming", {"object": "invoice", "subscription": other.id}),
        snapshot("invoice.paid", {"object": "invoice", "parent": None}),
        snapshot("invoice.paid", {"id": "in_unknown", "object": "invoice", "parent": None}),
        snapshot("charge.refunded", {"id": "ch_unknown", "object": "charge"}),
        snapshot("customer.subscription.new_kind", {"id": other.id, "object": "subscription"}),
    ]
    outcomes = []
    for event in events:
        assert (await world.deliver(json.dumps(event).encode())).status_code == 200
        outcomes.append(await world.event_outcome(event["id"]))
    assert outcomes == ["NOT_OURS", "NOT_OURS", "IGNORED", "NOT_OURS", "NOT_OURS", "NOT_OURS", "IGNORED"]


async def test_what_is_ours_and_cannot_be_placed_is_marked_and_counted(world: World) -> None:
    team = Subscribed(world)
    await team.begin()
    strange = {**await team.at_stripe(), "status": "hibernating"}
    assert (await world.control.post("/objects", json=strange)).status_code == 200
    invoices = await world.stripe.v1.invoices.list_async({"subscription": team.stripe_id})
    paid = invoices.data[0].to_dict(for_json=True)
    orphan = {**paid, "id": f"in_{uuid4().hex}", "parent": None, "lines": {"object": "list", "data": []}}
    assert (await world.control.post("/objects", json=orphan)).status_code == 200
    for kind, about in (("customer.subscription.updated", strange), ("invoice.paid", orphan)):
        event = snapshot(kind, {"id": about["id"], "object": about["object"]})
        assert (await world.deliver(json.dumps(event).encode())).status_code == 200
        assert await world.event_outcome(event["id"]) == "UNPLACED"
    counted = (await world.http.get("/metrics")).text
    assert 'rappen_payments_unplaced_total{what="subscription"}' in counted
    assert 'rappen_payments_unplaced_total{what="invoice"}' in counted


async def test_a_subscription_of_the_system_before_is_taken_over_by_what_it_carries(world: World) -> None:
    mandate_id, record_id = new_mandate(), uuid4()
    customer = await world.stripe.v1.customers.create_async({"payment_method": "pm_card_visa"})
    product = await world.stripe.v1.products.create_async({"name": "As before"})
    price = await world.stripe.v1.prices.create_async(
        {"product": product.id, "currency": "chf", "unit_amount": 500, "recurring": {"interval": "month"}}
    )
    methods = (await world.stripe.v1.customers.payment_methods.list_async(customer.id)).data
    before = await world.stripe.v1.subscriptions.create_async(
        {
            "customer": customer.id,
            "items": [{"price": price.id}],
            "default_payment_method": methods[0].id,
            "metadata": {"mandateId": mandate_id, "subscriptionRecordId": str(record_id), "planKey": "STARTER"},
        }
    )
    told = await world.told(STRIPE_OBSERVED_V1, mandate_id)
    newest = max(told, key=lambda each: each.version)
    assert (newest.subscription_id, newest.subscription.plan_key) == (record_id, "STARTER")
    assert newest.subscription.stripe_subscription_id == before.id


async def test_a_renewal_and_a_failed_one_are_told_of_with_the_subscription(world: World) -> None:
    good, bad = Subscribed(world), Subscribed(world)
    await asyncio.gather(good.begin(), bad.begin())
    await bad_card(world, bad)
    # A day after the renewal, whatever the length of the month: the second attempt is after three.
    begun = (await bad.observed(lambda each: each.subscription)).subscription
    assert begun is not None
    period = begun.items[0].period_end - begun.items[0].period_start
    seconds = int(period.total_seconds()) + 86_400
    assert (await world.control.post("/clock/advance", json={"seconds": seconds})).status_code == 200
    renewed = await good.observed(
        lambda each: each.invoice and each.invoice.billing_reason == "subscription_cycle" and each.invoice.paid_at
    )
    assert renewed.invoice is not None
    assert renewed.subscription is not None
    assert renewed.subscription.status == "active"
    late = await bad.observed(lambda each: each.invoice and each.invoice.status == "open" and each.invoice.attempts)
    assert late.invoice is not None
    assert late.invoice.action_url is not None
    past_due = await bad.observed(lambda each: each.subscription and each.subscription.status == "past_due")
    assert past_due.subscription is not None
    # Each attempt is told of once, however many events of Stripe are about it.
    for attempts, seconds in ((1, 0), (2, 4 * 86_400)):
        assert (await world.control.post("/clock/advance", json={"seconds": seconds})).status_code == 200
        await bad.observed(lambda each, count=attempts: each.invoice and each.invoice.attempts == count)
        told = await world.told(PAYMENT_FAILED_V1, bad.mandate_id)
        assert [(each.reason, each.outcome, each.reference) for each in told] == [
            ("subscription", "declined", late.invoice.stripe_invoice_id)
        ] * attempts
        assert {each.action_url for each in told} == {late.invoice.action_url}
        assert {str(each.amount.amount) for each in told} != {"0"}
    paid = renewed.invoice.stripe_invoice_id
    assert await world.rows("SELECT * FROM invoice_attempts WHERE stripe_invoice_id = $1", paid) == []
