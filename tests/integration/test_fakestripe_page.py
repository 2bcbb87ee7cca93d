"""The page of the fake Stripe on which a person pays: what its card form refuses, declines and has confirmed."""

from __future__ import annotations

import html
from datetime import UTC, datetime, timedelta

import pytest
import stripe

from tests.integration.fakestripe_support import FakeStripeProcess, client, fake, open_session, receiver

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


async def test_the_number_of_a_checkout_leads_to_its_page(fake: FakeStripeProcess, client: stripe.StripeClient) -> None:
    session = await open_session(client)
    number = len(fake.http.get("/_control/checkout/sessions").json())
    led = fake.http.get(f"/pay/{number}")
    assert (led.status_code, led.headers["location"]) == (303, f"/pay/{session.id}")
    for nowhere in ("0", str(number + 1), "9" * 5_000):
        assert fake.http.get(f"/pay/{nowhere}").status_code == 404
