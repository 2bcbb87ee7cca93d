"""Reconciliation: what Stripe has and we do not is found, and healed where it is asked for; and the plans at Stripe."""

import json
import subprocess
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

from prometheus_client import REGISTRY

from rappen_contracts.registry import PAYMENT_REFUNDED_V1, STRIPE_OBSERVED_V1
from rappen_contracts.stripe.v1 import StripePlan
from services.chassis.clock import system_clock
from services.chassis.database import Database
from services.payments.reconciliation.reconcile import Reconcile, ScheduledReconciliation
from services.payments.stripe.gateway import StripeGateway
from tests.integration.payments.charging import Recharging
from tests.integration.payments.subscribing import Subscribed, plan
from tests.integration.payments.test_top_up import foreign_session
from tests.integration.payments.world import API_KEY, World


def reconcile(world: World, *words: str) -> tuple[int, list[dict[str, Any]]]:
    """Exit code and differences."""
    # Other tests move the fake's time ahead.
    until = (datetime.now(UTC) + timedelta(days=90)).isoformat()
    done = world.command("reconcile", "--json", "--to", until, *words)
    assert done.returncode in (0, 1), done.stderr
    return done.returncode, json.loads(done.stdout)["differences"]


def of(differences: list[dict[str, Any]], *stripe_ids: str) -> list[tuple[str, str]]:
    """Kind and id of those that a test is about."""
    return [(each["kind"], each["stripeId"]) for each in differences if each["stripeId"] in stripe_ids]


async def test_a_top_up_whose_events_got_lost_is_found_and_credited(world: World) -> None:
    person = world.person()
    session_id = await person.session(amount=50)
    await world.pay(session_id, drop=True)
    (session,) = [each for each in await world.sessions() if each["id"] == session_id]
    intent_id = session["payment_intent"]
    code, found = reconcile(world)
    assert (code, of(found, intent_id)) == (1, [("PAYMENT_MISSING", intent_id)])
    assert await world.rows("SELECT 1 FROM payments WHERE stripe_payment_intent_id = $1", intent_id) == []
    _, found = reconcile(world, "--apply")
    assert [each["healed"] for each in found if each["stripeId"] == intent_id] == [True]
    (event,) = await world.published(person.mandate_id)
    assert event.data.amount.amount == Decimal(50)  # type: ignore[attr-defined]
    assert of(reconcile(world)[1], intent_id) == []


async def test_a_payment_that_cannot_be_booked_keeps_no_other_difference_from_being_healed(world: World) -> None:
    person = world.person()
    lost = await person.session(amount=50)
    await world.pay(lost, drop=True)
    # Stripe lists what is newer first.
    assert (await world.control.post("/clock/advance", json={"seconds": 1})).status_code == 200
    unknown = await foreign_session(world, person, currency="xts", units=250000, marked=True)
    await world.pay(unknown)
    assert await world.processed(unknown) == ["SET_ASIDE"]
    intents = {each["id"]: each["payment_intent"] for each in await world.sessions()}
    _, found = reconcile(world, "--apply")
    healed = {each["stripeId"]: each["healed"] for each in found}
    assert (healed[intents[unknown]], healed[intents[lost]]) == (False, True)
    (event,) = await world.published(person.mandate_id)
    assert event.data.reference == lost  # type: ignore[attr-defined]


async def test_a_refund_and_a_subscription_whose_events_got_lost_are_found_and_told_of(world: World) -> None:
    recharging, team = Recharging(world), Subscribed(world)
    await recharging.set_up()
    await recharging.ask(recharging.request("40"))
    await world.published(recharging.mandate_id)
    await team.begin()
    (intent,) = await recharging.intents()
    # Nobody listens while both happen.
    world.service.stop()
    refund = await world.stripe.v1.refunds.create_async({"payment_intent": intent.id, "amount": 1000})
    await world.stripe.v1.subscriptions.cancel_async(team.stripe_id)
    log = (await world.control.get("/deliveries")).json()
    deliveries = [each["event"] for each in log if each["state"] == "pending"]
    code, found = reconcile(world)
    assert code == 1
    wanted = [("REFUND_MISSING", refund.id), ("SUBSCRIPTION_STALE", team.stripe_id)]
    assert of(found, refund.id, team.stripe_id) == wanted
    reconcile(world, "--apply")
    assert of(reconcile(world)[1], refund.id, team.stripe_id) == []
    world.service.start()
    await world.service.ready()
    (told,) = await world.told(PAYMENT_REFUNDED_V1, recharging.mandate_id)
    assert (told.refund_id, told.amount.amount) == (refund.id, Decimal(10))
    observed = await world.told(STRIPE_OBSERVED_V1, team.mandate_id)
    assert max(observed, key=lambda each: each.version).subscription.status == "canceled"
    # The events that come late change nothing any more.
    for event_id in deliveries:
        await world.event_outcome(event_id)
    assert len(await world.told(PAYMENT_REFUNDED_V1, recharging.mandate_id)) == 1


async def test_a_refund_of_a_subscription_whose_events_got_lost_is_found_and_told_of(world: World) -> None:
    team = Subscribed(world)
    await team.begin()
    await team.observed(lambda each: each.invoice and each.invoice.status == "paid")
    (invoice,) = (await world.stripe.v1.invoices.list_async({"subscription": team.stripe_id})).data
    (payment,) = (await world.stripe.v1.invoice_payments.list_async({"invoice": invoice.id})).data
    intent_id = payment.to_dict(for_json=True)["payment"]["payment_intent"]
    assert (await world.control.post("/webhooks", json={"drop": True})).status_code == 200
    try:
        refund = await world.stripe.v1.refunds.create_async({"payment_intent": intent_id, "amount": 1000})
    finally:
        assert (await world.control.post("/webhooks", json={})).status_code == 200
    code, found = reconcile(world)
    assert (code, of(found, refund.id)) == (1, [("REFUND_MISSING", refund.id)])
    assert await world.told(PAYMENT_REFUNDED_V1, team.mandate_id, count=0) == []
    _, found = reconcile(world, "--apply")
    assert [each["healed"] for each in found if each["stripeId"] == refund.id] == [True]
    (told,) = await world.told(PAYMENT_REFUNDED_V1, team.mandate_id)
    assert (told.refund_id, told.subscription_id, told.amount.amount) == (refund.id, team.id, Decimal(10))
    assert of(reconcile(world)[1], refund.id) == []


async def test_what_the_ledger_lacks_is_told_again_and_what_it_has_too_much_is_reported(
    world: World, tmp_path: Path
) -> None:
    person = world.person()
    session_id = await person.session(amount=25)
    await world.pay(session_id)
    assert await world.processed(session_id) == ["CREDITED"]
    (row,) = await world.rows("SELECT * FROM payments WHERE stripe_session_id = $1", session_id)
    intent_id, ledger = row["stripe_payment_intent_id"], tmp_path / "ledger.json"
    every: dict[str, list[str]] = {}
    for each in await world.rows("SELECT * FROM payments"):
        every.setdefault(each["reference"], []).append(str(each["amount"]))
    taken = {each["refund_id"]: str(each["amount"]) for each in await world.rows("SELECT * FROM refunds")}

    def compared(credits_: dict[str, list[str]], *words: str) -> list[dict[str, Any]]:
        ledger.write_text(json.dumps({"credits": credits_, "refunds": taken}))
        # As if it had been some time ago: what was published just now is on its way.
        later = (datetime.now(UTC) + timedelta(days=90)).isoformat()
        done = world.command("reconcile", "--json", "--to", later, "--ledger", str(ledger), *words)
        assert done.returncode in (0, 1), done.stderr
        return list(json.loads(done.stdout)["differences"])

    earlier = "UPDATE payments SET recorded_at = recorded_at - interval '5 minutes' WHERE stripe_session_id = $1"
    await world.rows(earlier, session_id)
    assert of(compared(every), intent_id) == []
    assert of(compared({**every, session_id: ["24.00"]}), intent_id) == [("LEDGER_AMOUNT_DIFFERS", intent_id)]
    assert of(compared({**every, "cs_test_nobody": ["5"]}), "cs_test_nobody") == [
        ("LEDGER_CREDIT_UNKNOWN", "cs_test_nobody")
    ]
    # A second credit of one reference, as of an invoice that was paid in parts, is no difference.
    assert of(compared({**every, session_id: [*every[session_id], "3"]}), intent_id) == []
    assert of(compared({**every, session_id: ["3", *every[session_id]]}), intent_id) == []
    without = {reference: amount for reference, amount in every.items() if reference != session_id}
    assert of(compared(without), intent_id) == [("LEDGER_CREDIT_MISSING", intent_id)]
    compared(without, "--apply")
    first, again = await world.published(person.mandate_id, count=2)
    assert (first.id, first.digest) == (again.id, again.digest)


def sync(world: World, plans: list[StripePlan], *words: str) -> subprocess.CompletedProcess[str]:
    text = json.dumps([each.model_dump(mode="json") for each in plans])
    return world.command("plan", "sync", *words, input_=text)


async def test_the_plans_are_made_at_stripe_and_drift_is_reported_until_it_is_replaced(world: World) -> None:
    key = f"S{uuid4().hex[:8].upper()}"
    missing = sync(world, [plan(key)], "--check")
    assert missing.returncode == 1
    assert f"price rappen_{key}_members: CHF 29.00 per month is wanted, nothing is there" in missing.stdout
    for _ in range(2):
        made = sync(world, [plan(key)])
        # That there is no product yet is no reason to warn of it.
        assert (made.returncode, made.stdout, made.stderr) == (0, "1 plans, 0 differences\n", "")
    dearer = plan(key, member="35.00")
    drifted = sync(world, [dearer])
    assert drifted.returncode == 1
    assert "CHF 35.00 per month is wanted, CHF 29.00 per month is there" in drifted.stdout
    assert sync(world, [dearer], "--replace").returncode == 0
    assert sync(world, [dearer], "--check").returncode == 0
    prices = (await world.stripe.v1.prices.list_async({"product": f"rappen_{key}", "limit": 100})).data
    assert len(prices) == 3
    faulty = world.command("plan", "sync", input_='[{"key": "X"}]')
    assert faulty.returncode == 2
    assert "price_per_user" in faulty.stderr


async def test_an_operator_sees_an_event_and_what_is_asked_of_stripe(world: World) -> None:
    team = Subscribed(world)
    request = team.action("cancel")
    await team.settled(request)
    listed = world.command("stripe", "requests", "--limit", "20").stdout
    assert f"{request.request_id}  stripe.requested  {team.mandate_id}  REFUSED" in listed
    event_id = f"evt_{uuid4().hex}"
    body = {"id": event_id, "type": "x.y", "livemode": False, "data": {"object": {"id": "x_1"}}}
    assert (await world.deliver(json.dumps(body).encode())).status_code == 200
    await world.event_outcome(event_id)
    shown = world.command("stripe", "events", "show", event_id)
    assert shown.returncode == 0
    assert json.loads(shown.stdout.splitlines()[1]) == body
    assert world.command("stripe", "events", "retry", event_id).returncode == 0
    assert event_id in world.command("stripe", "events", "list").stdout


async def test_the_schedule_tells_and_heals_what_has_been_missing_for_a_while(world: World) -> None:
    person = world.person()
    database = Database(world.servers.dsn("payments"), pool_size=2)
    stripe = StripeGateway(API_KEY, api_base=world.fake.url, timeout_s=10)

    async def look(ahead: timedelta, *, apply: bool) -> None:
        def clock() -> datetime:
            return datetime.now(UTC) + ahead

        reconcile = Reconcile(database, stripe, clock=system_clock)
        assert await ScheduledReconciliation(reconcile, apply=apply, clock=clock)() == 0

    def told(kind: str) -> float:
        return REGISTRY.get_sample_value("rappen_payments_differences", {"kind": kind}) or 0.0

    # The fake's time may be ahead, where another test has moved it.
    offset = timedelta(seconds=(await world.control.get("/state")).json()["clock_offset_s"])
    try:
        # What other tests have left, and cannot be healed.
        await look(offset + timedelta(hours=2), apply=True)
        before = told("PAYMENT_MISSING")
        session_id = await person.session(amount=100)
        await world.pay(session_id, drop=True)
        await look(offset, apply=False)
        assert told("PAYMENT_MISSING") <= before
        await look(offset + timedelta(hours=2), apply=False)
        assert told("PAYMENT_MISSING") == before + 1
        assert await world.rows("SELECT 1 FROM payments WHERE stripe_session_id = $1", session_id) == []
        await look(offset + timedelta(hours=2), apply=True)
        assert told("PAYMENT_MISSING") == before
    finally:
        await stripe.stop()
        await database.stop()
    assert len(await world.published(person.mandate_id)) == 1
    assert 'rappen_payments_differences{kind="PAYMENT_MISSING"}' in (await world.http.get("/metrics")).text
