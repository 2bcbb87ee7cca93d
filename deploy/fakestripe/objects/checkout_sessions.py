"""Checkout sessions: create, retrieve, list, expire, line items."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from deploy.fakestripe.listing import PAGE, page, table_page
from deploy.fakestripe.objects import checkout, checkout_payment, checkout_setup, checkout_subscription
from deploy.fakestripe.objects.intents import eligible_types
from deploy.fakestripe.objects.products import RECURRING_DATA, amount_of, new_price, new_product, price_object
from deploy.fakestripe.operation import (
    Call,
    Operation,
    check_amount,
    check_currency,
    merged_metadata,
    retrieval,
    support_only,
)
from deploy.fakestripe.store import Json, Store
from deploy.fakestripe.wire import invalid, missing

MAX_LINE_ITEMS = 100
MAX_RECURRING_ITEMS = 20
MIN_LIFETIME_S = 30 * 60
MAX_LIFETIME_S = 24 * 3600
# A clock that is a little off must not make the shortest or longest lifetime fail.
_LIFETIME_TOLERANCE_S = 60

# What the hosted page does not show is still accepted and answered, because the integration may rely on it.
_ECHOED = (
    "allow_promotion_codes",
    "billing_address_collection",
    "client_reference_id",
    "consent_collection",
    "customer_email",
    "integration_identifier",
    "locale",
    "payment_method_collection",
    "shipping_address_collection",
    "submit_type",
)
_PRODUCT_DATA = ("description", "images", "metadata", "name", "tax_code", "unit_label")
_TAKES = (
    *_ECHOED,
    "allowed_payment_method_types",
    "automatic_tax.enabled",
    "cancel_url",
    "currency",
    "custom_fields",
    "custom_text",
    "customer",
    "customer_creation",
    "expires_at",
    *(f"line_items.{name}" for name in ("metadata", "price", *RECURRING_DATA, "quantity")),
    *(f"line_items.price_data.product_data.{name}" for name in _PRODUCT_DATA),
    "metadata",
    "mode",
    "origin_context",
    *(f"payment_intent_data.{name}" for name in checkout_payment.DATA),
    "phone_number_collection.enabled",
    *(f"setup_intent_data.{name}" for name in checkout_setup.DATA),
    *(f"subscription_data.{name}" for name in checkout_subscription.DATA),
    "success_url",
    "ui_mode",
)
_FILTERS = ("customer", "payment_intent", "payment_link", "status", "subscription")


def _create(call: Call) -> Json:
    params = call.params
    mode = checkout.mode_of(params)
    mode.check(params)
    support_only(params, "ui_mode", ("hosted_page",))
    if params.get("automatic_tax", {}).get("enabled"):
        raise invalid("The fake Stripe does not calculate tax.", "automatic_tax[enabled]", "unsupported_by_fake")
    if "success_url" not in params:
        raise missing("success_url")
    for name in ("success_url", "cancel_url"):
        _check_url(params.get(name), name)
    if "customer" in params:
        if "customer_email" in params:
            raise invalid("You may only specify one of these parameters: customer, customer_email.", "customer_email")
        call.refer("customer", "customer", params["customer"], "customer")
    expires_at = _expiry(call)
    setup = params["mode"] == "setup"
    items, currency, total = ([], check_currency(params["currency"]), None) if setup else _check_items(call)
    types = eligible_types(currency, params.get("allowed_payment_method_types"), total)
    merged_metadata({}, params.get("metadata"))
    lines = [_line(call, item) for item in items]
    session = _new_session(call, lines, currency, types, expires_at)
    call.store.add("line_items", {"id": session["id"], "data": lines})
    call.store.add("checkout_terms", {"id": session["id"], **mode.terms(params)})
    mode.opened(call, session)
    return call.store.add("checkout_session", session)


def _new_session(call: Call, lines: list[Json], currency: str, types: list[str], expires_at: int) -> Json:
    params = call.params
    key = call.store.new_id("cs_test_", 58)
    total = sum(line["amount_total"] for line in lines) if params["mode"] != "setup" else None
    session: Json = {
        "id": key,
        "object": "checkout.session",
        "adaptive_pricing": {"enabled": False},
        "after_expiration": None,
        "amount_subtotal": total,
        "amount_total": total,
        "automatic_tax": {"enabled": False, "liability": None, "provider": None, "status": None},
        "cancel_url": params.get("cancel_url"),
        "client_secret": None,
        "collected_information": None,
        "consent": None,
        "created": call.now,
        "currency": currency,
        "currency_conversion": None,
        "custom_fields": [{"optional": False, **each} for each in params.get("custom_fields") or []],
        "custom_text": _custom_text(params.get("custom_text", {})),
        "customer": params.get("customer"),
        "customer_creation": _customer_creation(params),
        "customer_details": checkout.customer_details(_known_email(call)),
        "discounts": [],
        "expires_at": expires_at,
        "invoice": None,
        "invoice_creation": None,
        "livemode": False,
        "metadata": merged_metadata({}, params.get("metadata")),
        "mode": params["mode"],
        "origin_context": params.get("origin_context"),
        "payment_intent": None,
        "payment_link": None,
        "payment_method_configuration_details": None,
        "payment_method_options": {},
        "payment_method_types": types,
        "payment_status": "no_payment_required" if params["mode"] == "setup" else "unpaid",
        "permissions": None,
        "phone_number_collection": {"enabled": params.get("phone_number_collection", {}).get("enabled", False)},
        "recovered_from": None,
        "saved_payment_method_options": None,
        "setup_intent": None,
        "shipping_cost": None,
        "shipping_options": [],
        "status": "open",
        "subscription": None,
        "success_url": params["success_url"],
        "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
        "ui_mode": "hosted_page",
        "url": f"{call.settings.public_url}/pay/{key}",
    }
    if "allowed_payment_method_types" in params:
        session["allowed_payment_method_types"] = params["allowed_payment_method_types"]
    return {**session, **{name: params.get(name) for name in _ECHOED}}


def _customer_creation(params: Json) -> str | None:
    if "customer" in params:
        return None
    default = "always" if params["mode"] == "subscription" else "if_required"
    creation: str = params.get("customer_creation", default)
    return creation


def _check_url(url: Any, param: str) -> None:
    if url is None:
        return
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        message = "Not a valid URL. URLs must start with http:// or https://."
        raise invalid(message, param, "url_invalid")


def _expiry(call: Call) -> int:
    expires_at: int = call.params.get("expires_at", call.now + MAX_LIFETIME_S)
    lifetime = expires_at - call.now
    if not MIN_LIFETIME_S - _LIFETIME_TOLERANCE_S <= lifetime <= MAX_LIFETIME_S + _LIFETIME_TOLERANCE_S:
        message = "The `expires_at` timestamp must be between 30 minutes and 24 hours from Checkout Session creation."
        raise invalid(message, "expires_at")
    return expires_at


def _check_items(call: Call) -> tuple[list[Json], str, int]:
    """Check the line items without storing anything; return them, their one currency and their sum."""
    items: list[Json] = call.params.get("line_items") or []
    if not items:
        raise missing("line_items")
    if len(items) > MAX_LINE_ITEMS:
        raise invalid(f"Too many line items: up to {MAX_LINE_ITEMS} are possible.", "line_items")
    currencies: set[str] = set()
    total = recurring = 0
    for position, item in enumerate(items):
        at = f"line_items[{position}]"
        if item.get("quantity", 0) < 1:
            raise missing(f"{at}[quantity]")
        price = _item_price(call, item, at)
        currencies.add(price["currency"])
        total += amount_of(price, item["quantity"])
        recurring += price["recurring"] is not None
    if call.params["mode"] == "subscription":
        _check_recurring(recurring, len(items))
    if len(currencies) > 1:
        raise invalid("All line items must have the same currency.", "line_items")
    if total != 0:
        check_amount(total, "line_items")
    currency = currencies.pop()
    if call.params.get("currency", currency).lower() != currency:
        raise invalid("The prices are not in this currency.", "currency")
    return items, currency, total


def _check_recurring(recurring: int, items: int) -> None:
    if recurring == 0:
        message = "You must provide at least one recurring price in `subscription` mode when using prices."
        raise invalid(message, "line_items")
    if recurring > MAX_RECURRING_ITEMS or items - recurring > MAX_RECURRING_ITEMS:
        raise invalid(f"Up to {MAX_RECURRING_ITEMS} recurring and as many other line items are possible.", "line_items")


def _item_price(call: Call, item: Json, at: str) -> Json:
    """Return the price that a line item names or describes."""
    if ("price" in item) == ("price_data" in item):
        raise invalid("You must specify either `price` or `price_data`.", f"{at}[price]")
    if "price" in item:
        price = call.refer("price", "price", item["price"], f"{at}[price]")
        if not price["active"]:
            raise invalid("The price specified is inactive.", f"{at}[price]")
    else:
        data = item["price_data"]
        if ("product" in data) == ("product_data" in data):
            raise missing(f"{at}[price_data][product]")
        if "product" in data:
            call.refer("product", "product", data["product"], f"{at}[price_data][product]")
        price = price_object(call, data, "", f"{at}[price_data]")
    if price["recurring"] is not None and call.params["mode"] == "payment":
        message = "You specified `payment` mode but passed a recurring price. Use `subscription` mode instead."
        raise invalid(message, f"{at}[price]")
    return price


def _line(call: Call, item: Json) -> Json:
    """Make the line item; a described price and product are stored, not offered for further use."""
    if "price" in item:
        price = call.store.table("price")[item["price"]]
    else:
        data = item["price_data"]
        product = data.get("product") or new_product(call, {**data["product_data"], "active": False})["id"]
        price = new_price(call, {**data, "active": False}, product)
    amount = amount_of(price, item["quantity"])
    product_row = call.store.table("product")[price["product"]]
    return {
        "id": call.store.new_id("li_"),
        "object": "item",
        "adjustable_quantity": None,
        "amount_discount": 0,
        "amount_subtotal": amount,
        "amount_tax": 0,
        "amount_total": amount,
        "currency": price["currency"],
        "description": product_row["name"],
        "metadata": merged_metadata({}, item.get("metadata")),
        "price": price,
        "quantity": item["quantity"],
    }


def _known_email(call: Call) -> str | None:
    if "customer" in call.params:
        email: str | None = call.store.table("customer")[call.params["customer"]]["email"]
        return email
    return call.params.get("customer_email")


def _custom_text(given: Json) -> Json:
    names = ("after_submit", "shipping_address", "submit", "terms_of_service_acceptance")
    return {name: given.get(name) or None for name in names}


def line_items_of(store: Store, session: Json) -> Json:
    """Build the list of line items, which is in a session only when it is expanded."""
    rows = store.table("line_items").get(session["id"], {"data": []})["data"]
    url = f"/v1/checkout/sessions/{session['id']}/line_items"
    return {"object": "list", "data": rows[:10], "has_more": len(rows) > 10, "url": url}


def _line_items(call: Call) -> Json:
    session = call.find("checkout_session", "checkout.session", call.path["session"])
    return page(call, call.store.table("line_items").get(session["id"], {"data": []})["data"])


def _list(call: Call) -> Json:
    return table_page(call, "checkout_session", equal=_FILTERS)


def _expire(call: Call) -> Json:
    session = call.find("checkout_session", "checkout.session", call.path["session"])
    if session["status"] != "open":
        message = f'Only Checkout Sessions with a status in ["open"] can be expired. This one is {session["status"]}.'
        raise invalid(message, "session")
    checkout.expire(call, session)
    return session


_ONE = "/v1/checkout/sessions/{session}"
OPERATIONS = (
    Operation("POST", "/v1/checkout/sessions", "checkout.SessionCreateParams", _create, _TAKES),
    Operation("GET", "/v1/checkout/sessions", "checkout.SessionListParams", _list, (*PAGE, "created", *_FILTERS)),
    retrieval(_ONE, "checkout.SessionRetrieveParams", "checkout_session", "checkout.session"),
    Operation("POST", f"{_ONE}/expire", "checkout.SessionExpireParams", _expire),
    Operation("GET", f"{_ONE}/line_items", "checkout.SessionLineItemListParams", _line_items, PAGE),
)
