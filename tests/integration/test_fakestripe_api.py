"""The API of the fake Stripe, driven by the official SDK and held to the shapes the SDK declares."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
import stripe
import stripe.checkout

from tests.integration.fakestripe_support import (
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
    with_changes,
)

# Fixtures, which tests use by the names of their arguments.
__all__ = ["client", "fake", "receiver"]


async def test_an_idempotency_key_replays_the_first_answer_and_refuses_other_parameters(
    client: stripe.StripeClient, fake: FakeStripeProcess
) -> None:
    params: Any = checkout_params()
    key = f"topup:{next(numbers)}"
    first = await client.v1.checkout.sessions.create_async(params, {"idempotency_key": key})
    again = await client.v1.checkout.sessions.create_async(params, {"idempotency_key": key})
    assert again.id == first.id
    assert again.last_response is not None
    headers = again.last_response.headers
    assert headers is not None
    assert headers["idempotent-replayed"] == "true"
    assert headers["original-request"] != headers["request-id"]
    with pytest.raises(stripe.IdempotencyError):
        await client.v1.checkout.sessions.create_async(with_changes(params, locale="en"), {"idempotency_key": key})


async def test_two_requests_with_one_key_at_once_are_a_conflict_for_the_second(
    client: stripe.StripeClient, fake: FakeStripeProcess
) -> None:
    key = f"slow:{next(numbers)}"
    fake.control("faults", {"path": "/v1/customers", "status": 200, "times": 1, "delay_s": 2.5})
    slow = asyncio.create_task(client.v1.customers.create_async({"name": "A"}, {"idempotency_key": key}))
    await asyncio.sleep(0.5)
    with pytest.raises(stripe.StripeError) as caught:
        await client.v1.customers.create_async({"name": "A"}, {"idempotency_key": key})
    assert caught.value.http_status == 409
    assert caught.value.error is not None
    assert caught.value.error.code == "idempotency_key_in_use"
    assert (await slow).name == "A"


async def test_a_declined_charge_is_kept_under_its_key_but_a_refused_request_is_not(
    client: stripe.StripeClient,
) -> None:
    key = f"recharge:{next(numbers)}"
    params: Any = {"amount": 1000, "currency": "chf", "confirm": True, "payment_method": "pm_card_chargeDeclined"}
    seen = []
    for _ in range(2):
        with pytest.raises(stripe.CardError) as caught:
            await client.v1.payment_intents.create_async(params, {"idempotency_key": key})
        assert caught.value.error is not None
        seen.append(plain(caught.value.error)["payment_intent"]["id"])
    assert seen[0] == seen[1]

    key = f"recharge:{next(numbers)}"
    with pytest.raises(stripe.InvalidRequestError, match="at least 50 cents"):
        await client.v1.payment_intents.create_async({"amount": 10, "currency": "chf"}, {"idempotency_key": key})
    made = await client.v1.payment_intents.create_async({"amount": 100, "currency": "chf"}, {"idempotency_key": key})
    assert made.amount == 100


@pytest.mark.parametrize(
    ("change", "code", "param"),
    [
        ({"payment_method_types": ["card"]}, "payment_method_types_no_longer_supported", "payment_method_types"),
        ({"sucess_url": "https://a.example"}, "parameter_unknown", "sucess_url"),
        ({"line_items": [{"price": "price_none", "quantity": 1}]}, "resource_missing", "line_items[0][price]"),
        (
            {"line_items": [{"price_data": {"unit_amount": 5}}]},
            "parameter_missing",
            "line_items[0][price_data][currency]",
        ),
        ({"line_items": [{"quantity": "x"}]}, "parameter_invalid_integer", "line_items[0][quantity]"),
        ({"success_url": "javascript:alert(1)"}, "url_invalid", "success_url"),
        ({"customer": "cus_none"}, "resource_missing", "customer"),
        ({"expires_at": 1}, None, "expires_at"),
        ({"discounts": [{"coupon": "c"}]}, "unsupported_by_fake", "discounts"),
        ({"mode": "rent"}, "parameter_invalid_string", "mode"),
        ({"ui_mode": "embedded_page"}, "unsupported_by_fake", "ui_mode"),
        ({"mode": "subscription"}, None, "payment_intent_data"),
        ({"line_items": [], "metadata": {"k": "v" * 501}}, "parameter_missing", "line_items"),
    ],
)
async def test_a_wrong_parameter_is_refused_with_its_code_and_name(
    client: stripe.StripeClient, change: Json, code: str | None, param: str
) -> None:
    with pytest.raises(stripe.InvalidRequestError) as caught:
        await client.v1.checkout.sessions.create_async(with_changes(checkout_params(), **change))
    assert (caught.value.http_status, caught.value.code, caught.value.param) == (400, code, param)
    assert caught.value.request_id is not None


async def test_an_unknown_id_or_address_is_404(client: stripe.StripeClient, fake: FakeStripeProcess) -> None:
    with pytest.raises(stripe.InvalidRequestError) as caught:
        await client.v1.checkout.sessions.retrieve_async("cs_test_none")
    assert (caught.value.http_status, caught.value.code) == (404, "resource_missing")
    answer = fake.http.get("/v1/nothing")
    assert answer.status_code == 404
    assert "Unrecognized request URL" in answer.json()["error"]["message"]
    fake.pay("cs_test_none", "paid", status=404)


async def test_only_test_keys_are_served(fake: FakeStripeProcess) -> None:
    for key in ("sk_live_abcdef", "rk_live_abcdef", "nonsense"):
        with pytest.raises(stripe.AuthenticationError):
            await client_of(fake, key=key).v1.balance.retrieve_async()
    async with httpx.AsyncClient(trust_env=False) as nobody:
        assert (await nobody.get(f"{fake.url}/v1/balance")).status_code == 401
    assert (await client_of(fake, key="rk_test_restricted").v1.balance.retrieve_async()).livemode is False


async def test_a_saved_card_is_charged_off_session_and_one_that_needs_its_holder_is_not(
    fake: FakeStripeProcess, client: stripe.StripeClient, receiver: Receiver
) -> None:
    customer = await client.v1.customers.create_async({"email": "saved@example.com"})
    data = {"setup_future_usage": "off_session"}
    session = await open_session(client, customer=customer.id, payment_intent_data=data)
    fake.pay(session.id, "paid")
    [saved] = (await client.v1.customers.payment_methods.list_async(customer.id, {"type": "card"})).data
    charge: Any = {
        "amount": 5000,
        "currency": "chf",
        "customer": customer.id,
        "off_session": True,
        "confirm": True,
        "error_on_requires_action": True,
    }
    intent = await client.v1.payment_intents.create_async(with_changes(charge, payment_method=saved.id))
    assert (intent.status, intent.amount_received) == ("succeeded", 5000)

    strict = await client.v1.payment_methods.attach_async("pm_card_authenticationRequired", {"customer": customer.id})
    with pytest.raises(stripe.CardError) as caught:
        await client.v1.payment_intents.create_async(with_changes(charge, payment_method=strict.id))
    assert caught.value.code == "authentication_required"
    assert caught.value.error is not None
    failed = caught.value.error.payment_intent
    assert failed is not None
    assert failed.status == "requires_payment_method"
    await arrived(receiver, failed.id, "payment_intent.payment_failed")

    held = await client.v1.payment_intents.confirm_async(
        failed.id, {"payment_method": strict.id, "return_url": "https://shop.example/done"}
    )
    assert held.status == "requires_action"
    assert held.next_action is not None
    assert held.next_action.redirect_to_url is not None
    page = str(held.next_action.redirect_to_url.url)
    assert "Confirm the payment" in fake.http.get(page).text
    answer = fake.http.post(page, data={"action": "confirm"})
    assert (answer.status_code, answer.headers["location"]) == (303, "https://shop.example/done")
    assert (await client.v1.payment_intents.retrieve_async(failed.id)).status == "succeeded"


async def test_a_card_that_fails_is_refused_for_saving_except_the_one_that_fails_later(
    client: stripe.StripeClient,
) -> None:
    customer = await client.v1.customers.create_async({"email": "bad@example.com"})
    with pytest.raises(stripe.CardError):
        await client.v1.payment_methods.attach_async("pm_card_chargeDeclined", {"customer": customer.id})
    method = await client.v1.payment_methods.attach_async("pm_card_chargeCustomerFail", {"customer": customer.id})
    await client.v1.customers.update_async(
        customer.id, {"invoice_settings": {"default_payment_method": method.id}, "name": "Later", "email": ""}
    )
    changed = await client.v1.customers.retrieve_async(
        customer.id, {"expand": ["invoice_settings.default_payment_method"]}
    )
    assert plain(changed)["invoice_settings"]["default_payment_method"]["id"] == method.id
    assert (changed.name, changed.email) == ("Later", None)
    with pytest.raises(stripe.CardError) as caught:
        await client.v1.payment_intents.create_async(
            {
                "amount": 1000,
                "currency": "chf",
                "customer": customer.id,
                "payment_method": method.id,
                "confirm": True,
                "off_session": True,
            }
        )
    assert caught.value.code == "card_declined"


async def test_a_refund_in_parts_adds_up_on_the_charge_and_never_exceeds_it(
    fake: FakeStripeProcess, client: stripe.StripeClient, receiver: Receiver
) -> None:
    session = await open_session(client, unit_amount=10000)
    intent = fake.pay(session.id, "paid")["payment_intent"]
    first = await client.v1.refunds.create_async({"payment_intent": intent, "amount": 4000, "reason": "duplicate"})
    assert (first.amount, first.status, first.currency) == (4000, "succeeded", "chf")
    assert first.charge is not None
    with pytest.raises(stripe.InvalidRequestError, match="greater than unrefunded"):
        await client.v1.refunds.create_async({"charge": str(first.charge), "amount": 6001})
    await client.v1.refunds.create_async({"charge": str(first.charge)})
    with pytest.raises(stripe.InvalidRequestError) as caught:
        await client.v1.refunds.create_async({"payment_intent": intent})
    assert caught.value.code == "charge_already_refunded"
    charge = await client.v1.charges.retrieve_async(str(first.charge), {"expand": ["refunds"]})
    assert (charge.amount_refunded, charge.refunded) == (10000, True)
    assert charge.refunds is not None
    assert [refund.amount for refund in charge.refunds.data] == [6000, 4000]
    assert [row.id for row in (await client.v1.refunds.list_async({"payment_intent": intent})).data][-1] == first.id
    await client.v1.refunds.update_async(first.id, {"metadata": {"why": "test"}})
    events = await arrived(receiver, intent, "refund.created", "charge.refunded", "refund.updated")
    partly = next(event for event in events if event.type == "charge.refunded")
    assert plain(partly)["data"]["previous_attributes"] == {"amount_refunded": 0}


async def test_lists_go_by_cursor_newest_first(client: stripe.StripeClient, fake: FakeStripeProcess) -> None:
    email = f"list{next(numbers)}@example.com"
    made = [(await client.v1.customers.create_async({"email": email})).id for _ in range(5)]
    newest_first = made[::-1]
    page = await client.v1.customers.list_async({"email": email, "limit": 2})
    assert (page.url, page.has_more) == ("/v1/customers", True)
    assert [row.id async for row in page.auto_paging_iter()] == newest_first
    back = await client.v1.customers.list_async({"email": email, "limit": 2, "ending_before": newest_first[3]})
    assert [row.id for row in back.data] == newest_first[1:3]
    assert back.has_more
    now = fake.http.get("/_control/state").json()["now"]
    assert (await client.v1.customers.list_async({"email": email, "created": {"gt": now}})).data == []
    for params in ({"limit": 101}, {"starting_after": "cus_none"}):
        with pytest.raises(stripe.InvalidRequestError):
            await client.v1.customers.list_async(params)  # type: ignore[arg-type]
    await client.v1.customers.delete_async(made[0])
    assert (await client.v1.customers.retrieve_async(made[0])).deleted is True
    assert len((await client.v1.customers.list_async({"email": email})).data) == 4


async def test_products_and_prices_are_found_by_lookup_key_and_sold_by_id(
    fake: FakeStripeProcess, client: stripe.StripeClient
) -> None:
    key = f"plan-{next(numbers)}"
    product = await client.v1.products.create_async({"name": "Plan"})
    params: Any = {"product": product.id, "currency": "chf", "unit_amount": 1990, "lookup_key": key}
    price = await client.v1.prices.create_async(params)
    with pytest.raises(stripe.InvalidRequestError):
        await client.v1.prices.create_async(params)
    moved = await client.v1.prices.create_async(with_changes(params, unit_amount=2990, transfer_lookup_key=True))
    found = await client.v1.prices.list_async({"lookup_keys": [key], "expand": ["data.product"]})
    assert [(row.id, plain(row)["product"]["name"]) for row in found.data] == [(moved.id, "Plan")]
    session = await open_session(client, line_items=[{"price": price.id, "quantity": 3}])
    assert session.amount_total == 5970
    [line] = (await client.v1.checkout.sessions.line_items.list_async(session.id)).data
    assert (line.amount_total, line.quantity, line.description) == (5970, 3, "Plan")
