"""Changes of a running subscription's items: what they cost for the rest of the period, and when that is paid."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from deploy.fakestripe.objects.calendar import next_border, part_of, period_ending
from deploy.fakestripe.objects.invoice_lines import item_line, new_invoice_item, take_pending
from deploy.fakestripe.objects.invoices import (
    SMALLEST_PAYMENT,
    add_items,
    close,
    collect,
    finalize,
    method_for,
    new_invoice,
)
from deploy.fakestripe.objects.payment_attempts import authentication_error, needs_authentication, refusal
from deploy.fakestripe.objects.products import amount_of
from deploy.fakestripe.objects.subscriptions import INCOMPLETE_FOR_S, draft_for, settle_now
from deploy.fakestripe.operation import Call, flag
from deploy.fakestripe.store import Json
from deploy.fakestripe.wire import StripeError, invalid

# What may be changed together with an update that waits for its payment.
_PENDING_PARAMS = frozenset(
    ("expand", "items", "payment_behavior", "price", "proration_behavior", "proration_date", "quantity", "off_session")
)


@dataclass(frozen=True)
class _Proration:
    item: Json
    amount: int
    description: str
    period: tuple[int, int]


def check_waiting(params: Json) -> None:
    """Refuse what cannot be changed by an update that waits for its payment."""
    if params.get("payment_behavior") == "pending_if_incomplete":
        for name in sorted(params.keys() - _PENDING_PARAMS):
            message = f"You cannot update {name} when `payment_behavior` is `pending_if_incomplete`."
            raise invalid(message, name)


def check_proration_date(call: Call, subscription: Json) -> None:
    """Refuse a moment that is not in the period which is paid for."""
    at = call.params.get("proration_date")
    items = subscription["items"]["data"]
    start = min(item["current_period_start"] for item in items)
    if at is not None and not start <= at <= max(item["current_period_end"] for item in items):
        raise invalid("The proration date must lie within the current period.", "proration_date")


def change_items(call: Call, subscription: Json, rows: list[Json], given: Json) -> Json:
    """Replace the items; return the old values, or nothing when they were told already. Raises Stripe's 402."""
    running = subscription["status"] in ("active", "past_due", "unpaid")
    restarts = running and _restarts(subscription["items"]["data"], rows)
    drafts: list[_Proration] = []
    at = given.get("proration_date", call.now)
    if running and given.get("proration_behavior", "create_prorations") != "none":
        drafts = _prorations(call, subscription, rows, at, restarts=restarts)
    if restarts:
        _restart(call, rows)
    lines = [_whole_line(call, row) for row in rows] if restarts else []
    invoiced = restarts or (given.get("proration_behavior") == "always_invoice" and bool(drafts))
    waits = invoiced and _waits(call, subscription, drafts, lines, given)
    drop_pending(call, subscription)
    if waits:
        _wait_for_payment(call, subscription, rows, drafts, at)
        return {}
    for draft in drafts:
        _store(call, subscription, draft)
    previous = {"items": copy.deepcopy(subscription["items"])}
    subscription["items"]["data"] = rows
    if restarts:
        previous["billing_cycle_anchor"] = subscription["billing_cycle_anchor"]
        subscription["billing_cycle_anchor"] = call.now
    if not invoiced:
        return previous
    previous["latest_invoice"] = subscription["latest_invoice"]
    invoice = draft_for(call, subscription, "subscription_update", lines)
    call.emit("customer.subscription.updated", subscription, previous)
    settle_now(call, subscription, invoice, off_session=flag(given, "off_session"))
    return {}


def _waits(call: Call, subscription: Json, drafts: list[_Proration], lines: list[Json], given: Json) -> bool:
    """Tell whether the update is to wait because it could not be paid; raises Stripe's 402 if it may not wait."""
    behavior = given.get("payment_behavior")
    if behavior not in ("error_if_incomplete", "pending_if_incomplete"):
        return False
    amount = sum(draft.amount for draft in drafts) + sum(line["amount"] for line in lines)
    error = _predicted(call, subscription, amount, off_session=flag(given, "off_session"))
    if error is not None and behavior == "error_if_incomplete":
        extra = {"decline_code": error["decline_code"]} if "decline_code" in error else {}
        raise StripeError(402, error["message"], kind="card_error", code=error["code"], extra=extra)
    if error is not None and lines:
        message = "The fake Stripe does not let a change of the billing interval wait for its payment."
        raise invalid(message, "payment_behavior", "unsupported_by_fake")
    return error is not None


def drop_pending(call: Call, subscription: Json) -> None:
    """Give up an update that still waits for its payment, and emit its event."""
    state = call.store.table("subscription_state")[subscription["id"]]
    if subscription["pending_update"] is None:
        return
    subscription["pending_update"] = None
    invoice = call.store.table("invoice")[state["updating"]]
    state |= {"updating": None, "pending_items": None}
    if invoice["status"] == "open":
        close(call, invoice, "void")
    call.emit("customer.subscription.pending_update_expired", subscription)


def _restarts(old: list[Json], rows: list[Json]) -> bool:
    """Tell whether the items change to another length of period, with which the billing cycle begins anew."""

    def lengths(items: list[Json]) -> set[tuple[Any, ...]]:
        recurring = [item["price"]["recurring"] for item in items]
        return {(each["interval"], each["interval_count"]) for each in recurring}

    return lengths(old) != lengths(rows)


def _restart(call: Call, rows: list[Json]) -> None:
    for row in rows:
        row["current_period_start"] = call.now
        row["current_period_end"] = next_border(call.now, row["price"]["recurring"], call.now)


def _whole_line(call: Call, row: Json) -> Json:
    return item_line(call, row, row["current_period_start"], row["current_period_end"])


def _prorations(call: Call, subscription: Json, rows: list[Json], at: int, *, restarts: bool) -> list[_Proration]:
    """Return what is given back for the old items and charged for the new ones, for the rest of the period."""
    anchor = subscription["billing_cycle_anchor"]
    before = {item["id"]: item for item in subscription["items"]["data"]}
    after = {item["id"]: item for item in rows}
    drafts = []

    def part(item: Json, sign: int, words: str) -> _Proration:
        start, end = period_ending(anchor, item["price"]["recurring"], item["current_period_end"])
        left = min(max(end - at, 0), end - start)
        amount = sign * part_of(amount_of(item["price"], item["quantity"]), left, end - start)
        name = call.store.table("product")[item["price"]["product"]]["name"]
        count = f"{item['quantity']} \u00d7 " if item["quantity"] != 1 else ""
        return _Proration(item, amount, f"{words} {count}{name}", (at, end))

    for key, item in before.items():
        if restarts or key not in after or _terms(after[key]) != _terms(item):
            drafts.append(part(item, -1, "Unused time on"))
    for key, item in after.items():
        if not restarts and (key not in before or _terms(before[key]) != _terms(item)):
            drafts.append(part(item, 1, "Remaining time on"))
    return [draft for draft in drafts if draft.amount]


def _terms(item: Json) -> tuple[str, int]:
    return item["price"]["id"], item["quantity"]


def _store(call: Call, subscription: Json, draft: _Proration, invoice: str | None = None) -> Json:
    return new_invoice_item(
        call,
        customer=subscription["customer"],
        amount=draft.amount,
        currency=subscription["currency"],
        description=draft.description,
        period=draft.period,
        price=draft.item["price"],
        quantity=draft.item["quantity"],
        invoice=invoice,
        subscription=subscription["id"],
        subscription_item=draft.item["id"],
        proration=True,
    )


def _predicted(call: Call, subscription: Json, amount: int, *, off_session: bool) -> Json | None:
    """Return the error with which an invoice over the amount, and what waits beside it, could not be paid now."""
    customer = call.store.table("customer")[subscription["customer"]]
    waiting = take_pending(call, customer["id"], subscription["currency"], subscription["id"])
    if amount + sum(row["amount"] for row in waiting) + customer["balance"] < SMALLEST_PAYMENT:
        return None
    key = subscription["default_payment_method"] or customer["invoice_settings"]["default_payment_method"]
    method = None if key is None else call.store.table("payment_method")[key]
    if method is None or method["customer"] != customer["id"]:
        return {"code": "resource_missing", "message": "This customer has no attached payment method."}
    error = refusal(call, method, off_session=off_session)
    if error is None and needs_authentication(call, method, off_session=off_session):
        return authentication_error()
    return error


def _wait_for_payment(call: Call, subscription: Json, rows: list[Json], drafts: list[_Proration], at: int) -> None:
    """Leave the items as they are until the invoice over their change is paid."""
    state = call.store.table("subscription_state")[subscription["id"]]
    customer = call.store.table("customer")[subscription["customer"]]
    before = {name: subscription[name] for name in ("latest_invoice", "pending_update")}
    given = {"proration_date": at}
    invoice = new_invoice(
        call, customer, subscription["currency"], "subscription_update", given, subscription=subscription
    )
    from_items = [_store(call, subscription, draft, invoice["id"]) for draft in drafts]
    add_items(call, invoice, from_items)
    state |= {"updating": invoice["id"], "pending_items": rows}
    subscription["pending_update"] = {
        "billing_cycle_anchor": None,
        "discounts": None,
        "expires_at": call.now + INCOMPLETE_FOR_S,
        "metadata": None,
        "subscription_items": copy.deepcopy(rows),
        "trial_end": None,
        "trial_from_plan": None,
    }
    call.emit("invoice.created", invoice)
    call.emit("customer.subscription.updated", subscription, before)
    finalize(call, invoice)
    collect(call, invoice, method_for(call, invoice), off_session=False)
