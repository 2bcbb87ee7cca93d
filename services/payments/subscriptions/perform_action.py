"""Does with a subscription at Stripe what the subscriptions service asks: opens its checkout, sets it to end, takes
that back, begins it before its planned start, ends it. Settled once, with `stripe.settled`."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal
from uuid import UUID, uuid5

from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts.registry import STRIPE_SETTLED_V1
from rappen_contracts.stripe.v1 import StripeRequested, StripeSettled
from services.chassis.clock import Clock
from services.chassis.database import Database
from services.chassis.outbox import append_outbox, outbox_row
from services.payments.customers.ensure_customer import EnsureCustomer
from services.payments.plans.mirror_plan import mirror_plan
from services.payments.requests.domain import StoredRequest
from services.payments.requests.process_requests import Done
from services.payments.stripe.errors import StripeRefused
from services.payments.stripe.gateway import StripeGateway
from services.payments.stripe.objects import CheckoutSession, OpenedSession, Subscription
from services.payments.stripe.subscriptions import (
    SubscriptionOrder,
    end_trial,
    expire_session,
    open_subscription,
    read_subscription,
    set_to_end,
    take_back_end,
)
from services.payments.subscriptions.domain import Record
from services.payments.subscriptions.repository import (
    add_record,
    find_record,
    forget_session,
    mark_taken_back,
    save_prices,
    save_session,
)
from services.payments.subscriptions.take_back_subscription import cancel_at_once, take_back

__all__ = ["PerformAction"]

_NAMESPACE = UUID("b3c0e1de-6a11-5f2c-8d5a-1d0f7a2c9e41")
# Stripe begins no subscription in a checkout with a trial that ends sooner than in 48 hours. A little more, so that a
# clock that is off and a request that waited do not matter.
TRIAL_MIN: Final = timedelta(hours=49)

Outcome = Literal["done", "refused", "expired"]


@dataclass(frozen=True, slots=True)
class _Settled:
    """What became of a request, before it is written."""

    outcome: Outcome
    code: str | None = None
    session: OpenedSession | None = None


class PerformAction:
    """The work of stripe.requested."""

    def __init__(
        self, database: Database, stripe: StripeGateway, ensure_customer: EnsureCustomer, *, clock: Clock
    ) -> None:
        self._database = database
        self._stripe = stripe
        self._ensure_customer = ensure_customer
        self._clock = clock

    async def perform(self, request: StoredRequest) -> Done:
        """Asks Stripe. What Stripe refuses is the answer; what it cannot do now is tried again."""
        asked = StripeRequested.model_validate_json(request.data)
        try:
            settled = await self._perform(request, asked)
        except StripeRefused:
            settled = _Settled("refused", "STRIPE_REFUSED")
        return self._done(asked, settled)

    def expired(self, request: StoredRequest) -> Done:
        """Who asked has stopped waiting, and Stripe was not asked."""
        return self._done(StripeRequested.model_validate_json(request.data), _Settled("expired"))

    async def _perform(self, request: StoredRequest, asked: StripeRequested) -> _Settled:
        if asked.action == "checkout":
            return await self._open_checkout(request, asked)
        async with self._database.reading() as connection:
            record = await find_record(connection, asked.subscription_id)
        if record is None:
            return _Settled("refused", "UNKNOWN_SUBSCRIPTION")
        if record.stripe_subscription_id is None:
            return await self._before_it_is_begun(request, asked, record)
        subscription = await read_subscription(self._stripe, record.stripe_subscription_id)
        if asked.action == "cancel" and record.told_since(asked.requested_at):
            return await self._take_back(request, asked, subscription)
        return await self._change(request, asked, subscription)

    async def _open_checkout(self, request: StoredRequest, asked: StripeRequested) -> _Settled:
        plan, quantities = asked.plan, asked.quantities
        if plan is None or quantities is None or asked.success_url is None or asked.cancel_url is None:
            return _Settled("refused", "INCOMPLETE_REQUEST")
        # Before the session, so that no event of Stripe's can come before its record.
        async with self._database.transaction() as connection:
            now = self._clock()
            await add_record(connection, asked.subscription_id, mandate_id=asked.mandate_id, plan_key=plan.key, now=now)
            earlier = await find_record(connection, asked.subscription_id)
        if earlier is not None and not await self._close_earlier(earlier):
            return _Settled("refused", "ALREADY_BEGUN")
        customer_id = await self._ensure_customer(asked.mandate_id)
        prices = await mirror_plan(self._stripe, plan)
        async with self._database.transaction() as connection:
            await save_prices(connection, asked.subscription_id, prices, self._clock())
        # A line of a checkout has a quantity; who subscribes is a member, and instances are added when there are some.
        counts = [(prices.members, max(1, quantities.members))]
        if quantities.feature_instances > 0:
            counts.append((prices.feature_instances, quantities.feature_instances))
        order = SubscriptionOrder(
            subscription_id=asked.subscription_id,
            mandate_id=asked.mandate_id,
            plan_key=plan.key,
            customer_id=customer_id,
            quantities=counts,
            trial_until=_trial_until(asked),
            success_url=asked.success_url,
            cancel_url=asked.cancel_url,
            language=asked.language,
        )
        key = request.key("subscription-checkout")
        session = await open_subscription(self._stripe, order, idempotency_key=key)
        return _Settled("done", "CHECKOUT_OPENED", session)

    async def _close_earlier(self, record: Record) -> bool:
        """Closes the checkout of an earlier request, so that nobody pays in both; False where it was completed. The
        session of this very request is noted only when it is settled."""
        if record.stripe_subscription_id is not None:
            return False
        if record.checkout_session_id is None:
            return True
        session = await self._stripe.checkout_session(record.checkout_session_id)
        if session.status == "complete":
            return False
        # First, so that its end is not told of as that of the subscription's checkout.
        async with self._database.transaction() as connection:
            await forget_session(connection, record.subscription_id, self._clock())
        return (await self._closed(session)).status != "complete"

    async def _closed(self, session: CheckoutSession) -> CheckoutSession:
        """Closes a checkout that is open; gives it as it was completed, where that was done since it was read."""
        if session.status != "open":
            return session
        try:
            await expire_session(self._stripe, session.id)
        except StripeRefused:
            # Stripe closes only what is open.
            found = await self._stripe.checkout_session(session.id)
            if found.status == "open":
                raise
            return found
        return session

    async def _before_it_is_begun(self, request: StoredRequest, asked: StripeRequested, record: Record) -> _Settled:
        """There is nothing yet that could end or go on; a checkout that is open can be closed."""
        if asked.action != "cancel":
            return _Settled("refused", "NO_STRIPE_SUBSCRIPTION")
        if record.checkout_session_id is None:
            return _Settled("done", "NOTHING_TO_CANCEL")
        session = await self._closed(await self._stripe.checkout_session(record.checkout_session_id))
        if session.status != "complete":
            return _Settled("done", "CHECKOUT_CLOSED")
        await self._mark_taken_back(asked)
        # Read after the mark, because what arrived before it was told of while nobody knew. Where its payment is still
        # under way, Stripe begins the subscription when it arrives, and tells of that.
        session = await self._stripe.checkout_session(session.id)
        if session.subscription_id is not None:
            subscription = await read_subscription(self._stripe, session.subscription_id)
            await take_back(self._stripe, subscription, key=request.key("take-back"))
        return _Settled("done", "CANCELED_AND_REFUNDED")

    async def _change(self, request: StoredRequest, asked: StripeRequested, subscription: Subscription) -> _Settled:
        if asked.action == "cancel":
            await cancel_at_once(self._stripe, subscription)
            return _Settled("done", "CANCELED")
        if subscription.has_ended:
            return _Settled("refused", "SUBSCRIPTION_ENDED")
        if asked.action == "begin":
            # Stripe would begin a new period of one that is charged already.
            if subscription.status == "trialing":
                await end_trial(self._stripe, subscription.id, idempotency_key=request.key("begin"))
            return _Settled("done", "BEGUN")
        if asked.action == "end_at_period_end":
            if subscription.ends_at is None:
                await set_to_end(self._stripe, subscription.id, idempotency_key=request.key("end"))
            return _Settled("done", "SET_TO_END")
        if subscription.ends_at is not None:
            await take_back_end(self._stripe, subscription, idempotency_key=request.key("resume"))
        return _Settled("done", "RESUMED")

    async def _take_back(self, request: StoredRequest, asked: StripeRequested, subscription: Subscription) -> _Settled:
        await self._mark_taken_back(asked)
        await take_back(self._stripe, subscription, key=request.key("take-back"))
        return _Settled("done", "CANCELED_AND_REFUNDED")

    async def _mark_taken_back(self, asked: StripeRequested) -> None:
        """Who asked meant a checkout that nobody had paid, as when another one was begun in its place; but it was paid
        before it could be closed, or is going to be, and nobody is to pay for two."""
        async with self._database.transaction() as connection:
            await mark_taken_back(connection, asked.subscription_id, self._clock())

    def _done(self, asked: StripeRequested, settled: _Settled) -> Done:
        async def write(connection: AsyncConnection) -> None:
            now, session = self._clock(), settled.session
            if session is not None:
                await save_session(connection, asked.subscription_id, session.id, now)
            data = StripeSettled(
                mandate_id=asked.mandate_id,
                subscription_id=asked.subscription_id,
                request_id=asked.request_id,
                outcome=settled.outcome,
                code=settled.code,
                redirect_url=None if session is None else session.url,
                checkout_session_id=None if session is None else session.id,
                settled_at=now,
                cause=str(asked.request_id),
            )
            event_id = uuid5(_NAMESPACE, str(asked.request_id))
            row = outbox_row(STRIPE_SETTLED_V1, data, event_id=event_id, occurred_at=now, key=asked.mandate_id)
            await append_outbox(connection, [row])

        return Done(settled.outcome.upper(), write)


def _trial_until(asked: StripeRequested) -> datetime | None:
    """Until when nothing is charged, from the request alone, so that a repeat sends Stripe the same."""
    if asked.start_at is None or asked.start_at <= asked.requested_at:
        return None
    return max(asked.start_at, asked.requested_at + TRIAL_MIN)
