"""Monthly invoices: each has a twin at Stripe by which it can be paid, and its payment settles it."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from rappen_contracts.billing.v1 import InvoiceIssued
from rappen_contracts.payment.v1 import PaymentSucceeded
from rappen_contracts.registry import INVOICE_ISSUED_V1, PAYMENT_REFUNDED_V1
from tests.integration.payments.world import World
from tests.support.events import new_mandate
from tests.support.waiting import eventually


def chf(amount: str) -> dict[str, str]:
    return {"amount": amount, "currency": "CHF"}


def issued(mandate_id: str, **more: Any) -> InvoiceIssued:
    now = datetime.now(UTC)
    return InvoiceIssued.model_validate(
        {
            "mandate_id": mandate_id,
            "invoice_id": uuid4(),
            "number": "2026-000042",
            "period_start": now - timedelta(days=30),
            "period_end": now,
            "issued_at": now,
            "due_at": now + timedelta(days=30),
            "recipient": {
                "company": "Muster AG",
                "street": "Bahnhofstrasse 1",
                "zip": "8001",
                "city": "Zürich",
                "country": "CH",
            },
            "lines": [{"description": "anthropic", "net": chf("99.50")}],
            "net": chf("99.50"),
            "vat_percent": "8.1",
            "vat": chf("8.06"),
            "total": chf("107.56"),
            "language": "de",
            "cause": "2026-04",
            **more,
        }
    )


async def mirrored(world: World, invoice: InvoiceIssued) -> dict[str, Any]:
    async def row() -> Any:
        rows = await world.rows("SELECT * FROM invoices WHERE invoice_id = $1", invoice.invoice_id)
        return rows and rows[0]["hosted_url"] and rows[0]

    found: dict[str, Any] = await eventually(row, what="the invoice at Stripe")
    return found


@pytest.mark.parametrize("point", [None, "payments_request_begun", "payments_request_done"])
async def test_an_invoice_has_one_twin_whose_payment_settles_it(world: World, point: str | None) -> None:
    invoice = issued(new_mandate())
    hit = None if point is None else world.arm(point)
    await world.ask(INVOICE_ISSUED_V1, invoice, invoice)
    if hit is not None:
        await world.killed(hit)
    row = await mirrored(world, invoice)
    stripe = world.stripe.v1
    found = (await stripe.invoices.retrieve_async(row["stripe_invoice_id"])).to_dict(for_json=True)
    assert (found["status"], found["total"], found["collection_method"]) == ("open", 10756, "send_invoice")
    assert sorted(line["amount"] for line in found["lines"]["data"]) == [806, 9950]
    assert "MWST 8.1 %" in {line["description"] for line in found["lines"]["data"]}
    of_customer: Any = {"customer": found["customer"]}
    assert len((await stripe.invoices.list_async(of_customer)).data) == 1
    method = await stripe.payment_methods.attach_async("pm_card_visa", of_customer)
    await stripe.invoices.pay_async(row["stripe_invoice_id"], {"payment_method": method.id})
    (event,) = await world.published(invoice.mandate_id)
    assert isinstance(event.data, PaymentSucceeded)
    assert (event.data.reason, event.data.reference) == ("invoice", str(invoice.invoice_id))
    assert event.data.amount.amount == Decimal("107.56")
    assert event.data.stripe_payment_intent_id is not None


async def test_a_refund_of_an_invoice_that_failed_settles_the_invoice_again(world: World) -> None:
    invoice, stripe = issued(new_mandate()), world.stripe.v1
    await world.ask(INVOICE_ISSUED_V1, invoice)
    stripe_invoice_id = (await mirrored(world, invoice))["stripe_invoice_id"]
    customer = (await stripe.invoices.retrieve_async(stripe_invoice_id)).customer
    method = await stripe.payment_methods.attach_async("pm_card_visa", {"customer": str(customer)})
    await stripe.invoices.pay_async(stripe_invoice_id, {"payment_method": method.id})
    (paid,) = await world.published(invoice.mandate_id)
    assert isinstance(paid.data, PaymentSucceeded)
    intent_id = str(paid.data.stripe_payment_intent_id)
    refund = await stripe.refunds.create_async({"payment_intent": intent_id})
    (told,) = await world.told(PAYMENT_REFUNDED_V1, invoice.mandate_id)
    assert (told.reason, told.reference, told.refund_id) == ("invoice", str(invoice.invoice_id), refund.id)
    answer = await world.control.post(f"/refunds/{refund.id}", json={"status": "failed"})
    assert answer.status_code == 200, answer.text
    events = await world.published(invoice.mandate_id, count=2)
    parts = [each.data for each in events if isinstance(each.data, PaymentSucceeded)]
    # Parts of the same invoice, told apart by what they were paid by.
    assert [each.reference for each in parts] == [str(invoice.invoice_id)] * 2
    assert {each.stripe_payment_intent_id for each in parts} == {intent_id, refund.id}
    assert {each.amount.amount for each in parts} == {Decimal("107.56")}


async def outcome_of(world: World, invoice: InvoiceIssued) -> str:
    async def outcome() -> Any:
        rows = await world.rows("SELECT outcome FROM stripe_requests WHERE request_id = $1", invoice.invoice_id)
        return rows and rows[0]["outcome"]

    return str(await eventually(outcome, what="the outcome"))


async def test_an_invoice_of_nothing_needs_no_payment(world: World) -> None:
    invoice = issued(new_mandate(), lines=[], net=chf("0"), vat=chf("0"), total=chf("0"))
    await world.ask(INVOICE_ISSUED_V1, invoice)
    assert await outcome_of(world, invoice) == "NOTHING_TO_PAY"


@pytest.mark.parametrize("total", ["0.01", "0.49", "1000000.00", "999999999.99"])
async def test_what_stripe_cannot_be_paid_at_once_has_no_twin(world: World, total: str) -> None:
    """Stripe would call it paid, and ask for it on its next invoice, which may be that of a subscription."""
    mandate = new_mandate()
    beyond = issued(mandate, net=chf(total), vat=chf("0"), total=chf(total))
    await world.ask(INVOICE_ISSUED_V1, beyond)
    assert await outcome_of(world, beyond) == "NOT_PAYABLE"
    assert await world.rows("SELECT 1 FROM invoices WHERE invoice_id = $1", beyond.invoice_id) == []
    after = issued(mandate, number="2026-000043")
    await world.ask(INVOICE_ISSUED_V1, after)
    twin = await world.stripe.v1.invoices.retrieve_async((await mirrored(world, after))["stripe_invoice_id"])
    assert (twin.status, twin.amount_due) == ("open", 10756)


@pytest.mark.parametrize(("total", "minor"), [("0.50", 50), ("999999.99", 99_999_999)])
async def test_the_least_and_the_most_that_stripe_can_be_paid_has_a_twin(world: World, total: str, minor: int) -> None:
    invoice = issued(new_mandate(), net=chf(total), vat=chf("0"), total=chf(total))
    await world.ask(INVOICE_ISSUED_V1, invoice)
    twin = await world.stripe.v1.invoices.retrieve_async((await mirrored(world, invoice))["stripe_invoice_id"])
    assert (twin.status, twin.amount_due) == ("open", minor)


async def test_what_a_lost_answer_has_put_on_a_draft_is_not_asked_for_twice(world: World) -> None:
    # An answer of 500 is repeated by Stripe for its key, so the next try has another one.
    await world.fault("/v1/invoiceitems", 500, times=3, after_effect=True, method="POST")
    invoice = issued(new_mandate())
    await world.ask(INVOICE_ISSUED_V1, invoice)
    row = await mirrored(world, invoice)
    found = (await world.stripe.v1.invoices.retrieve_async(row["stripe_invoice_id"])).to_dict(for_json=True)
    assert (found["status"], found["total"]) == ("open", 10756)


async def mirrored_with_balance(world: World, mandate: str, balance: int) -> tuple[InvoiceIssued, str, str]:
    """An invoice of a customer with that balance at Stripe, and the ids there of invoice and customer."""
    before = issued(mandate)
    await world.ask(INVOICE_ISSUED_V1, before)
    stripe_invoice_id = (await mirrored(world, before))["stripe_invoice_id"]
    customer = str((await world.stripe.v1.invoices.retrieve_async(stripe_invoice_id)).customer)
    await world.stripe.v1.customers.update_async(customer, {"balance": balance})
    invoice = issued(mandate, number="2026-000043")
    await world.ask(INVOICE_ISSUED_V1, invoice)
    return invoice, (await mirrored(world, invoice))["stripe_invoice_id"], customer


@pytest.mark.parametrize(
    ("balance", "parts"),
    [(-2_000, {"20", "87.56"}), (-10_756, {"107.56"}), (-50_000, {"107.56"})],
    ids=["a part", "all of it", "more"],
)
async def test_what_the_customers_balance_at_stripe_pays_settles_it_too(
    world: World, balance: int, parts: set[str]
) -> None:
    mandate, stripe = new_mandate(), world.stripe.v1
    invoice, stripe_invoice_id, customer = await mirrored_with_balance(world, mandate, balance)
    if len(parts) > 1:
        method = await stripe.payment_methods.attach_async("pm_card_visa", {"customer": customer})
        await stripe.invoices.pay_async(stripe_invoice_id, {"payment_method": method.id})
    events = [each.data for each in await world.published(mandate, count=len(parts))]
    payments = [each for each in events if isinstance(each, PaymentSucceeded)]
    assert {each.reference for each in payments} == {str(invoice.invoice_id)}
    assert {each.amount.amount for each in payments} == {Decimal(part) for part in parts}
    # Told apart by what they were paid by.
    assert len({each.stripe_payment_intent_id for each in payments}) == len(parts)


async def test_what_was_paid_elsewhere_and_by_the_balance_is_one_payment(world: World) -> None:
    mandate = new_mandate()
    invoice, stripe_invoice_id, _ = await mirrored_with_balance(world, mandate, -2_000)
    await world.stripe.v1.invoices.pay_async(stripe_invoice_id, {"paid_out_of_band": True})
    (event,) = await world.published(mandate)
    assert isinstance(event.data, PaymentSucceeded)
    assert (event.data.reference, event.data.amount.amount) == (str(invoice.invoice_id), Decimal("107.56"))
    assert event.data.stripe_payment_intent_id is None
