"""Subscriptions: create, update, cancel, resume, list."""

from __future__ import annotations

import copy
from typing import Any

from deploy.fakestripe.listing import PAGE, table_page
from deploy.fakestripe.objects.calendar import border, next_border, part_of
from deploy.fakestripe.objects.invoice_lines import item_line, new_invoice_item, take_pending
from deploy.fakestripe.objects.invoices import collect, finalize, method_for
from deploy.fakestripe.objects.payment_attempts import authentication_error, needs_authentication, refusal
from deploy.fakestripe.objects.payment_methods import obtain
from deploy.fakestripe.objects.products import RECURRING_DATA, amount_of
from deploy.fakestripe.objects.subscription_changes import (
    change_items,
    check_proration_date,
    check_waiting,
)
from deploy.fakestripe.objects.subscription_cycle import end_trial
from deploy.fakestripe.objects.subscription_orders import (
    change_row,
    check_rows,
    read_items,
    trial_end_of,
)
from deploy.fakestripe.objects.subscriptions import (
    ENDED,
    MAX_DAYS_UNTIL_DUE,
    Ordered,
    cancel,
    check_end,
    draft_for,
    expire_incomplete,
    first_amount,
    first_invoice,
    new_item,
    new_subscription,
    set_end,
    settle_now,
)
from deploy.fakestripe.operation import (
    Call,
    Operation,
    flag,
    merged_metadata,
    retrieval,
    unset_if_empty,
)
from deploy.fakestripe.store import Json
from deploy.fakestripe.wire import StripeError, invalid, missing

_TAKES = (
    "automatic_tax.enabled",
    "billing_cycle_anchor",
    "cancel_at",
    "cancel_at_period_end",
    "collection_method",
    "days_until_due",
    "default_payment_method",
    "description",
    *(f"items.{name}" for name in ("metadata", "price", *RECURRING_DATA, "quantity")),
    "metadata",
    "off_session",
    "payment_behavior",
    "payment_settings.save_default_payment_method",
    "proration_behavior",
    "trial_end",
    "trial_settings.end_behavior.missing_payment_method",
)
_CREATE_TAKES = (*_TAKES, "billing_mode.type", "customer", "trial_period_days")
_UPDATE_TAKES = (
    *_TAKES,
    "cancellation_details.comment",
    "cancellation_details.feedback",
    "items.deleted",
    "items.id",
    "pause_collection",
    "proration_date",
)
_FILTERS = ("collection_method", "customer")


def _create(call: Call) -> Json:
    params = call.params
    _refuse_taxes(params)
    if "customer" not in params:
        raise missing("customer")
    customer = call.refer("customer", "customer", params["customer"], "customer")
    if not params.get("items"):
        raise missing("items")
    given = {**params, "trial_end": trial_end_of(call, call.params)}
    ordered = read_items(call, params["items"])
    method = _method(call, params.get("default_payment_method"), customer)
    merged_metadata({}, params.get("metadata"))
    if params.get("payment_behavior") == "pending_if_incomplete":
        raise invalid("`pending_if_incomplete` cannot be used when a subscription is created.", "payment_behavior")
    _check_collection(params)
    check_end(params)
    _check_anchor(call, ordered)
    if params.get("payment_behavior") == "error_if_incomplete" and given.get("collection_method") != "send_invoice":
        _refuse_unpayable(call, customer, method, first_amount(ordered, given, call.now))
    subscription = new_subscription(call, customer["id"], ordered, given)
    call.emit("customer.subscription.created", subscription)
    begin(call, subscription, given)
    return subscription


def begin(call: Call, subscription: Json, given: Json) -> None:
    """Make and collect the first invoice; `default_incomplete` leaves that to the payer."""
    invoice = first_invoice(call, subscription, given)
    if given.get("payment_behavior") == "default_incomplete":
        finalize(call, invoice)
    else:
        settle_now(call, subscription, invoice, off_session=flag(given, "off_session"))
    if subscription["status"] == "incomplete" and subscription["collection_method"] == "send_invoice":
        previous = {"status": "incomplete"}
        subscription["status"] = "active"
        call.emit("customer.subscription.updated", subscription, previous)


def _refuse_unpayable(call: Call, customer: Json, method: Json | None, amount: int) -> None:
    """Answer 402, before anything is made, where the first invoice could not be paid at once."""
    if amount == 0:
        return
    key = method["id"] if method else customer["invoice_settings"]["default_payment_method"]
    if key is None:
        raise _no_method()
    chosen = call.store.table("payment_method")[key]
    off_session = flag(call.params, "off_session")
    error = refusal(call, chosen, off_session=off_session)
    if error is None and needs_authentication(call, chosen, off_session=off_session):
        error = authentication_error()
    if error is not None:
        extra = {"decline_code": error["decline_code"]} if "decline_code" in error else {}
        raise StripeError(402, error["message"], kind="card_error", code=error["code"], extra=extra)


def _no_method() -> StripeError:
    message = (
        "This customer has no attached payment source or default payment method. Please consider adding a default"
        " payment method."
    )
    return invalid(message, code="resource_missing")


def _refuse_taxes(params: Json) -> None:
    if params.get("automatic_tax", {}).get("enabled"):
        raise invalid("The fake Stripe does not calculate tax.", "automatic_tax[enabled]", "unsupported_by_fake")


def _check_collection(params: Json) -> None:
    if params.get("collection_method") == "send_invoice" and "days_until_due" not in params:
        raise missing("days_until_due")
    if not 0 <= params.get("days_until_due", 0) <= MAX_DAYS_UNTIL_DUE:
        raise invalid("Invalid number of days.", "days_until_due")


def _check_anchor(call: Call, ordered: list[Ordered]) -> None:
    """Refuse an anchor that is past, or later than where the first period would end anyhow."""
    anchor = call.params.get("billing_cycle_anchor")
    if anchor is None:
        return
    latest = min(border(call.now, item.price["recurring"], 1) for item in ordered)
    if not call.now <= anchor <= latest:
        message = "billing_cycle_anchor must lie between now and the next natural billing date."
        raise invalid(message, "billing_cycle_anchor")


def _method(call: Call, key: Any, customer: Json) -> Json | None:
    if not key:
        return None
    method = obtain(call, key)
    if method["customer"] != customer["id"]:
        message = f"The customer does not have a payment method with the ID {key}. The payment method must be attached."
        raise invalid(message, "default_payment_method", "resource_missing")
    return method


def _update(call: Call) -> Json:
    params = call.params
    subscription = _running(call)
    _refuse_taxes(params)
    check_waiting(params)
    check_end(params)
    check_proration_date(call, subscription)
    if params.get("billing_cycle_anchor", {}).get("type", "unchanged") != "unchanged":
        raise invalid("The fake Stripe keeps the anchor.", "billing_cycle_anchor", "unsupported_by_fake")
    changes = _changes(call, subscription)
    trial_end = trial_end_of(call, {name: params[name] for name in ("trial_end",) if name in params})
    rows = _rows(call, subscription) if "items" in params else None
    previous = change_items(call, subscription, rows, params) if rows is not None else {}
    previous |= {name: subscription[name] for name, value in changes.items() if subscription[name] != value}
    subscription.update(changes)
    if trial_end is not None:
        previous |= _move_trial(call, subscription, trial_end)
    previous |= set_end(call, subscription, params)
    previous |= _cancellation_details(subscription, params)
    if previous:
        call.emit("customer.subscription.updated", subscription, previous)
    if params.get("trial_end") == "now" and subscription["status"] == "trialing":
        end_trial(subscription, "subscription_update", call)
    return subscription


def _changes(call: Call, subscription: Json) -> Json:
    """Return the new values of the members that are simply replaced."""
    params = call.params
    customer = call.store.table("customer")[subscription["customer"]]
    changes: Json = {"metadata": merged_metadata(subscription["metadata"], params.get("metadata"))}
    if "default_payment_method" in params:
        method = _method(call, params["default_payment_method"], customer)
        changes["default_payment_method"] = None if method is None else method["id"]
    if "pause_collection" in params:
        changes["pause_collection"] = _pause(params)
    for name in ("collection_method", "days_until_due", "description"):
        if name in params:
            changes[name] = unset_if_empty(params[name])
    if "trial_settings" in params:
        changes["trial_settings"] = _trial_settings(subscription, params["trial_settings"] or {})
    if "save_default_payment_method" in (params.get("payment_settings") or {}):
        wanted = params["payment_settings"]["save_default_payment_method"]
        changes["payment_settings"] = {**subscription["payment_settings"], "save_default_payment_method": wanted}
    return changes


def _running(call: Call) -> Json:
    subscription = call.find("subscription", "subscription", call.path["subscription_exposed_id"])
    if subscription["status"] in ENDED:
        # Only what says something about the past may still change.
        for name in call.params:
            if name not in ("cancellation_details", "expand", "metadata"):
                message = "A canceled subscription can only update its cancellation_details and metadata."
                raise invalid(message, name)
    return subscription


def _pause(params: Json) -> Json | None:
    given = params.get("pause_collection")
    if not given:
        return None
    return {"behavior": given["behavior"], "resumes_at": given.get("resumes_at")}


def _trial_settings(subscription: Json, given: Json) -> Json:
    behavior = {**subscription["trial_settings"]["end_behavior"], **given.get("end_behavior", {})}
    return {"end_behavior": behavior}


def _cancellation_details(subscription: Json, params: Json) -> Json:
    given = params.get("cancellation_details")
    if not given:
        return {}
    before = subscription["cancellation_details"]
    after = {**before, **{name: unset_if_empty(given[name]) for name in ("comment", "feedback") if name in given}}
    subscription["cancellation_details"] = after
    return {} if after == before else {"cancellation_details": before}


def _move_trial(call: Call, subscription: Json, end: int) -> Json:
    """Let a trial end at another time, or begin one now; all items' periods end with it."""
    names = ("status", "trial_start", "trial_end", "billing_cycle_anchor", "items")
    previous = {name: copy.deepcopy(subscription[name]) for name in names}
    if subscription["status"] != "trialing":
        subscription |= {"status": "trialing", "trial_start": call.now}
        for item in subscription["items"]["data"]:
            item["current_period_start"] = call.now
    for item in subscription["items"]["data"]:
        item["current_period_end"] = end
    subscription |= {"trial_end": end, "billing_cycle_anchor": end}
    return {name: old for name, old in previous.items() if subscription[name] != old}


def _rows(call: Call, subscription: Json) -> list[Json]:
    """Return the items as they will be; nothing is changed yet."""
    rows: list[Json] = copy.deepcopy(subscription["items"]["data"])
    for position, given in enumerate(call.params["items"]):
        at = f"items[{position}]"
        if "id" not in given:
            [ordered] = read_items(call, [given])
            rows.append(new_item(call, subscription, ordered))
            continue
        row = next((row for row in rows if row["id"] == given["id"]), None)
        if row is None:
            raise invalid(f"No such subscription item: '{given['id']}'", f"{at}[id]", "resource_missing")
        if given.get("deleted"):
            rows.remove(row)
        else:
            change_row(call, row, given, at)
    check_rows(subscription, rows)
    return rows


def _cancel(call: Call) -> Json:
    subscription = call.find("subscription", "subscription", call.path["subscription_exposed_id"])
    if subscription["status"] in ENDED:
        raise StripeError(404, f"No such subscription: '{subscription['id']}'", code="resource_missing", param="id")
    _cancellation_details(subscription, call.params)
    if subscription["status"] == "incomplete":
        expire_incomplete(call, subscription)
        return subscription
    if call.params.get("prorate") and subscription["status"] in ("active", "past_due"):
        _give_back(call, subscription)
    if call.params.get("invoice_now"):
        waiting = take_pending(call, subscription["customer"], subscription["currency"], subscription["id"])
        if waiting:
            invoice = draft_for(call, subscription, "subscription_update", [])
            settle_now(call, subscription, invoice, off_session=True)
    cancel(call, subscription, "cancellation_requested")
    return subscription


def _give_back(call: Call, subscription: Json) -> None:
    """Credit what is left of the period."""
    for item in subscription["items"]["data"]:
        start, end = item["current_period_start"], item["current_period_end"]
        amount = part_of(amount_of(item["price"], item["quantity"]), end - call.now, end - start)
        name = call.store.table("product")[item["price"]["product"]]["name"]
        if amount:
            new_invoice_item(
                call,
                customer=subscription["customer"],
                amount=-amount,
                currency=subscription["currency"],
                description=f"Unused time on {name}",
                period=(call.now, end),
                price=item["price"],
                quantity=item["quantity"],
                subscription=subscription["id"],
                subscription_item=item["id"],
                proration=True,
            )


def _resume(call: Call) -> Json:
    """Begin a new period of a paused subscription; it runs again once that is paid."""
    subscription = call.find("subscription", "subscription", call.path["subscription"])
    if subscription["status"] != "paused":
        raise invalid("You can only resume subscriptions that are paused.", code="resource_missing")
    subscription["billing_cycle_anchor"] = call.now
    lines = []
    for item in subscription["items"]["data"]:
        item["current_period_start"] = call.now
        item["current_period_end"] = next_border(call.now, item["price"]["recurring"], call.now)
        lines.append(item_line(call, item, call.now, item["current_period_end"]))
    invoice = draft_for(call, subscription, "subscription_update", lines)
    call.store.table("subscription_state")[subscription["id"]]["resuming"] = invoice["id"]
    finalize(call, invoice)
    if invoice["status"] == "open":
        collect(call, invoice, method_for(call, invoice), off_session=True)
    return subscription


def _list(call: Call) -> Json:
    status = call.params.get("status")
    price = call.params.get("price")

    def keep(row: Json) -> bool:
        items = row.get("items", {}).get("data", [])
        if price is not None and all(item.get("price", {}).get("id") != price for item in items):
            return False
        if status == "all":
            return True
        if status == "ended":
            return row.get("status") in ENDED
        return bool(row.get("status") == status if status else row.get("status") != "canceled")

    return table_page(call, "subscription", equal=_FILTERS, keep=keep)


_ONE = "/v1/subscriptions/{subscription_exposed_id}"
OPERATIONS = (
    Operation("POST", "/v1/subscriptions", "SubscriptionCreateParams", _create, _CREATE_TAKES),
    Operation(
        "GET", "/v1/subscriptions", "SubscriptionListParams", _list, (*PAGE, "created", "price", "status", *_FILTERS)
    ),
    retrieval(_ONE, "SubscriptionRetrieveParams", "subscription", "subscription"),
    Operation("POST", _ONE, "SubscriptionUpdateParams", _update, _UPDATE_TAKES),
    Operation(
        "DELETE",
        _ONE,
        "SubscriptionCancelParams",
        _cancel,
        ("cancellation_details.comment", "cancellation_details.feedback", "invoice_now", "prorate"),
    ),
    Operation("POST", "/v1/subscriptions/{subscription}/resume", "SubscriptionResumeParams", _resume),
)
