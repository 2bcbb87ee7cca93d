"""Customers."""

from __future__ import annotations

from deploy.fakestripe.listing import PAGE, page, table_page
from deploy.fakestripe.objects.given import own
from deploy.fakestripe.objects.payment_methods import attach, obtain, refuse_attaching
from deploy.fakestripe.objects.subscriptions import ENDED, cancel
from deploy.fakestripe.operation import (
    Call,
    Operation,
    merged_metadata,
    retrieval,
    unset_if_empty,
    update,
)
from deploy.fakestripe.store import Json
from deploy.fakestripe.wire import invalid, not_found

_WRITABLE = (
    "address",
    "balance",
    "business_name",
    "description",
    "email",
    "individual_name",
    "name",
    "phone",
    "preferred_locales",
    "shipping",
    "tax_exempt",
)
_TAKES = (*_WRITABLE, "invoice_settings", "metadata")


def new_customer(call: Call, members: Json) -> Json:
    """Store a customer with the given members set, and emit its event."""
    key = call.store.new_id("cus_", 14)
    customer: Json = {
        "id": key,
        "object": "customer",
        "address": None,
        "balance": 0,
        "created": call.now,
        "currency": None,
        "default_source": None,
        "delinquent": False,
        "description": None,
        "discount": None,
        "email": None,
        "invoice_prefix": key[-8:].upper(),
        "invoice_settings": _invoice_settings(None, None),
        "livemode": False,
        "metadata": {},
        "name": None,
        "next_invoice_sequence": 1,
        "phone": None,
        "preferred_locales": [],
        "shipping": None,
        "tax_exempt": "none",
        "test_clock": None,
    }
    customer.update(members)
    call.store.add("customer", customer)
    call.emit("customer.created", customer)
    return customer


def _create(call: Call) -> Json:
    members = {name: unset_if_empty(call.params[name]) for name in _WRITABLE if name in call.params}
    members["metadata"] = merged_metadata({}, call.params.get("metadata"))
    settings = call.params.get("invoice_settings") or {}
    method = obtain(call, call.params["payment_method"]) if "payment_method" in call.params else None
    default = settings.get("default_payment_method")
    if default and default != call.params.get("payment_method"):
        raise _not_attached(default)
    if method is not None:
        if method["customer"] is not None:
            raise invalid("The payment method you provided is attached to another customer.", "payment_method")
        refuse_attaching(call, method)
    members["invoice_settings"] = _invoice_settings(settings, method["id"] if default and method else None)
    customer = new_customer(call, members)
    if method is not None:
        attach(call, method, customer["id"])
    return customer


def _update(call: Call) -> Json:
    customer = call.refer("customer", "customer", call.path["customer"], "id")
    if "invoice_settings" in call.params:
        settings = {**customer["invoice_settings"], **call.params["invoice_settings"]}
        default = unset_if_empty(settings.get("default_payment_method"))
        if default is not None:
            method = call.refer("payment_method", "PaymentMethod", default, "invoice_settings[default_payment_method]")
            if method["customer"] != customer["id"]:
                raise _not_attached(default)
        call.params["invoice_settings"] = _invoice_settings(settings, default)
    return update(call, customer, (*_WRITABLE, "invoice_settings"), "customer.updated")


def _invoice_settings(given: Json | None, default_payment_method: str | None) -> Json:
    settings = given or {}
    return {
        "custom_fields": unset_if_empty(settings.get("custom_fields")),
        "default_payment_method": default_payment_method,
        "footer": unset_if_empty(settings.get("footer")),
        "rendering_options": unset_if_empty(settings.get("rendering_options")),
    }


def _not_attached(method: str) -> Exception:
    message = f"The payment method {method} must be attached to the customer before it can be the default."
    return invalid(message, "invoice_settings[default_payment_method]")


def _delete(call: Call) -> Json:
    customer = call.refer("customer", "customer", call.path["customer"], "id")
    for subscription in own(call.store, "subscription"):
        if subscription["customer"] == customer["id"] and subscription["status"] not in ENDED:
            cancel(call, subscription, "cancellation_requested")
    call.emit("customer.deleted", customer)
    stub = {"id": customer["id"], "object": "customer", "deleted": True}
    call.store.table("customer")[customer["id"]] = stub
    return stub


def _list(call: Call) -> Json:
    return table_page(call, "customer", equal=("email",))


def _payment_methods(call: Call) -> Json:
    customer = call.find("customer", "customer", call.path["customer"])
    rows = [
        row
        for row in reversed(call.store.table("payment_method").values())
        if row["customer"] == customer["id"] and call.params.get("type", row["type"]) == row["type"]
    ]
    return page(call, rows)


def _payment_method(call: Call) -> Json:
    customer = call.find("customer", "customer", call.path["customer"])
    method = call.find("payment_method", "PaymentMethod", call.path["payment_method"])
    if method["customer"] != customer["id"]:
        raise not_found("PaymentMethod", method["id"])
    return method


_METHODS = "/v1/customers/{customer}/payment_methods"
OPERATIONS = (
    Operation("POST", "/v1/customers", "CustomerCreateParams", _create, (*_TAKES, "payment_method")),
    Operation("GET", "/v1/customers", "CustomerListParams", _list, (*PAGE, "created", "email")),
    retrieval("/v1/customers/{customer}", "CustomerRetrieveParams", "customer", "customer"),
    Operation("POST", "/v1/customers/{customer}", "CustomerUpdateParams", _update, _TAKES),
    Operation("DELETE", "/v1/customers/{customer}", "CustomerDeleteParams", _delete),
    Operation("GET", _METHODS, "CustomerPaymentMethodListParams", _payment_methods, (*PAGE, "type")),
    Operation("GET", f"{_METHODS}/{{payment_method}}", "CustomerPaymentMethodRetrieveParams", _payment_method),
)
