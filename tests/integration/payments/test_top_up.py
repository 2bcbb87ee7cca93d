"""Topping up, from the order to payment.succeeded on Kafka."""

import asyncio
from decimal import Decimal
from functools import partial
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from stripe.params.checkout import SessionCreateParams

from rappen_contracts.payment.v1 import PaymentSucceeded
from services.chassis.caller import Caller
from tests.integration.payments.world import ORIGIN, Person, World
from tests.support.waiting import eventually


async def credited(world: World, person: Person) -> PaymentSucceeded:
    """The one payment of a mandate on the topic."""
    (event,) = await world.published(person.mandate_id)
    assert isinstance(event.data, PaymentSucceeded)
    return event.data


async def test_a_paid_checkout_is_published_once_with_what_stripe_says(world: World) -> None:
    person = world.person(language="de")
    session_id = await person.session(amount=50, userId="member-1")
    await world.pay(session_id)
    assert await world.processed(session_id) == ["CREDITED"]
    payment = await credited(world, person)
    assert (payment.amount.amount, payment.amount.currency) == (Decimal(50), "CHF")
    assert payment.requested_amount is not None
    assert payment.requested_amount.amount == Decimal(50)
    assert (payment.user_id, payment.created_by_user_id) == ("member-1", person.caller.user_id)
    assert (payment.reason, payment.reference, payment.description) == ("top_up", session_id, "Stripe-Zahlung")
    (session,) = [entry for entry in await world.sessions() if entry["id"] == session_id]
    assert payment.stripe_payment_intent_id == session["payment_intent"]
    assert payment.cause.startswith("evt_")
    (row,) = await world.rows("SELECT * FROM payments WHERE stripe_session_id = $1", session_id)
    assert (row["mismatch"], row["amount"]) == (False, Decimal(50))


async def test_stripe_is_asked_for_what_was_ordered(world: World) -> None:
    person = world.person(language="de")
    session_id = await person.session(amount=10, returnUrl=f"{ORIGIN}/b?tab=a%20b#/top")
    (session,) = [entry for entry in await world.sessions() if entry["id"] == session_id]
    assert (session["mode"], session["currency"], session["amount_total"]) == ("payment", "chf", 1000)
    assert session["locale"] == "de"
    assert session["success_url"] == f"{ORIGIN}/b?tab=a%20b&success=true&session_id={{CHECKOUT_SESSION_ID}}#/top"
    assert session["cancel_url"] == f"{ORIGIN}/b?tab=a%20b&canceled=true#/top"
    checkout = await world.checkout_of(session_id)
    assert session["client_reference_id"] == str(checkout["id"])
    assert session["metadata"] == {"mandateId": person.mandate_id, "checkoutId": str(checkout["id"])}


@pytest.mark.parametrize("amount", ["1e999999999", "1e-999999999", "1e99999999999999999999", "9" * 5000])
async def test_an_amount_beyond_all_use_is_422(world: World, amount: str) -> None:
    person = world.person()
    body = f'{{"amount": {amount}, "returnUrl": "{ORIGIN}/billing"}}'
    headers = {**person.headers, "Content-Type": "application/json"}
    path = f"/api/billing/checkout/create/{person.mandate_id}"
    answer = await world.http.post(path, content=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (422, "NUMBER_OUT_OF_RANGE")


async def test_confirm_credits_before_the_webhook_and_the_webhook_changes_nothing(world: World) -> None:
    person = world.person()
    session_id = await person.session()
    await world.pay(session_id, delay_s=1)
    first = await person.confirm(session_id)
    assert first.status_code == 200, first.text
    assert first.json() == {
        "credited": True,
        "alreadyCredited": False,
        "sessionId": session_id,
        "mandateId": person.mandate_id,
        "amountChf": 25,
    }
    assert '"amountChf":25.000000' in first.text
    payment = await credited(world, person)
    assert (payment.description, payment.cause) == ("Stripe payment", first.headers["x-request-id"])
    assert await world.processed(session_id) == ["ALREADY_CREDITED"]
    second = await person.confirm(session_id)
    assert second.json() == first.json() | {"credited": False, "alreadyCredited": True}
    assert len(await world.published(person.mandate_id)) == 1


async def test_confirm_after_the_webhook_answers_already_credited(world: World) -> None:
    person = world.person()
    session_id = await person.session()
    await world.pay(session_id)
    await world.processed(session_id)
    answer = (await person.confirm(session_id)).json()
    assert (answer["credited"], answer["alreadyCredited"], answer["amountChf"]) == (False, True, 25)
    await credited(world, person)


async def test_many_confirms_and_shuffled_copies_of_the_webhook_credit_once(world: World) -> None:
    person = world.person()
    session_id = await person.session()
    await world.pay(session_id, duplicate=5, shuffle=True)
    answers = await asyncio.gather(*(person.confirm(session_id) for _ in range(20)))
    assert {answer.status_code for answer in answers} == {200}
    await world.processed(session_id)
    fresh = [answer.json()["credited"] for answer in answers]
    assert sum(fresh) <= 1
    assert all(answer.json()["credited"] != answer.json()["alreadyCredited"] for answer in answers)
    assert {answer.json()["amountChf"] for answer in answers} == {25}
    await credited(world, person)
    assert len(await world.rows("SELECT 1 FROM payments WHERE stripe_session_id = $1", session_id)) == 1


async def test_a_payment_that_comes_later_is_credited_when_it_comes(world: World) -> None:
    person = world.person()
    session_id = await person.session()
    await world.pay(session_id, "unpaid")
    assert await world.processed(session_id) == ["WAITING"]
    refused = await person.confirm(session_id)
    assert (refused.status_code, refused.json()["code"]) == (409, "NOT_PAID")
    assert "unpaid" in refused.json()["detail"]
    assert await world.published(person.mandate_id, count=0) == []
    await world.pay(session_id, "async_paid")
    assert await world.processed(session_id, count=2) == ["CREDITED", "WAITING"]
    await credited(world, person)


async def test_a_payment_that_fails_later_closes_the_checkout(world: World) -> None:
    person = world.person()
    session_id = await person.session()
    await world.pay(session_id, "unpaid")
    await world.processed(session_id)
    await world.pay(session_id, "async_failed")
    assert await world.processed(session_id, count=2) == ["FAILED", "WAITING"]
    assert (await world.checkout_of(session_id))["state"] == "FAILED"
    assert (await person.confirm(session_id)).status_code == 409
    assert await world.published(person.mandate_id, count=0) == []


async def test_an_expired_checkout_is_closed(world: World) -> None:
    session_id = await world.person().session()
    await world.stripe.v1.checkout.sessions.expire_async(session_id)
    assert await world.processed(session_id) == ["EXPIRED"]
    assert (await world.checkout_of(session_id))["state"] == "EXPIRED"


async def test_a_declined_card_leaves_the_checkout_open_for_another(world: World) -> None:
    person = world.person()
    session_id = await person.session()
    await world.pay(session_id, "declined")
    assert (await person.confirm(session_id)).status_code == 409
    assert (await world.checkout_of(session_id))["state"] == "OPEN"
    await world.pay(session_id, "paid")
    assert (await person.confirm(session_id)).status_code == 200
    await credited(world, person)


async def test_an_amount_other_than_asked_for_is_credited_as_paid_and_marked(world: World) -> None:
    person = world.person()
    session_id = await person.session(amount=25)
    await world.rows("UPDATE checkouts SET amount = 250 WHERE stripe_session_id = $1 RETURNING id", session_id)
    await world.pay(session_id)
    payment = await credited(world, person)
    assert payment.requested_amount is not None
    assert (payment.amount.amount, payment.requested_amount.amount) == (Decimal(25), Decimal(250))
    (row,) = await world.rows("SELECT mismatch FROM payments WHERE stripe_session_id = $1", session_id)
    assert row["mismatch"]
    metrics = (await world.http.get("/metrics")).text
    (count,) = [line for line in metrics.splitlines() if line.startswith("rappen_payments_amount_mismatches_total ")]
    assert float(count.split()[1]) >= 1


async def foreign_session(world: World, person: Person, *, currency: str, units: int, marked: bool = False) -> str:
    """A second session of a checkout of ours, in another currency."""
    checkout = await world.checkout_of(await person.session())
    params: SessionCreateParams = {
        "mode": "payment",
        "client_reference_id": str(checkout["id"]),
        "success_url": ORIGIN,
        "metadata": {"mandateId": "somebody-else", "amountChf": "500"},
        "line_items": [
            {
                "quantity": 1,
                "price_data": {"currency": currency, "unit_amount": units, "product_data": {"name": "x"}},
            }
        ],
    }
    if marked:
        # As we mark the payment of a checkout of ours.
        params["payment_intent_data"] = {"metadata": {"checkoutId": str(checkout["id"])}}
    return (await world.stripe.v1.checkout.sessions.create_async(params)).id


@pytest.mark.parametrize(("currency", "units", "amount"), [("jpy", 2500, "2500"), ("eur", 2599, "25.99")])
async def test_another_currency_is_published_as_paid_and_metadata_is_not_believed(
    world: World, currency: str, units: int, amount: str
) -> None:
    person = world.person()
    session_id = await foreign_session(world, person, currency=currency, units=units)
    await world.pay(session_id, drop=True)
    answer = await person.confirm(session_id)
    assert answer.json()["credited"] is True
    assert answer.json()["mandateId"] == person.mandate_id
    assert answer.json()["amountChf"] is None
    payment = await credited(world, person)
    assert (payment.amount.amount, payment.amount.currency) == (Decimal(amount), currency.upper())
    (row,) = await world.rows("SELECT mismatch FROM payments WHERE stripe_session_id = $1", session_id)
    assert row["mismatch"]


async def test_a_currency_that_cannot_be_booked_is_set_aside_and_told(world: World) -> None:
    person = world.person()
    session_id = await foreign_session(world, person, currency="xts", units=250000)
    await world.pay(session_id)
    assert await world.processed(session_id) == ["SET_ASIDE"]
    answer = await person.confirm(session_id)
    assert (answer.status_code, answer.json()["code"]) == (409, "PAYMENT_NOT_PLACEABLE")
    assert "SET_ASIDE" in world.command("events", "list", "--unfinished", "--limit", "500").stdout


async def test_only_administrators_of_the_mandate_may_start_and_confirm(world: World) -> None:
    owner = world.person()
    unpaid = await owner.session()
    strangers = [
        world.person(),
        Person(world, Caller(user_id="member", mandates={owner.mandate_id: False}), owner.mandate_id),
        Person(world, Caller(user_id="program", service=True, scopes=frozenset(("usage:write",))), owner.mandate_id),
    ]
    for stranger in strangers:
        refused = await stranger.create(mandate_id=owner.mandate_id, amount="no number", returnUrl=7)
        assert refused.status_code == 403, refused.text
        # The session is not paid; who has no access does not learn it.
        assert (await stranger.confirm(unpaid)).status_code == 403
    administrator = world.person(system_admin=True)
    assert (await administrator.create(mandate_id=owner.mandate_id)).status_code == 200
    assert (await administrator.confirm(unpaid)).status_code == 409
    assert (await administrator.create(mandate_id="no mandate")).status_code == 404
    assert (await owner.create(mandate_id="no mandate")).status_code == 403
    assert (await world.http.get("/api/billing/checkout/options")).status_code == 401


@pytest.mark.parametrize("session_id", ["cs_test_unknown", "cs_live_1", "cs_test_a/../b", "", "pi_1", "cs_test_%00"])
async def test_an_unknown_session_is_404(world: World, session_id: str) -> None:
    answer = await world.person(system_admin=True).confirm(session_id)
    assert (answer.status_code, answer.json()["code"]) == (404, "SESSION_NOT_FOUND")


async def test_a_session_of_somebody_elses_is_404_and_its_event_is_marked(world: World) -> None:
    session = await world.stripe.v1.checkout.sessions.create_async(
        {
            "mode": "payment",
            "success_url": ORIGIN,
            "client_reference_id": "order-7",
            "line_items": [
                {"quantity": 1, "price_data": {"currency": "chf", "unit_amount": 500, "product_data": {"name": "x"}}}
            ],
        }
    )
    await world.pay(session.id)
    assert await world.processed(session.id) == ["NOT_OURS"]
    assert (await world.person(system_admin=True).confirm(session.id)).status_code == 404


@pytest.mark.parametrize("body", [{}, {"sessionId": None}, {"sessionId": 7}, {"sessionId": ["cs_test_1"]}])
async def test_a_session_id_of_another_type_is_422(world: World, body: dict[str, Any]) -> None:
    person = world.person()
    answer = await world.http.post("/api/billing/checkout/confirm", json=body, headers=person.headers)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "sessionId"


@pytest.mark.parametrize("amount", [11, 10.01, 0, -25, 25.000001, 1000000])
async def test_an_amount_that_is_not_offered_is_refused_naming_those_that_are(world: World, amount: float) -> None:
    answer = await world.person().create(amount=amount)
    assert (answer.status_code, answer.json()["code"]) == (400, "AMOUNT_NOT_OFFERED")
    assert "10, 25, 50, 100, 250, 500" in answer.json()["detail"]


@pytest.mark.parametrize(
    "body",
    [
        {"amount": "25"},
        {"amount": True},
        {"amount": None},
        {"amount": 25.0000001},
        {"amount": [25]},
        {"returnUrl": None},
        {"returnUrl": 7},
        {"userId": 7},
        {"userId": "a b"},
    ],
)
async def test_wrong_types_are_422(world: World, body: dict[str, Any]) -> None:
    assert (await world.person().create(**body)).status_code == 422


@pytest.mark.parametrize(
    "url",
    [
        "/billing",
        "//app.example.ch",
        "https://evil.example",
        "https://app.example.ch@evil.example",
        "https://app.example.ch\\@evil.example",
        "https://app.example.ch.evil.example",
        "javascript:alert(1)",
        "https://app.example.ch/\nx",
    ],
)
async def test_a_return_url_that_is_not_allowed_is_refused(world: World, url: str) -> None:
    person = world.person()
    answer = await person.create(returnUrl=url)
    assert (answer.status_code, answer.json()["code"]) == (400, "RETURN_URL_NOT_ALLOWED")
    assert await world.rows("SELECT 1 FROM checkouts WHERE mandate_id = $1", person.mandate_id) == []


async def test_a_repeat_with_the_same_key_answers_the_same(world: World) -> None:
    person = world.person()
    first = await person.create(key="k1")
    again = await person.create(key="k1", amount=25.00)
    assert again.status_code == 200
    assert again.json() == first.json()
    for other in ({"amount": 50}, {"userId": "u"}, {"returnUrl": f"{ORIGIN}/other"}):
        refused = await person.create(key="k1", **other)
        assert (refused.status_code, refused.json()["code"]) == (422, "IDEMPOTENCY_MISMATCH")
    assert (await person.create(key="k2")).json() != first.json()
    assert (await world.person().create(key="k1")).json() != first.json()
    assert len(await world.rows("SELECT 1 FROM checkouts WHERE mandate_id = $1", person.mandate_id)) == 2


async def test_a_repeat_while_the_first_is_in_progress_is_409(world: World) -> None:
    person = world.person()
    await world.control.post("/faults", json={"path": "/v1/checkout/sessions", "status": 200, "delay_s": 3})
    first = asyncio.create_task(person.create(key="k"))
    begun = partial(world.rows, "SELECT 1 FROM checkouts WHERE mandate_id = $1", person.mandate_id)
    await eventually(begun, what="the first begun")
    refused = await person.create(key="k")
    assert (refused.status_code, refused.json()["code"]) == (409, "IDEMPOTENCY_IN_PROGRESS")
    answered = await first
    assert answered.status_code == 200
    assert (await person.create(key="k")).json() == answered.json()


@pytest.mark.parametrize("key", ["", "a b", "x" * 256])
async def test_a_malformed_key_is_422(world: World, key: str) -> None:
    assert (await world.person().create(key=key)).status_code == 422


async def test_the_amounts_on_offer_are_money(world: World) -> None:
    answer = await world.http.get("/api/billing/checkout/options", headers=world.person(admin=False).headers)
    assert answer.json()["amounts"][0] == {"amount": "10.000000", "currency": "CHF"}
    assert [Decimal(entry["amount"]) for entry in answer.json()["amounts"]] == [10, 25, 50, 100, 250, 500]


async def test_the_redirect_leads_to_stripes_page(world: World) -> None:
    answer = await world.person().create()
    assert answer.json()["redirectUrl"].startswith(world.fake.url)
    assert parse_qs(urlsplit(answer.json()["redirectUrl"]).query) == {}
