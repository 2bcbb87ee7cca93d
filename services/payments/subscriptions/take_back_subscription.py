"""Takes back a subscription that was begun although it was to be closed: it is cancelled, and what was paid for it goes
back. A payment that was under way then goes back when it arrives."""

from datetime import datetime
from typing import Final
from uuid import UUID, uuid5

import orjson
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.database import Database, announce
from services.payments.requests.domain import NewRequest, StoredRequest
from services.payments.requests.process_requests import Done
from services.payments.requests.receive_requests import REQUESTS
from services.payments.requests.repository import add_request
from services.payments.stripe.errors import StripeObjectUnknown
from services.payments.stripe.gateway import StripeGateway
from services.payments.stripe.objects import Subscription
from services.payments.stripe.refunds import refund_subscription
from services.payments.stripe.subscriptions import cancel_subscription, read_subscription
from services.payments.subscriptions.domain import Fetched, Record, why_taken_back
from services.payments.subscriptions.repository import find_record

__all__ = ["TAKE_BACK", "TakeBackSubscription", "ask_to_take_back", "cancel_at_once", "take_back"]

# What payments asks of itself, beside what topics ask of it.
TAKE_BACK: Final = "take_back"

_NAMESPACE = UUID("3e9b51d7-c802-5f64-8a17-60d2b4f9e835")


async def cancel_at_once(stripe: StripeGateway, subscription: Subscription) -> None:
    """Ends a subscription, unless it has ended."""
    if subscription.has_ended:
        return
    try:
        await cancel_subscription(stripe, subscription.id)
    except StripeObjectUnknown:
        # Stripe says so of one that has ended; then an answer of ours was lost.
        if not (await read_subscription(stripe, subscription.id)).has_ended:
            raise


async def take_back(stripe: StripeGateway, subscription: Subscription, *, key: str) -> None:
    """Cancels it and gives back what is paid, as it is noted before: what is paid later, or at this moment, is told of
    by an event that finds the note (`ask_to_take_back`)."""
    await cancel_at_once(stripe, subscription)
    await refund_subscription(stripe, subscription.id, idempotency_key=key)


async def ask_to_take_back(connection: AsyncConnection, record: Record, fetched: Fetched, now: datetime) -> None:
    """Has a subscription that was taken back looked at again, in the caller's transaction, where it was begun or paid
    since; once for each of Stripe's objects and what it says: one that says that it goes on can be paid later."""
    why = None if record.taken_back_at is None else why_taken_back(fetched)
    if why is None:
        return
    request = NewRequest(
        request_id=uuid5(_NAMESPACE, f"{record.subscription_id}/{fetched.object_id}/{why}"),
        mandate_id=record.mandate_id,
        # After what is being done with it.
        lane=f"subscription/{record.subscription_id}",
        version=None,
        expires_at=None,
    )
    data = orjson.dumps({"subscription_id": str(record.subscription_id)}).decode()
    await add_request(connection, request, topic=TAKE_BACK, data=data, now=now)
    announce(connection, REQUESTS)


class TakeBackSubscription:
    """The work of what payments asks of itself."""

    def __init__(self, database: Database, stripe: StripeGateway) -> None:
        self._database = database
        self._stripe = stripe

    async def perform(self, request: StoredRequest) -> Done:
        """Cancels it and gives back what is paid; what went back before stays as it is."""
        async with self._database.reading() as connection:
            record = await find_record(connection, UUID(orjson.loads(request.data)["subscription_id"]))
        if record is None or record.stripe_subscription_id is None:
            return Done("NOTHING_TO_CANCEL")
        subscription = await read_subscription(self._stripe, record.stripe_subscription_id)
        await take_back(self._stripe, subscription, key=request.key("take-back"))
        return Done("CANCELED_AND_REFUNDED")

    def expired(self, request: StoredRequest) -> Done:
        """It does not expire."""
        return Done("EXPIRED")
