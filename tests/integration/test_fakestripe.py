"""The fake Stripe as a process: checkouts, webhooks, control surface, pages, restart."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import stripe
import stripe.checkout

from deploy.local.ports import free_port
from tests.integration.fakestripe_support import (
    SECRET,
    FakeStripeProcess,
    Json,
    Receiver,
    arrived,
    checkout_params,
    client,
    client_of,
    fake,
    numbers,
    open_session,
    plain,
    receiver,
)
from tests.support.stack import ROOT
from tests.support.stripe_described import StripeAnswers
from tests.support.waiting import eventually

# Fixtures, which tests use by the names of their arguments.
__all__ = ["client", "fake", "receiver"]


async def test_a_paid_checkout_is_complete_and_every_object_and_event_says_so(
    fake: FakeStripeProcess, client: stripe.StripeClient, receiver: Receiver
) -> None:
    session = await open_session(client)
    assert (session.status, session.payment_status, session.amount_total) == ("open", "unpaid", 2500)
    assert (session.currency, session.locale, session.livemode) == ("chf", "de", False)
    assert session.url == f"{fake.url}/pay/{session.id}"
    assert session.success_url is not None
    assert "{CHECKOUT_SESSION_ID}" in session.success_url
    assert plain(session)["metadata"] == {"mandateId": "m1", "0": "zero"}

    answered = fake.pay(session.id, "paid")
    assert (answered["id"], answered["payment_status"]) == (session.id, "paid")
    paid = await client.v1.checkout.sessions.retrieve_async(
        session.id, {"expand": ["payment_intent.latest_charge", "line_items"]}
    )
    state = plain(paid)
    assert (state["status"], state["url"]) == ("complete", None)
    intent = state["payment_intent"]
    assert (intent["status"], intent["amount_received"]) == ("succeeded", 2500)
    assert intent["metadata"] == {"kind": "top_up"}
    assert (intent["latest_charge"]["status"], intent["latest_charge"]["paid"]) == ("succeeded", True)
    assert state["line_items"]["data"][0]["description"] == "Guthaben & <mehr>"

    events = await arrived(receiver, intent["id"], "checkout.session.completed")
    assert [event.type for event in events] == [
        "payment_intent.created",
        "charge.succeeded",
        "payment_intent.succeeded",
        "checkout.session.completed",
    ]
    completed = events[-1]
    assert (completed.api_version, completed.livemode) == (stripe.api_version, False)
    assert plain(completed)["data"]["object"]["payment_status"] == "paid"
    assert plain(completed)["request"] == {"id": None, "idempotency_key": None}
    assert fake.http.get("/_control/checkout/sessions").json()[-1]["id"] == session.id
    fake.pay(session.id, "paid", status=409)


async def test_a_declined_checkout_stays_open_and_can_be_paid_with_the_same_intent(
    fake: FakeStripeProcess, client: stripe.StripeClient, receiver: Receiver
) -> None:
    session = await open_session(client)
    declined = fake.pay(session.id, "declined")
    assert (declined["status"], declined["payment_status"]) == ("open", "unpaid")
    intent = await client.v1.payment_intents.retrieve_async(declined["payment_intent"])
    assert intent.status == "requires_payment_method"
    assert intent.last_payment_error is not None
    assert intent.last_payment_error.decline_code == "generic_decline"
    await arrived(receiver, intent.id, "payment_intent.payment_failed", "charge.failed")

    assert fake.pay(session.id, "paid")["payment_intent"] == intent.id
    charges = await client.v1.charges.list_async({"payment_intent": intent.id})
    assert [charge.status for charge in charges.data] == ["succeeded", "failed"]


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        ("async_paid", ("paid", "checkout.session.async_payment_succeeded", "succeeded")),
        ("async_failed", ("unpaid", "checkout.session.async_payment_failed", "requires_payment_method")),
    ],
)
async def test_an_async_payment_completes_unpaid_first_and_is_decided_once(
    fake: FakeStripeProcess,
    client: stripe.StripeClient,
    receiver: Receiver,
    outcome: str,
    expected: tuple[str, str, str],
) -> None:
    payment_status, event_type, intent_status = expected
    session = await open_session(client)
    unpaid = fake.pay(session.id, "unpaid")
    assert (unpaid["status"], unpaid["payment_status"]) == ("complete", "unpaid")
    intent = await client.v1.payment_intents.retrieve_async(unpaid["payment_intent"])
    assert intent.status == "processing"
    fake.pay(session.id, "paid", status=409)

    assert fake.pay(session.id, outcome)["payment_status"] == payment_status
    intent = await client.v1.payment_intents.retrieve_async(unpaid["payment_intent"])
    assert intent.status == intent_status
    events = await arrived(receiver, session.id, "checkout.session.completed", event_type)
    first = next(event for event in events if event.type == "checkout.session.completed")
    assert plain(first)["data"]["object"]["payment_status"] == "unpaid"
    fake.pay(session.id, outcome, status=409)


async def test_an_async_outcome_of_an_open_session_brings_both_events(
    fake: FakeStripeProcess, client: stripe.StripeClient, receiver: Receiver
) -> None:
    session = await open_session(client)
    assert fake.pay(session.id, "async_paid")["payment_status"] == "paid"
    await arrived(receiver, session.id, "checkout.session.completed", "checkout.session.async_payment_succeeded")


async def test_webhooks_come_doubled_shuffled_late_or_never_on_demand(
    fake: FakeStripeProcess, client: stripe.StripeClient, receiver: Receiver
) -> None:
    doubled, shuffled, late, dropped = [await open_session(client) for _ in range(4)]

    intent = fake.pay(doubled.id, "paid", duplicate=2)["payment_intent"]
    await eventually(lambda: receiver.types(intent).count("checkout.session.completed") == 3, what="three copies")
    assert len({event.id for event in receiver.events(intent)}) == 4

    intent = fake.pay(shuffled.id, "paid", shuffle=True)["payment_intent"]
    await eventually(lambda: len(receiver.types(intent)) == 4, what="four events")
    happened = ["payment_intent.created", "charge.succeeded", "payment_intent.succeeded", "checkout.session.completed"]
    assert receiver.types(intent) != happened
    assert sorted(receiver.types(intent)) == sorted(happened)

    begun = time.monotonic()
    intent = fake.pay(late.id, "paid", delay_s=1.5)["payment_intent"]
    await arrived(receiver, intent, "checkout.session.completed")
    assert time.monotonic() - begun >= 1.4

    intent = fake.pay(dropped.id, "paid", drop=True)["payment_intent"]
    missed = await client.v1.events.list_async(
        {"delivery_success": False, "types": ["checkout.session.completed"], "limit": 1}
    )
    assert plain(missed.data[0])["data"]["object"]["id"] == dropped.id
    assert missed.data[0].pending_webhooks == 1
    assert [row["state"] for row in fake.deliveries(missed.data[0].id)] == ["dropped"]
    assert receiver.types(intent) == []


async def test_a_webhook_is_sent_again_until_it_is_answered_with_2xx(
    fake: FakeStripeProcess, client: stripe.StripeClient, receiver: Receiver
) -> None:
    # Nothing else may be on its way: the receiver gives the bad answers to whatever comes first.
    await eventually(lambda: fake.http.get("/_control/state").json()["undelivered"] == 0, what="all delivered")
    receiver.answers = [500, 302]
    customer = await client.v1.customers.create_async({"email": "again@example.com"})
    await eventually(lambda: len(receiver.types(customer.id)) == 3, what="the third attempt")
    assert receiver.types(customer.id) == ["customer.created"] * 3
    event_id = receiver.events(customer.id)[0].id
    await eventually(lambda: fake.deliveries(event_id)[0]["state"] == "delivered", what="delivered")
    row = fake.deliveries(event_id)[0]
    assert (row["attempts"], row["last_status"], row["type"]) == (3, 200, "customer.created")
    assert (await client.v1.events.retrieve_async(event_id)).pending_webhooks == 0


async def test_a_given_event_is_delivered_unchanged_and_signed(fake: FakeStripeProcess, receiver: Receiver) -> None:
    event: Json = {
        "id": f"evt_captured{next(numbers)}",
        "object": "event",
        "api_version": "2019-05-16",
        "livemode": True,
        "type": "invoice.upcoming",
        "data": {"object": {"object": "invoice", "amount_due": 1e2, "odd": [None, "ü"]}},
    }
    answer = fake.control("events", event)
    assert answer["event"] == event["id"]
    assert len(answer["deliveries"]) == 1
    [received] = await arrived(receiver, event["id"], "invoice.upcoming")
    assert plain(received) == event
    fake.control("events", {"type": "x"}, status=422)
    fake.control("events", {"id": "evt_1", "type": "x", "huge": 2**80}, status=422)


async def test_a_bad_body_of_the_control_surface_is_422_and_says_why(
    client: stripe.StripeClient, fake: FakeStripeProcess
) -> None:
    session = await open_session(client)
    assert "outcome" in fake.pay(session.id, "maybe", status=422)["error"]["message"]
    assert "webhooks.often" in fake.pay(session.id, "paid", status=422, often=3)["error"]["message"]
    assert "seconds" in fake.control("clock/advance", {"seconds": -1}, status=422)["error"]["message"]
    assert "path" in fake.control("faults", {"status": 500}, status=422)["error"]["message"]


async def test_a_fault_answers_so_often_before_any_effect_and_retries_get_through(
    fake: FakeStripeProcess, client: stripe.StripeClient
) -> None:
    fake.control("faults", {"path": "/v1/checkout/sessions", "status": 500, "times": 2})
    before = len(fake.http.get("/_control/checkout/sessions").json())
    for _ in range(2):
        with pytest.raises(stripe.APIError):
            await open_session(client)
    assert len(fake.http.get("/_control/checkout/sessions").json()) == before
    fake.control("faults", {"path": "/v1/checkout/sessions", "status": 503, "times": 1})
    assert (await open_session(client_of(fake, retries=2))).status == "open"
    fake.control("faults", {"path": "/v1/customers", "status": 429, "times": 1})
    with pytest.raises(stripe.RateLimitError):
        await client.v1.customers.create_async({"name": "B"})


async def test_an_answer_lost_after_its_effect_is_found_again_by_the_same_key(
    fake: FakeStripeProcess, client: stripe.StripeClient
) -> None:
    params, key = checkout_params(), f"lost:{next(numbers)}"
    fake.control("faults", {"path": "/v1/checkout/sessions", "status": 500, "times": 1, "after_effect": True})
    with pytest.raises(stripe.APIError):
        await client.v1.checkout.sessions.create_async(params, {"idempotency_key": key})
    made = fake.http.get("/_control/checkout/sessions").json()[-1]
    assert made["client_reference_id"] == params["client_reference_id"]
    again = await client.v1.checkout.sessions.create_async(params, {"idempotency_key": key})
    assert again.id == made["id"]


async def test_a_checkout_expires_on_request_and_by_the_fakes_own_clock(receiver: Receiver) -> None:
    fake = FakeStripeProcess(receiver.url)
    try:
        client = client_of(fake)
        asked, timed, paid = [await open_session(client) for _ in range(3)]
        fake.pay(paid.id, "paid")
        assert (await client.v1.checkout.sessions.expire_async(asked.id)).status == "expired"
        with pytest.raises(stripe.InvalidRequestError):
            await client.v1.checkout.sessions.expire_async(asked.id)
        before = fake.http.get("/_control/state").json()["now"]
        assert fake.control("clock/advance", {"seconds": 86_400})["now"] >= before + 86_400
        assert (await client.v1.checkout.sessions.retrieve_async(timed.id)).status == "expired"
        assert (await client.v1.checkout.sessions.retrieve_async(paid.id)).status == "complete"
        fake.pay(timed.id, "paid", status=409)
        for session in (asked, timed):
            [event] = await arrived(receiver, session.id, "checkout.session.expired")
            assert plain(event)["data"]["object"]["url"] is None
        assert (await open_session(client)).created >= before + 86_400
    finally:
        fake.stop()


async def test_a_restart_with_a_state_file_keeps_sessions_keys_clock_and_undelivered_webhooks(
    tmp_path: Path, receiver: Receiver
) -> None:
    state = str(tmp_path / "state.json")
    nobody = f"http://127.0.0.1:{free_port()}/hook"
    fake = FakeStripeProcess(nobody, "--state-file", state)
    params: Any = checkout_params()
    try:
        session = await client_of(fake).v1.checkout.sessions.create_async(params, {"idempotency_key": "kept"})
        fake.control("clock/advance", {"seconds": 3600})
        intent = fake.pay(session.id, "paid")["payment_intent"]
        now = fake.http.get("/_control/state").json()["now"]
    finally:
        fake.kill()

    fake = FakeStripeProcess(receiver.url, "--state-file", state)
    try:
        client = client_of(fake)
        again = await client.v1.checkout.sessions.create_async(params, {"idempotency_key": "kept"})
        assert again.id == session.id
        assert (await client.v1.checkout.sessions.retrieve_async(session.id)).payment_status == "paid"
        assert fake.http.get("/_control/state").json()["now"] >= now
        # The back-off may be long by now; the fake's own time makes every delivery due.
        fake.control("clock/advance", {"seconds": 60})
        await arrived(receiver, intent, "payment_intent.succeeded", "checkout.session.completed")
        assert len((await client.v1.webhook_endpoints.list_async()).data) == 1
    finally:
        fake.stop()


async def test_the_hosted_page_shows_the_purchase_and_leads_back_to_the_shop(
    fake: FakeStripeProcess, client: stripe.StripeClient
) -> None:
    session = await open_session(client, unit_amount=125050)
    page = f"/pay/{session.id}"
    shown = fake.http.get(page)
    for text in (
        "Fake Stripe, no real money",
        "CHF 1&#39;250.50",
        "Guthaben &amp; &lt;mehr&gt;",
        "4242 4242 4242 4242",
    ):
        assert text in shown.text
    assert "<script" not in shown.text
    assert "http" not in shown.text.replace(fake.url, "")
    cancelled = fake.http.post(page, data={"action": "cancel"})
    assert (cancelled.status_code, cancelled.headers["location"]) == (303, "https://shop.example/cancel")
    declined = fake.http.post(page, data={"action": "pay", "number": "4000 0000 0000 0002"})
    assert declined.status_code == 402
    assert "Your card was declined." in declined.text
    assert fake.http.post(page, data={"action": "pay", "number": "1234"}).status_code == 400
    paid = fake.http.post(page, data={"action": "pay", "number": "4242 4242 4242 4242"})
    assert paid.headers["location"] == f"https://shop.example/back?session={session.id}"
    assert (await client.v1.checkout.sessions.retrieve_async(session.id)).payment_status == "paid"
    assert "Paid, thank you." in fake.http.get(page).text

    later = await open_session(client)
    assert fake.http.post(f"/pay/{later.id}", data={"action": "later"}).status_code == 303
    assert "Waiting for the bank" in fake.http.get(f"/pay/{later.id}").text
    assert fake.http.post(f"/pay/{later.id}", data={"action": "bank_paid"}).status_code == 200
    assert (await client.v1.checkout.sessions.retrieve_async(later.id)).payment_status == "paid"


async def test_an_endpoint_made_by_the_api_gets_its_own_events_with_its_own_secret(
    fake: FakeStripeProcess, client: stripe.StripeClient, stripe_answers: StripeAnswers
) -> None:
    own = Receiver(stripe_answers.sent)
    try:
        endpoint = await client.v1.webhook_endpoints.create_async(
            {"url": own.url, "enabled_events": ["customer.updated"], "api_version": "2026-10-28.endive"}
        )
        assert endpoint.secret is not None
        assert "secret" not in await client.v1.webhook_endpoints.retrieve_async(endpoint.id)
        customer = await client.v1.customers.create_async({"name": "Before"})
        await client.v1.customers.update_async(customer.id, {"name": "After"})
        await eventually(lambda: own.received, what="the event of the new endpoint")
        [(body, signature)] = own.received
        event = stripe.Webhook.construct_event(body, signature, endpoint.secret)
        assert plain(event)["data"]["previous_attributes"] == {"name": "Before"}
        with pytest.raises(stripe.SignatureVerificationError):
            stripe.Webhook.construct_event(body, signature, SECRET)
    finally:
        own.close()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--host", "0.0.0.0"], "not a loopback address"),
        (["--api-key", "sk_live_x"], "must be a test key"),
        (["--webhook-secret", "secret"], "must start with whsec_"),
        (["--webhook-url", "ftp://x"], "must be an http or https address"),
    ],
)
def test_it_refuses_to_start_where_it_would_be_dangerous_or_useless(options: list[str], reason: str) -> None:
    base = ["--port", str(free_port()), "--webhook-url", "http://127.0.0.1:9/x", "--webhook-secret", SECRET]
    command = [sys.executable, "-m", "deploy.fakestripe", *base, *options]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 2
    assert reason in ended.stderr


def test_a_foreign_state_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    state.write_text('{"format": "something else"}')
    base = ["--port", str(free_port()), "--webhook-url", "http://127.0.0.1:9/x", "--webhook-secret", SECRET]
    command = [sys.executable, "-m", "deploy.fakestripe", *base, "--state-file", str(state)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 2
    assert "has the format 'something else'" in ended.stderr
    assert state.read_text() == '{"format": "something else"}'


def test_only_the_one_key_is_accepted_when_it_is_given_and_the_port_is_free_again_afterwards(
    receiver: Receiver,
) -> None:
    fake = FakeStripeProcess(receiver.url, "--api-key", "sk_test_only")
    try:
        assert fake.http.get("/v1/balance").status_code == 401
        assert fake.http.get("/v1/balance", auth=("sk_test_only", "")).status_code == 200
    finally:
        fake.stop()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", fake.port)) != 0
