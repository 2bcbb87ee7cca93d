"""What Stripe's events tell of a time, where an object does not say itself when it became what it is.

Stripe keeps events for 30 days, so only who looks within these is told.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from services.payments.stripe.gateway import StripeGateway
from services.payments.stripe.json_values import time_of

__all__ = ["StripeEvent", "events_since"]


@dataclass(frozen=True, slots=True)
class StripeEvent:
    """Something that happened to an object; `status_before` is None where its status did not change."""

    object_id: str
    created_at: datetime
    status_before: str | None


async def events_since(stripe: StripeGateway, since: datetime, types: Sequence[str]) -> list[StripeEvent]:
    """The events of these types from a time on, oldest first."""
    listed = await stripe.read_list("events", types=list(types), created={"gte": int(since.timestamp())}, limit=100)
    found = []
    # Stripe lists the newest first, also of those within a second.
    for event in reversed(listed):
        created_at, about = time_of(event.get("created")), event.get("data")
        if created_at is None or created_at < since or not isinstance(about, Mapping):
            continue
        subject, before = about.get("object"), about.get("previous_attributes")
        status = before.get("status") if isinstance(before, Mapping) else None
        if isinstance(subject, Mapping) and isinstance(subject.get("id"), str):
            found.append(StripeEvent(subject["id"], created_at, status if isinstance(status, str) else None))
    return found
