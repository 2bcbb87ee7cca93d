"""Subscription items by their own addresses."""

from __future__ import annotations

import copy

from deploy.fakestripe.listing import PAGE, page
from deploy.fakestripe.objects.given import own
from deploy.fakestripe.objects.products import RECURRING_DATA
from deploy.fakestripe.objects.subscription_changes import change_items, check_proration_date, check_waiting
from deploy.fakestripe.objects.subscription_orders import change_row, check_rows, read_items
from deploy.fakestripe.objects.subscriptions import ENDED, new_item
from deploy.fakestripe.operation import Call, Operation
from deploy.fakestripe.store import Json
from deploy.fakestripe.wire import invalid, missing, not_found

_ORDER = ("metadata", "price", "price_data", "quantity")
_HOW = ("payment_behavior", "proration_behavior", "proration_date")
_TAKES = (*_HOW, *RECURRING_DATA, "metadata", "price", "quantity")


def _create(call: Call) -> Json:
    check_waiting({name: value for name, value in call.params.items() if name != "subscription"})
    subscription = call.refer("subscription", "subscription", call.params["subscription"], "subscription")
    _refuse_ended(subscription)
    check_proration_date(call, subscription)
    [ordered] = read_items(call, [_own(call.params)])
    row = new_item(call, subscription, ordered)
    _change(call, subscription, [*copy.deepcopy(subscription["items"]["data"]), row])
    return row


def _update(call: Call) -> Json:
    check_waiting(call.params)
    subscription, key = _place(call)
    _refuse_ended(subscription)
    check_proration_date(call, subscription)
    rows = copy.deepcopy(subscription["items"]["data"])
    change_row(call, next(row for row in rows if row["id"] == key), call.params, "item")
    _change(call, subscription, rows)
    return next(row for row in subscription["items"]["data"] if row["id"] == key)


def _delete(call: Call) -> Json:
    check_waiting(call.params)
    subscription, key = _place(call)
    _refuse_ended(subscription)
    check_proration_date(call, subscription)
    rows = [row for row in copy.deepcopy(subscription["items"]["data"]) if row["id"] != key]
    _change(call, subscription, rows)
    return {"id": key, "object": "subscription_item", "deleted": True}


def _change(call: Call, subscription: Json, rows: list[Json]) -> None:
    check_rows(subscription, rows)
    previous = change_items(call, subscription, rows, call.params)
    if previous and previous["items"]["data"] != subscription["items"]["data"]:
        call.emit("customer.subscription.updated", subscription, previous)


def _own(params: Json) -> Json:
    return {name: params[name] for name in _ORDER if name in params}


def _place(call: Call) -> tuple[Json, str]:
    """Return the subscription that has the item named in the path, and the item's id."""
    key = call.path["item"]
    for subscription in own(call.store, "subscription"):
        if any(row["id"] == key for row in subscription["items"]["data"]):
            return subscription, key
    raise not_found("subscription_item", key)


def _refuse_ended(subscription: Json) -> None:
    if subscription["status"] in ENDED:
        raise invalid("The items of a canceled subscription cannot change.", "subscription")


def _retrieve(call: Call) -> Json:
    subscription, key = _place(call)
    return next(row for row in subscription["items"]["data"] if row["id"] == key)


def _list(call: Call) -> Json:
    if "subscription" not in call.params:
        raise missing("subscription")
    subscription = call.refer("subscription", "subscription", call.params["subscription"], "subscription")
    return page(call, list(subscription["items"]["data"]))


_ONE = "/v1/subscription_items/{item}"
OPERATIONS = (
    Operation(
        "POST",
        "/v1/subscription_items",
        "SubscriptionItemCreateParams",
        _create,
        (*_TAKES, "subscription"),
    ),
    Operation("GET", "/v1/subscription_items", "SubscriptionItemListParams", _list, (*PAGE, "subscription")),
    Operation("GET", _ONE, "SubscriptionItemRetrieveParams", _retrieve),
    Operation("POST", _ONE, "SubscriptionItemUpdateParams", _update, (*_TAKES, "off_session")),
    Operation("DELETE", _ONE, "SubscriptionItemDeleteParams", _delete, _HOW),
)
