"""Payers and banks of the fake Stripe: disputes, refunds, the portal, faults, objects put as they are."""

from __future__ import annotations

import html
from typing import Any

import pytest
import stripe
import stripe.billing_portal

from tests.integration.fakestripe_support import (
    FakeStripeProcess,
    Json,
    Receiver,
    arrived,
    client,
    client_of,
    customer_with,
    fake,
    make_plan,
    numbers,
    plain,
    receiver,
    with_changes,
)
from tests.support.waiting import eventually

# Fixtures, which tests use by the names of their arguments.
__all__ = ["client", "fake", "receiver"]


async def paid_intent(client: stripe.StripeClient, amount: int = 5000, **more: Any) -> stripe.PaymentIntent:
    """Make a payment that is paid."""
    params: Any = {"amount": amount, "currency": "chf", "confirm": True, "payment_method": "pm_card_visa"}
    return await client.v1.payment_intents.create_async(with_changes(params, **more))


async def test_a_dispute_withdraws_and_gives_back_only_when_it_is_won(
    fake: FakeStripeProcess, client: stripe.StripeClient, receiver: Receiver
) -> None:
    won, lost, inquired = [await paid_intent(client) for _ in range(3)]
    made = fake.control("disputes", {"payment_intent": won.id, "reason": "product_not_received"})
    assert (made["amount"], made["status"], made["charge"]) == (5000, "needs_response", won.latest_charge)
    events = await arrived(receiver, made["id"], "charge.dispute.created", "charge.dispute.funds_withdrawn")
    assert [str(event.type) for event in events] == ["charge.dispute.created", "charge.dispute.funds_withdrawn"]
    with pytest.raises(stripe.InvalidRequestError) as caught:
        await client.v1.refunds.create_async({"payment_intent": won.id})
    assert caught.value.code == "charge_disputed"
    fake.control("disputes", {"payment_intent": won.id}, status=409)
    decided = await client.v1.disputes.update_async(
        made["id"], {"evidence": {"uncategorized_text": "winning_evidence"}, "submit": True}
    )
    assert decided.status == "won"
    assert [row.amount for row in decided.balance_transactions] == [-5000, 5000]
    await arrived(receiver, made["id"], "charge.dispute.closed", "charge.dispute.funds_reinstated")
    charge = await client.v1.charges.retrieve_async(str(won.latest_charge))
    assert charge.disputed
    assert (await client.v1.refunds.create_async({"payment_intent": won.id})).status == "succeeded"

    partly = fake.control("disputes", {"charge": str(lost.latest_charge), "amount": 2000})
    closed = fake.control(f"disputes/{partly['id']}", {"outcome": "lost"})
    assert (closed["status"], closed["amount"]) == ("lost", 2000)
    await arrived(receiver, partly["id"], "charge.dispute.closed")
    assert "charge.dispute.funds_reinstated" not in receiver.types(partly["id"])
    fake.control(f"disputes/{partly['id']}", {"outcome": "won"}, status=409)
    [found] = (await client.v1.disputes.list_async({"payment_intent": lost.id})).data
    assert found.id == partly["id"]

    asked = fake.control("disputes", {"payment_intent": inquired.id, "inquiry": True})
    assert asked["status"] == "warning_needs_response"
    assert (await client.v1.disputes.close_async(asked["id"])).status == "warning_closed"
    assert "charge.dispute.funds_withdrawn" not in receiver.types(asked["id"])


async def test_a_refund_that_fails_gives_the_money_back_to_the_account(
    fake: FakeStripeProcess, client: stripe.StripeClient, receiver: Receiver
) -> None:
    intent = await paid_intent(client)
    part = await client.v1.refunds.create_async({"payment_intent": intent.id, "amount": 1000})
    rest = await client.v1.refunds.create_async({"payment_intent": intent.id})
    assert fake.control(f"refunds/{part.id}", {"status": "failed"})["failure_reason"] == "unknown"
    charge = await client.v1.charges.retrieve_async(str(intent.latest_charge))
    assert (charge.amount_refunded, charge.refunded) == (4000, False)
    await arrived(receiver, part.id, "refund.failed", "refund.updated", "charge.refund.updated")
    fake.control(f"refunds/{part.id}", {"status": "succeeded"}, status=409)
    fake.control(f"refunds/{rest.id}", {"status": "requires_action"})
    assert (await client.v1.refunds.cancel_async(rest.id)).status == "canceled"
    assert (await client.v1.charges.retrieve_async(str(intent.latest_charge))).amount_refunded == 0
    with pytest.raises(stripe.InvalidRequestError):
        await client.v1.refunds.cancel_async(part.id)


async def test_a_person_ends_a_subscription_in_the_portal_goes_on_and_changes_the_card(
    fake: FakeStripeProcess, client: stripe.StripeClient, receiver: Receiver
) -> None:
    plan = await make_plan(client)
    customer = await customer_with(client)
    flexible = await client.v1.subscriptions.create_async({"customer": customer.id, "items": plan.items()})
    classic = await client.v1.subscriptions.create_async(
        {"customer": customer.id, "items": plan.items(), "billing_mode": {"type": "classic"}}
    )
    session = await client.v1.billing_portal.sessions.create_async(
        {"customer": customer.id, "return_url": "https://shop.example/billing", "locale": "de"}
    )
    assert session.url == f"{fake.url}/portal/{session.id}"
    shown = html.unescape(fake.http.get(session.url).text)
    for text in ("Members", "CHF 10.00 / month", "ends in 4242", "https://shop.example/billing"):
        assert text in shown

    fake.http.post(session.url, data={"action": "cancel", "subscription": flexible.id})
    fake.http.post(session.url, data={"action": "cancel", "subscription": classic.id})
    ends = plain(flexible)["items"]["data"][0]["current_period_end"]
    ending = await client.v1.subscriptions.retrieve_async(flexible.id)
    assert (ending.status, ending.cancel_at, ending.cancel_at_period_end) == ("active", ends, False)
    assert (await client.v1.subscriptions.retrieve_async(classic.id)).cancel_at_period_end

    def told() -> list[Json]:
        events = [plain(event)["data"].get("previous_attributes", {}) for event in receiver.events(flexible.id)]
        return [changed for changed in events if "cancel_at" in changed]

    await eventually(told, what="the event of the end that was set")
    assert (told()[0]["cancel_at"], "cancel_at_period_end" in told()[0]) == (None, False)
    fake.http.post(session.url, data={"action": "renew", "subscription": flexible.id})
    assert (await client.v1.subscriptions.retrieve_async(flexible.id)).cancel_at is None

    refused = fake.http.post(session.url, data={"action": "card", "number": "4000000000000002"})
    assert refused.status_code == 400
    assert "Your card was declined." in refused.text
    assert "ends in 5556" in fake.http.post(session.url, data={"action": "card", "number": "4000056655665556"}).text
    after = await client.v1.customers.retrieve_async(
        customer.id, {"expand": ["invoice_settings.default_payment_method"]}
    )
    assert plain(after)["invoice_settings"]["default_payment_method"]["card"]["last4"] == "5556"
    other = await customer_with(client)
    foreign = await client.v1.billing_portal.sessions.create_async({"customer": other.id})
    assert fake.http.post(foreign.url, data={"action": "cancel", "subscription": flexible.id}).status_code == 400
    assert fake.http.get("/portal/bps_none").status_code == 404


async def test_an_invoice_item_that_was_deleted_is_on_no_invoice_and_in_nobodys_way(
    client: stripe.StripeClient,
) -> None:
    customer = await customer_with(client)
    items: Any = [{"customer": customer.id, "amount": amount, "currency": "chf"} for amount in (700, 900)]
    deleted, kept = [await client.v1.invoice_items.create_async(item) for item in items]
    assert (await client.v1.invoice_items.delete_async(deleted.id)).deleted is True
    made = await client.v1.invoices.create_async({"customer": customer.id, "pending_invoice_items_behavior": "include"})
    assert made.total == kept.amount == 900


async def test_the_portal_can_lead_straight_to_one_thing_and_back(
    fake: FakeStripeProcess, client: stripe.StripeClient
) -> None:
    plan = await make_plan(client)
    customer = await customer_with(client)
    subscription = await client.v1.subscriptions.create_async({"customer": customer.id, "items": plan.items()})
    flow: Any = {
        "type": "subscription_cancel",
        "subscription_cancel": {"subscription": subscription.id},
        "after_completion": {"type": "redirect", "redirect": {"return_url": "https://shop.example/after"}},
    }
    session = await client.v1.billing_portal.sessions.create_async({"customer": customer.id, "flow_data": flow})
    done = fake.http.post(session.url, data={"action": "cancel", "subscription": subscription.id})
    assert (done.status_code, done.headers["location"]) == (303, "https://shop.example/after")
    with pytest.raises(stripe.InvalidRequestError):
        await client.v1.billing_portal.sessions.create_async({"customer": "cus_none"})


async def test_an_object_put_as_it_is_is_answered_so_and_time_passes_it_by(
    fake: FakeStripeProcess, client: stripe.StripeClient, receiver: Receiver
) -> None:
    key = f"sub_old{next(numbers)}"
    old: Json = {
        "id": key,
        "object": "subscription",
        "status": "unheard_of",
        "current_period_end": 1,
        "customer": "cus_x",
        "items": {"object": "list", "data": [], "has_more": False, "url": "/v1/x"},
        "odd": [None, {"ü": 1.5}],
    }
    fake.control("objects", old)
    assert plain(await client.v1.subscriptions.retrieve_async(key)) == old
    assert (await client.v1.subscriptions.cancel_async(key)).status == "canceled"
    invoice: Json = {"id": f"in_old{next(numbers)}", "object": "invoice", "subscription": key, "parent": None}
    session: Json = {"id": f"cs_test_old{next(numbers)}", "object": "checkout.session", "mode": "payment"}
    for given in (invoice, session):
        fake.control("objects", given)
    assert plain(await client.v1.invoices.retrieve_async(invoice["id"])) == invoice
    assert invoice["id"] not in [row.id for row in (await client.v1.invoices.list_async({"subscription": key})).data]
    assert fake.http.get(f"/pay/{session['id']}").status_code == 404
    fake.pay(session["id"], "paid", status=409)
    # A real one can be replaced too, by what a person or another program made of it.
    plan = await make_plan(client)
    customer = await customer_with(client)
    made = await client.v1.subscriptions.create_async({"customer": customer.id, "items": plan.items()})
    fake.control("objects", {**plain(made), "status": "unpaid"})
    assert (await client.v1.subscriptions.retrieve_async(made.id)).status == "unpaid"
    fake.control("clock/advance", {"seconds": 0})
    assert fake.http.get("/readyz").status_code == 200
    rows = (await client.v1.subscriptions.list_async({"customer": customer.id, "status": "unpaid"})).data
    assert [row.id for row in rows] == [made.id]
    fake.control("objects", {"id": "x", "object": "unicorn"}, status=422)
    fake.control("objects", {"object": "invoice"}, status=422)
    fake.control("objects", {"id": "in_huge", "object": "invoice", "huge": 2**80}, status=422)


async def test_a_failure_is_kept_under_its_key_where_that_is_asked(
    fake: FakeStripeProcess, client: stripe.StripeClient
) -> None:
    key = f"kept:{next(numbers)}"
    fake.control(
        "faults", {"path": "/v1/payment_intents", "method": "POST", "status": 500, "after_effect": True, "kept": True}
    )
    customer = await customer_with(client)
    params: Any = {"amount": 700, "currency": "chf", "customer": customer.id}
    for _ in range(2):
        with pytest.raises(stripe.APIError):
            await client.v1.payment_intents.create_async(params, {"idempotency_key": key})
    assert len((await client.v1.payment_intents.list_async({"customer": customer.id})).data) == 1
    made = await client_of(fake).v1.payment_intents.create_async(params, {"idempotency_key": f"{key}:2"})
    assert made.status == "requires_payment_method"


async def test_an_answer_that_comes_too_late_has_its_effect_and_is_replayed(fake: FakeStripeProcess) -> None:
    http = stripe.HTTPXClient(timeout=1.5)
    hasty = stripe.StripeClient(
        "sk_test_integration", http_client=http, max_network_retries=0, base_addresses={"api": fake.url}
    )
    customer = await customer_with(client_of(fake))
    params: Any = {"amount": 700, "currency": "chf", "customer": customer.id}
    key = f"late:{next(numbers)}"
    fault = {"path": "/v1/payment_intents", "method": "POST", "status": 200, "after_effect": True, "delay_s": 3}
    fake.control("faults", fault)
    with pytest.raises(stripe.APIConnectionError):
        await hasty.v1.payment_intents.create_async(params, {"idempotency_key": key})

    async def payments() -> list[stripe.PaymentIntent]:
        return list((await client_of(fake).v1.payment_intents.list_async({"customer": customer.id})).data)

    [made] = await eventually(payments, what="the effect")
    calm = client_of(fake, retries=6)
    again = await calm.v1.payment_intents.create_async(params, {"idempotency_key": key})
    assert again.id == made.id


async def test_reconciliation_finds_payments_refunds_and_events_of_a_time_page_by_page(
    fake: FakeStripeProcess, client: stripe.StripeClient
) -> None:
    since = fake.http.get("/_control/state").json()["now"]
    customer = await customer_with(client)
    made = [
        (await paid_intent(client, customer=customer.id, payment_method="pm_card_visa", amount=1000 + n)).id
        for n in range(5)
    ]
    await client.v1.refunds.create_async({"payment_intent": made[0]})
    query: Any = {"created": {"gte": since, "lt": since + 600}, "limit": 2}
    payments = await client.v1.payment_intents.list_async(with_changes(query, customer=customer.id))
    assert [row.id async for row in payments.auto_paging_iter()] == made[::-1]
    refunds = await client.v1.refunds.list_async(with_changes(query, limit=100))
    assert made[0] in [row.payment_intent for row in refunds.data]
    events = await client.v1.events.list_async(with_changes(query, types=["payment_intent.succeeded"], limit=100))
    ids = [plain(event)["data"]["object"]["id"] async for event in events.auto_paging_iter()]
    assert [key for key in ids if key in made] == made[::-1]
    for kind in ("payment_intents", "charges", "subscriptions", "invoices"):
        found = await getattr(client.v1, kind).search_async({"query": f"customer:'{customer.id}'"})
        assert {row.customer for row in found.data} <= {customer.id}
    search: Any = {"query": f"customer:'{customer.id}' AND amount>1002 AND status:'succeeded'", "limit": 1}
    first = await client.v1.payment_intents.search_async(search)
    assert [row.amount async for row in first.auto_paging_iter()] == [1004, 1003]
    tagged = await client.v1.customers.create_async({"metadata": {"mandateId": f"m{customer.id}"}})
    by_metadata = await client.v1.customers.search_async({"query": f"metadata['mandateId']:'m{customer.id}'"})
    assert [row.id for row in by_metadata.data] == [tagged.id]
    with pytest.raises(stripe.InvalidRequestError):
        await client.v1.customers.search_async({"query": "shoe size"})


async def test_a_customer_that_is_deleted_takes_the_subscriptions_along(
    fake: FakeStripeProcess, client: stripe.StripeClient, receiver: Receiver
) -> None:
    plan = await make_plan(client)
    customer = await customer_with(client)
    made = await client.v1.subscriptions.create_async({"customer": customer.id, "items": plan.items()})
    draft = await client.v1.invoices.create_async({"customer": customer.id})
    session: Any = {"mode": "setup", "currency": "chf", "success_url": "https://a.example", "customer": customer.id}
    opened = await client.v1.checkout.sessions.create_async(session)
    await client.v1.customers.delete_async(customer.id)
    assert (await client.v1.subscriptions.retrieve_async(made.id)).status == "canceled"
    await arrived(receiver, made.id, "customer.subscription.deleted")
    with pytest.raises(stripe.InvalidRequestError, match="deleted"):
        await client.v1.invoices.finalize_invoice_async(draft.id)
    fake.pay(opened.id, "paid", status=409)


async def test_a_card_that_was_detached_pays_nothing_any_more(client: stripe.StripeClient) -> None:
    plan = await make_plan(client)
    customer = await customer_with(client)
    made = await client.v1.subscriptions.create_async({"customer": customer.id, "items": plan.items(1, 1)})
    await client.v1.payment_methods.detach_async(plain(customer)["invoice_settings"]["default_payment_method"])
    item = plain(made)["items"]["data"][0]["id"]
    change: Any = {"quantity": 9, "proration_behavior": "always_invoice", "payment_behavior": "error_if_incomplete"}
    with pytest.raises(stripe.CardError):
        await client.v1.subscription_items.update_async(item, change)
    await client.v1.subscription_items.update_async(item, {"quantity": 9, "proration_behavior": "always_invoice"})
    assert (await client.v1.subscriptions.retrieve_async(made.id)).status == "past_due"


async def test_all_webhooks_go_wrong_while_that_is_asked(
    fake: FakeStripeProcess, client: stripe.StripeClient, receiver: Receiver
) -> None:
    fake.control("webhooks", {"duplicate": 2})
    try:
        customer = await client.v1.customers.create_async({"name": "Thrice"})
        await eventually(lambda: receiver.types(customer.id) == ["customer.created"] * 3, what="three copies")
    finally:
        fake.control("webhooks", {})
    customer = await client.v1.customers.create_async({"name": "Once"})
    await client.v1.customers.update_async(customer.id, {"name": "Again"})
    await arrived(receiver, customer.id, "customer.updated")
    assert receiver.types(customer.id).count("customer.created") == 1
    fake.control("webhooks", {"often": 1}, status=422)


async def test_a_payment_intent_and_a_card_are_changed_and_found_by_their_own_addresses(
    client: stripe.StripeClient,
) -> None:
    customer = await customer_with(client)
    [method] = (await client.v1.customers.payment_methods.list_async(customer.id)).data
    found = await client.v1.customers.payment_methods.retrieve_async(customer.id, method.id)
    assert found.id == method.id
    other = await customer_with(client)
    with pytest.raises(stripe.InvalidRequestError):
        await client.v1.customers.payment_methods.retrieve_async(other.id, method.id)
    intent = await client.v1.payment_intents.create_async({"amount": 500, "currency": "chf", "customer": customer.id})
    changed = await client.v1.payment_intents.update_async(intent.id, {"metadata": {"recharge": "r1"}})
    assert plain(changed)["metadata"] == {"recharge": "r1"}
    draft = await client.v1.invoices.create_async({"customer": customer.id, "auto_advance": False})
    await client.v1.invoice_items.create_async(
        {"customer": customer.id, "invoice": draft.id, "amount": 900, "currency": "chf"}
    )
    await client.v1.invoices.finalize_invoice_async(draft.id)
    [payment] = (await client.v1.invoice_payments.list_async({"invoice": draft.id})).data
    with pytest.raises(stripe.InvalidRequestError, match="invoice"):
        await client.v1.payment_intents.cancel_async(str(plain(payment)["payment"]["payment_intent"]))
