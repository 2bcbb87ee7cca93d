"""Starting a plan that is paid: a record that waits, and a checkout at Stripe to which its payer is sent."""

from collections.abc import Container
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.caller import Caller
from services.chassis.clock import Clock
from services.chassis.database import Database
from services.chassis.faults import FaultPoints
from services.chassis.problems import IdempotencyMismatch
from services.chassis.return_url import Marks, ReturnUrls, return_urls
from services.subscriptions.lifecycle.await_stripe import await_answer
from services.subscriptions.lifecycle.domain import Subscription, open_record
from services.subscriptions.lifecycle.errors import (
    CheckoutEnded,
    CheckoutRefused,
    CheckoutUnavailable,
    PlanRunning,
    ReturnUrlNotAllowed,
)
from services.subscriptions.lifecycle.record_changes import record_changes
from services.subscriptions.lifecycle.repository import lock_mandate, lock_records, trial_in_checkout, trial_used
from services.subscriptions.lifecycle.settlement import starts_after
from services.subscriptions.lifecycle.start_plan import require_room
from services.subscriptions.lifecycle.states import OCCUPYING
from services.subscriptions.plans.domain import Plan
from services.subscriptions.quantities.repository import in_use
from services.subscriptions.stripe.ask_stripe import ask_stripe, open_checkout
from services.subscriptions.stripe.domain import checkout_request
from services.subscriptions.stripe.queries import checkout_requests

__all__ = ["CheckoutOrder", "StartCheckout"]


@dataclass(frozen=True, slots=True)
class CheckoutOrder:
    """Who starts which plan for which mandate, and where the payer comes back to."""

    caller: Caller
    mandate_id: str
    plan: Plan
    subscription_id: UUID
    return_url: str | None
    cause: str


class StartCheckout:
    """Starts it, waits for the checkout's address and gives it. A repeat of the same record gives the same address."""

    def __init__(
        self,
        database: Database,
        *,
        return_origins: Container[str],
        marks: Marks,
        wait_s: float,
        clock: Clock,
        faults: FaultPoints,
    ) -> None:
        self._database = database
        self._return_origins = return_origins
        self._marks = marks
        self._wait_s = wait_s
        self._clock = clock
        self._faults = faults

    async def __call__(self, order: CheckoutOrder) -> str:
        """The address of the checkout; what the transaction began is finished by payments whatever becomes of this."""
        urls = return_urls(order.return_url or "", origins=self._return_origins, marks=self._marks)
        if urls is None:
            raise ReturnUrlNotAllowed
        async with self._database.transaction() as connection:
            request_id = await self._open(connection, order, urls)
            self._faults.reach("subscriptions_checkout_uncommitted")
        self._faults.reach("subscriptions_checkout_committed")
        answer = await await_answer(self._database, request_id, timeout_s=self._wait_s)
        if answer is None or answer.outcome == "expired":
            raise CheckoutUnavailable
        if answer.outcome != "done" or answer.redirect_url is None:
            raise CheckoutRefused
        return answer.redirect_url

    async def _open(self, connection: AsyncConnection, order: CheckoutOrder, urls: ReturnUrls) -> UUID:
        """Writes the record and the request, or finds those of the same order."""
        now = self._clock()
        await lock_mandate(connection, order.mandate_id)
        records = await lock_records(connection, order.mandate_id, [order.subscription_id])
        record = records.get(order.subscription_id)
        asked = await checkout_requests(connection, order.subscription_id)
        if record is None:
            record = await self._begin(connection, order, records, now)
        elif asked.return_url != order.return_url or record.plan.key != order.plan.key:
            raise IdempotencyMismatch
        elif record.state == "EXPIRED" and (asked.answer is None or asked.answer.outcome != "refused"):
            raise CheckoutEnded
        elif asked.newest is not None and (asked.answer is None or asked.answer.outcome != "expired"):
            return asked.newest
        request_id = checkout_request(record.id, asked.asked + 1)
        counts = await in_use(connection, order.mandate_id)
        await open_checkout(
            connection,
            mandate_id=order.mandate_id,
            subscription_id=record.id,
            request_id=request_id,
            plan=order.plan,
            members=counts.members,
            feature_instances=counts.feature_instances,
            start_at=record.starts_at or await self._trial_end(connection, order, now),
            urls=urls,
            return_url=order.return_url or "",
            language=order.caller.language,
            actor=order.caller.user_id,
            cause=order.cause,
            now=now,
            expires_at=now + timedelta(seconds=self._wait_s),
        )
        return request_id

    async def _begin(
        self, connection: AsyncConnection, order: CheckoutOrder, records: dict[UUID, Subscription], now: datetime
    ) -> Subscription:
        running = next((record for record in records.values() if record.state in OCCUPYING), None)
        if running is not None and running.plan.key == order.plan.key and running.recurring:
            raise PlanRunning
        await require_room(connection, order.mandate_id, order.plan)
        begun = open_record(
            order.plan,
            subscription_id=order.subscription_id,
            mandate_id=order.mandate_id,
            user_id=order.caller.user_id,
            starts_at=starts_after(running, now=now),
            now=now,
        )
        await record_changes(connection, [begun], cause=order.cause, actor=order.caller.user_id, now=now)
        for other in records.values():
            # Nobody is to pay in two tabs. It stays until Stripe says that nothing came of it.
            if other.state == "PENDING":
                await ask_stripe(
                    connection,
                    mandate_id=other.mandate_id,
                    subscription_id=other.id,
                    version=other.version,
                    action="cancel",
                    actor=order.caller.user_id,
                    cause=order.cause,
                    now=now,
                )
        return begun.after

    async def _trial_end(self, connection: AsyncConnection, order: CheckoutOrder, now: datetime) -> datetime | None:
        """A plan with trial days is not charged before their end, where neither the mandate nor the person had a trial
        before, and the person is not about to begin another one."""
        whose = (order.mandate_id, order.caller.user_id)
        if not order.plan.trial_days or await trial_in_checkout(connection, *whose, of_mandate=False):
            return None
        # After the lock of the person: a trial that began meanwhile is seen.
        if await trial_used(connection, *whose):
            return None
        return now.replace(microsecond=0) + timedelta(days=order.plan.trial_days, seconds=1)
