"""The page of the fake Stripe on which a person pays: what its card form refuses, declines and has confirmed."""

from __future__ import annotations

import html
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import stripe

from tests.integration.fakestripe_support import (
    FakeStripeProcess,
    Receiver,
    client,
    client_of,
    fake,
    make_plan,
    open_session,
    plain,
    receiver,
)

# Fixtures, which tests use by the names of their arguments.
__all__ = ["client", "fake", "receiver"]

GOOD_FORM = {"action": "pay", "number": "4242 4242 4242 4242", "expiry": "12 / 34", "cvc": "123"}


async def test_the_address_that_rappen_up_prints_says_where_one_pays(fake: FakeStripeProcess) -> None:
    page = fake.http.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert "Fake Stripe, no real money" in page.text
    assert "redirectUrl" in page.text


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ({"expiry": "last month"}, "Your card has expired."),
        ({"expiry": "01/2020"}, "Your card has expired."),
        ({"expiry": "13 / 34"}, "expiration month is invalid"),
        ({"expiry": ""}, "expiration date is incomplete"),
        ({"expiry": "soon"}, "expiration date is incomplete"),
        ({"cvc": ""}, "security code is incomplete"),
        ({"cvc": "12"}, "security code is incomplete"),
        ({"cvc": "12a"}, "security code is incomplete"),
        ({"cvc": "1234"}, "security code is incomplete"),
        ({"number": "378282246310005"}, "security code is incomplete: it has 4 digits"),
        ({"number": ""}, "not a test card number"),
    ],
)
async def test_the_hosted_page_refuses_a_card_that_is_not_filled_in_or_has_expired(
    fake: FakeStripeProcess, client: stripe.StripeClient, typed: dict[str, str], told: str
) -> None:
    fake_now = datetime.fromtimestamp(fake.http.get("/_control/state").json()["now"], UTC)
    last_month = fake_now.replace(day=1) - timedelta(days=1)
    typed = {name: f"{last_month:%m / %y}" if text == "last month" else text for name, text in typed.items()}
    session = await open_session(client)
    refused = fake.http.post(f"/pay/{session.id}", data={**GOOD_FORM, **typed})
    assert refused.status_code == 400
    assert told in html.unescape(refused.text)
    assert (await client.v1.checkout.sessions.retrieve_async(session.id)).payment_intent is None
    # It is good to the end of its month.
    paid = fake.http.post(f"/pay/{session.id}", data={**GOOD_FORM, "expiry": f"{fake_now:%m/%Y}"})
    assert paid.status_code == 303


async def test_the_card_that_stands_in_the_form_is_good_however_far_the_clock_was_moved(receiver: Receiver) -> None:
    fake = FakeStripeProcess(receiver.url)
    try:
        client = client_of(fake)
        for _ in range(8):
            fake.control("clock/advance", {"seconds": 10 * 365 * 24 * 3600})
            typed = {"action": "pay", "number": "4242 4242 4242 4242"}
            assert fake.http.post(f"/pay/{(await open_session(client)).id}", data=typed).status_code == 303
            session = await open_session(client)
            found = re.search('name="expiry" value="([^"]*)"', fake.http.get(session.url).text)
            assert found is not None
            assert fake.http.post(f"/pay/{session.id}", data={**typed, "expiry": found[1]}).status_code == 303
    finally:
        fake.stop()


@pytest.mark.parametrize(
    ("number", "told"),
    [
        ("4000000000000002", "Your card was declined."),
        ("4000000000009995", "Your card has insufficient funds."),
        ("4000000000000069", "Your card has expired."),
        ("4000000000000127", "Your card's security code is incorrect."),
    ],
)
async def test_the_hosted_page_declines_what_stripes_test_cards_decline(
    fake: FakeStripeProcess, client: stripe.StripeClient, number: str, told: str
) -> None:
    session = await open_session(client)
    declined = fake.http.post(f"/pay/{session.id}", data={**GOOD_FORM, "number": number})
    assert declined.status_code == 402
    assert told in html.unescape(declined.text)
    assert (await client.v1.checkout.sessions.retrieve_async(session.id)).payment_status == "unpaid"


@pytest.mark.parametrize("number", ["4000002760003184", "4000002500003155"])
async def test_the_hosted_page_asks_the_bank_first_where_the_card_wants_it(
    fake: FakeStripeProcess, client: stripe.StripeClient, number: str
) -> None:
    session = await open_session(client)
    page = f"/pay/{session.id}"
    asked = fake.http.post(page, data={**GOOD_FORM, "number": number})
    assert asked.status_code == 303
    confirm = asked.headers["location"]
    assert "Your bank asks you to confirm" in fake.http.get(confirm).text
    assert (await client.v1.checkout.sessions.retrieve_async(session.id)).payment_status == "unpaid"

    refused = fake.http.post(confirm, data={"action": "refuse"})
    assert refused.status_code == 402
    assert "We are unable to authenticate your payment method." in refused.text
    assert "4242 4242 4242 4242" in refused.text
    # The form is shown at the bank's address, and is the checkout's all the same.
    assert f'action="/pay/{session.id}"' in refused.text
    assert (await client.v1.checkout.sessions.retrieve_async(session.id)).status == "open"
    assert fake.http.post(confirm, data={"action": "confirm"}).status_code == 409

    again = fake.http.post(page, data={**GOOD_FORM, "number": number}).headers["location"]
    back = fake.http.post(again, data={"action": "confirm"})
    assert (back.status_code, back.headers["location"]) == (303, f"https://shop.example/back?session={session.id}")
    paid = await client.v1.checkout.sessions.retrieve_async(session.id)
    assert (paid.status, paid.payment_status) == ("complete", "paid")


async def test_who_goes_back_after_paying_and_cancels_is_told_that_it_is_paid(
    fake: FakeStripeProcess, client: stripe.StripeClient
) -> None:
    session = await open_session(client)
    cancelled = fake.http.post(f"/pay/{session.id}", data={"action": "cancel"})
    assert (cancelled.status_code, cancelled.headers["location"]) == (303, "https://shop.example/cancel")
    assert fake.http.post(f"/pay/{session.id}", data=GOOD_FORM).status_code == 303
    too_late = fake.http.post(f"/pay/{session.id}", data={"action": "cancel"})
    assert (too_late.status_code, "Paid, thank you." in too_late.text) == (409, True)


async def test_the_number_of_a_checkout_leads_to_its_page(fake: FakeStripeProcess, client: stripe.StripeClient) -> None:
    session = await open_session(client)
    number = len(fake.http.get("/_control/checkout/sessions").json())
    led = fake.http.get(f"/pay/{number}")
    assert (led.status_code, led.headers["location"]) == (303, f"/pay/{session.id}")
    for nowhere in ("0", str(number + 1), "9" * 5_000):
        assert fake.http.get(f"/pay/{nowhere}").status_code == 404


async def test_a_subscription_is_bought_on_the_page_where_the_bank_is_asked_first(
    fake: FakeStripeProcess, client: stripe.StripeClient
) -> None:
    plan = await make_plan(client)
    params: Any = {"mode": "subscription", "line_items": plan.items(3, 1), "success_url": "https://shop.example/back"}
    session = await client.v1.checkout.sessions.create_async(params)
    page = f"/pay/{session.id}"
    shown = html.unescape(fake.http.get(page).text)
    for text in ("Due today", "CHF 35.00", "CHF 10.00 each per month", "Subscribe and pay CHF 35.00"):
        assert text in shown
    assert fake.http.post(page, data={**GOOD_FORM, "number": "4000000000000002"}).status_code == 402
    asked = fake.http.post(page, data={**GOOD_FORM, "number": "4000002760003184"})
    assert fake.http.post(asked.headers["location"], data={"action": "refuse"}).status_code == 402
    assert (await client.v1.checkout.sessions.retrieve_async(session.id)).subscription is None
    asked = fake.http.post(page, data={**GOOD_FORM, "number": "4000002760003184"})
    back = fake.http.post(asked.headers["location"], data={"action": "confirm"})
    assert back.headers["location"] == "https://shop.example/back"
    done = await client.v1.checkout.sessions.retrieve_async(session.id, {"expand": ["subscription", "invoice"]})
    state = plain(done)
    assert (state["subscription"]["status"], state["invoice"]["status"]) == ("active", "paid")
    assert "Paid, thank you." in fake.http.get(page).text


async def test_an_invoice_is_paid_on_its_page_where_the_bank_is_asked_first(
    fake: FakeStripeProcess, client: stripe.StripeClient
) -> None:
    customer = await client.v1.customers.create_async({"name": "Acme <AG>"})
    draft = await client.v1.invoices.create_async({"customer": customer.id})
    assert fake.http.get(f"/invoice/{draft.id}").status_code == 404
    await client.v1.invoice_items.create_async(
        {"customer": customer.id, "invoice": draft.id, "amount": 123456, "currency": "chf", "description": "November"}
    )
    invoice = await client.v1.invoices.finalize_invoice_async(draft.id)
    page = str(invoice.hosted_invoice_url)
    shown = html.unescape(fake.http.get(page).text)
    for text in ("Acme <AG>", "November", "CHF 1'234.56", str(invoice.number)):
        assert text in shown
    assert fake.http.post(page, data={**GOOD_FORM, "cvc": "1"}).status_code == 400
    asked = fake.http.post(page, data={**GOOD_FORM, "number": "4000002760003184"})
    assert "CHF 1&#39;234.56" in fake.http.get(asked.headers["location"]).text
    confirmed = fake.http.post(asked.headers["location"], data={"action": "confirm"})
    assert "the payment is confirmed" in confirmed.text
    assert (await client.v1.invoices.retrieve_async(draft.id)).status == "paid"
    assert fake.http.post(page, data=GOOD_FORM).status_code == 409
    assert fake.http.get("/invoice/in_none").status_code == 404


@pytest.mark.parametrize(
    ("kind", "key", "page"),
    [
        ("payment_intent", "pi_given", "/authenticate/pi_given"),
        ("setup_intent", "seti_given", "/authenticate/seti_given"),
        ("invoice", "in_given", "/invoice/in_given"),
    ],
)
async def test_what_was_put_as_it_is_has_no_page(fake: FakeStripeProcess, kind: str, key: str, page: str) -> None:
    fake.control("objects", {"object": kind, "id": key, "status": "requires_action"})
    assert fake.http.get(page).status_code == 404
    assert fake.http.post(page, data=GOOD_FORM).status_code in (404, 409)


async def test_the_portal_of_a_customer_who_was_deleted_has_no_page(
    fake: FakeStripeProcess, client: stripe.StripeClient
) -> None:
    customer = await client.v1.customers.create_async({"name": "Gone"})
    portal = await client.v1.billing_portal.sessions.create_async({"customer": customer.id})
    assert fake.http.get(portal.url).status_code == 200
    await client.v1.customers.delete_async(customer.id)
    assert fake.http.get(portal.url).status_code == 404
    typed = {**GOOD_FORM, "action": "card"}
    assert fake.http.post(portal.url, data=typed).status_code == 404
