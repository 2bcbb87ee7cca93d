"""Requests to payments, which alone speaks to Stripe: each is a row first, so asking twice asks once."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts.registry import STRIPE_REQUESTED_V1
from rappen_contracts.stripe.v1 import Quantities, StripePlan, StripeRequested
from rappen_contracts.types import NonNegativeMoney
from services.chassis.outbox import append_outbox, outbox_row
from services.chassis.return_url import ReturnUrls
from services.subscriptions.plans.domain import Plan
from services.subscriptions.stripe.domain import request_of
from services.subscriptions.stripe.repository import add_request, count_refused

__all__ = ["Action", "ask_stripe", "open_checkout"]

Action = Literal["end_at_period_end", "resume", "cancel"]


async def ask_stripe(
    connection: AsyncConnection,
    *,
    mandate_id: str,
    subscription_id: UUID,
    version: int,
    action: Action,
    actor: str | None,
    cause: str,
    now: datetime,
) -> UUID:
    """Asks in the caller's transaction, and gives the request's id. A subscription is cancelled once; set to end, and
    taken back, it is once for each `version` of its record. What was refused can be asked again."""
    what = action if action == "cancel" else f"{action}/{version}"
    refusals = await count_refused(connection, subscription_id, action)
    request_id = request_of(subscription_id, f"{what}/{refusals}" if refusals else what)
    await _ask(
        connection,
        StripeRequested(
            mandate_id=mandate_id,
            subscription_id=subscription_id,
            request_id=request_id,
            action=action,
            requested_by=actor,
            requested_at=now,
            cause=cause,
        ),
    )
    return request_id


async def open_checkout(
    connection: AsyncConnection,
    *,
    mandate_id: str,
    subscription_id: UUID,
    request_id: UUID,
    plan: Plan,
    members: int,
    feature_instances: int,
    start_at: datetime | None,
    urls: ReturnUrls,
    return_url: str,
    language: str,
    actor: str,
    cause: str,
    now: datetime,
    expires_at: datetime,
) -> None:
    """Asks for a checkout of the plan, in the caller's transaction, until who waits for it has given up."""
    requested = StripeRequested(
        mandate_id=mandate_id,
        subscription_id=subscription_id,
        request_id=request_id,
        action="checkout",
        plan=StripePlan(
            key=plan.key,
            label_de=plan.label_de,
            label_en=plan.label_en,
            price_per_user=NonNegativeMoney(amount=plan.price_per_user, currency="CHF"),
            price_per_feature_instance=NonNegativeMoney(amount=plan.price_per_feature_instance, currency="CHF"),
            billing_period=plan.billing_period,
        ),
        quantities=Quantities(members=members, feature_instances=feature_instances),
        start_at=start_at,
        success_url=urls.success,
        cancel_url=urls.cancel,
        language="de" if language == "de" else "en",
        requested_by=actor,
        requested_at=now,
        expires_at=expires_at,
        cause=cause,
    )
    await _ask(connection, requested, return_url=return_url)


async def _ask(connection: AsyncConnection, requested: StripeRequested, *, return_url: str | None = None) -> None:
    new = await add_request(
        connection,
        request_id=requested.request_id,
        subscription_id=requested.subscription_id,
        action=requested.action,
        return_url=return_url,
        now=requested.requested_at,
    )
    if new:
        row = outbox_row(
            STRIPE_REQUESTED_V1,
            requested,
            event_id=requested.request_id,
            occurred_at=requested.requested_at,
            key=requested.mandate_id,
        )
        await append_outbox(connection, [row])
