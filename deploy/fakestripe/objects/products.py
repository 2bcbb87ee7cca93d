"""Products and prices."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from deploy.fakestripe.listing import PAGE, table_page
from deploy.fakestripe.operation import (
    Call,
    Operation,
    check_currency,
    merged_metadata,
    retrieval,
    support_only,
    unset_if_empty,
    update,
)
from deploy.fakestripe.store import Json
from deploy.fakestripe.wire import invalid, missing

_PRODUCT_MEMBERS = ("active", "description", "images", "marketing_features", "name", "shippable")
_PRODUCT_TEXTS = ("statement_descriptor", "tax_code", "unit_label", "url")
_PRODUCT_TAKES = (*_PRODUCT_MEMBERS, *_PRODUCT_TEXTS, "metadata")
_AMOUNT = ("currency", "tax_behavior", "unit_amount", "unit_amount_decimal")
_INTERVAL = ("recurring.interval", "recurring.interval_count")
# What a request may say of a price that it describes in place of one that is there, and of one that recurs.
PRICE_DATA = tuple(f"price_data.{name}" for name in (*_AMOUNT, "product"))
RECURRING_DATA = (*PRICE_DATA, *(f"price_data.{name}" for name in _INTERVAL))
_PRICE_WRITABLE = ("active", "lookup_key", "nickname", "tax_behavior")
_PRICE_FILTERS = ("active", "currency", "product", "type")
_PRODUCT_FILTERS = ("active", "shippable", "url")


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
    if "id" in call.params and call.params["id"] in call.store.table("product"):
        raise invalid("Product already exists.", "id", "resource_already_exists")
    price_data = call.params.get("default_price_data")
    if price_data is not None:
        price_object(call, price_data, "", "default_price_data")
    product = new_product(call, call.params)
    call.emit("product.created", product)
    if price_data is not None:
        price = new_price(call, price_data, product["id"])
        product["default_price"] = price["id"]
        call.emit("price.created", price)
    return product


def _update_product(call: Call) -> Json:
    product = call.refer("product", "product", call.path["id"], "id")
    if call.params.get("default_price"):
        price = call.refer("price", "price", call.params["default_price"], "default_price")
        if price["product"] != product["id"]:
            raise invalid("The price is of another product.", "default_price")
    product["updated"] = call.now
    return update(call, product, (*_PRODUCT_MEMBERS, *_PRODUCT_TEXTS, "default_price"), "product.updated")


def _list_products(call: Call) -> Json:
    return table_page(call, "product", equal=_PRODUCT_FILTERS, within=("id", "ids"))


def _create_price(call: Call) -> Json:
    support_only(call.params, "billing_scheme", ("per_unit",))
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
    price = call.refer("price", "price", call.path["price"], "id")
    _take_lookup_key(call, price["id"])
    return update(call, price, _PRICE_WRITABLE, "price.updated")


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
    return table_page(call, "price", equal=_PRICE_FILTERS, within=("lookup_key", "lookup_keys"))


_CREATE_PRODUCT_TAKES = (
    *_PRODUCT_TAKES,
    *(f"default_price_data.{name}" for name in (*_AMOUNT, *_INTERVAL, "metadata")),
    "id",
    "type",
)
_PRODUCT_DATA = ("active", "id", "metadata", "name", "statement_descriptor", "tax_code", "unit_label")
_CREATE_PRICE_TAKES = (
    *_PRICE_WRITABLE,
    *_AMOUNT,
    *_INTERVAL,
    "billing_scheme",
    "metadata",
    "product",
    *(f"product_data.{name}" for name in _PRODUCT_DATA),
    "recurring.trial_period_days",
    "recurring.usage_type",
    "transfer_lookup_key",
)
_UPDATE_PRICE_TAKES = (*_PRICE_WRITABLE, "metadata", "transfer_lookup_key")
OPERATIONS = (
    Operation("POST", "/v1/products", "ProductCreateParams", _create_product, _CREATE_PRODUCT_TAKES),
    Operation("GET", "/v1/products", "ProductListParams", _list_products, (*PAGE, "created", "ids", *_PRODUCT_FILTERS)),
    retrieval("/v1/products/{id}", "ProductRetrieveParams", "product", "product"),
    Operation("POST", "/v1/products/{id}", "ProductUpdateParams", _update_product, (*_PRODUCT_TAKES, "default_price")),
    Operation("POST", "/v1/prices", "PriceCreateParams", _create_price, _CREATE_PRICE_TAKES),
    Operation("GET", "/v1/prices", "PriceListParams", _list_prices, (*PAGE, "created", "lookup_keys", *_PRICE_FILTERS)),
    retrieval("/v1/prices/{price}", "PriceRetrieveParams", "price", "price"),
    Operation("POST", "/v1/prices/{price}", "PriceUpdateParams", _update_price, _UPDATE_PRICE_TAKES),
)
