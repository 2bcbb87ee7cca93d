"""What requests order: prices and quantities of subscription items, and how long a trial is."""

from __future__ import annotations

import copy

from deploy.fakestripe.objects.products import new_price, price_object
from deploy.fakestripe.objects.subscriptions import Ordered, moment_of, plan_of
from deploy.fakestripe.operation import Call, merged_metadata
from deploy.fakestripe.store import Json
from deploy.fakestripe.wire import invalid, missing

MAX_ITEMS = 20
DAY_S = 24 * 3600


def read_items(call: Call, given: list[Json]) -> list[Ordered]:
    """Return what was ordered, prices described on the spot stored; refuse what no subscription can have."""
    if len(given) > MAX_ITEMS:
        raise invalid(f"A subscription has up to {MAX_ITEMS} items.", "items")
    prices = [_price(call, item, f"items[{position}]") for position, item in enumerate(given)]
    _check_prices(prices)
    ordered = []
    for item, price in zip(given, prices, strict=True):
        quantity = item.get("quantity", 1)
        if quantity < 0:
            raise invalid("Invalid non-negative integer", "items[quantity]", "parameter_invalid_integer")
        ordered.append(Ordered(price, quantity, merged_metadata({}, item.get("metadata"))))
    return ordered


def _price(call: Call, item: Json, at: str) -> Json:
    if ("price" in item) == ("price_data" in item):
        raise missing(f"{at}[price]")
    if "price_data" in item:
        data = item["price_data"]
        call.refer("product", "product", data["product"], f"{at}[price_data][product]")
        price_object(call, data, "", f"{at}[price_data]")
        return new_price(call, {**data, "active": False}, data["product"])
    price = call.refer("price", "price", item["price"], f"{at}[price]")
    if not price["active"]:
        raise invalid("The price specified is inactive.", f"{at}[price]")
    if price["recurring"] is None:
        message = "The price specified is set to `type=one_time` but this field only accepts `type=recurring`."
        raise invalid(message, f"{at}[price]")
    return price


def _check_prices(prices: list[Json]) -> None:
    if len({price["currency"] for price in prices}) > 1:
        raise invalid("All prices of a subscription must have the same currency.", "items")
    if len({price["id"] for price in prices}) < len(prices):
        raise invalid("A subscription cannot have two items of the same price.", "items")


def trial_end_of(call: Call, params: Json) -> int | None:
    """Return when the trial that a request asks for ends; none for `now`."""
    days = params.get("trial_period_days")
    end = params.get("trial_end")
    if days is not None and end is not None:
        raise invalid("You may only specify one of these parameters: trial_end, trial_period_days.", "trial_end")
    if days is not None:
        if days < 1:
            raise invalid("The minimum number of trial period days is 1.", "trial_period_days")
        return int(call.now + days * DAY_S)
    if end is None or end == "now":
        return None
    moment = moment_of(end, "trial_end")
    if moment <= call.now:
        raise invalid("Invalid timestamp: must be in the future, or `now`.", "trial_end")
    return moment


def change_row(call: Call, row: Json, given: Json, at: str) -> None:
    """Give an item another price, quantity or metadata."""
    if "price" in given or "price_data" in given:
        price = _price(call, given, at)
        row |= {"price": copy.deepcopy(price), "plan": plan_of(price)}
    if "quantity" in given:
        if given["quantity"] < 0:
            raise invalid("Invalid non-negative integer", f"{at}[quantity]", "parameter_invalid_integer")
        row["quantity"] = given["quantity"]
    row["metadata"] = merged_metadata(row["metadata"], given.get("metadata"))


def check_rows(subscription: Json, rows: list[Json]) -> None:
    """Refuse items that no subscription can have together."""
    if not rows:
        raise invalid("A subscription must have at least one active item.", "items")
    if len(rows) > MAX_ITEMS:
        raise invalid(f"A subscription has up to {MAX_ITEMS} items.", "items")
    _check_prices([row["price"] for row in rows])
    if rows[0]["price"]["currency"] != subscription["currency"]:
        raise invalid("The currency of a subscription cannot change.", "items")
