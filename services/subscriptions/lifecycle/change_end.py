"""Ending a mandate's subscription with its period, and taking that back."""

from dataclasses import replace
from datetime import datetime
from typing import Literal, NamedTuple
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.caller import Caller
from services.chassis.clock import Clock
from services.chassis.database import Database
from services.subscriptions.lifecycle.await_stripe import await_answer, until
from services.subscriptions.lifecycle.domain import Change, Subscription, changed, end
from services.subscriptions.lifecycle.errors import (
    NoSubscription,
    NotResumable,
    PlanScheduled,
    StripeRefused,
)
from services.subscriptions.lifecycle.queries import recurs
from services.subscriptions.lifecycle.record_changes import record_changes
from services.subscriptions.lifecycle.repository import lock_mandate, lock_records
from services.subscriptions.lifecycle.states import OCCUPYING
from services.subscriptions.stripe.ask_stripe import ask_stripe, is_on_its_way

__all__ = ["ChangeEnd"]


class _Asked(NamedTuple):
    """What Stripe was asked for, and whether the record is to recur when it has done so."""

    request_id: UUID
    subscription_id: UUID
    recurring: bool


class ChangeEnd:
    """Each does nothing where it is done already. What Stripe has to do is waited for, for a bounded time; it is done
    in any case, and shows when Stripe has told of it."""

    def __init__(self, database: Database, *, wait_s: float, clock: Clock) -> None:
        self._database = database
        self._wait_s = wait_s
        self._clock = clock

    async def cancel(self, caller: Caller, mandate_id: str, *, cause: str) -> None:
        """Sets what runs to end with its period, and withdraws what waits for a start or a checkout."""
        caller.require_admin(mandate_id)
        async with self._database.transaction() as connection:
            order = _Order(connection, mandate_id, caller.user_id, cause, self._clock())
            asked = await order.cancel()
        await self._await(asked)

    async def resume(self, caller: Caller, mandate_id: str, *, cause: str) -> None:
        """Takes back that what runs is to end."""
        caller.require_admin(mandate_id)
        async with self._database.transaction() as connection:
            order = _Order(connection, mandate_id, caller.user_id, cause, self._clock())
            asked = await order.resume()
        await self._await(asked)

    async def _await(self, asked: _Asked | None) -> None:
        if asked is None:
            return
        answer = await await_answer(self._database, asked.request_id, timeout_s=self._wait_s / 2)
        if answer is not None and answer.outcome == "refused":
            raise StripeRefused

        async def shows() -> bool | None:
            async with self._database.reading() as connection:
                return await recurs(connection, asked.subscription_id) == asked.recurring or None

        await until(shows, timeout_s=self._wait_s / 2)


class _Order:
    """One request of a person, in its transaction."""

    def __init__(self, connection: AsyncConnection, mandate_id: str, actor: str, cause: str, now: datetime) -> None:
        self._connection = connection
        self._mandate_id = mandate_id
        self._actor = actor
        self._cause = cause
        self._now = now

    async def cancel(self) -> _Asked | None:
        records = await self._records()
        waiting = [record for record in records if record.state in ("PENDING", "SCHEDULED")]
        running = next((record for record in records if record.state in OCCUPYING), None)
        if running is None and not waiting:
            raise NoSubscription
        for record in waiting:
            if record.plan.requires_stripe:
                await self._ask(record, "cancel")
            # A checkout may be paid at this moment; then it is Stripe that says what became of it.
            if record.state == "SCHEDULED":
                await self._record(end(record, at=self._now))
        if running is None or (not running.recurring and not await self._is_on_its_way(running, "resume")):
            return None
        if running.plan.requires_stripe:
            return _Asked(await self._ask(running, "end_at_period_end"), running.id, recurring=False)
        ended = changed(running, replace(running, recurring=False), "CANCELED", at=self._now, now=self._now)
        await self._record(ended)
        return None

    async def resume(self) -> _Asked | None:
        records = await self._records()
        running = next((record for record in records if record.state in OCCUPYING), None)
        if running is None:
            raise NoSubscription
        if any(record.state == "SCHEDULED" for record in records):
            raise PlanScheduled
        if running.recurring and not await self._is_on_its_way(running, "end_at_period_end"):
            return None
        if running.plan.requires_stripe:
            return _Asked(await self._ask(running, "resume"), running.id, recurring=True)
        if running.state != "CANCELED" or not running.operative_at(self._now):
            raise NotResumable
        await self._record(changed(running, replace(running, recurring=True), "ACTIVE", at=self._now, now=self._now))
        return None

    async def _records(self) -> list[Subscription]:
        await lock_mandate(self._connection, self._mandate_id)
        return list((await lock_records(self._connection, self._mandate_id)).values())

    async def _record(self, change: Change) -> None:
        await record_changes(self._connection, [change], cause=self._cause, actor=self._actor, now=self._now)

    async def _is_on_its_way(self, running: Subscription, action: Literal["end_at_period_end", "resume"]) -> bool:
        # The last word counts, also where Stripe has not told yet what became of the one before.
        return running.plan.requires_stripe and await is_on_its_way(
            self._connection, running.id, running.version, action
        )

    async def _ask(self, record: Subscription, action: Literal["end_at_period_end", "resume", "cancel"]) -> UUID:
        return await ask_stripe(
            self._connection,
            mandate_id=record.mandate_id,
            subscription_id=record.id,
            version=record.version,
            action=action,
            actor=self._actor,
            cause=self._cause,
            now=self._now,
        )
