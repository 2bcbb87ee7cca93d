"""Invoices: made, finalized, paid, retried, voided."""

from __future__ import annotations

from collections.abc import Iterable

from deploy.fakestripe.objects.given import is_given
from deploy.fakestripe.objects.intents import CANCELABLE, cancel_intent, new_intent
from deploy.fakestripe.objects.invoice_lines import SHOWN_LINES, line_of_invoice_item
from deploy.fakestripe.objects.payment_attempts import attempt
from deploy.fakestripe.objects.subscription_states import note_failed, note_paid, subscription_of
from deploy.fakestripe.operation import Call, merged_metadata, unset_if_empty
from deploy.fakestripe.store import Json

# What is less is carried forward on the customer's balance, because no card can be charged for it.
SMALLEST_PAYMENT = 50
# The days from each failed attempt to pay a renewal to the next; after the last the subscription ends.
RETRY_DAYS = (3, 5, 7)
DAY_S = 24 * 3600
_TAX = ("disabled_reason", "liability", "provider", "status")
_TRANSITIONS = ("finalized_at", "marked_uncollectible_at", "paid_at", "voided_at")


def new_invoice(
    call: Call,
    customer: Json,
    currency: str,
    reason: str,
    given: Json,
    *,
    subscription: Json | None = None,
    period: tuple[int, int] | None = None,
) -> Json:
    """Store a draft without lines; `given` holds what a request may say about an invoice."""
    key = call.store.new_id("in_")
    start, end = period or (call.now, call.now)
    parent = None
    if subscription is not None:
        details = {"metadata": dict(subscription["metadata"]), "subscription": subscription["id"]}
        if "proration_date" in given:
            details["subscription_proration_date"] = given["proration_date"]
        parent = {"quote_details": None, "subscription_details": details, "type": "subscription_details"}
    invoice: Json = {
        **_blank(),
        "id": key,
        "auto_advance": given.get("auto_advance", True),
        "billing_reason": reason,
        "collection_method": given.get("collection_method", "charge_automatically"),
        "created": call.now,
        "currency": currency,
        "custom_fields": unset_if_empty(given.get("custom_fields")),
        "customer": customer["id"],
        "customer_address": customer["address"],
        "customer_email": customer["email"],
        "customer_name": customer["name"],
        "customer_phone": customer["phone"],
        "customer_shipping": customer["shipping"],
        "customer_tax_exempt": customer["tax_exempt"],
        "default_payment_method": unset_if_empty(given.get("default_payment_method")),
        "description": unset_if_empty(given.get("description")),
        "due_date": _due(call, given),
        "footer": unset_if_empty(given.get("footer")),
        "lines": {"object": "list", "data": [], "has_more": False, "url": f"/v1/invoices/{key}/lines"},
        "metadata": merged_metadata({}, given.get("metadata")),
        "parent": parent,
        "period_end": end,
        "period_start": start,
        "starting_balance": customer["balance"],
        "statement_descriptor": unset_if_empty(given.get("statement_descriptor")),
    }
    call.store.add("invoice_lines", {"id": key, "data": []})
    call.store.add("invoice", invoice)
    call.store.add("unsettled_invoice", {"id": key})
    if subscription is not None:
        subscription["latest_invoice"] = key
    return invoice


def _blank() -> Json:
    """Return what every invoice begins with, whoever it is for."""
    return {
        "object": "invoice",
        "account_country": "CH",
        "account_name": "Rappen",
        "account_tax_ids": None,
        "amount_due": 0,
        "amount_overpaid": 0,
        "amount_paid": 0,
        "amount_paid_off_stripe": 0,
        "amount_remaining": 0,
        "amount_shipping": 0,
        "application": None,
        "attempt_count": 0,
        "attempted": False,
        "automatic_tax": {
            "disabled_reason": None,
            "enabled": False,
            "liability": None,
            "provider": None,
            "status": None,
        },
        "automatically_finalizes_at": None,
        "customer_account": None,
        "customer_tax_ids": [],
        "default_source": None,
        "default_tax_rates": [],
        "discounts": [],
        "effective_at": None,
        "ending_balance": None,
        "from_invoice": None,
        "hosted_invoice_url": None,
        "invoice_pdf": None,
        "issuer": {"type": "self"},
        "last_finalization_error": None,
        "latest_revision": None,
        "livemode": False,
        "next_payment_attempt": None,
        "number": None,
        "on_behalf_of": None,
        "payment_settings": {"default_mandate": None, "payment_method_options": None, "payment_method_types": None},
        "post_payment_credit_notes_amount": 0,
        "pre_payment_credit_notes_amount": 0,
        "receipt_number": None,
        "rendering": None,
        "shipping_cost": None,
        "shipping_details": None,
        "status": "draft",
        "status_transitions": {
            "finalized_at": None,
            "marked_uncollectible_at": None,
            "paid_at": None,
            "voided_at": None,
        },
        "subtotal": 0,
        "subtotal_excluding_tax": 0,
        "test_clock": None,
        "total": 0,
        "total_discount_amounts": [],
        "total_excluding_tax": 0,
        "total_pretax_credit_amounts": [],
        "total_taxes": [],
        "webhooks_delivered_at": None,
    }


def add_lines(call: Call, invoice: Json, lines: Iterable[Json]) -> None:
    """Put lines on a draft, and add it up again."""
    rows = call.store.table("invoice_lines")[invoice["id"]]["data"]
    for line in lines:
        line["invoice"] = invoice["id"]
        rows.append(line)
    show_lines(call, invoice)


def add_items(call: Call, invoice: Json, items: Iterable[Json]) -> None:
    """Put waiting invoice items on a draft."""
    lines = []
    for item in items:
        item["invoice"] = invoice["id"]
        lines.append(line_of_invoice_item(call, item))
    add_lines(call, invoice, lines)


def show_lines(call: Call, invoice: Json) -> None:
    """Bring the sums of a draft, and the lines that it shows, up to date."""
    rows = call.store.table("invoice_lines")[invoice["id"]]["data"]
    total = sum(line["amount"] for line in rows)
    invoice["lines"]["data"] = rows[:SHOWN_LINES]
    invoice["lines"]["has_more"] = len(rows) > SHOWN_LINES
    for name in ("subtotal", "subtotal_excluding_tax", "total", "total_excluding_tax"):
        invoice[name] = total
    due, _ = _due_and_balance(invoice)
    invoice["amount_due"] = invoice["amount_remaining"] = due


def finalize(call: Call, invoice: Json, intent: Json | None = None) -> None:
    """Give a draft its number and let it wait for payment; one over nothing is paid at once.

    `intent` is the payment intent that a checkout has made for it already: that is over the whole sum.
    """
    customer = call.store.table("customer")[invoice["customer"]]
    invoice["starting_balance"] = customer["balance"]
    due, balance = _due_and_balance(invoice) if intent is None else (invoice["total"], customer["balance"])
    if invoice["number"] is None:
        invoice["number"] = f"{customer['invoice_prefix']}-{customer['next_invoice_sequence']:04d}"
        customer["next_invoice_sequence"] += 1
    invoice |= {
        "status": "open",
        "amount_due": due,
        "amount_remaining": due,
        "ending_balance": balance,
        "effective_at": call.now,
        "hosted_invoice_url": f"{call.settings.public_url}/invoice/{invoice['id']}",
        "automatically_finalizes_at": None,
    }
    invoice["status_transitions"]["finalized_at"] = call.now
    if balance != customer["balance"]:
        previous = {"balance": customer["balance"]}
        customer["balance"] = balance
        call.emit("customer.updated", customer, previous)
    if intent is not None:
        link_payment(call, invoice, intent)
    elif due:
        _add_payment(call, invoice, due)
    call.emit("invoice.finalized", invoice)
    if not due:
        mark_paid(call, invoice, 0)


def _add_payment(call: Call, invoice: Json, due: int) -> None:
    """Make the payment intent of an invoice, and what links the two."""
    given = {"customer": invoice["customer"], "description": _purpose(invoice)}
    if invoice["parent"] is not None:
        given["setup_future_usage"] = "off_session"
    intent = new_intent(call, due, invoice["currency"], given)
    link_payment(call, invoice, intent)


def link_payment(call: Call, invoice: Json, intent: Json) -> Json:
    """Store that a payment intent is to pay an invoice; either leads to it without a search."""
    key = call.store.new_id("inpay_")
    for end in (invoice["id"], intent["id"]):
        call.store.add("payment_link", {"id": end, "payment": key})
    return call.store.add(
        "invoice_payment",
        {
            "id": key,
            "object": "invoice_payment",
            "amount_paid": None,
            "amount_requested": intent["amount"],
            "created": call.now,
            "currency": invoice["currency"],
            "invoice": invoice["id"],
            "is_default": True,
            "livemode": False,
            "payment": {"payment_intent": intent["id"], "type": "payment_intent"},
            "status": "open",
            "status_transitions": {"canceled_at": None, "paid_at": None},
        },
    )


def payment_of(call: Call, row: Json) -> Json | None:
    """Return what links an invoice to the payment intent that is to pay it, of either of the two."""
    link = call.store.table("payment_link").get(row["id"])
    payment = None if link is None else call.store.table("invoice_payment")[link["payment"]]
    return None if payment is None or is_given(call.store, payment) else payment


def intent_of(call: Call, invoice: Json) -> Json | None:
    """Return the payment intent that is to pay an invoice."""
    payment = payment_of(call, invoice)
    return None if payment is None else call.store.table("payment_intent")[payment["payment"]["payment_intent"]]


def invoice_of(call: Call, intent: Json) -> Json | None:
    """Return the invoice that a payment intent is to pay."""
    payment = payment_of(call, intent)
    return None if payment is None else call.store.table("invoice")[payment["invoice"]]


def method_for(call: Call, invoice: Json) -> Json | None:
    """Return the payment method to charge: the invoice's own, else the subscription's, else the customer's."""
    subscription = subscription_of(call, invoice)
    customer = call.store.table("customer")[invoice["customer"]]
    candidates = (
        invoice["default_payment_method"],
        subscription and subscription["default_payment_method"],
        customer.get("invoice_settings", {}).get("default_payment_method"),
    )
    key = next((candidate for candidate in candidates if candidate), None)
    method = None if key is None else call.store.table("payment_method")[key]
    # One that was detached since cannot be charged any more.
    return method if method is not None and method["customer"] == customer["id"] else None


def collect(call: Call, invoice: Json, method: Json | None, *, off_session: bool) -> Json | None:
    """Try to pay an open invoice; return None when it is paid, else the payment's error."""
    intent = intent_of(call, invoice)
    invoice |= {"attempted": True, "attempt_count": invoice["attempt_count"] + 1, "next_payment_attempt": None}
    if method is None or intent is None:
        note_attempt_failed(call, invoice)
        return {"code": "resource_missing", "message": "The customer has no default payment method."}
    attempt(call, intent, method, off_session=off_session, waits=True)
    if intent["status"] == "succeeded":
        mark_paid(call, invoice, intent["amount"])
        return None
    if intent["status"] == "requires_action":
        call.emit("invoice.payment_action_required", invoice)
        note_attempt_failed(call, invoice)
        return {"code": "subscription_payment_intent_requires_action", "message": "The payment has to be confirmed."}
    note_attempt_failed(call, invoice)
    error: Json = intent["last_payment_error"]
    return error


def after_attempt(call: Call, intent: Json) -> None:
    """Bring an invoice up to date after the payer has tried to pay its payment intent."""
    invoice = invoice_of(call, intent)
    if invoice is None or invoice["status"] not in ("open", "uncollectible"):
        return
    if intent["status"] == "succeeded":
        mark_paid(call, invoice, intent["amount_received"])
    elif intent["status"] == "requires_payment_method":
        invoice |= {"attempted": True, "attempt_count": invoice["attempt_count"] + 1}
        note_attempt_failed(call, invoice)


def note_attempt_failed(call: Call, invoice: Json) -> None:
    """Say that an attempt to pay has failed, and plan the next one where the invoice renews a subscription."""
    if invoice["billing_reason"] == "subscription_cycle" and invoice["collection_method"] == "charge_automatically":
        days = dunning_of(call)["retry_days"]
        tried = invoice["attempt_count"]
        if invoice["auto_advance"] and tried <= len(days):
            invoice["next_payment_attempt"] = call.now + days[tried - 1] * DAY_S
    call.emit("invoice.payment_failed", invoice)
    note_failed(call, invoice)


def dunning_of(call: Call) -> Json:
    """Return when a renewal is tried again, what becomes of the subscription `then`, and how long it is a draft."""
    default = {"id": "dunning", "retry_days": list(RETRY_DAYS), "then": "cancel", "invoice_draft_s": 0}
    return call.store.table("account_settings").get("dunning", default)


def mark_paid(call: Call, invoice: Json, amount: int, *, out_of_band: bool = False) -> None:
    """Close an invoice as paid, and emit its events."""
    invoice |= {
        "status": "paid",
        "amount_paid": amount,
        "amount_remaining": 0,
        "attempted": True,
        "auto_advance": False,
        "next_payment_attempt": None,
    }
    invoice["status_transitions"]["paid_at"] = call.now
    call.store.table("unsettled_invoice").pop(invoice["id"], None)
    payment = payment_of(call, invoice)
    if payment is not None:
        _settle_payment(call, payment, paid=not out_of_band)
    if out_of_band:
        invoice["amount_paid_off_stripe"] = amount
    if payment is not None and not out_of_band:
        call.emit("invoice_payment.paid", payment)
    call.emit("invoice.paid", invoice)
    if not out_of_band:
        call.emit("invoice.payment_succeeded", invoice)
    note_paid(call, invoice)


def _settle_payment(call: Call, payment: Json, *, paid: bool) -> None:
    name, status = ("paid_at", "paid") if paid else ("canceled_at", "canceled")
    payment["status"] = status
    payment["status_transitions"][name] = call.now
    intent = call.store.table("payment_intent")[payment["payment"]["payment_intent"]]
    if paid:
        payment["amount_paid"] = intent["amount_received"]
    elif intent["status"] in CANCELABLE:
        cancel_intent(call, intent, "void_invoice")


def close(call: Call, invoice: Json, status: str) -> None:
    """Void an invoice or write it off, and emit its event."""
    names = {"void": "voided_at", "uncollectible": "marked_uncollectible_at"}
    events = {"void": "invoice.voided", "uncollectible": "invoice.marked_uncollectible"}
    invoice |= {"status": status, "next_payment_attempt": None, "auto_advance": False}
    invoice["status_transitions"][names[status]] = call.now
    call.store.table("unsettled_invoice").pop(invoice["id"], None)
    payment = payment_of(call, invoice)
    if status == "void" and payment is not None:
        _settle_payment(call, payment, paid=False)
    call.emit(events[status], invoice)


def _due_and_balance(invoice: Json) -> tuple[int, int]:
    """Return what is to be paid, and the customer's balance afterwards (less than zero is a credit)."""
    wanted = invoice["total"] + invoice["starting_balance"]
    return (wanted, 0) if wanted >= SMALLEST_PAYMENT else (0, wanted)


def _due(call: Call, given: Json) -> int | None:
    if given.get("due_date"):
        due: int = given["due_date"]
        return due
    days = given.get("days_until_due")
    return None if given.get("collection_method") != "send_invoice" or days is None else call.now + days * DAY_S


def _purpose(invoice: Json) -> str:
    reasons = {
        "subscription_create": "Subscription creation",
        "subscription_cycle": "Subscription update",
        "subscription_update": "Subscription update",
    }
    return reasons.get(invoice["billing_reason"], f"Payment for Invoice {invoice['number']}")
