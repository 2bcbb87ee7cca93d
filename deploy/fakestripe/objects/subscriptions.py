"""Subscriptions: made, begun with their first invoice, cancelled."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from deploy.fakestripe.objects.calendar import next_border, part_of, period_ending
from deploy.fakestripe.objects.given import own
from deploy.fakestripe.objects.invoice_lines import item_line, take_pending
from deploy.fakestripe.objects.invoices import (
    add_items,
    add_lines,
    close,
    collect,
    finalize,
    method_for,
    new_invoice,
)
from deploy.fakestripe.objects.products import amount_of
from deploy.fakestripe.operation import Call, merged_metadata, support_only, unset_if_empty
from deploy.fakestripe.store import Json, Store
from deploy.fakestripe.wire import invalid

INCOMPLETE_FOR_S = 23 * 3600
TRIAL_WARNING_S = 3 * 24 * 3600
# Later than the year 2286 is no time that anything here can be due at.
MAX_TIME_DIGITS = 10
MAX_DAYS_UNTIL_DUE = 3650
_PERIOD_ENDS = ("min_period_end", "max_period_end")
ENDED = ("canceled", "incomplete_expired")


@dataclass(frozen=True)
class Ordered:
    """An item as it was ordered: a stored price, how many of it, its metadata."""

    price: Json
    quantity: int
    metadata: Json = field(default_factory=dict)


def new_subscription(call: Call, customer: str, ordered: Iterable[Ordered], given: Json) -> Json:
    """Store a subscription that is not paid yet; `given` holds what a request may say about one."""
    key = call.store.new_id("sub_")
    trial_end = given.get("trial_end")
    anchor = trial_end or given.get("billing_cycle_anchor") or call.now
    rows = [_item(call, key, item, anchor, trial_end) for item in ordered]
    mode = given.get("billing_mode", {}).get("type", "flexible")
    behavior = (given.get("trial_settings") or {}).get("end_behavior", {})
    settings = given.get("payment_settings") or {}
    subscription: Json = {
        **_blank(),
        "id": key,
        "billing_cycle_anchor": anchor,
        "billing_mode": {
            "flexible": {"proration_discounts": "included"} if mode == "flexible" else None,
            "type": mode,
        },
        "collection_method": given.get("collection_method", "charge_automatically"),
        "created": call.now,
        "currency": rows[0]["price"]["currency"],
        "customer": customer,
        "days_until_due": given.get("days_until_due"),
        "default_payment_method": unset_if_empty(given.get("default_payment_method")),
        "description": unset_if_empty(given.get("description")),
        "items": {
            "object": "list",
            "data": rows,
            "has_more": False,
            "url": f"/v1/subscription_items?subscription={key}",
        },
        "metadata": merged_metadata({}, given.get("metadata")),
        "payment_settings": {
            "payment_method_options": None,
            "payment_method_types": None,
            "save_default_payment_method": settings.get("save_default_payment_method", "off"),
        },
        "start_date": call.now,
        "status": "trialing" if trial_end else "incomplete",
        "trial_end": trial_end,
        "trial_settings": {
            "end_behavior": {
                "billing_cycle_anchor": None,
                "missing_payment_method": behavior.get("missing_payment_method", "create_invoice"),
            }
        },
        "trial_start": call.now if trial_end else None,
    }
    state = {"id": key, "warned_of": None, "updating": None, "pending_items": None, "resuming": None}
    call.store.add("subscription_state", state)
    call.store.add("subscription", subscription)
    set_end(call, subscription, given)
    return subscription


def _blank() -> Json:
    """Return what every subscription begins with, whatever was ordered."""
    return {
        "object": "subscription",
        "application": None,
        "application_fee_percent": None,
        "automatic_tax": {"disabled_reason": None, "enabled": False, "liability": None},
        "billing_cycle_anchor_config": None,
        "billing_schedules": [],
        "billing_thresholds": None,
        "cancel_at": None,
        "cancel_at_period_end": False,
        "canceled_at": None,
        "cancellation_details": {"comment": None, "feedback": None, "feedback_option": None, "reason": None},
        "customer_account": None,
        "default_source": None,
        "default_tax_rates": [],
        "discounts": [],
        "ended_at": None,
        "invoice_settings": {
            "account_tax_ids": None,
            "custom_fields": None,
            "description": None,
            "footer": None,
            "issuer": {"type": "self"},
        },
        "latest_invoice": None,
        "livemode": False,
        "managed_payments": None,
        "next_pending_invoice_item_invoice": None,
        "on_behalf_of": None,
        "pause_collection": None,
        "pending_invoice_item_interval": None,
        "pending_setup_intent": None,
        "pending_update": None,
        "schedule": None,
        "status_details": None,
        "test_clock": None,
        "transfer_data": None,
    }


def _item(call: Call, subscription: str, ordered: Ordered, anchor: int, trial_end: int | None) -> Json:
    end = trial_end or next_border(anchor, ordered.price["recurring"], call.now)
    return {
        "id": call.store.new_id("si_", 14),
        "object": "subscription_item",
        "billing_thresholds": None,
        "created": call.now,
        "current_period_end": end,
        "current_period_start": call.now,
        "current_trial": None,
        "discounts": [],
        "metadata": dict(ordered.metadata),
        "plan": plan_of(ordered.price),
        "price": copy.deepcopy(ordered.price),
        "quantity": ordered.quantity,
        "subscription": subscription,
        "tax_rates": [],
    }


def new_item(call: Call, subscription: Json, ordered: Ordered) -> Json:
    """Build an item that joins a running subscription; its period ends with those of the others."""
    anchor, trial_end = subscription["billing_cycle_anchor"], subscription["trial_end"]
    running_trial = trial_end if subscription["status"] == "trialing" else None
    return _item(call, subscription["id"], ordered, anchor, running_trial)


def plan_of(price: Json) -> Json:
    """Build the older form of a price, which items still repeat."""
    recurring = price["recurring"]
    return {
        "id": price["id"],
        "object": "plan",
        "active": price["active"],
        "amount": price["unit_amount"],
        "amount_decimal": price["unit_amount_decimal"],
        "billing_scheme": "per_unit",
        "created": price["created"],
        "currency": price["currency"],
        "interval": recurring["interval"],
        "interval_count": recurring["interval_count"],
        "livemode": False,
        "metadata": price["metadata"],
        "meter": None,
        "nickname": price["nickname"],
        "product": price["product"],
        "tiers_mode": None,
        "transform_usage": None,
        "trial_period_days": None,
        "usage_type": recurring["usage_type"],
    }


def check_end(given: Json) -> None:
    """Refuse what is no end of a subscription, before anything is changed."""
    if isinstance(given.get("cancel_at"), str):
        support_only(given, "cancel_at", _PERIOD_ENDS)
    elif given.get("cancel_at"):
        moment_of(given["cancel_at"], "cancel_at")
    if given.get("cancel_at") and given.get("cancel_at_period_end"):
        message = "You may only specify one of these parameters: cancel_at, cancel_at_period_end."
        raise invalid(message, "cancel_at")


def set_end(call: Call, subscription: Json, given: Json) -> Json:
    """Set or take off when the subscription ends; return the old values of what changed."""
    changes: Json = {}
    if "cancel_at_period_end" in given:
        ends = bool(given["cancel_at_period_end"])
        changes = {"cancel_at_period_end": ends, "cancel_at": period_end(subscription) if ends else None}
    if "cancel_at" in given:
        moment = unset_if_empty(given["cancel_at"])
        if moment in _PERIOD_ENDS:
            ends_of = [item["current_period_end"] for item in subscription["items"]["data"]]
            moment = min(ends_of) if moment == "min_period_end" else max(ends_of)
        elif moment is not None:
            moment = moment_of(moment, "cancel_at")
        changes = {"cancel_at_period_end": False, "cancel_at": moment}
    if not changes:
        return {}
    ending = changes["cancel_at"] is not None
    was_ending = subscription["cancel_at"] is not None
    changes["canceled_at"] = (subscription["canceled_at"] if was_ending else call.now) if ending else None
    details = {**subscription["cancellation_details"], "reason": "cancellation_requested" if ending else None}
    changes["cancellation_details"] = details
    previous = {name: subscription[name] for name, value in changes.items() if subscription[name] != value}
    subscription.update(changes)
    return previous


def moment_of(value: Any, param: str) -> int:
    """Read a time that shares its parameter with words and therefore arrives as one."""
    text = str(value)
    if not (text.isascii() and text.isdigit()) or len(text) > MAX_TIME_DIGITS:
        raise invalid(f"Invalid timestamp: {value}.", param, "parameter_invalid_integer")
    return int(text)


def period_end(subscription: Json) -> int:
    """Return when the period of the subscription ends, which is that of its last item."""
    return int(max(item["current_period_end"] for item in subscription["items"]["data"]))


def first_amount(ordered: Iterable[Ordered], given: Json, now: int) -> int:
    """Return what the first invoice of a subscription will be over."""
    if given.get("trial_end"):
        return 0
    anchor = given.get("billing_cycle_anchor") or now
    total = 0
    for item in ordered:
        recurring = item.price["recurring"]
        end = next_border(anchor, recurring, now)
        total += _first_share(amount_of(item.price, item.quantity), recurring, anchor, (now, end), given)
    return total


def _first_share(amount: int, recurring: Json, anchor: int, period: tuple[int, int], given: Json) -> int:
    """Return the price of the first period, which is only a part of one where the anchor lies in the future."""
    start, end = period
    whole_start, whole_end = period_ending(anchor, recurring, end)
    if start == whole_start or anchor <= start:
        return amount
    if given.get("proration_behavior") == "none":
        return 0
    return part_of(amount, whole_end - start, whole_end - whole_start)


def first_invoice(call: Call, subscription: Json, given: Json) -> Json:
    """Make the draft of a subscription's first invoice."""
    anchor = subscription["billing_cycle_anchor"]
    trial = subscription["status"] == "trialing"
    lines = []
    for item in subscription["items"]["data"]:
        start, end = item["current_period_start"], item["current_period_end"]
        whole = amount_of(item["price"], item["quantity"])
        recurring = item["price"]["recurring"]
        amount = 0 if trial else _first_share(whole, recurring, anchor, (start, end), given)
        lines.append(item_line(call, item, start, end, amount))
    return draft_for(call, subscription, "subscription_create", lines)


def draft_for(
    call: Call, subscription: Json, reason: str, lines: Iterable[Json], period: tuple[int, int] | None = None
) -> Json:
    """Make a draft for a subscription with these lines, and the invoice items that wait for one of its customer.

    The period of the invoice itself is the one that has passed; those of the lines say what is paid.
    """
    customer = call.store.table("customer")[subscription["customer"]]
    terms = {name: subscription[name] for name in ("collection_method", "days_until_due") if subscription[name]}
    currency = subscription["currency"]
    invoice = new_invoice(call, customer, currency, reason, terms, subscription=subscription, period=period)
    add_lines(call, invoice, lines)
    add_items(call, invoice, take_pending(call, customer["id"], currency, subscription["id"]))
    call.emit("invoice.created", invoice)
    return invoice


def settle_now(call: Call, subscription: Json, invoice: Json, *, off_session: bool) -> Json | None:
    """Finalize an invoice and try to pay it; return the payment's error."""
    finalize(call, invoice)
    if invoice["status"] == "paid" or subscription["collection_method"] == "send_invoice":
        return None
    return collect(call, invoice, method_for(call, invoice), off_session=off_session)


def cancel(call: Call, subscription: Json, reason: str) -> None:
    """End a subscription at once, and emit its event."""
    # One that was put as it is may lack what only newer versions have.
    details = {**(subscription.get("cancellation_details") or {}), "reason": reason}
    now = call.now
    subscription |= {
        "status": "canceled",
        "canceled_at": subscription.get("canceled_at") or now,
        "ended_at": now,
        "cancellation_details": details,
        "pending_update": None,
    }
    for invoice in invoices_of(call.store, subscription):
        if invoice["status"] == "draft":
            invoice["auto_advance"] = False
        if invoice["status"] == "open":
            invoice |= {"auto_advance": False, "next_payment_attempt": None}
    call.emit("customer.subscription.deleted", subscription)


def expire_incomplete(call: Call, subscription: Json) -> None:
    """Give up a subscription whose first invoice was never paid."""
    for invoice in invoices_of(call.store, subscription):
        if invoice["status"] == "open":
            close(call, invoice, "void")
    subscription |= {"status": "incomplete_expired", "ended_at": call.now}
    call.emit("customer.subscription.updated", subscription, {"status": "incomplete"})


def invoices_of(store: Store, subscription: Json) -> list[Json]:
    """Return the invoices of a subscription, oldest first."""
    return [
        row
        for row in own(store, "invoice")
        if row["parent"] is not None and row["parent"]["subscription_details"]["subscription"] == subscription["id"]
    ]
