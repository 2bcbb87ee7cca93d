"""What the payment of an invoice does to its subscription."""

from __future__ import annotations

from typing import Any

from deploy.fakestripe.operation import Call
from deploy.fakestripe.store import Json

OPERATIVE = ("active", "trialing", "past_due", "unpaid", "paused", "incomplete")


def change(call: Call, subscription: Json, **changes: Any) -> None:
    """Change members of a subscription, and emit one event with the old values if anything changed."""
    previous = {name: subscription[name] for name, value in changes.items() if subscription[name] != value}
    if previous:
        subscription.update(changes)
        call.emit("customer.subscription.updated", subscription, previous)


def subscription_of(call: Call, invoice: Json) -> Json | None:
    """Return the subscription that an invoice belongs to."""
    parent = invoice["parent"]
    if parent is None:
        return None
    return call.store.table("subscription")[parent["subscription_details"]["subscription"]]


def note_paid(call: Call, invoice: Json) -> None:
    """Bring the subscription up to date after its invoice was paid; an older invoice changes no status."""
    subscription = subscription_of(call, invoice)
    if subscription is None:
        return
    state = call.store.table("subscription_state")[subscription["id"]]
    if state["updating"] == invoice["id"]:
        state["updating"] = None
        apply_pending(call, subscription, state)
    if invoice["id"] != subscription["latest_invoice"]:
        return
    if subscription["status"] == "paused" and state["resuming"] == invoice["id"]:
        state["resuming"] = None
        subscription |= {"status": "active", "status_details": None}
        call.emit("customer.subscription.resumed", subscription)
        call.emit("customer.subscription.updated", subscription, {"status": "paused"})
    elif subscription["status"] in ("incomplete", "past_due", "unpaid"):
        change(call, subscription, status="active")


def note_failed(call: Call, invoice: Json) -> None:
    """Make the subscription past due after a renewal or a change of it could not be paid."""
    subscription = subscription_of(call, invoice)
    if subscription is None or call.store.table("subscription_state")[subscription["id"]]["updating"] == invoice["id"]:
        return
    if subscription["status"] == "active" and invoice["billing_reason"] != "manual":
        change(call, subscription, status="past_due")


def apply_pending(call: Call, subscription: Json, state: Json) -> None:
    """Carry out the update that waited for its payment."""
    items = state["pending_items"]
    subscription["items"]["data"] = items
    state["pending_items"] = None
    subscription["pending_update"] = None
    call.emit("customer.subscription.pending_update_applied", subscription)
    call.emit("customer.subscription.updated", subscription, {"pending_update": None})
