"""What the fake Stripe refuses around subscriptions and invoices, each with its code and the parameter's name."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
import stripe

from tests.integration.fakestripe_support import (
    FakeStripeProcess,
    Json,
    client_of,
    customer_with,
    fake,
    make_plan,
    plain,
    receiver,
)

# Fixtures, which tests use by the names of their arguments.
__all__ = ["fake", "receiver"]


class Shop:
    """A customer with a subscription, an open invoice and a draft, to send requests about."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http
        self.ids: dict[str, str] = {}

    async def fill(self, client: stripe.StripeClient) -> None:
        """Make what the requests are about."""
        plan = await make_plan(client)
        customer = await customer_with(client)
        other = await customer_with(client)
        subscription = await client.v1.subscriptions.create_async({"customer": customer.id, "items": plan.items()})
        product = await client.v1.products.create_async({"name": "Once"})
        once = await client.v1.prices.create_async({"product": product.id, "currency": "chf", "unit_amount": 100})
        euro = await client.v1.prices.create_async(
            {"product": product.id, "currency": "eur", "unit_amount": 100, "recurring": {"interval": "month"}}
        )
        draft = await client.v1.invoices.create_async({"customer": customer.id})
        ended = await client.v1.subscriptions.create_async({"customer": customer.id, "items": plan.items()})
        await client.v1.subscriptions.cancel_async(ended.id)
        self.ids = {
            "customer": customer.id,
            "foreign": plain(other)["invoice_settings"]["default_payment_method"],
            "subscription": subscription.id,
            "item": plain(subscription)["items"]["data"][0]["id"],
            "invoice": str(plain(subscription)["latest_invoice"]),
            "draft": draft.id,
            "ended": ended.id,
            "price": plan.members,
            "once": once.id,
            "euro": euro.id,
        }

    def ask(self, path: str, form: Json, method: str = "POST") -> httpx.Response:
        """Send a request, with the ids in place of their names in braces."""
        data = {name: str(value).format(**self.ids) for name, value in form.items()}
        if method == "GET":
            return self.http.get(f"/v1/{path.format(**self.ids)}", params=data)
        return self.http.request(method, f"/v1/{path.format(**self.ids)}", data=data)


@pytest.fixture(scope="module")
def shop(fake: FakeStripeProcess) -> Shop:
    """The shop of all tests, because no request changes it."""
    made = Shop(fake.http)
    asyncio.run(made.fill(client_of(fake)))
    return made


ORDER = {"customer": "{customer}", "items[0][price]": "{price}"}
SUB = "subscriptions/{subscription}"
REFUSALS: list[tuple[str, Json, str | None, str | None]] = [
    ("subscriptions", {"items[0][price]": "{price}"}, "parameter_missing", "customer"),
    ("subscriptions", {"customer": "{customer}"}, "parameter_missing", "items"),
    ("subscriptions", {"customer": "{customer}", "items[0][quantity]": 1}, "parameter_missing", "items[0][price]"),
    ("subscriptions", {**ORDER, "items[0][price]": "{once}"}, None, "items[0][price]"),
    ("subscriptions", {**ORDER, "items[1][price]": "{euro}"}, None, "items"),
    ("subscriptions", {**ORDER, "items[1][price]": "{price}"}, None, "items"),
    ("subscriptions", {**ORDER, "items[0][quantity]": -1}, "parameter_invalid_integer", "items[quantity]"),
    ("subscriptions", {**ORDER, "trial_end": "soon"}, "parameter_invalid_string", "trial_end"),
    ("subscriptions", {**ORDER, "trial_end": "9" * 30}, "parameter_invalid_integer", None),
    ("subscriptions", {**ORDER, "trial_end": "9" * 11}, "parameter_invalid_integer", "trial_end"),
    ("subscriptions", {**ORDER, "billing_cycle_anchor": "9" * 11}, None, "billing_cycle_anchor"),
    ("subscriptions", {**ORDER, "billing_cycle_anchor": 1}, None, "billing_cycle_anchor"),
    ("subscriptions", {**ORDER, "collection_method": "send_invoice", "days_until_due": -1}, None, "days_until_due"),
    ("subscriptions", {**ORDER, "trial_end": 1}, None, "trial_end"),
    ("subscriptions", {**ORDER, "trial_period_days": 0}, None, "trial_period_days"),
    ("subscriptions", {**ORDER, "trial_period_days": 5, "trial_end": 1}, None, "trial_end"),
    ("subscriptions", {**ORDER, "cancel_at": "never"}, "parameter_invalid_integer", "cancel_at"),
    ("subscriptions", {**ORDER, "payment_behavior": "hope"}, "parameter_invalid_string", "payment_behavior"),
    ("subscriptions", {**ORDER, "collection_method": "send_invoice"}, "parameter_missing", "days_until_due"),
    ("subscriptions", {**ORDER, "default_payment_method": "{foreign}"}, "resource_missing", "default_payment_method"),
    ("subscriptions", {**ORDER, "coupon": "c"}, "parameter_unknown", "coupon"),
    ("subscriptions", {**ORDER, "transfer_data[destination]": "a"}, "unsupported_by_fake", "transfer_data"),
    (SUB, {"cancel_at": "soon", "items[0][id]": "{item}", "items[0][quantity]": 9}, "parameter_invalid_string", None),
    (SUB, {"items[0][id]": "{item}", "items[0][deleted]": "true", "items[1][price]": "{once}"}, None, None),
    (SUB, {"items[0][id]": "si_none", "items[0][quantity]": 2}, "resource_missing", "items[0][id]"),
    (SUB, {"proration_behavior": "maybe"}, "parameter_invalid_string", "proration_behavior"),
    (SUB, {"payment_behavior": "pending_if_incomplete", "metadata[a]": "b"}, None, "metadata"),
    (SUB, {"billing_cycle_anchor": "now"}, None, "billing_cycle_anchor"),
    (SUB, {"pause_collection[behavior]": "sleep"}, "parameter_invalid_string", "pause_collection[behavior]"),
    (SUB, {"cancel_at": "max_billed_until"}, "unsupported_by_fake", "cancel_at"),
    ("subscriptions/{ended}", {"cancel_at_period_end": "true"}, None, "cancel_at_period_end"),
    ("subscriptions/{subscription}/resume", {}, "resource_missing", None),
    (SUB, {"items[0][id]": "{item}", "items[0][quantity]": 9, "proration_date": 1}, None, "proration_date"),
    ("subscription_items/{item}", {"quantity": 5, "proration_date": "9" * 11}, None, "proration_date"),
    ("subscription_items/{item}", {"quantity": "many"}, "parameter_invalid_integer", "quantity"),
    ("subscription_items", {"subscription": "sub_none", "price": "{price}"}, "resource_missing", "subscription"),
    ("subscription_items", {"subscription": "{ended}", "price": "{price}"}, None, "subscription"),
    ("invoices", {}, "parameter_missing", "customer"),
    ("invoices", {"customer": "{customer}", "collection_method": "send_invoice"}, "parameter_missing", None),
    ("invoices", {"customer": "{customer}", "due_date": "9" * 11}, "parameter_invalid_integer", "due_date"),
    ("invoices/{draft}", {"due_date": "9" * 11}, "parameter_invalid_integer", "due_date"),
    ("invoices/{invoice}/pay", {}, "invoice_already_paid", "invoice"),
    ("invoices/{invoice}/void", {}, "invoice_not_editable", "invoice"),
    ("invoices/{invoice}/finalize", {}, None, "invoice"),
    ("invoices/{invoice}", {"collection_method": "send_invoice"}, "invoice_not_editable", "collection_method"),
    ("invoices/{draft}/send", {}, None, "invoice"),
    ("invoiceitems", {"customer": "{customer}"}, "parameter_missing", "amount"),
    ("invoiceitems", {"customer": "{customer}", "unit_amount_decimal": "NaN"}, None, None),
    ("invoiceitems", {"customer": "{customer}", "amount": 1, "invoice": "{invoice}"}, "invoice_not_editable", None),
    ("invoiceitems", {"customer": "{customer}", "amount": 1, "invoice": "{draft}", "currency": "eur"}, None, None),
    ("setup_intents", {"confirm": "true"}, None, "payment_method"),
    ("setup_intents", {"confirm": "true", "payment_method": "{foreign}"}, None, "payment_method"),
    ("billing_portal/sessions", {}, "parameter_missing", "customer"),
    ("billing_portal/sessions", {"customer": "{customer}", "return_url": "//x"}, "url_invalid", "return_url"),
    ("checkout/sessions", {"mode": "setup", "success_url": "https://a.example"}, "parameter_missing", "currency"),
    (
        "checkout/sessions",
        {"mode": "subscription", "success_url": "https://a.example", "line_items[0][price]": "{once}"},
        "parameter_missing",
        "line_items[0][quantity]",
    ),
    (
        "checkout/sessions",
        {
            "mode": "subscription",
            "success_url": "https://a.example",
            "line_items[0][price]": "{once}",
            "line_items[0][quantity]": 1,
        },
        None,
        "line_items",
    ),
    (
        "checkout/sessions",
        {
            "mode": "subscription",
            "success_url": "https://a.example",
            "line_items[0][price]": "{price}",
            "line_items[0][quantity]": 1,
            "subscription_data[trial_end]": 1,
        },
        None,
        "subscription_data[trial_end]",
    ),
]


@pytest.mark.parametrize(
    ("path", "form", "code", "param"), REFUSALS, ids=[f"{i}-{row[0]}" for i, row in enumerate(REFUSALS)]
)
def test_a_wrong_request_is_refused_and_changes_nothing(
    shop: Shop, path: str, form: Json, code: str | None, param: str | None
) -> None:
    before = shop.ask(SUB, {}, "GET").json()
    refused = shop.ask(path, form)
    assert refused.status_code == 400, refused.text
    error = refused.json()["error"]
    assert (error["type"], error.get("code")) == ("invalid_request_error", code), error
    if param is not None:
        assert error["param"] == param
    assert shop.ask(SUB, {}, "GET").json() == before


@pytest.mark.parametrize(
    "path",
    [
        "subscriptions/sub_none",
        "subscription_items/si_none",
        "invoices/in_none",
        "invoiceitems/ii_none",
        "invoice_payments/inpay_none",
        "setup_intents/seti_none",
        "disputes/du_none",
    ],
)
def test_what_is_not_there_is_404(fake: FakeStripeProcess, path: str) -> None:
    answer = fake.http.get(f"/v1/{path}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "resource_missing")


def test_the_control_of_payers_and_banks_refuses_what_cannot_be(fake: FakeStripeProcess) -> None:
    bodies: list[tuple[str, Any, int]] = [
        ("payment_methods/pm_none", {"card": "pm_card_visa"}, 404),
        ("disputes", {}, 422),
        ("disputes", {"charge": "ch_none"}, 404),
        ("disputes", {"charge": "ch_none", "reason": "boredom"}, 422),
        ("disputes/du_none", {"outcome": "won"}, 404),
        ("refunds/re_none", {"status": "failed"}, 404),
        ("refunds/re_none", {"status": "gone"}, 422),
        ("dunning", {"retry_days": [0]}, 422),
        ("dunning", {"then": "forgive"}, 422),
        ("webhooks", {"delay_s": -1}, 422),
    ]
    for path, body, status in bodies:
        fake.control(path, body, status=status)
