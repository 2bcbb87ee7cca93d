"""Invoices: create, update, finalize, send, pay, void, write off; their lines and payments."""

from __future__ import annotations

from deploy.fakestripe.listing import PAGE, page, table_page
from deploy.fakestripe.objects.given import is_given
from deploy.fakestripe.objects.invoice_lines import take_pending
from deploy.fakestripe.objects.invoices import (
    add_items,
    close,
    collect,
    finalize,
    intent_of,
    mark_paid,
    method_for,
    new_invoice,
)
from deploy.fakestripe.objects.payment_attempts import payment_error
from deploy.fakestripe.objects.payment_methods import obtain
from deploy.fakestripe.objects.subscriptions import MAX_DAYS_UNTIL_DUE, moment_of
from deploy.fakestripe.operation import (
    Call,
    Operation,
    check_currency,
    flag,
    retrieval,
    update,
)
from deploy.fakestripe.store import Json, Store
from deploy.fakestripe.wire import StripeError, invalid, missing

_WRITABLE = (
    "auto_advance",
    "collection_method",
    "custom_fields",
    "default_payment_method",
    "description",
    "due_date",
    "footer",
    "number",
    "statement_descriptor",
)
_TAKES = (*_WRITABLE, "automatic_tax.enabled", "metadata")
_CREATE_TAKES = (*_TAKES, "currency", "customer", "days_until_due", "pending_invoice_items_behavior", "subscription")
_FILTERS = ("collection_method", "customer", "status")


def _create(call: Call) -> Json:
    params = call.params
    _check_words(params)
    customer, subscription = _payer(call)
    if params.get("collection_method") == "send_invoice" and not {"days_until_due", "due_date"} & params.keys():
        raise missing("days_until_due")
    currency = check_currency(params.get("currency") or (subscription or {}).get("currency") or "chf")
    given = {"auto_advance": False, **params}
    invoice = new_invoice(call, customer, currency, "manual", given, subscription=subscription)
    invoice["number"] = params.get("number")
    include = params.get("pending_invoice_items_behavior", "include" if subscription else "exclude") == "include"
    if include:
        of = subscription["id"] if subscription else None
        add_items(call, invoice, take_pending(call, customer["id"], currency, of))
    call.emit("invoice.created", invoice)
    return invoice


def _payer(call: Call) -> tuple[Json, Json | None]:
    params = call.params
    subscription = None
    if "subscription" in params:
        subscription = call.refer("subscription", "subscription", params["subscription"], "subscription")
        if params.get("customer", subscription["customer"]) != subscription["customer"]:
            raise invalid("The subscription is of another customer.", "subscription")
    key = subscription["customer"] if subscription else params.get("customer")
    if key is None:
        raise missing("customer")
    return call.refer("customer", "customer", key, "customer"), subscription


def _check_words(params: Json) -> None:
    if params.get("due_date"):
        moment_of(params["due_date"], "due_date")
    if not 0 <= params.get("days_until_due", 0) <= MAX_DAYS_UNTIL_DUE:
        raise invalid("Invalid number of days.", "days_until_due")
    if params.get("automatic_tax", {}).get("enabled"):
        raise invalid("The fake Stripe does not calculate tax.", "automatic_tax[enabled]", "unsupported_by_fake")


def _update(call: Call) -> Json:
    _check_words(call.params)
    invoice = _find(call)
    frozen = [name for name in ("collection_method", "due_date", "number") if name in call.params]
    if invoice["status"] != "draft" and frozen:
        raise invalid("Finalized invoices can't be updated in this way.", frozen[0], "invoice_not_editable")
    return update(call, invoice, _WRITABLE, "invoice.updated")


def _delete(call: Call) -> Json:
    invoice = _find(call)
    if invoice["status"] != "draft" or invoice["parent"] is not None:
        raise invalid("You can only delete draft invoices of no subscription.", "invoice", "invoice_not_editable")
    call.emit("invoice.deleted", invoice)
    for item in call.store.table("invoiceitem").values():
        if item.get("invoice") == invoice["id"]:
            item["invoice"] = None
    for table in ("invoice", "unsettled_invoice"):
        del call.store.table(table)[invoice["id"]]
    return {"id": invoice["id"], "object": "invoice", "deleted": True}


def _find(call: Call) -> Json:
    """Return the invoice to change; its customer has to be there still."""
    invoice = call.find("invoice", "invoice", call.path["invoice"])
    if is_given(call.store, invoice):
        raise invalid(
            "This invoice was put as it is, and nothing can be done with it.", "invoice", "unsupported_by_fake"
        )
    if call.store.table("customer")[invoice["customer"]].get("deleted"):
        raise invalid("The customer of this invoice was deleted.", "invoice", "customer_deleted")
    return invoice


def expect(invoice: Json, verb: str, *statuses: str) -> None:
    """Refuse what cannot be done with an invoice of another status."""
    if invoice["status"] not in statuses:
        message = f"This invoice is {invoice['status']} and cannot be {verb}."
        raise invalid(message, "invoice", "invoice_not_editable")


def _finalize(call: Call) -> Json:
    invoice = _find(call)
    if invoice["status"] != "draft":
        raise invalid("This invoice is already finalized, you can't re-finalize a non-draft invoice.", "invoice")
    if "auto_advance" in call.params:
        invoice["auto_advance"] = call.params["auto_advance"]
    finalize(call, invoice)
    if invoice["status"] == "open" and invoice["auto_advance"] and _is_automatic(invoice):
        collect(call, invoice, method_for(call, invoice), off_session=True)
    return invoice


def _is_automatic(invoice: Json) -> bool:
    return bool(invoice["collection_method"] == "charge_automatically")


def _send(call: Call) -> Json:
    """Finalize if need be, and say that the customer was written to."""
    invoice = _find(call)
    expect(invoice, "sent", "draft", "open")
    if _is_automatic(invoice):
        raise invalid("You can only manually send an invoice if its collection method is 'send_invoice'.", "invoice")
    if invoice["status"] == "draft":
        finalize(call, invoice)
    call.emit("invoice.sent", invoice)
    return invoice


def _pay(call: Call) -> Json:
    params = call.params
    invoice = _find(call)
    if invoice["status"] == "paid":
        raise invalid("Invoice is already paid", "invoice", "invoice_already_paid")
    expect(invoice, "paid", "draft", "open", "uncollectible")
    method = obtain(call, params["payment_method"]) if "payment_method" in params else method_for(call, invoice)
    if method is not None and method["customer"] not in (None, invoice["customer"]):
        raise invalid("The payment method belongs to another customer.", "payment_method")
    if method is None and not params.get("paid_out_of_band"):
        message = (
            "This customer has no attached payment source or default payment method. Please consider adding a default"
            " payment method."
        )
        raise invalid(message, code="resource_missing")
    if invoice["status"] == "draft":
        finalize(call, invoice)
    if invoice["status"] == "paid":
        return invoice
    if params.get("paid_out_of_band"):
        mark_paid(call, invoice, invoice["amount_due"], out_of_band=True)
        return invoice
    error = collect(call, invoice, method, off_session=flag({"off_session": True, **params}, "off_session"))
    if error is not None:
        raise _payment_error(call, invoice, error)
    return invoice


def _payment_error(call: Call, invoice: Json, error: Json) -> StripeError:
    intent = intent_of(call, invoice)
    if intent is None:
        raise invalid(error["message"], code=error["code"])
    return payment_error(intent, error)


def _void(call: Call) -> Json:
    invoice = _find(call)
    expect(invoice, "voided", "open", "uncollectible")
    close(call, invoice, "void")
    return invoice


def _write_off(call: Call) -> Json:
    invoice = _find(call)
    expect(invoice, "marked as uncollectible", "open")
    close(call, invoice, "uncollectible")
    return invoice


def _list(call: Call) -> Json:
    subscription = call.params.get("subscription")

    def keep(row: Json) -> bool:
        details = (row.get("parent") or {}).get("subscription_details") or {}
        return subscription is None or details.get("subscription") == subscription

    return table_page(call, "invoice", equal=_FILTERS, keep=keep)


def _lines(call: Call) -> Json:
    invoice = call.find("invoice", "invoice", call.path["invoice"])
    return page(call, list(call.store.table("invoice_lines")[invoice["id"]]["data"]))


def payments_of(store: Store, invoice: Json) -> Json:
    """Build the list of an invoice's payments, which is there only when it is expanded."""
    rows = [row for row in reversed(store.table("invoice_payment").look()) if row.get("invoice") == invoice["id"]]
    return {"object": "list", "data": rows, "has_more": False, "url": f"/v1/invoices/{invoice['id']}/payments"}


def confirmation_of(store: Store, invoice: Json) -> Json | None:
    """Build what a front end confirms the payment of an open invoice with; there only when it is expanded."""
    link = store.table("payment_link").get(invoice["id"])
    payment = None if link is None else store.table("invoice_payment")[link["payment"]]
    if payment is None or payment.get("status") != "open":
        return None
    intent = store.table("payment_intent")[payment["payment"]["payment_intent"]]
    return {"client_secret": intent["client_secret"], "type": "payment_intent"}


def _list_payments(call: Call) -> Json:
    wanted: Json = call.params.get("payment", {})

    def keep(row: Json) -> bool:
        kind = wanted.get("type")
        payment = row.get("payment", {})
        return not wanted or (kind == payment.get("type") and payment.get(kind) == wanted.get(kind))

    return table_page(call, "invoice_payment", equal=("invoice", "status"), keep=keep)


_ONE = "/v1/invoices/{invoice}"
OPERATIONS = (
    Operation("POST", "/v1/invoices", "InvoiceCreateParams", _create, _CREATE_TAKES),
    Operation("GET", "/v1/invoices", "InvoiceListParams", _list, (*PAGE, "created", "subscription", *_FILTERS)),
    retrieval(_ONE, "InvoiceRetrieveParams", "invoice", "invoice"),
    Operation("POST", _ONE, "InvoiceUpdateParams", _update, _TAKES),
    Operation("DELETE", _ONE, "InvoiceDeleteParams", _delete),
    Operation("GET", f"{_ONE}/lines", "InvoiceLineItemListParams", _lines, PAGE),
    Operation("POST", f"{_ONE}/finalize", "InvoiceFinalizeInvoiceParams", _finalize, ("auto_advance",)),
    Operation("POST", f"{_ONE}/send", "InvoiceSendInvoiceParams", _send),
    Operation("POST", f"{_ONE}/pay", "InvoicePayParams", _pay, ("off_session", "paid_out_of_band", "payment_method")),
    Operation("POST", f"{_ONE}/void", "InvoiceVoidInvoiceParams", _void),
    Operation("POST", f"{_ONE}/mark_uncollectible", "InvoiceMarkUncollectibleParams", _write_off),
    Operation(
        "GET",
        "/v1/invoice_payments",
        "InvoicePaymentListParams",
        _list_payments,
        (*PAGE, "created", "invoice", "payment", "status"),
    ),
    retrieval("/v1/invoice_payments/{id}", "InvoicePaymentRetrieveParams", "invoice_payment", "invoice_payment"),
)
