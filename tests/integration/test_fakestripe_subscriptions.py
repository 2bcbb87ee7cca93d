"""Subscriptions and invoices of the fake Stripe, driven by the official SDK."""

from __future__ import annotations

from typing import Any

import pytest
import stripe
import stripe.checkout

from tests.integration.fakestripe_support import (
    FakeStripeProcess,
    Receiver,
    arrived,
    client,
    customer_with,
    fake,
    make_plan,
    plain,
    receiver,
    with_changes,
)

# Fixtures, which tests use by the names of their arguments.
__all__ = ["client", "fake", "receiver"]


async def open_subscription(client: stripe.StripeClient, items: Any, **more: Any) -> stripe.checkout.Session:
    """Make a checkout session in mode `subscription`."""
    params = {
        "mode": "subscription",
        "line_items": items,
        "success_url": "https://shop.example/back?session={CHECKOUT_SESSION_ID}",
        "cancel_url": "https://shop.example/cancel",
        "subscription_data": {"metadata": {"mandateId": "m1"}},
        **more,
    }
    return await client.v1.checkout.sessions.create_async(params)  # type: ignore[arg-type]


async def test_a_paid_checkout_begins_a_subscription_with_its_invoice(
    fake: FakeStripeProcess, client: stripe.StripeClient, receiver: Receiver
) -> None:
    plan = await make_plan(client)
    session = await open_subscription(client, plan.items(2, 1))
    assert (session.amount_total, session.payment_status, session.subscription) == (2500, "unpaid", None)
    declined = fake.pay(session.id, "declined")
    assert (declined["status"], declined["subscription"], declined["payment_intent"]) == ("open", None, None)
    paid = fake.pay(session.id, "paid")
    assert (paid["status"], paid["payment_status"]) == ("complete", "paid")

    subscription = await client.v1.subscriptions.retrieve_async(
        paid["subscription"], {"expand": ["latest_invoice.payments", "default_payment_method", "customer"]}
    )
    state = plain(subscription)
    assert (state["status"], state["metadata"]) == ("active", {"mandateId": "m1"})
    assert [(item["quantity"], item["price"]["id"]) for item in state["items"]["data"]] == [
        (2, plan.members),
        (1, plan.instances),
    ]
    assert all(item["current_period_end"] > item["current_period_start"] for item in state["items"]["data"])
    assert "current_period_end" not in state
    assert state["default_payment_method"]["customer"] == state["customer"]["id"] == paid["customer"]
    invoice = state["latest_invoice"]
    assert invoice["id"] == paid["invoice"]
    assert (invoice["status"], invoice["billing_reason"], invoice["amount_paid"]) == (
        "paid",
        "subscription_create",
        2500,
    )
    details = invoice["parent"]["subscription_details"]
    assert (details["subscription"], details["metadata"]) == (subscription.id, {"mandateId": "m1"})
    assert [line["amount"] for line in invoice["lines"]["data"]] == [2000, 500]
    [payment] = invoice["payments"]["data"]
    intent = await client.v1.payment_intents.retrieve_async(payment["payment"]["payment_intent"])
    assert (intent.status, intent.amount_received) == ("succeeded", 2500)
    wanted = {"payment": {"type": "payment_intent", "payment_intent": intent.id}}
    [found] = (await client.v1.invoice_payments.list_async(wanted)).data  # type: ignore[arg-type]
    assert (found.invoice, found.status, found.amount_paid) == (invoice["id"], "paid", 2500)

    events = await arrived(receiver, subscription.id, "checkout.session.completed", "invoice.paid")
    types = [str(event.type) for event in events]
    for earlier, later in (
        ("customer.subscription.created", "invoice.created"),
        ("invoice.created", "invoice.finalized"),
        ("invoice.finalized", "invoice.paid"),
        ("invoice.paid", "checkout.session.completed"),
    ):
        assert types.index(earlier) < types.index(later), types


async def test_a_checkout_with_a_trial_charges_nothing_but_keeps_the_card(
    fake: FakeStripeProcess, client: stripe.StripeClient
) -> None:
    plan = await make_plan(client)
    data = {"trial_period_days": 14, "metadata": {"mandateId": "m2"}}
    session = await open_subscription(client, plan.items(), subscription_data=data)
    assert session.amount_total == 0
    shown = fake.http.get(f"/pay/{session.id}").text
    assert "Free until" in shown
    assert "Start the trial" in shown
    paid = fake.pay(session.id, "paid")
    assert (paid["payment_status"], paid["amount_total"]) == ("no_payment_required", 0)
    subscription = await client.v1.subscriptions.retrieve_async(paid["subscription"])
    assert (subscription.status, subscription.trial_end) == ("trialing", subscription.created + 14 * 86_400)
    assert subscription.default_payment_method is not None
    invoices = (await client.v1.invoices.list_async({"subscription": subscription.id})).data
    assert [(row.billing_reason, row.status, row.total) for row in invoices] == [("subscription_create", "paid", 0)]
    without = await open_subscription(
        client, plan.items(), subscription_data=data, payment_method_collection="if_required"
    )
    free = fake.pay(without.id, "paid")
    assert (await client.v1.subscriptions.retrieve_async(free["subscription"])).default_payment_method is None


async def test_a_bank_debit_begins_the_subscription_before_the_bank_has_decided(
    fake: FakeStripeProcess, client: stripe.StripeClient
) -> None:
    plan = await make_plan(client)
    for outcome, status, invoice_status in (("async_paid", "active", "paid"), ("async_failed", "past_due", "open")):
        session = await open_subscription(client, plan.items())
        waiting = fake.pay(session.id, "unpaid")
        subscription = await client.v1.subscriptions.retrieve_async(waiting["subscription"])
        assert (waiting["payment_status"], subscription.status) == ("unpaid", "active")
        fake.pay(session.id, outcome)
        subscription = await client.v1.subscriptions.retrieve_async(
            waiting["subscription"], {"expand": ["latest_invoice"]}
        )
        assert (subscription.status, plain(subscription)["latest_invoice"]["status"]) == (status, invoice_status)


async def test_a_setup_checkout_saves_a_card_that_pays_off_session(
    fake: FakeStripeProcess, client: stripe.StripeClient, receiver: Receiver
) -> None:
    customer = await client.v1.customers.create_async({"email": "setup@example.com"})
    params: Any = {
        "mode": "setup",
        "currency": "chf",
        "customer": customer.id,
        "success_url": "https://shop.example/saved",
        "setup_intent_data": {"metadata": {"mandateId": "m3"}},
    }
    session = await client.v1.checkout.sessions.create_async(params)
    assert (session.amount_total, session.payment_status) == (None, "no_payment_required")
    page = f"/pay/{session.id}"
    assert "Save a payment method" in fake.http.get(page).text
    asked = fake.http.post(page, data={"action": "pay", "number": "4000 0025 0000 3155"})
    assert "Confirm that it is saved" in fake.http.get(asked.headers["location"]).text
    back = fake.http.post(asked.headers["location"], data={"action": "confirm"})
    assert back.headers["location"] == "https://shop.example/saved"
    done = await client.v1.checkout.sessions.retrieve_async(session.id, {"expand": ["setup_intent"]})
    intent = plain(done)["setup_intent"]
    assert (intent["status"], intent["customer"], intent["metadata"]) == ("succeeded", customer.id, {"mandateId": "m3"})
    await arrived(receiver, session.id, "checkout.session.completed")
    await arrived(receiver, intent["id"], "setup_intent.succeeded")
    charged = await client.v1.payment_intents.create_async(
        {
            "amount": 1000,
            "currency": "chf",
            "customer": customer.id,
            "payment_method": intent["payment_method"],
            "confirm": True,
            "off_session": True,
        }
    )
    assert charged.status == "succeeded"
    declined = await client.v1.checkout.sessions.create_async(params)
    assert fake.pay(declined.id, "declined")["status"] == "open"
    with pytest.raises(stripe.InvalidRequestError, match="currency"):
        await client.v1.checkout.sessions.create_async(with_changes(params, currency=None))


async def test_a_quantity_is_prorated_as_the_behavior_says(
    fake: FakeStripeProcess, client: stripe.StripeClient, receiver: Receiver
) -> None:
    plan = await make_plan(client)
    customer = await customer_with(client)
    subscription = await client.v1.subscriptions.create_async({"customer": customer.id, "items": plan.items(2, 1)})
    assert subscription.status == "active"
    [members, _] = plain(subscription)["items"]["data"]

    await client.v1.subscription_items.update_async(members["id"], {"quantity": 3, "proration_behavior": "none"})
    pending = (await client.v1.invoice_items.list_async({"customer": customer.id, "pending": True})).data
    assert pending == []

    await client.v1.subscription_items.update_async(
        members["id"], {"quantity": 5, "proration_behavior": "create_prorations"}
    )
    pending = (await client.v1.invoice_items.list_async({"customer": customer.id, "pending": True})).data
    # Hardly any of the period has passed.
    assert sorted(item.amount for item in pending) == [-3000, 5000]
    assert all(item.proration for item in pending)
    assert len((await client.v1.invoices.list_async({"subscription": subscription.id})).data) == 1

    changed = await client.v1.subscriptions.update_async(
        subscription.id,
        {"items": [{"id": members["id"], "quantity": 6}], "proration_behavior": "always_invoice"},
    )
    assert plain(changed)["items"]["data"][0]["quantity"] == 6
    invoice = (await client.v1.invoices.list_async({"subscription": subscription.id})).data[0]
    assert (invoice.billing_reason, invoice.status, invoice.total) == ("subscription_update", "paid", 3000)
    assert len(invoice.lines.data) == 4
    events = await arrived(receiver, subscription.id, "customer.subscription.updated")
    updated = [event for event in events if event.type == "customer.subscription.updated"]
    assert plain(updated[0])["data"]["previous_attributes"]["items"]["data"][0]["quantity"] == 2

    # Less is given back as a credit, which the next payment is reduced by.
    await client.v1.subscription_items.update_async(
        members["id"], {"quantity": 1, "proration_behavior": "always_invoice"}
    )
    assert (await client.v1.customers.retrieve_async(customer.id)).balance == -5000


async def test_what_cannot_be_paid_is_refused_kept_waiting_or_past_due(
    fake: FakeStripeProcess, client: stripe.StripeClient, receiver: Receiver
) -> None:
    plan = await make_plan(client)
    customer = await customer_with(client)
    subscription = await client.v1.subscriptions.create_async({"customer": customer.id, "items": plan.items(1, 1)})
    [members, _] = plain(subscription)["items"]["data"]
    bad = await client.v1.payment_methods.attach_async("pm_card_chargeCustomerFail", {"customer": customer.id})
    await client.v1.customers.update_async(customer.id, {"invoice_settings": {"default_payment_method": bad.id}})
    change: Any = {"quantity": 9, "proration_behavior": "always_invoice"}
    with pytest.raises(stripe.CardError):
        await client.v1.subscription_items.update_async(
            members["id"], with_changes(change, payment_behavior="error_if_incomplete")
        )
    assert (await client.v1.subscription_items.retrieve_async(members["id"])).quantity == 1
    assert len((await client.v1.invoices.list_async({"customer": customer.id})).data) == 1

    await client.v1.subscription_items.update_async(
        members["id"], with_changes(change, payment_behavior="pending_if_incomplete")
    )
    waiting = plain(await client.v1.subscriptions.retrieve_async(subscription.id))
    assert (waiting["status"], waiting["items"]["data"][0]["quantity"]) == ("active", 1)
    assert waiting["pending_update"]["subscription_items"][0]["quantity"] == 9
    await client.v1.invoices.pay_async(waiting["latest_invoice"], {"payment_method": "pm_card_visa"})
    applied = plain(await client.v1.subscriptions.retrieve_async(subscription.id))
    assert (applied["pending_update"], applied["items"]["data"][0]["quantity"]) == (None, 9)
    await arrived(receiver, subscription.id, "customer.subscription.pending_update_applied")

    await client.v1.subscription_items.update_async(members["id"], with_changes(change, quantity=12))
    assert (await client.v1.subscriptions.retrieve_async(subscription.id)).status == "past_due"
    latest = (await client.v1.invoices.list_async({"customer": customer.id, "limit": 1})).data[0]
    assert (latest.status, latest.attempt_count) == ("open", 1)
    with pytest.raises(stripe.CardError):
        await client.v1.invoices.pay_async(latest.id)
    await client.v1.invoices.pay_async(latest.id, {"payment_method": "pm_card_visa"})
    assert (await client.v1.subscriptions.retrieve_async(subscription.id)).status == "active"


async def test_creating_a_subscription_that_cannot_be_paid_follows_the_payment_behavior(
    client: stripe.StripeClient,
) -> None:
    plan = await make_plan(client)
    customer = await customer_with(client, "pm_card_chargeCustomerFail")
    params: Any = {"customer": customer.id, "items": plan.items()}
    incomplete = await client.v1.subscriptions.create_async(params)
    assert incomplete.status == "incomplete"
    with pytest.raises(stripe.CardError):
        await client.v1.subscriptions.create_async(with_changes(params, payment_behavior="error_if_incomplete"))
    rows = (await client.v1.subscriptions.list_async({"customer": customer.id, "status": "all"})).data
    assert [row.id for row in rows] == [incomplete.id]

    held = await client.v1.subscriptions.create_async(
        with_changes(params, payment_behavior="default_incomplete", expand=["latest_invoice.confirmation_secret"])
    )
    secret = plain(held)["latest_invoice"]["confirmation_secret"]["client_secret"]
    intent_id = secret.partition("_secret_")[0]
    await client.v1.payment_intents.confirm_async(intent_id, {"payment_method": "pm_card_visa"})
    assert (await client.v1.subscriptions.retrieve_async(held.id)).status == "active"
    await client.v1.subscriptions.cancel_async(incomplete.id)
    assert (await client.v1.subscriptions.retrieve_async(incomplete.id)).status == "incomplete_expired"


async def test_a_subscription_is_set_to_end_taken_back_and_cancelled_at_once(
    client: stripe.StripeClient, receiver: Receiver
) -> None:
    plan = await make_plan(client)
    customer = await customer_with(client)
    subscription = await client.v1.subscriptions.create_async({"customer": customer.id, "items": plan.items()})
    ends = plain(subscription)["items"]["data"][0]["current_period_end"]
    ending = await client.v1.subscriptions.update_async(subscription.id, {"cancel_at_period_end": True})
    assert (ending.status, ending.cancel_at_period_end, ending.cancel_at) == ("active", True, ends)
    back = await client.v1.subscriptions.update_async(subscription.id, {"cancel_at_period_end": False})
    assert (back.cancel_at_period_end, back.cancel_at, back.canceled_at) == (False, None, None)
    changed = await client.v1.subscriptions.update_async(
        subscription.id, {"metadata": {"a": "1"}, "cancel_at": ends + 5}
    )
    assert (changed.cancel_at, plain(changed)["metadata"]) == (ends + 5, {"a": "1"})
    gone = await client.v1.subscriptions.cancel_async(subscription.id)
    assert (gone.status, gone.ended_at) == ("canceled", gone.canceled_at)
    await arrived(receiver, subscription.id, "customer.subscription.deleted")
    assert (await client.v1.subscriptions.list_async({"customer": customer.id})).data == []
    listed = (await client.v1.subscriptions.list_async({"customer": customer.id, "status": "canceled"})).data
    assert [row.id for row in listed] == [subscription.id]
    with pytest.raises(stripe.InvalidRequestError):
        await client.v1.subscriptions.update_async(subscription.id, {"cancel_at_period_end": True})


async def test_an_invoice_of_ones_own_is_drafted_finalized_sent_and_paid(
    fake: FakeStripeProcess, client: stripe.StripeClient, receiver: Receiver
) -> None:
    customer = await client.v1.customers.create_async({"email": "invoice@example.com", "name": "Acme AG"})
    params: Any = {"customer": customer.id, "currency": "chf", "collection_method": "send_invoice"}
    with pytest.raises(stripe.InvalidRequestError, match="days_until_due"):
        await client.v1.invoices.create_async(params)
    paid_by = {}
    for way in ("card", "bank", "void"):
        draft = await client.v1.invoices.create_async(
            with_changes(params, days_until_due=30, metadata={"invoiceId": way}, auto_advance=False)
        )
        for number in range(12):
            await client.v1.invoice_items.create_async(
                {
                    "customer": customer.id,
                    "invoice": draft.id,
                    "amount": 100 + number,
                    "currency": "chf",
                    "description": f"Line {number}",
                }
            )
        sent = await client.v1.invoices.send_invoice_async(draft.id)
        assert (sent.status, sent.amount_due, sent.lines.has_more) == ("open", 1266, True)
        assert sent.due_date == sent.created + 30 * 86_400
        assert sent.number is not None
        assert len((await client.v1.invoices.line_items.list_async(draft.id, {"limit": 100})).data) == 12
        paid_by[way] = sent
    with pytest.raises(stripe.InvalidRequestError, match="payment method"):
        await client.v1.invoices.pay_async(paid_by["card"].id)
    page = str(paid_by["card"].hosted_invoice_url)
    assert "CHF 12.66" in fake.http.get(page).text
    assert fake.http.post(page, data={"action": "pay", "number": "4000000000000002"}).status_code == 402
    assert "Paid, thank you." in fake.http.post(page, data={"action": "pay", "number": "4242424242424242"}).text
    card = await client.v1.invoices.retrieve_async(paid_by["card"].id)
    assert (card.status, card.amount_paid, card.attempt_count) == ("paid", 1266, 2)
    bank = await client.v1.invoices.pay_async(paid_by["bank"].id, {"paid_out_of_band": True})
    assert (bank.status, bank.amount_paid_off_stripe) == ("paid", 1266)
    assert (await client.v1.invoices.void_invoice_async(paid_by["void"].id)).status == "void"
    await arrived(receiver, bank.id, "invoice.sent", "invoice.finalized", "invoice.paid")
    assert "invoice.payment_succeeded" not in receiver.types(bank.id)
    await arrived(receiver, card.id, "invoice.payment_failed", "invoice.payment_succeeded")
    with pytest.raises(stripe.InvalidRequestError):
        await client.v1.invoices.pay_async(bank.id)
    draft = await client.v1.invoices.create_async(with_changes(params, days_until_due=1))
    assert (await client.v1.invoices.delete_async(draft.id)).deleted is True
