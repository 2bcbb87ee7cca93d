"""Reads of what was asked at Stripe."""

from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.subscriptions.stripe.domain import checkout_request
from services.subscriptions.tables import stripe_facts, stripe_requests

__all__ = ["CheckoutRequests", "RequestAnswer", "answer_of", "checkout_requests", "list_statuses"]


class RequestAnswer(NamedTuple):
    """What became of a request, in the words of the contract."""

    outcome: str
    code: str | None
    redirect_url: str | None


class CheckoutRequests(NamedTuple):
    """How often a checkout of a record was asked for, and the newest request with its answer."""

    asked: int
    newest: UUID | None
    return_url: str | None
    answer: RequestAnswer | None


async def answer_of(connection: AsyncConnection, request_id: UUID) -> RequestAnswer | None:
    """The answer to a request; None while there is none."""
    requests = stripe_requests.c
    answered = sa.and_(requests.request_id == request_id, requests.outcome.is_not(None))
    row = (
        await connection.execute(sa.select(requests.outcome, requests.code, requests.redirect_url).where(answered))
    ).first()
    return None if row is None else RequestAnswer(*row)


async def checkout_requests(connection: AsyncConnection, subscription_id: UUID) -> CheckoutRequests:
    """The requests of a record's checkout."""
    requests = stripe_requests.c
    of_record = sa.and_(requests.subscription_id == subscription_id, requests.action == "checkout")
    rows = await connection.execute(sa.select(stripe_requests).where(of_record))
    found = {row["request_id"]: row for row in rows.mappings()}
    if not found:
        return CheckoutRequests(0, None, None, None)
    request_id = checkout_request(subscription_id, len(found))
    newest = found[request_id]
    answered = newest["outcome"] is not None
    answer = RequestAnswer(newest["outcome"], newest["code"], newest["redirect_url"]) if answered else None
    return CheckoutRequests(len(found), request_id, newest["return_url"], answer)


async def list_statuses(connection: AsyncConnection) -> list[tuple[UUID, str | None]]:
    """Every subscription that was seen at Stripe, and the status in which it was last."""
    facts = stripe_facts.c
    query = sa.select(facts.subscription_id, facts.subscription["status"].astext).where(facts.subscription.is_not(None))
    return [(subscription_id, status) for subscription_id, status in await connection.execute(query)]
