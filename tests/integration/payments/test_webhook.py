"""What Stripe delivers: who may, what is stored, and what becomes of it."""

import asyncio
import json
import time
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
import stripe

from services.payments.inbox.domain import SAME_OBJECT, parse_event
from services.payments.inbox.event_types import EVENT_TYPES
from services.payments.inbox.repository import store_event
from tests.integration.payments.world import OTHER_SECRET, SECRET, WEBHOOK, World
from tests.support.databases import opened


def event(**more: Any) -> dict[str, Any]:
    """An event of a type that nothing listens to."""
    return {
        "id": f"evt_{uuid4().hex}",
        "object": "event",
        "type": "customer.created",
        "livemode": False,
        "api_version": "2026-10-28.endive",
        "created": 1,
        "data": {"object": {"id": "cus_1", "object": "customer"}},
        **more,
    }


def signed(body: bytes, *, secret: str = SECRET, age_s: int = 0) -> str:
    timestamp = int(time.time()) - age_s
    return str(stripe.WebhookSignature.generate_signature_header(body.decode(), secret, timestamp=timestamp))


async def stored(world: World, event_id: str) -> list[dict[str, Any]]:
    return await world.rows("SELECT * FROM webhook_events WHERE event_id = $1", event_id)


async def test_an_event_is_stored_as_it_came_before_it_is_acknowledged(world: World) -> None:
    body = json.dumps(event(unknown={"nested": ["ü", None]}), indent=2).encode()
    answer = await world.deliver(body)
    assert (answer.status_code, answer.json()) == (200, {"received": True})
    (row,) = await stored(world, json.loads(body)["id"])
    assert row["payload"] == body
    assert (row["type"], row["object_id"], row["livemode"]) == ("customer.created", "cus_1", False)


async def test_an_unknown_type_is_marked_and_needs_no_more(world: World) -> None:
    for unknown in (event(), event(type="invoice.upcoming", data={"object": {"object": "invoice"}})):
        assert (await world.deliver(json.dumps(unknown).encode())).status_code == 200
        assert await world.event_outcome(unknown["id"]) == "IGNORED"


@pytest.mark.parametrize("name", sorted(EVENT_TYPES))
async def test_an_object_that_stripe_does_not_have_is_not_ours(world: World, name: str) -> None:
    for about in ({}, {"id": "no/id"}, {"id": "cs_test_unknown"}):
        unknown = event(type=name, data={"object": about})
        assert (await world.deliver(json.dumps(unknown).encode())).status_code == 200
        assert await world.event_outcome(unknown["id"]) == "NOT_OURS"


async def test_copies_of_an_event_are_acknowledged_and_stored_once(world: World) -> None:
    body = json.dumps(event()).encode()
    answers = await asyncio.gather(*(world.deliver(body) for _ in range(10)))
    assert {answer.status_code for answer in answers} == {200}
    assert len(await stored(world, json.loads(body)["id"])) == 1


async def test_either_secret_signs_while_they_are_exchanged(world: World) -> None:
    for secret in (SECRET, OTHER_SECRET):
        body = json.dumps(event()).encode()
        assert (await world.deliver(body, secret=secret)).status_code == 200
        assert len(await stored(world, json.loads(body)["id"])) == 1


async def test_every_delivery_that_is_not_stripes_gets_the_same_400_and_is_not_stored(world: World) -> None:
    body = json.dumps(event()).encode()
    live = json.dumps(event(livemode=True)).encode()
    large = json.dumps(event(padding="x" * 600_000)).encode()
    deliveries: list[tuple[bytes, str | bytes]] = [
        (body, signed(body, secret="whsec_of_nobody")),
        (body, signed(body, age_s=301)),
        (body, signed(body, age_s=-120)),
        (body.replace(b"cus_1", b"cus_2"), signed(body)),
        (body, "t=1,v1=00"),
        (body, "nonsense"),
        (body, b"t=1,v1=\xe9"),
        (body, f"t={int(time.time())},v1=".encode() + b"\xe9" * 64),
        (body, b"t=\xb2,v1=00"),
        (b"no json", signed(b"no json")),
        (b"{}", signed(b"{}")),
        (live, signed(live)),
        (large, signed(large)),
    ]
    answers = [await world.deliver(content, header) for content, header in deliveries]
    answers.append(await world.http.post(WEBHOOK, content=body))
    for content_type in (None, b"", b"text/plain", b"application/x-www-form-urlencoded", b"\xff", b"json"):
        answers.append(await world.deliver(body, content_type=content_type))
    assert {answer.status_code for answer in answers} == {400}
    documents = [{name: text for name, text in answer.json().items() if name != "requestId"} for answer in answers]
    assert all(document == documents[0] for document in documents)
    assert await stored(world, json.loads(body)["id"]) == []
    assert await stored(world, json.loads(live)["id"]) == []


async def test_a_content_type_of_json_may_have_any_parameters(world: World) -> None:
    for content_type in (b"application/json", b"Application/JSON ; charset=latin-1", b"application/vnd.stripe+json"):
        body = json.dumps(event()).encode()
        assert (await world.deliver(body, content_type=content_type)).status_code == 200
        assert len(await stored(world, json.loads(body)["id"])) == 1


async def test_an_event_that_cannot_be_stored_is_answered_503(world: World) -> None:
    body = json.dumps(event()).encode()
    await world.rows("REVOKE INSERT ON webhook_events FROM payments_app")
    try:
        refused = await world.deliver(body)
    finally:
        await world.rows("GRANT INSERT ON webhook_events TO payments_app")
    assert (refused.status_code, refused.json()["code"]) == (503, "WEBHOOK_NOT_STORED")
    assert (await world.deliver(body)).status_code == 200


async def test_without_key_and_secrets_payments_say_so_and_nothing_is_lost(world: World) -> None:
    async with world.process("api", stripe_settings={}) as bare:
        body = json.dumps(event()).encode()
        answer = await world.http.post(bare.url + WEBHOOK, content=body, headers={"Stripe-Signature": signed(body)})
        assert (answer.status_code, answer.json()["code"]) == (503, "WEBHOOK_NOT_CONFIGURED")
        person = world.person()
        created = await world.http.post(
            f"{bare.url}/api/billing/checkout/create/{person.mandate_id}",
            json={"amount": 10, "returnUrl": "https://app.example.ch"},
            headers=person.headers,
        )
        assert (created.status_code, created.json()["code"]) == (503, "STRIPE_NOT_CONFIGURED")


async def test_the_order_in_which_events_arrive_does_not_matter(world: World) -> None:
    person = world.person()
    session_id = await person.session()
    await world.pay(session_id, "async_paid", drop=True)
    events = [
        event(type=name, data={"object": {"id": session_id, "object": "checkout.session", "payment_status": claimed}})
        for name, claimed in (
            ("checkout.session.expired", "unpaid"),
            ("checkout.session.async_payment_failed", "unpaid"),
            ("checkout.session.async_payment_succeeded", "paid"),
            ("checkout.session.completed", "unpaid"),
        )
    ]
    for late in events:
        assert (await world.deliver(json.dumps(late).encode())).status_code == 200
        await world.event_outcome(late["id"])
    # Each is waited for, so none is processed with another.
    assert sorted(await world.processed(session_id, count=4)) == ["ALREADY_CREDITED"] * 3 + ["CREDITED"]
    assert (await world.checkout_of(session_id))["state"] == "PAID"
    (payment,) = await world.published(person.mandate_id)
    assert payment.time <= datetime.now(UTC)


async def test_events_about_one_object_that_wait_together_are_processed_by_one_fetch(world: World) -> None:
    person = world.person()
    session_id = await person.session()
    await world.pay(session_id, drop=True)
    about = {"object": {"id": session_id, "object": "checkout.session"}}
    waiting = [event(type="checkout.session.completed", data=about) for _ in range(5)]
    await asyncio.to_thread(world.service.stop)
    async with opened(world.servers.dsn("payments"), pool_size=1) as database, database.transaction() as connection:
        for body in (json.dumps(each).encode() for each in waiting):
            assert await store_event(connection, parse_event(body), body, datetime.now(UTC))
    # Another fetch would fail.
    await world.fault(f"/v1/checkout/sessions/{session_id}", 200, times=1)
    await world.fault(f"/v1/checkout/sessions/{session_id}", 503, times=1_000)
    world.service.start()
    await world.service.ready()
    outcomes = await world.processed(session_id, count=5)
    assert (await world.control.delete("/faults")).json()[0]["times"] == 1_000
    assert sorted(outcomes) == ["CREDITED"] + [SAME_OBJECT] * 4
    assert len(await world.published(person.mandate_id)) == 1


async def test_what_an_event_claims_is_not_believed(world: World) -> None:
    person = world.person()
    session_id = await person.session()
    claimed = {"id": session_id, "object": "checkout.session", "payment_status": "paid", "amount_total": 50000}
    lie = event(type="checkout.session.completed", data={"object": claimed})
    await world.deliver(json.dumps(lie).encode())
    assert await world.event_outcome(lie["id"]) == "OPEN"
    assert await world.published(person.mandate_id, count=0) == []


async def test_a_webhook_is_answered_quickly(world: World) -> None:
    """No call to Stripe is on the way: it would take three seconds."""
    await world.control.post("/faults", json={"path": "/v1/checkout/sessions/", "status": 200, "delay_s": 3})
    session_id = await world.person().session()
    body = json.dumps(event(type="checkout.session.completed", data={"object": {"id": session_id}})).encode()
    started = time.perf_counter()
    assert (await world.deliver(body)).status_code == 200
    assert time.perf_counter() - started < 3
    assert await world.event_outcome(json.loads(body)["id"]) == "OPEN"


async def test_an_old_delivery_played_again_is_refused_and_a_new_one_changes_nothing(world: World) -> None:
    person = world.person()
    session_id = await person.session()
    await world.pay(session_id)
    assert await world.processed(session_id) == ["CREDITED"]
    (row,) = await world.rows("SELECT event_id, payload FROM webhook_events WHERE object_id = $1", session_id)
    body = bytes(row["payload"])
    assert (await world.deliver(body, signed(body, age_s=3600))).status_code == 400
    assert (await world.deliver(body)).status_code == 200
    # The same event under another id, as when an operator has Stripe send it once more.
    again = {**json.loads(body), "id": f"evt_{uuid4().hex}"}
    assert (await world.deliver(json.dumps(again).encode())).status_code == 200
    assert await world.event_outcome(again["id"]) == "ALREADY_CREDITED"
    assert len(await world.published(person.mandate_id)) == 1


async def test_a_thin_event_does_what_the_whole_one_does(world: World) -> None:
    person = world.person()
    session_id = await person.session()
    await world.pay(session_id, drop=True)
    thin = {
        "id": f"evt_{uuid4().hex}",
        "object": "v2.core.event",
        "type": "v1.checkout.session.completed",
        "livemode": False,
        "created": "2026-11-21T12:00:00Z",
        "related_object": {
            "id": session_id,
            "type": "checkout.session",
            "url": f"/v1/checkout/sessions/{session_id}",
        },
    }
    assert (await world.deliver(json.dumps(thin).encode())).status_code == 200
    assert await world.event_outcome(thin["id"]) == "CREDITED"
    assert len(await world.published(person.mandate_id)) == 1


async def test_long_texts_of_stripes_are_stored_whole(world: World) -> None:
    person = world.person()
    session_id = await person.session(amount=50)
    await world.pay(session_id, drop=True)
    (session,) = [each for each in await world.sessions() if each["id"] == session_id]
    long_id = f"cs_test_{'a' * 212}"
    assert (await world.control.post("/objects", json={**session, "id": long_id})).status_code == 200
    long = event(
        type="checkout.session.completed",
        api_version="2026-10-28.endive; alpha_beta=v3; other_beta=v1",
        request={"id": "req_1", "idempotency_key": "k" * 255},
        data={"object": {"id": long_id, "object": "checkout.session", "client_reference_id": "r" * 200}},
    )
    assert (await world.deliver(json.dumps(long).encode())).status_code == 200
    assert await world.event_outcome(long["id"]) == "CREDITED"
    (payment,) = await world.published(person.mandate_id)
    assert payment.data.reference == long_id  # type: ignore[attr-defined]
