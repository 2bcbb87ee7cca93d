"""Invoices at Stripe."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any, Final, Literal
from uuid import UUID

from services.payments.stripe.gateway import StripeGateway, from_minor, to_minor
from services.payments.stripe.json_values import id_of, list_of, metadata_of, time_of
from services.payments.stripe.objects import Invoice
from services.payments.stripe.views import view

__all__ = [
    "InvoiceOrder",
    "complete_invoice",
    "draft_invoice",
    "intent_of_invoice",
    "invoice_of",
    "invoice_of_intent",
    "read_invoice",
]


async def read_invoice(stripe: StripeGateway, invoice_id: str) -> Invoice:
    """The invoice as Stripe has it now; raises StripeObjectUnknown."""
    return invoice_of(await stripe.read("invoices", invoice_id))


# What an item of a draft is of, in its metadata.
_PART: Final = "part"


@dataclass(frozen=True, slots=True)
class InvoiceOrder:
    """A monthly invoice to be paid at Stripe; amounts are in units of the currency, which is in capitals."""

    invoice_id: UUID
    mandate_id: str
    customer_id: str
    number: str
    net: Decimal
    vat: Decimal
    vat_percent: Decimal
    currency: str
    days_until_due: int
    language: str


async def draft_invoice(stripe: StripeGateway, order: InvoiceOrder, *, idempotency_key: str) -> str:
    """Makes the invoice, still without what is to be paid; the same key gives the same one."""
    params = {
        "customer": order.customer_id,
        "currency": order.currency.lower(),
        "collection_method": "send_invoice",
        "days_until_due": order.days_until_due,
        # What the customer owes for a subscription is on the subscription's own invoices.
        "pending_invoice_items_behavior": "exclude",
        "auto_advance": False,
        "description": order.number,
        "metadata": {"mandateId": order.mandate_id, "invoiceId": str(order.invoice_id), "number": order.number},
    }
    options = {"idempotency_key": idempotency_key}
    invoice = await stripe.ask(lambda v1: v1.invoices.create_async(params, options))
    return str(invoice["id"])


async def complete_invoice(
    stripe: StripeGateway, stripe_invoice_id: str, order: InvoiceOrder, *, idempotency_key: str
) -> Invoice:
    """Puts on it what is to be paid, and makes it final. The lines are on the platform's own invoice.

    What an earlier try has put on it stays, whatever key that was done with, so nothing is asked for twice.
    """
    amounts = {"net": (order.net, order.number), "vat": (order.vat, _vat_text(order))}
    there = await _parts_of(stripe, stripe_invoice_id)
    for name, (amount, description) in amounts.items():
        if amount == 0 or name in there:
            continue
        params = {
            "customer": order.customer_id,
            "invoice": stripe_invoice_id,
            "currency": order.currency.lower(),
            "amount": to_minor(amount, order.currency),
            "description": description,
            "metadata": {_PART: name},
        }
        options = {"idempotency_key": f"{idempotency_key}:{name}"}
        await stripe.ask(partial(_add_item, params=params, options=options))
    final = {"idempotency_key": f"{idempotency_key}:final"}
    finalized = await stripe.ask(
        lambda v1: v1.invoices.finalize_invoice_async(stripe_invoice_id, {"auto_advance": False}, final)
    )
    return invoice_of(finalized)


async def _parts_of(stripe: StripeGateway, stripe_invoice_id: str) -> set[str | None]:
    """What of it is on the draft."""
    items = await stripe.read_list("invoiceitems", invoice=stripe_invoice_id, limit=100)
    return {metadata_of(item).get(_PART) for item in items}


def _add_item(v1: Any, *, params: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
    return v1.invoice_items.create_async(params, options)


def _vat_text(order: InvoiceOrder) -> str:
    name = "MWST" if order.language == "de" else "VAT"
    return f"{name} {order.vat_percent.normalize():f} %"


async def intent_of_invoice(
    stripe: StripeGateway, stripe_invoice_id: str, *, status: Literal["paid", "open"] = "paid"
) -> str | None:
    """The payment that an invoice was paid by, or with `open` the one that is to pay it; None where it is paid in
    another way."""
    for found in await stripe.read_list("invoice_payments", invoice=stripe_invoice_id, status=status, limit=100):
        payment = found.get("payment")
        intent_id = id_of(payment.get("payment_intent")) if isinstance(payment, Mapping) else None
        if intent_id is not None:
            return intent_id
    return None


async def invoice_of_intent(stripe: StripeGateway, intent_id: str) -> str | None:
    """The id of the invoice that a payment pays; None where it pays none."""
    payment = {"type": "payment_intent", "payment_intent": intent_id}
    found = await stripe.read_list("invoice_payments", payment=payment, limit=100)
    return next((invoice_id for each in found if (invoice_id := id_of(each.get("invoice"))) is not None), None)


@view
def invoice_of(found: Mapping[str, Any]) -> Invoice:
    """An invoice from its JSON, of this or an older version of Stripe's API."""
    currency = str(found.get("currency") or "").upper()
    start, end = _charged_period(found)
    transitions = found.get("status_transitions")
    return Invoice(
        id=found["id"],
        customer_id=id_of(found.get("customer")),
        status=found.get("status"),
        billing_reason=found.get("billing_reason"),
        subscription_id=_subscription_id(found),
        metadata=metadata_of(found),
        total=from_minor(found.get("total") or 0, currency),
        amount_paid=from_minor(found.get("amount_paid") or 0, currency),
        credit_used=from_minor(_credit_used(found), currency),
        currency=currency,
        period_start=start,
        period_end=end,
        paid_at=time_of(transitions.get("paid_at")) if isinstance(transitions, Mapping) else None,
        attempts=found.get("attempt_count") or 0,
        hosted_url=found.get("hosted_invoice_url"),
    )


def _credit_used(invoice: Mapping[str, Any]) -> int:
    """What of the customer's credit a final invoice has used, in minor units: a balance below zero is credit, one above
    is what the customer owes on the next invoice."""
    before, after = invoice.get("starting_balance") or 0, invoice.get("ending_balance")
    return 0 if after is None else max(0, min(after, 0) - min(before, 0))


def _charged_period(invoice: Mapping[str, Any]) -> tuple[datetime | None, datetime | None]:
    """The period that the invoice charges for: that of its lines, less those that settle a change within a period.

    The invoice's own period is the one before, because it is that of usage. Where lines have different periods, or
    there are none, nothing is guessed.
    """
    periods = {
        (time_of(period.get("start")), time_of(period.get("end")))
        for line in list_of(invoice.get("lines"))
        if _charges_period(line) and isinstance(period := line.get("period"), Mapping)
    }
    return periods.pop() if len(periods) == 1 else (None, None)


def _charges_period(line: Mapping[str, Any]) -> bool:
    parent = line.get("parent")
    if not isinstance(parent, Mapping):
        # As older versions had it.
        return line.get("type") == "subscription" and not line.get("proration")
    details = parent.get("subscription_item_details")
    return isinstance(details, Mapping) and not details.get("proration")


def _subscription_id(invoice: Mapping[str, Any]) -> str | None:
    """The subscription that an invoice is of: in its parent, where older versions had it, or in its lines where they
    all name the same."""
    parent = invoice.get("parent")
    details = parent.get("subscription_details") if isinstance(parent, Mapping) else None
    found = id_of(details.get("subscription")) if isinstance(details, Mapping) else None
    if found is None:
        found = id_of(invoice.get("subscription"))
    if found is not None:
        return found
    named = {_subscription_of_line(line) for line in list_of(invoice.get("lines"))} - {None}
    return named.pop() if len(named) == 1 else None


def _subscription_of_line(line: Mapping[str, Any]) -> str | None:
    parent = line.get("parent")
    details = parent.get("subscription_item_details") if isinstance(parent, Mapping) else None
    found = id_of(details.get("subscription")) if isinstance(details, Mapping) else None
    return found if found is not None else id_of(line.get("subscription"))
