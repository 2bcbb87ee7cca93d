"""Brings the quantities of a subscription at Stripe to those that were asked for; settled once, with
`quantity.settled`."""

from typing import Literal
from uuid import UUID, uuid5

from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts.registry import QUANTITY_SETTLED_V1
from rappen_contracts.stripe.v1 import Quantities, QuantityRequested, QuantitySettled
from services.chassis.clock import Clock
from services.chassis.database import Database
from services.chassis.outbox import append_outbox, outbox_row
from services.payments.plans.domain import FEATURE_INSTANCES, MEMBERS
from services.payments.requests.domain import StoredRequest
from services.payments.requests.process_requests import Done
from services.payments.requests.repository import has_newer_version
from services.payments.stripe.errors import StripeDeclined, StripeObjectUnknown, StripeRefused, StripeUnavailable
from services.payments.stripe.gateway import StripeGateway
from services.payments.stripe.objects import Subscription
from services.payments.stripe.subscriptions import ItemChange, read_subscription, set_items
from services.payments.subscriptions.domain import Record, quantities_of
from services.payments.subscriptions.repository import find_record, save_quantity_version

__all__ = ["SetQuantities"]

_NAMESPACE = UUID("5a0f2b51-7c3e-5e0b-9b0c-0f4a7b1d2c63")

Outcome = Literal["settled", "declined", "unavailable", "superseded"]


class SetQuantities:
    """The work of quantity.requested. Quantities are absolute, so doing it twice is doing it once."""

    def __init__(self, database: Database, stripe: StripeGateway, *, clock: Clock) -> None:
        self._database = database
        self._stripe = stripe
        self._clock = clock

    async def perform(self, request: StoredRequest) -> Done:
        """Asks Stripe, unless a newer request makes this one void."""
        asked = QuantityRequested.model_validate_json(request.data)
        async with self._database.reading() as connection:
            newer = await has_newer_version(connection, request)
            record = await find_record(connection, asked.subscription_id)
        if newer or (record is not None and record.quantity_version > asked.version):
            return self._done(asked, "superseded")
        if record is None or record.stripe_subscription_id is None:
            return self._done(asked, "unavailable", "NO_STRIPE_SUBSCRIPTION")
        try:
            return await self._set(request, asked, record, record.stripe_subscription_id)
        except StripeRefused as error:
            unknown = isinstance(error, StripeObjectUnknown)
            return self._done(asked, "declined", "NO_STRIPE_SUBSCRIPTION" if unknown else "STRIPE_REFUSED")
        except StripeUnavailable:
            if not request.is_over(self._clock()):
                raise
            return self._done(asked, "unavailable", "STRIPE_UNAVAILABLE")

    def expired(self, request: StoredRequest) -> Done:
        """Who asked has stopped waiting, and Stripe was not asked."""
        return self._done(QuantityRequested.model_validate_json(request.data), "unavailable", "EXPIRED")

    async def _set(
        self, request: StoredRequest, asked: QuantityRequested, record: Record, stripe_subscription_id: str
    ) -> Done:
        subscription = await read_subscription(self._stripe, stripe_subscription_id)
        there, changes = quantities_of(subscription), _changes(subscription, asked.quantities, record)
        if there == asked.quantities:
            return self._done(asked, "settled", quantities=there)
        if subscription.has_ended or not changes:
            code = "SUBSCRIPTION_ENDED" if subscription.has_ended else "NO_PRICE"
            return self._done(asked, "declined", code, there)
        if request.is_over(self._clock()):
            # It was begun, and Stripe does not have it: who asked has given it up.
            return self._done(asked, "unavailable", "EXPIRED", there)
        async with self._database.reading() as connection:
            await save_quantity_version(connection, asked.subscription_id, asked.version, self._clock())
        try:
            changed = await set_items(
                self._stripe,
                subscription.id,
                changes,
                paid_at_once=asked.paid_at_once,
                idempotency_key=request.key("quantity"),
            )
        except StripeDeclined as error:
            return self._done(asked, "declined", (error.decline_code or "declined").upper(), there)
        return self._done(asked, "settled", quantities=quantities_of(changed))

    def _done(
        self,
        asked: QuantityRequested,
        outcome: Outcome,
        code: str | None = None,
        quantities: Quantities | None = None,
    ) -> Done:
        async def write(connection: AsyncConnection) -> None:
            now = self._clock()
            data = QuantitySettled(
                mandate_id=asked.mandate_id,
                subscription_id=asked.subscription_id,
                request_id=asked.request_id,
                version=asked.version,
                outcome=outcome,
                code=code,
                quantities=quantities,
                settled_at=now,
                cause=str(asked.request_id),
            )
            event_id = uuid5(_NAMESPACE, str(asked.request_id))
            row = outbox_row(QUANTITY_SETTLED_V1, data, event_id=event_id, occurred_at=now, key=asked.mandate_id)
            await append_outbox(connection, [row])

        return Done(outcome.upper(), write)


def _changes(subscription: Subscription, wanted: Quantities, record: Record) -> list[ItemChange]:
    """What has to change; an item is added when there is something to charge for, and stays with a quantity of 0."""
    prices = {MEMBERS: record.members_price_id, FEATURE_INSTANCES: record.instances_price_id}
    counts = {MEMBERS: wanted.members, FEATURE_INSTANCES: wanted.feature_instances}
    changes: list[ItemChange] = []
    for kind, count in counts.items():
        item, price = subscription.item(kind), prices[kind]
        if item is not None and item.quantity != count:
            changes.append(ItemChange(item.id, price or "", count))
        elif item is None and count > 0 and price is not None:
            changes.append(ItemChange(None, price, count))
    return changes
