"""Refunds and disputes at Stripe."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from services.payments.stripe.errors import StripeObjectUnknown
from services.payments.stripe.events import events_since
from services.payments.stripe.gateway import StripeGateway, from_minor
from services.payments.stripe.json_values import id_of, time_of
from services.payments.stripe.objects import MoneyBack
from services.payments.stripe.views import view

__all__ = [
    "find_money_back",
    "intent_of_charge",
    "intent_of_dispute",
    "intent_of_refund",
    "list_refunds",
    "money_back",
    "refund_subscription",
]

_NOTHING_WENT_BACK = frozenset(("failed", "canceled", "won"))


async def intent_of_charge(stripe: StripeGateway, charge_id: str) -> str | None:
    """The payment that a charge is of."""
    return await _intent(stripe, "charges", charge_id)


async def intent_of_refund(stripe: StripeGateway, refund_id: str) -> str | None:
    """The payment that a refund is of."""
    return await _intent(stripe, "refunds", refund_id)


async def intent_of_dispute(stripe: StripeGateway, dispute_id: str) -> str | None:
    """The payment that a dispute is about."""
    return await _intent(stripe, "disputes", dispute_id)


async def _intent(stripe: StripeGateway, collection: str, object_id: str) -> str | None:
    try:
        found = await stripe.read(collection, object_id)
        if id_of(found.get("payment_intent")) is None and (charge := id_of(found.get("charge"))) is not None:
            found = await stripe.read("charges", charge)
    except StripeObjectUnknown:
        return None
    return id_of(found.get("payment_intent"))


async def money_back(stripe: StripeGateway, intent_id: str) -> list[MoneyBack]:
    """Every refund and dispute of a payment, oldest first; of each, whether the system before this one has taken it
    back."""
    found = await _list(stripe, payment_intent=intent_id)
    found = await _with_taken_before(stripe, found)
    return sorted(found, key=lambda each: (each.created_at, each.id))


async def refund_subscription(stripe: StripeGateway, subscription_id: str, *, idempotency_key: str) -> None:
    """Gives back what was paid of a subscription's invoices; a payment of which something went back before is left."""
    for invoice in await stripe.read_list("invoices", subscription=subscription_id, status="paid", limit=100):
        for paid in await stripe.read_list("invoice_payments", invoice=invoice["id"], status="paid", limit=100):
            payment = paid.get("payment")
            intent_id = id_of(payment.get("payment_intent")) if isinstance(payment, Mapping) else None
            if intent_id is not None:
                await _refund(stripe, intent_id, idempotency_key=f"{idempotency_key}:{intent_id}")


async def _refund(stripe: StripeGateway, intent_id: str, *, idempotency_key: str) -> None:
    if any(each.status not in _NOTHING_WENT_BACK for each in await money_back(stripe, intent_id)):
        return
    params, options = {"payment_intent": intent_id, "reason": "duplicate"}, {"idempotency_key": idempotency_key}
    await stripe.ask(lambda v1: v1.refunds.create_async(params, options))


async def find_money_back(stripe: StripeGateway, refund_id: str) -> MoneyBack:
    """The refund or dispute of that id; raises StripeObjectUnknown."""
    if refund_id.startswith(("re_", "pyr_")):
        return _money_back(await stripe.read("refunds", refund_id), "REFUND")
    return _money_back(await stripe.read("disputes", refund_id), "DISPUTE")


async def list_refunds(stripe: StripeGateway, *, created: Mapping[str, int]) -> list[MoneyBack]:
    """Every refund and dispute that was made in a time (`gte`, `lt`, in seconds since 1970)."""
    return await _list(stripe, created=created)


async def _list(stripe: StripeGateway, **which: Any) -> list[MoneyBack]:
    refunds = await stripe.read_list("refunds", **which, limit=100)
    disputes = await stripe.read_list("disputes", **which, limit=100)
    return [*(_money_back(each, "REFUND") for each in refunds), *(_money_back(each, "DISPUTE") for each in disputes)]


async def _with_taken_before(stripe: StripeGateway, found: Sequence[MoneyBack]) -> list[MoneyBack]:
    """The same with `taken_before`, by how each stood when this system took over, which events since then tell."""
    since = stripe.taken_over_at
    old = [each for each in found if since is not None and each.created_at < since]
    if since is None or not old:
        return list(found)
    taken = await _refunds_taken_before(stripe, since, [each for each in old if each.kind == "REFUND"])
    taken |= await _disputes_taken_before(stripe, since, [each for each in old if each.kind == "DISPUTE"])
    return [replace(each, taken_before=each.id in taken) for each in found]


async def _refunds_taken_before(stripe: StripeGateway, since: datetime, refunds: Sequence[MoneyBack]) -> set[str]:
    if not refunds:
        return set()
    status = {each.id: each.status for each in refunds}
    events = await events_since(stripe, since, ["refund.updated", "charge.refund.updated"])
    # What the oldest of them says to have been before stands at last.
    for event in reversed(events):
        if event.object_id in status and event.status_before is not None:
            status[event.object_id] = event.status_before
    return {refund_id for refund_id, each in status.items() if each == "succeeded"}


async def _disputes_taken_before(stripe: StripeGateway, since: datetime, disputes: Sequence[MoneyBack]) -> set[str]:
    lost = {each.id for each in disputes if each.status == "lost"}
    if not lost:
        return set()
    closed = await events_since(stripe, since, ["charge.dispute.closed"])
    return lost - {event.object_id for event in closed}


@view
def _money_back(found: Mapping[str, Any], kind: str) -> MoneyBack:
    currency = str(found["currency"]).upper()
    created_at = time_of(found.get("created"))
    if created_at is None:
        raise TypeError("an object of Stripe's has no time")
    return MoneyBack(
        id=found["id"],
        kind=kind,
        status=found.get("status") or "",
        amount=from_minor(found["amount"], currency),
        currency=currency,
        intent_id=id_of(found.get("payment_intent")),
        created_at=created_at,
    )
