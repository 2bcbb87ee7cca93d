"""Subscriptions at Stripe and the sessions in which they are begun."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from services.payments.stripe.gateway import StripeGateway
from services.payments.stripe.json_values import id_of, list_of, metadata_of, time_of
from services.payments.stripe.objects import OpenedSession, Subscription, SubscriptionItem
from services.payments.stripe.views import view

__all__ = [
    "ItemChange",
    "SubscriptionOrder",
    "cancel_subscription",
    "end_trial",
    "expire_session",
    "list_subscriptions",
    "open_subscription",
    "read_subscription",
    "set_items",
    "set_to_end",
    "take_back_end",
]


@dataclass(frozen=True, slots=True)
class SubscriptionOrder:
    """A subscription to be begun: prices with how many of each; nothing is charged before `trial_until`."""

    subscription_id: UUID
    mandate_id: str
    plan_key: str
    customer_id: str
    quantities: Sequence[tuple[str, int]]
    trial_until: datetime | None
    success_url: str
    cancel_url: str
    language: str


@dataclass(frozen=True, slots=True)
class ItemChange:
    """How many an item is to have: one that is there (`item_id`), or a new one of a price."""

    item_id: str | None
    price_id: str
    quantity: int


async def open_subscription(stripe: StripeGateway, order: SubscriptionOrder, *, idempotency_key: str) -> OpenedSession:
    """Makes the session in which a subscription is begun; the same key and order give the same session."""
    # By these names the system before this one marked its objects too.
    metadata = {
        "mandateId": order.mandate_id,
        "subscriptionRecordId": str(order.subscription_id),
        "planKey": order.plan_key,
    }
    subscription: dict[str, Any] = {"metadata": metadata}
    if order.trial_until is not None:
        subscription["trial_end"] = int(order.trial_until.timestamp())
    params = {
        "mode": "subscription",
        "customer": order.customer_id,
        "client_reference_id": str(order.subscription_id),
        "line_items": [{"price": price, "quantity": quantity} for price, quantity in order.quantities],
        "metadata": metadata,
        "subscription_data": subscription,
        "locale": "de" if order.language == "de" else "en",
        "success_url": order.success_url,
        "cancel_url": order.cancel_url,
    }
    options = {"idempotency_key": idempotency_key}
    session = await stripe.ask(lambda v1: v1.checkout.sessions.create_async(params, options))
    return OpenedSession(id=session["id"], url=session["url"])


async def expire_session(stripe: StripeGateway, session_id: str) -> None:
    """Closes an open session, so that nobody can complete it any more."""
    await stripe.ask(lambda v1: v1.checkout.sessions.expire_async(session_id))


async def read_subscription(stripe: StripeGateway, subscription_id: str) -> Subscription:
    """The subscription as Stripe has it now; raises StripeObjectUnknown."""
    return _subscription(await stripe.read("subscriptions", subscription_id))


async def list_subscriptions(stripe: StripeGateway) -> list[Subscription]:
    """Every subscription, ended ones too."""
    return [_subscription(each) for each in await stripe.read_list("subscriptions", status="all", limit=100)]


async def set_to_end(stripe: StripeGateway, subscription_id: str, *, idempotency_key: str) -> Subscription:
    """Has the subscription end with its period."""
    return await _update(stripe, subscription_id, {"cancel_at_period_end": True}, idempotency_key)


async def take_back_end(stripe: StripeGateway, subscription: Subscription, *, idempotency_key: str) -> Subscription:
    """Has it go on, whichever way it was set to end."""
    found = await stripe.read("subscriptions", subscription.id)
    # The portal sets a date where subscriptions are billed flexibly. Stripe takes one of the two at a time.
    params: dict[str, Any] = {"cancel_at_period_end": False} if found.get("cancel_at_period_end") else {"cancel_at": ""}
    return await _update(stripe, subscription.id, params, idempotency_key)


async def end_trial(stripe: StripeGateway, subscription_id: str, *, idempotency_key: str) -> Subscription:
    """Has what is in its trial charged from now on."""
    return await _update(stripe, subscription_id, {"trial_end": "now"}, idempotency_key)


async def cancel_subscription(stripe: StripeGateway, subscription_id: str) -> Subscription:
    """Ends it now."""
    return _subscription(await stripe.ask(lambda v1: v1.subscriptions.cancel_async(subscription_id)))


async def set_items(
    stripe: StripeGateway,
    subscription_id: str,
    changes: Sequence[ItemChange],
    *,
    paid_at_once: bool,
    idempotency_key: str,
) -> Subscription:
    """Changes quantities in proportion to the rest of the period: charged with the next invoice, or at once, where
    nothing changes when that payment is declined (StripeDeclined)."""
    items = [
        {"quantity": each.quantity, **({"id": each.item_id} if each.item_id else {"price": each.price_id})}
        for each in changes
    ]
    how = (
        {"proration_behavior": "always_invoice", "payment_behavior": "error_if_incomplete"}
        if paid_at_once
        else {"proration_behavior": "create_prorations"}
    )
    return await _update(stripe, subscription_id, {"items": items, **how}, idempotency_key)


async def _update(
    stripe: StripeGateway, subscription_id: str, params: Mapping[str, Any], idempotency_key: str
) -> Subscription:
    options = {"idempotency_key": idempotency_key}
    return _subscription(await stripe.ask(lambda v1: v1.subscriptions.update_async(subscription_id, params, options)))


@view
def _subscription(found: Mapping[str, Any]) -> Subscription:
    items = [_item(each, found) for each in list_of(found.get("items"))]
    ends_at = time_of(found.get("cancel_at"))
    if ends_at is None and found.get("cancel_at_period_end"):
        ends_at = max((each.period_end for each in items if each.period_end is not None), default=None)
    return Subscription(
        id=found["id"],
        customer_id=id_of(found.get("customer")),
        status=found["status"],
        metadata=metadata_of(found),
        items=items,
        trial_ends_at=time_of(found.get("trial_end")),
        ends_at=ends_at,
        ended_at=time_of(found.get("ended_at")),
    )


def _item(item: Mapping[str, Any], subscription: Mapping[str, Any]) -> SubscriptionItem:
    """Older versions of Stripe's API have one period for all items, on the subscription."""
    price = item.get("price")
    kind = metadata_of(price).get("kind") if isinstance(price, Mapping) else None
    start = item.get("current_period_start") or subscription.get("current_period_start")
    end = item.get("current_period_end") or subscription.get("current_period_end")
    return SubscriptionItem(item["id"], kind, item.get("quantity") or 0, time_of(start), time_of(end))
