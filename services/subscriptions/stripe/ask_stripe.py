"""Requests to payments, which alone speaks to Stripe: each is a row first, so asking twice asks once."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final, Literal
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts.registry import STRIPE_REQUESTED_V1
from rappen_contracts.stripe.v1 import Quantities, StripePlan, StripeRequested
from rappen_contracts.types import NonNegativeMoney
from services.chassis.outbox import append_outbox, outbox_row
from services.chassis.return_url import ReturnUrls
from services.subscriptions.plans.domain import Plan
from services.subscriptions.stripe.domain import request_of
from services.subscriptions.stripe.repository import add_request, count_settled, is_asked

__all__ = ["Action", "ask_stripe", "is_on_its_way", "open_checkout"]

Action = Literal["end_at_period_end", "resume", "cancel", "begin"]

_OPPOSITES: Final[Mapping[Action, Action]] = {"end_at_period_end": "resume", "resume": "end_at_period_end"}


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
    """Asks in the caller's transaction, and gives the request's id. To cancel or to begin is not asked again before
    there is an answer; to set to end, or to take that back, not before the `version` of the record shows it, unless it
    was refused or the opposite was asked since."""
    request_id = await _next_request(connection, subscription_id, version, action)
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


async def is_on_its_way(connection: AsyncConnection, subscription_id: UUID, version: int, action: Action) -> bool:
    """Whether this was the last that was asked about the end, and the record does not show it yet."""
    return await is_asked(connection, await _next_request(connection, subscription_id, version, action))


async def _next_request(connection: AsyncConnection, subscription_id: UUID, version: int, action: Action) -> UUID:
    """The id that a request has now: of one that stands, or of a new one."""
    what = action if action in ("cancel", "begin") else f"{action}/{version}"
    number = await count_settled(connection, subscription_id, action, opposite=_OPPOSITES.get(action))
    return request_of(subscription_id, f"{what}/{number}" if number else what)


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
