"""The lines of invoices, and the invoice items that wait for one."""

from __future__ import annotations

from decimal import Decimal

from deploy.fakestripe.objects.products import amount_of
from deploy.fakestripe.operation import Call
from deploy.fakestripe.store import Json

# As many lines are in an invoice itself; the others are listed.
SHOWN_LINES = 10


def item_line(call: Call, item: Json, start: int, end: int, amount: int | None = None) -> Json:
    """Build the line for a subscription item and a period; the amount is the whole price unless it is given."""
    price, quantity = item["price"], item["quantity"]
    whole = amount_of(price, quantity)
    name = call.store.table("product")[price["product"]]["name"]
    trial = amount == 0 and whole != 0
    text = f"Trial period for {name}" if trial else f"{quantity} \u00d7 {name} (at {_unit(price)} / {_every(price)})"
    parent = {
        "invoice_item_details": None,
        "subscription_item_details": {
            "invoice_item": None,
            "proration": False,
            "proration_details": {"credited_items": None},
            "subscription": item["subscription"],
            "subscription_item": item["id"],
        },
        "type": "subscription_item_details",
    }
    return _line(
        call,
        amount=whole if amount is None else amount,
        currency=price["currency"],
        description=text,
        period={"start": start, "end": end},
        pricing=pricing_of(price),
        quantity=quantity,
        parent=parent,
        subscription=item["subscription"],
        metadata=dict(item["metadata"]),
    )


def line_of_invoice_item(call: Call, pending: Json) -> Json:
    """Build the line for an invoice item."""
    details = (pending["parent"] or {}).get("subscription_details") or {}
    if details.get("subscription_item"):
        parent: Json = {
            "invoice_item_details": None,
            "subscription_item_details": {
                "invoice_item": pending["id"],
                "proration": pending["proration"],
                "proration_details": {"credited_items": None},
                "subscription": details["subscription"],
                "subscription_item": details["subscription_item"],
            },
            "type": "subscription_item_details",
        }
    else:
        parent = {
            "invoice_item_details": {
                "invoice_item": pending["id"],
                "proration": pending["proration"],
                "proration_details": {"credited_items": None},
                "subscription": details.get("subscription"),
            },
            "subscription_item_details": None,
            "type": "invoice_item_details",
        }
    return _line(
        call,
        amount=pending["amount"],
        currency=pending["currency"],
        description=pending["description"],
        period=dict(pending["period"]),
        pricing=pending["pricing"],
        quantity=pending["quantity"],
        parent=parent,
        subscription=details.get("subscription"),
        metadata=dict(pending["metadata"]),
    )


def _line(
    call: Call,
    *,
    amount: int,
    currency: str,
    description: str | None,
    period: Json,
    pricing: Json | None,
    quantity: int,
    parent: Json,
    subscription: str | None,
    metadata: Json,
) -> Json:
    return {
        "id": call.store.new_id("il_"),
        "object": "line_item",
        "amount": amount,
        "currency": currency,
        "description": description,
        "discount_amounts": [],
        "discountable": True,
        "discounts": [],
        "invoice": None,
        "livemode": False,
        "metadata": metadata,
        "parent": parent,
        "period": period,
        "pretax_credit_amounts": [],
        "pricing": pricing,
        "quantity": quantity,
        "quantity_decimal": str(quantity),
        "subscription": subscription,
        "subtotal": amount,
        "taxes": [],
    }


def new_invoice_item(
    call: Call,
    *,
    customer: str,
    amount: int,
    currency: str,
    description: str | None,
    period: tuple[int, int] | None = None,
    price: Json | None = None,
    quantity: int = 1,
    invoice: str | None = None,
    subscription: str | None = None,
    subscription_item: str | None = None,
    proration: bool = False,
    metadata: Json | None = None,
) -> Json:
    """Store an invoice item, which waits for the next invoice unless it is for a given one, and emit its event."""
    start, end = period or (call.now, call.now)
    parent = None
    if subscription is not None:
        details = {"subscription": subscription}
        if subscription_item is not None:
            details["subscription_item"] = subscription_item
        parent = {"subscription_details": details, "type": "subscription_details"}
    pending: Json = {
        "id": call.store.new_id("ii_"),
        "object": "invoiceitem",
        "amount": amount,
        "currency": currency,
        "customer": customer,
        "customer_account": None,
        "date": call.now,
        "description": description,
        "discountable": not proration,
        "discounts": [],
        "invoice": invoice,
        "livemode": False,
        "metadata": metadata or {},
        "net_amount": amount,
        "parent": parent,
        "period": {"start": start, "end": end},
        "pricing": None if price is None else pricing_of(price),
        "proration": proration,
        "quantity": quantity,
        "quantity_decimal": str(quantity),
        "tax_rates": [],
        "test_clock": None,
    }
    if proration:
        pending["proration_details"] = {"credited_items": None, "discount_amounts": []}
    call.store.add("invoiceitem", pending)
    call.emit("invoiceitem.created", pending)
    return pending


def take_pending(call: Call, customer: str, currency: str, subscription: str | None) -> list[Json]:
    """Return the invoice items that wait for an invoice of the customer, or of the subscription, oldest first."""

    def fits(row: Json) -> bool:
        if row.get("deleted"):
            return False
        of = ((row["parent"] or {}).get("subscription_details") or {}).get("subscription")
        return (
            row["invoice"] is None
            and row["customer"] == customer
            and row["currency"] == currency
            and of in (None, subscription)
        )

    items = call.store.table("invoiceitem")
    return [items[row["id"]] for row in items.look() if fits(row)]


def pricing_of(price: Json) -> Json:
    """Build how a line shows its price."""
    return {
        "price_details": {"price": price["id"], "product": price["product"]},
        "type": "price_details",
        "unit_amount_decimal": price["unit_amount_decimal"],
    }


def _unit(price: Json) -> str:
    return f"{price['currency'].upper()} {Decimal(price['unit_amount_decimal']).scaleb(-2):.2f}"


def _every(price: Json) -> str:
    recurring = price["recurring"]
    count = recurring["interval_count"]
    return str(recurring["interval"]) if count == 1 else f"{count} {recurring['interval']}s"
