"""Products and prices."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from deploy.fakestripe.listing import table_page
from deploy.fakestripe.operation import (
    Call,
    Operation,
    check_currency,
    merged_metadata,
    one_of,
    refuse,
    retrieval,
    unset_if_empty,
    update,
)
from deploy.fakestripe.store import Json
from deploy.fakestripe.wire import invalid, missing

_PRODUCT_MEMBERS = ("active", "description", "images", "marketing_features", "name", "shippable")
_PRODUCT_TEXTS = ("statement_descriptor", "tax_code", "unit_label", "url")
_PRICE_UNSUPPORTED = ("currency_options", "custom_unit_amount", "tiers", "tiers_mode", "transform_quantity")


def new_product(call: Call, given: Json) -> Json:
    """Store a product from the parameters that describe one."""
    product: Json = {
        "id": given.get("id") or call.store.new_id("prod_", 14),
        "object": "product",
        "active": True,
        "created": call.now,
        "default_price": None,
        "description": None,
        "images": [],
        "livemode": False,
        "marketing_features": [],
        "metadata": merged_metadata({}, given.get("metadata")),
        "name": given["name"],
        "package_dimensions": None,
        "shippable": None,
        "statement_descriptor": None,
        "tax_code": None,
        "type": given.get("type", "service"),
        "unit_label": None,
        "updated": call.now,
        "url": None,
    }
    for name in (*_PRODUCT_MEMBERS, *_PRODUCT_TEXTS):
        if name in given:
            product[name] = unset_if_empty(given[name])
    return call.store.add("product", product)


def new_price(call: Call, given: Json, product: str) -> Json:
    """Store a price of a product."""
    return call.store.add("price", price_object(call, given, product))


def price_object(call: Call, given: Json, product: str, at: str = "") -> Json:
    """Build a price; `at` is where its parameters are in the request, such as `price_data`, for messages."""
    unit_amount, exact = _unit_amount(given, at)
    return {
        "id": call.store.new_id("price_"),
        "object": "price",
        "active": given.get("active", True),
        "billing_scheme": "per_unit",
        "created": call.now,
        "currency": check_currency(given["currency"], _at(at, "currency")),
        "custom_unit_amount": None,
        "livemode": False,
        "lookup_key": unset_if_empty(given.get("lookup_key")),
        "metadata": merged_metadata({}, given.get("metadata")),
        "nickname": unset_if_empty(given.get("nickname")),
        "product": product,
        "recurring": _recurring(given),
        "tax_behavior": given.get("tax_behavior", "unspecified"),
        "tiers_mode": None,
        "transform_quantity": None,
        "type": "recurring" if "recurring" in given else "one_time",
        "unit_amount": unit_amount,
        "unit_amount_decimal": exact,
    }


def amount_of(price: Json, quantity: int) -> int:
    """Return what a quantity costs in the smallest unit, rounded half up as Stripe does for exact unit amounts."""
    exact = Decimal(price["unit_amount_decimal"]) * quantity
    return int((exact + Decimal("0.5")) // 1)


def _unit_amount(given: Json, at: str) -> tuple[int | None, str]:
    """Return the unit amount as a whole number, if it is one, and as exact text."""
    if ("unit_amount" in given) == ("unit_amount_decimal" in given):
        if "unit_amount" in given:
            raise invalid("You may only specify one of unit_amount and unit_amount_decimal.", _at(at, "unit_amount"))
        raise missing(_at(at, "unit_amount"))
    if "unit_amount" in given:
        exact = Decimal(given["unit_amount"])
    else:
        try:
            exact = Decimal(given["unit_amount_decimal"])
        except InvalidOperation as error:
            raise invalid("Invalid decimal.", _at(at, "unit_amount_decimal")) from error
    if not exact.is_finite() or exact < 0:
        raise invalid("Invalid non-negative integer", _at(at, "unit_amount"), "parameter_invalid_integer")
    return (int(exact) if exact == int(exact) else None), f"{exact:f}"


def _recurring(given: Json) -> Json | None:
    if "recurring" not in given:
        return None
    recurring = given["recurring"]
    one_of(recurring, "interval", ("day", "week", "month", "year"))
    return {
        "interval": recurring["interval"],
        "interval_count": recurring.get("interval_count", 1),
        "meter": None,
        "trial_period_days": recurring.get("trial_period_days"),
        "usage_type": recurring.get("usage_type", "licensed"),
    }


def _at(parent: str, name: str) -> str:
    return f"{parent}[{name}]" if parent else name


def _create_product(call: Call) -> Json:
    refuse(call.params, ("package_dimensions", "tax_details"))
    if "id" in call.params and call.params["id"] in call.store.table("product"):
        raise invalid("Product already exists.", "id", "resource_already_exists")
    price_data = call.params.get("default_price_data")
    if price_data is not None:
        refuse(price_data, _PRICE_UNSUPPORTED)
        price_object(call, price_data, "", "default_price_data")
    product = new_product(call, call.params)
    call.emit("product.created", product)
    if price_data is not None:
        price = new_price(call, price_data, product["id"])
        product["default_price"] = price["id"]
        call.emit("price.created", price)
    return product


def _update_product(call: Call) -> Json:
    refuse(call.params, ("package_dimensions", "tax_details"))
    product = call.refer("product", "product", call.path["id"], "id")
    if call.params.get("default_price"):
        price = call.refer("price", "price", call.params["default_price"], "default_price")
        if price["product"] != product["id"]:
            raise invalid("The price is of another product.", "default_price")
    product["updated"] = call.now
    return update(call, product, (*_PRODUCT_MEMBERS, *_PRODUCT_TEXTS, "default_price"), "product.updated")


def _list_products(call: Call) -> Json:
    return table_page(call, "product", equal=("active", "shippable", "type", "url"), within=("id", "ids"))


def _create_price(call: Call) -> Json:
    refuse(call.params, _PRICE_UNSUPPORTED)
    if call.params.get("billing_scheme", "per_unit") != "per_unit":
        raise invalid("The fake Stripe does not support tiers.", "billing_scheme", "unsupported_by_fake")
    if ("product" in call.params) == ("product_data" in call.params):
        raise missing("product")
    price_object(call, call.params, "")
    if "product" in call.params:
        product = call.refer("product", "product", call.params["product"], "product")
    _take_lookup_key(call, None)
    if "product_data" in call.params:
        product = new_product(call, call.params["product_data"])
        call.emit("product.created", product)
    price = new_price(call, call.params, product["id"])
    call.emit("price.created", price)
    return price


def _update_price(call: Call) -> Json:
    refuse(call.params, ("currency_options",))
    price = call.refer("price", "price", call.path["price"], "id")
    _take_lookup_key(call, price["id"])
    return update(call, price, ("active", "lookup_key", "nickname", "tax_behavior"), "price.updated")


def _take_lookup_key(call: Call, price_id: str | None) -> None:
    """Keep lookup keys unique: another price's key is taken over only when the request says so."""
    key = call.params.get("lookup_key")
    if not key:
        return
    for other in call.store.table("price").values():
        if other["lookup_key"] == key and other["id"] != price_id:
            if not call.params.get("transfer_lookup_key"):
                message = f"A price (`{other['id']}`) already uses that lookup key."
                raise invalid(message, "lookup_key", "resource_already_exists")
            other["lookup_key"] = None
            call.emit("price.updated", other, {"lookup_key": key})


def _list_prices(call: Call) -> Json:
    return table_page(
        call,
        "price",
        equal=("active", "currency", "product", "type"),
        within=("lookup_key", "lookup_keys"),
        unsupported=("recurring",),
    )


OPERATIONS = (
    Operation("POST", "/v1/products", "ProductCreateParams", _create_product),
    Operation("GET", "/v1/products", "ProductListParams", _list_products),
    retrieval("/v1/products/{id}", "ProductRetrieveParams", "product", "product"),
    Operation("POST", "/v1/products/{id}", "ProductUpdateParams", _update_product),
    Operation("POST", "/v1/prices", "PriceCreateParams", _create_price),
    Operation("GET", "/v1/prices", "PriceListParams", _list_prices),
    retrieval("/v1/prices/{price}", "PriceRetrieveParams", "price", "price"),
    Operation("POST", "/v1/prices/{price}", "PriceUpdateParams", _update_price),
)
