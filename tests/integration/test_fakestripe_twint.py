"""TWINT in the fake Stripe: paid in the app, saved with a mandate, charged without the payer, revoked."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from tests.integration.fakestripe_support import (
    FakeStripeProcess,
    Receiver,
    arrived,
    checkout_params,
    client,
    client_of,
    fake,
    make_plan,
    open_session,
    plain,
    receiver,
    with_changes,
)

# Fixtures, which tests use by the names of their arguments.
__all__ = ["client", "fake", "receiver"]

SAVED: Any = {"payment_intent_data": {"setup_future_usage": "off_session"}, "customer_creation": "always"}
DAY_S = 24 * 3600


async def test_a_top_up_is_paid_in_the_app_and_twint_is_charged_later_until_that_is_revoked(
    fake: FakeStripeProcess, client: stripe.StripeClient, receiver: Receiver
) -> None:
    session = await open_session(client, **SAVED)
    assert "Pay with TWINT" in fake.http.get(session.url).text
    asked = fake.http.post(f"/pay/{session.id}", data={"action": "twint"})
    assert asked.status_code == 303
    assert "TWINT asks you to confirm" in fake.http.get(asked.headers["location"]).text
    refused = fake.http.post(asked.headers["location"], data={"action": "refuse"})
    assert (refused.status_code, "declined by its provider or the customer" in refused.text) == (402, True)
    again = fake.http.post(f"/pay/{session.id}", data={"action": "twint"}).headers["location"]
    assert fake.http.post(again, data={"action": "confirm"}).status_code == 303

    paid = plain(
        await client.v1.checkout.sessions.retrieve_async(session.id, {"expand": ["payment_intent.latest_charge"]})
    )
    assert (paid["status"], paid["payment_status"]) == ("complete", "paid")
    intent = paid["payment_intent"]
    [method] = (await client.v1.customers.payment_methods.list_async(paid["customer"], {"type": "twint"})).data
    assert (intent["payment_method"], method.type) == (method.id, "twint")
    mandate_id = intent["latest_charge"]["payment_method_details"]["twint"]["mandate"]
    mandate = await client.v1.mandates.retrieve_async(mandate_id, {"expand": ["payment_method"]})
    assert (mandate.status, plain(mandate)["payment_method"]["id"]) == ("active", method.id)

    charge: Any = {
        "amount": 2000,
        "currency": "chf",
        "customer": paid["customer"],
        "payment_method": method.id,
        "off_session": True,
        "confirm": True,
        "error_on_requires_action": True,
    }
    assert (await client.v1.payment_intents.create_async(charge)).status == "succeeded"
    fake.control(f"mandates/{mandate_id}", {"status": "inactive"})
    fake.control(f"mandates/{mandate_id}", {"status": "inactive"}, status=409)
    fake.control("mandates/mandate_none", {"status": "inactive"}, status=404)
    told = [each for each in await arrived(receiver, mandate_id, "mandate.updated") if each.type == "mandate.updated"]
    assert [plain(event)["data"]["object"]["status"] for event in told] == ["inactive"]
    with pytest.raises(stripe.CardError) as caught:
        await client.v1.payment_intents.create_async(charge)
    assert caught.value.code == "payment_intent_mandate_invalid"


async def test_twint_takes_francs_alone_and_no_more_than_it_may(
    fake: FakeStripeProcess, client: stripe.StripeClient
) -> None:
    """The limit is CHF 5000.00 a payment."""
    euros = checkout_params()["line_items"]
    euros[0]["price_data"]["currency"] = "eur"
    for given in ({"unit_amount": 500_001}, {"line_items": euros}, {"allowed_payment_method_types": ["card"]}):
        session = await open_session(client, **given)
        assert "twint" not in session.payment_method_types
        assert "TWINT" not in fake.http.get(session.url).text
        fake.pay_by_twint(session.id, "paid", status=409)
    most = await open_session(client, unit_amount=500_000)
    fake.pay_by_twint(most.id, "unpaid", status=422)
    fake.pay_by_twint(most.id, "declined")
    open_still = await client.v1.checkout.sessions.retrieve_async(most.id, {"expand": ["payment_intent"]})
    assert plain(open_still)["payment_intent"]["last_payment_error"]["code"] == "payment_method_provider_decline"
    assert fake.pay_by_twint(most.id, "paid")["payment_status"] == "paid"


async def test_twint_is_set_up_and_pays_a_subscription_and_its_renewals(receiver: Receiver) -> None:
    fake = FakeStripeProcess(receiver.url)
    try:
        client = client_of(fake)
        customer = await client.v1.customers.create_async({"email": "twint@example.com"})
        params: Any = {"mode": "setup", "currency": "chf", "success_url": "https://a.example", "customer": customer.id}
        setup = fake.pay_by_twint((await client.v1.checkout.sessions.create_async(params)).id, "paid")
        intent = await client.v1.setup_intents.retrieve_async(setup["setup_intent"], {"expand": ["mandate"]})
        assert (intent.status, plain(intent)["mandate"]["status"]) == ("succeeded", "active")
        with pytest.raises(stripe.InvalidRequestError, match="twint"):
            await client.v1.payment_intents.create_async(
                {
                    "amount": 500_001,
                    "currency": "chf",
                    "customer": customer.id,
                    "payment_method": str(intent.payment_method),
                    "confirm": True,
                    "off_session": True,
                }
            )

        plan = await make_plan(client)
        ordered: Any = {"mode": "subscription", "success_url": "https://a.example", "line_items": plan.items()}
        session = await client.v1.checkout.sessions.create_async(with_changes(ordered, customer=customer.id))
        subscription = fake.pay_by_twint(session.id, "paid")["subscription"]
        portal = await client.v1.billing_portal.sessions.create_async({"customer": customer.id})
        assert "You pay with TWINT." in fake.http.get(portal.url).text
        fake.control("clock/advance", {"seconds": 32 * DAY_S})
        invoices = (await client.v1.invoices.list_async({"subscription": subscription})).data
        assert [(row.billing_reason, row.status) for row in invoices] == [
            ("subscription_cycle", "paid"),
            ("subscription_create", "paid"),
        ]

        first = plain(await client.v1.payment_intents.list_async({"customer": customer.id}))["data"][-1]
        assert (
            await client.v1.refunds.create_async({"payment_intent": first["id"], "amount": 100})
        ).status == "succeeded"
        fake.control("clock/advance", {"seconds": 180 * DAY_S})
        with pytest.raises(stripe.InvalidRequestError, match="180 days"):
            await client.v1.refunds.create_async({"payment_intent": first["id"]})
    finally:
        fake.stop()
