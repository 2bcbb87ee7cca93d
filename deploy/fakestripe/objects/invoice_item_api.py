"""Invoice items: what is put on a draft, or waits for the next invoice."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any

from deploy.fakestripe.listing import PAGE, table_page
from deploy.fakestripe.objects.invoice_api import expect
from deploy.fakestripe.objects.invoice_lines import new_invoice_item
from deploy.fakestripe.objects.invoices import add_items, show_lines
from deploy.fakestripe.objects.products import PRICE_DATA, amount_of, new_price, price_object
from deploy.fakestripe.operation import Call, Operation, check_currency, merged_metadata, retrieval, update
from deploy.fakestripe.store import Json
from deploy.fakestripe.wire import invalid, missing

_WRITABLE = ("amount", "description", "discountable")
_CREATE_TAKES = (
    *_WRITABLE,
    "currency",
    "customer",
    "invoice",
    "metadata",
    "period",
    *PRICE_DATA,
    "pricing.price",
    "quantity",
    "quantity_decimal",
    "subscription",
    "unit_amount_decimal",
)
_FILTERS = ("customer", "invoice")


def _create(call: Call) -> Json:
    params = call.params
    if "customer" not in params:
        raise missing("customer")
    customer = call.refer("customer", "customer", params["customer"], "customer")
    invoice = call.refer("invoice", "invoice", params["invoice"], "invoice") if "invoice" in params else None
    if invoice is not None:
        expect(invoice, "given further items", "draft")
    if "subscription" in params:
        call.refer("subscription", "subscription", params["subscription"], "subscription")
    currency, amount, quantity, price = _amount(call)
    if invoice is not None and invoice["currency"] != currency:
        raise invalid("The currency of an invoice item must be that of its invoice.", "currency")
    period = params.get("period")
    item = new_invoice_item(
        call,
        customer=customer["id"],
        amount=amount,
        currency=currency,
        description=params.get("description") or _name(call, price),
        period=(period["start"], period["end"]) if period else None,
        price=price,
        quantity=quantity,
        invoice=None,
        subscription=params.get("subscription"),
        metadata=merged_metadata({}, params.get("metadata")),
    )
    item["discountable"] = params.get("discountable", True)
    if invoice is not None:
        add_items(call, invoice, [item])
    return item


def _amount(call: Call) -> tuple[str, int, int, Json | None]:
    """Return currency, amount, quantity and price, whichever way the request says them."""
    params = call.params
    quantity = params.get("quantity", int(_exact(params, "quantity_decimal", 1)))
    pricing = params.get("pricing") or {}
    if "price" in pricing:
        price = call.refer("price", "price", pricing["price"], "pricing[price]")
        return price["currency"], amount_of(price, quantity), quantity, price
    if "price_data" in params:
        data = params["price_data"]
        call.refer("product", "product", data["product"], "price_data[product]")
        price_object(call, data, "", "price_data")
        price = new_price(call, {**data, "active": False}, data["product"])
        return price["currency"], amount_of(price, quantity), quantity, price
    currency = check_currency(params.get("currency", "chf"))
    if "unit_amount_decimal" in params:
        exact = _exact(params, "unit_amount_decimal", 0) * quantity
        return currency, int(exact.quantize(Decimal(1), ROUND_HALF_UP)), quantity, None
    if "amount" not in params:
        raise missing("amount")
    return currency, params["amount"], quantity, None


def _exact(params: Json, name: str, default: int) -> Decimal:
    try:
        value = Decimal(params.get(name, default))
    except InvalidOperation as error:
        raise invalid("Invalid decimal.", name) from error
    if not value.is_finite():
        raise invalid("Invalid decimal.", name)
    return value


def _find(call: Call) -> Json:
    return call.refer("invoiceitem", "invoiceitem", call.path["invoiceitem"], "id")


def _editable(call: Call, item: Json) -> None:
    if item["invoice"] is not None:
        expect(call.store.table("invoice")[item["invoice"]], "changed", "draft")


def _update(call: Call) -> Json:
    item = _find(call)
    _editable(call, item)
    update(call, item, _WRITABLE, None)
    item["net_amount"] = item["amount"]
    _show(call, item)
    return item


def _show(call: Call, item: Json) -> None:
    """Bring the line of an item on a draft up to date."""
    if item["invoice"] is None:
        return
    for line in call.store.table("invoice_lines")[item["invoice"]]["data"]:
        if _item_of(line) == item["id"]:
            line |= {name: item[name] for name in ("amount", "description", "metadata")}
            line["subtotal"] = item["amount"]
    show_lines(call, call.store.table("invoice")[item["invoice"]])


def _item_of(line: Json) -> Any:
    details = line["parent"]["invoice_item_details"] or line["parent"]["subscription_item_details"]
    return details["invoice_item"]


def _delete(call: Call) -> Json:
    item = _find(call)
    _editable(call, item)
    stub = {"id": item["id"], "object": "invoiceitem", "deleted": True}
    call.store.table("invoiceitem")[item["id"]] = stub
    if item["invoice"] is not None:
        lines = call.store.table("invoice_lines")[item["invoice"]]
        lines["data"] = [line for line in lines["data"] if _item_of(line) != item["id"]]
        show_lines(call, call.store.table("invoice")[item["invoice"]])
    call.emit("invoiceitem.deleted", item)
    return stub


def _list(call: Call) -> Json:
    pending = call.params.get("pending")
    return table_page(
        call,
        "invoiceitem",
        equal=_FILTERS,
        keep=lambda row: pending is None or pending == (row["invoice"] is None),
    )


def _name(call: Call, price: Json | None) -> str | None:
    if price is None:
        return None
    name: str = call.store.table("product")[price["product"]]["name"]
    return name


_ONE = "/v1/invoiceitems/{invoiceitem}"
OPERATIONS = (
    Operation("POST", "/v1/invoiceitems", "InvoiceItemCreateParams", _create, _CREATE_TAKES),
    Operation("GET", "/v1/invoiceitems", "InvoiceItemListParams", _list, (*PAGE, "created", "pending", *_FILTERS)),
    retrieval(_ONE, "InvoiceItemRetrieveParams", "invoiceitem", "invoiceitem"),
    Operation("POST", _ONE, "InvoiceItemUpdateParams", _update, (*_WRITABLE, "metadata")),
    Operation("DELETE", _ONE, "InvoiceItemDeleteParams", _delete),
)
