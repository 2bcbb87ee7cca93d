"""What happens to subscriptions and their invoices by time: trials end, periods renew, payments are tried again."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial

from deploy.fakestripe.objects.calendar import next_border
from deploy.fakestripe.objects.given import is_given, looked_at
from deploy.fakestripe.objects.invoice_lines import item_line, take_pending
from deploy.fakestripe.objects.invoices import close, collect, dunning_of, finalize, method_for
from deploy.fakestripe.objects.subscription_changes import drop_pending
from deploy.fakestripe.objects.subscription_states import change, note_failed, subscription_of
from deploy.fakestripe.objects.subscriptions import (
    ENDED,
    INCOMPLETE_FOR_S,
    TRIAL_WARNING_S,
    cancel,
    draft_for,
    expire_incomplete,
    settle_now,
)
from deploy.fakestripe.operation import Call
from deploy.fakestripe.store import Json, Store

Effect = Callable[[Call], None]


def due_for_subscriptions(store: Store) -> Iterator[tuple[int, Effect]]:
    """Give what will happen next to each subscription, and when; of two things at one moment the first given."""
    for subscription in looked_at(store, "subscription"):
        if subscription["status"] in ENDED:
            continue
        status = subscription["status"]
        if subscription["pending_update"] is not None:
            yield subscription["pending_update"]["expires_at"], partial(_expire_update, subscription)
        if status == "incomplete":
            yield subscription["created"] + INCOMPLETE_FOR_S, partial(_give_up, subscription)
            continue
        if status == "trialing" and _unwarned(store, subscription):
            warning = max(subscription["trial_start"], subscription["trial_end"] - TRIAL_WARNING_S)
            yield warning, partial(_warn, subscription)
        if subscription["cancel_at"] is not None:
            yield subscription["cancel_at"], partial(_cancel, subscription)
        if status == "trialing":
            yield subscription["trial_end"], partial(end_trial, subscription, "subscription_cycle")
        elif status != "paused":
            ends = min(item["current_period_end"] for item in subscription["items"]["data"])
            yield ends, partial(_renew, subscription)
        pause = subscription["pause_collection"]
        if pause is not None and pause["resumes_at"] is not None:
            yield pause["resumes_at"], partial(_resume_collection, subscription)


def due_for_invoices(store: Store) -> Iterator[tuple[int, Effect]]:
    """Give which drafts are finalized and which open invoices are tried again next, and when."""
    for key in store.table("unsettled_invoice"):
        invoice = store.table("invoice")[key]
        if is_given(store, invoice):
            continue
        if invoice["status"] == "draft" and invoice["auto_advance"] and invoice["automatically_finalizes_at"]:
            yield invoice["automatically_finalizes_at"], partial(advance, invoice)
        elif invoice["status"] == "open" and invoice["next_payment_attempt"] is not None:
            yield invoice["next_payment_attempt"], partial(_try_again, invoice)
        elif _may_be_overdue(store, invoice):
            yield invoice["due_date"], partial(_overdue, invoice)


def _may_be_overdue(store: Store, invoice: Json) -> bool:
    if invoice["status"] != "open" or invoice["due_date"] is None:
        return False
    return invoice["id"] not in store.table("overdue_invoice")


def _overdue(invoice: Json, call: Call) -> None:
    """Say that an invoice that was sent has not been paid in time."""
    call.store.add("overdue_invoice", {"id": invoice["id"]})
    call.emit("invoice.overdue", invoice)
    note_failed(call, invoice)


def _unwarned(store: Store, subscription: Json) -> bool:
    warned_of = store.table("subscription_state")[subscription["id"]]["warned_of"]
    return bool(warned_of != subscription["trial_end"])


def _warn(subscription: Json, call: Call) -> None:
    state = call.store.table("subscription_state")[subscription["id"]]
    state["warned_of"] = subscription["trial_end"]
    call.emit("customer.subscription.trial_will_end", subscription)


def _give_up(subscription: Json, call: Call) -> None:
    expire_incomplete(call, subscription)


def _expire_update(subscription: Json, call: Call) -> None:
    drop_pending(call, subscription)


def _resume_collection(subscription: Json, call: Call) -> None:
    change(call, subscription, pause_collection=None)


def _cancel(subscription: Json, call: Call) -> None:
    """End the subscription as was asked before; what still waits to be invoiced is invoiced then."""
    currency = subscription["currency"]
    if take_pending(call, subscription["customer"], currency, subscription["id"]):
        invoice = draft_for(call, subscription, "subscription_update", [])
        settle_now(call, subscription, invoice, off_session=True)
    cancel(call, subscription, "cancellation_requested")


def end_trial(subscription: Json, reason: str, call: Call) -> None:
    """Begin the first paid period; without a payment method what the subscription says about that."""
    behavior = subscription["trial_settings"]["end_behavior"]["missing_payment_method"]
    if behavior != "create_invoice" and not _has_method(call, subscription):
        if behavior == "cancel":
            cancel(call, subscription, "payment_failed")
        else:
            subscription |= {"status": "paused", "status_details": None}
            call.emit("customer.subscription.paused", subscription)
            call.emit("customer.subscription.updated", subscription, {"status": "trialing"})
        return
    previous = {"status": "trialing", "billing_cycle_anchor": subscription["billing_cycle_anchor"]}
    subscription |= {"status": "active", "billing_cycle_anchor": call.now, "trial_end": call.now}
    _bill(call, subscription, subscription["items"]["data"], reason, previous)


def _has_method(call: Call, subscription: Json) -> bool:
    customer = call.store.table("customer")[subscription["customer"]]
    default = customer.get("invoice_settings", {}).get("default_payment_method")
    return bool(subscription["default_payment_method"] or default)


def _renew(subscription: Json, call: Call) -> None:
    """Begin the next period of the items whose period is over, and invoice it."""
    items = [item for item in subscription["items"]["data"] if item["current_period_end"] <= call.now]
    _bill(call, subscription, items, "subscription_cycle", {})


def _bill(call: Call, subscription: Json, items: list[Json], reason: str, previous: Json) -> None:
    previous["items"] = copy.deepcopy(subscription["items"])
    previous["latest_invoice"] = subscription["latest_invoice"]
    started = min(item["current_period_start"] for item in items)
    for item in items:
        item["current_period_start"] = call.now
        end = next_border(subscription["billing_cycle_anchor"], item["price"]["recurring"], call.now)
        item["current_period_end"] = end
    if subscription["cancel_at_period_end"]:
        subscription["cancel_at"] = max(item["current_period_end"] for item in subscription["items"]["data"])
    lines = [item_line(call, item, item["current_period_start"], item["current_period_end"]) for item in items]
    invoice = draft_for(call, subscription, reason, lines, (started, call.now))
    call.emit("customer.subscription.updated", subscription, previous)
    pause = subscription["pause_collection"]
    if subscription["status"] == "unpaid" or (pause is not None and pause["behavior"] == "keep_as_draft"):
        invoice["auto_advance"] = False
        return
    if pause is not None:
        finalize(call, invoice)
        if invoice["status"] == "open":
            close(call, invoice, "void" if pause["behavior"] == "void" else "uncollectible")
        return
    wait_s = dunning_of(call)["invoice_draft_s"]
    if wait_s:
        invoice["automatically_finalizes_at"] = call.now + wait_s
    else:
        advance(invoice, call)


def advance(invoice: Json, call: Call) -> None:
    """Finalize a draft and try to pay it, unless it is to be sent."""
    finalize(call, invoice)
    if invoice["status"] != "open":
        return
    if invoice["collection_method"] == "send_invoice":
        call.emit("invoice.sent", invoice)
    else:
        _collect(call, invoice)


def _try_again(invoice: Json, call: Call) -> None:
    _collect(call, invoice)


def _collect(call: Call, invoice: Json) -> None:
    """Try to pay an invoice while its payer is not there; when that was the last time, the subscription ends."""
    collect(call, invoice, method_for(call, invoice), off_session=True)
    subscription = subscription_of(call, invoice)
    if subscription is None or invoice["status"] != "open" or invoice["next_payment_attempt"] is not None:
        return
    if subscription["status"] != "past_due" or invoice["billing_reason"] != "subscription_cycle":
        return
    outcome = dunning_of(call)["then"]
    if outcome == "cancel":
        cancel(call, subscription, "payment_failed")
    elif outcome == "unpaid":
        change(call, subscription, status="unpaid")
