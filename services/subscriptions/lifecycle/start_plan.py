"""Starting a plan that needs no payment: at once, or where another plan runs that has an end, after it."""

from dataclasses import replace
from datetime import datetime
from uuid import UUID

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.caller import Caller
from services.chassis.database import Database
from services.chassis.problems import IdempotencyMismatch, Problem
from services.subscriptions.lifecycle.domain import Change, Subscription, begin, changed, end, open_record
from services.subscriptions.lifecycle.errors import (
    OtherPlanRunning,
    PlanRunning,
    PlanTooSmall,
    StartedMeanwhile,
    TrialInCheckout,
    TrialUsed,
)
from services.subscriptions.lifecycle.record_changes import record_changes
from services.subscriptions.lifecycle.repository import (
    lock_mandate,
    lock_records,
    plan_of,
    trial_in_checkout,
    use_trial,
)
from services.subscriptions.lifecycle.settlement import starts_after
from services.subscriptions.lifecycle.states import OCCUPYING
from services.subscriptions.plans.catalogue import Catalogue
from services.subscriptions.plans.domain import Plan
from services.subscriptions.quantities.repository import in_use
from services.subscriptions.stripe.ask_stripe import Action, ask_stripe

__all__ = ["require_room", "require_startable", "start_plan"]

# Unique indexes that refuse a second start: of many concurrent ones exactly one succeeds.
_VIOLATIONS: dict[str, type[Problem]] = {
    "uq_subscriptions_operative": StartedMeanwhile,
    "pk_subscriptions": StartedMeanwhile,
    "pk_trials": TrialUsed,
    "uq_trials_user_id": TrialUsed,
}


def require_startable(catalogue: Catalogue, caller: Caller, mandate_id: str, plan_key: str) -> Plan:
    """The plan of that key, where the caller may start it for the mandate."""
    caller.require_admin(mandate_id)
    plan = catalogue.plan(plan_key)
    if plan.operator_only:
        caller.require_system_admin()
    return plan


async def require_room(connection: AsyncConnection, mandate_id: str, plan: Plan) -> None:
    """Refuses a plan that allows less than the mandate uses."""
    used = await in_use(connection, mandate_id)
    limits = ((used.members, plan.max_users), (used.feature_instances, plan.max_feature_instances))
    if any(limit is not None and count > limit for count, limit in limits):
        raise PlanTooSmall(used.members, used.feature_instances)


async def start_plan(
    database: Database,
    catalogue: Catalogue,
    *,
    caller: Caller,
    mandate_id: str,
    plan_key: str,
    subscription_id: UUID,
    cause: str,
    now: datetime,
) -> None:
    """Starts the plan for the mandate. A subscription of that id is the same request again, and stands."""
    plan = require_startable(catalogue, caller, mandate_id, plan_key)
    begun = begin(plan, subscription_id=subscription_id, mandate_id=mandate_id, user_id=caller.user_id, now=now)
    # A trial that the operator gives to somebody else's mandate is not the operator's own.
    trial_user = caller.user_id if mandate_id in caller.mandates else None
    try:
        async with database.transaction() as connection:
            await lock_mandate(connection, mandate_id)
            records = await lock_records(connection, mandate_id)
            # After the lock: what runs may have been started by this very request, a moment ago.
            if await _is_started(connection, subscription_id, plan_key):
                return
            if plan.is_trial and await trial_in_checkout(connection, mandate_id, trial_user, of_mandate=True):
                raise TrialInCheckout
            await require_room(connection, mandate_id, plan)
            start = _Start(connection, list(records.values()), begun.after, actor=caller.user_id, cause=cause, now=now)
            await start.write(begun)
            if plan.is_trial:
                await use_trial(connection, begun.after, user_id=trial_user, now=now)
    except asyncpg.UniqueViolationError as error:
        refusal = _VIOLATIONS.get(error.constraint_name or "")
        if refusal is None:
            raise
        async with database.reading() as connection:
            # Of two requests with one key at the same moment, the later finds what the earlier has started.
            if await _is_started(connection, subscription_id, plan_key):
                return
        raise refusal from error


async def _is_started(connection: AsyncConnection, subscription_id: UUID, plan_key: str) -> bool:
    """Whether this very request was here before; its key with another plan is no repeat."""
    started = await plan_of(connection, subscription_id)
    if started not in (None, plan_key):
        raise IdempotencyMismatch
    return started is not None


class _Start:
    """One start in its transaction, among the records of the mandate."""

    def __init__(
        self,
        connection: AsyncConnection,
        records: list[Subscription],
        begun: Subscription,
        *,
        actor: str,
        cause: str,
        now: datetime,
    ) -> None:
        self._connection = connection
        self._running = next((record for record in records if record.state in OCCUPYING), None)
        self._waiting = [record for record in records if record.state == "SCHEDULED"]
        self._unpaid = [record for record in records if record.state == "PENDING"]
        self._begun = begun
        self._actor = actor
        self._cause = cause
        self._now = now

    async def write(self, begun: Change) -> None:
        """Begins, in place of what runs and ends for it; or waits for its end."""
        running, plan = self._running, self._begun.plan
        if running is not None:
            _require_replaceable(running, plan, self._now)
        starts_at = starts_after(running, now=self._now)
        for other in self._waiting:
            await self._end(other)
        for other in self._unpaid:
            # Nobody is to pay for what would wait for this one. It stays until Stripe says that nothing came of it.
            await self._ask(other, "cancel")
        if running is None or starts_at is None:
            if running is not None:
                await self._end(running)
            await self._record(begun)
            return
        await self._schedule(starts_at)
        if running.recurring:
            await self._set_to_end(running)

    async def _schedule(self, starts_at: datetime) -> None:
        begun = self._begun
        opened = open_record(
            begun.plan,
            subscription_id=begun.id,
            mandate_id=begun.mandate_id,
            user_id=begun.created_by,
            starts_at=starts_at,
            now=self._now,
        )
        await self._record(opened)
        waits = replace(opened.after, effective_from=starts_at)
        await self._record(changed(opened.after, waits, "SCHEDULED", at=self._now, now=self._now))

    async def _set_to_end(self, running: Subscription) -> None:
        if running.plan.requires_stripe:
            await self._ask(running, "end_at_period_end")
        else:
            await self._record(
                changed(running, replace(running, recurring=False), "CANCELED", at=self._now, now=self._now)
            )

    async def _end(self, record: Subscription) -> None:
        if record.plan.requires_stripe:
            await self._ask(record, "cancel")
        await self._record(end(record, at=self._now))

    async def _record(self, change: Change) -> None:
        await record_changes(self._connection, [change], cause=self._cause, actor=self._actor, now=self._now)

    async def _ask(self, record: Subscription, action: Action) -> None:
        await ask_stripe(
            self._connection,
            mandate_id=record.mandate_id,
            subscription_id=record.id,
            version=record.version,
            action=action,
            actor=self._actor,
            cause=self._cause,
            now=self._now,
        )


def _require_replaceable(running: Subscription, plan: Plan, now: datetime) -> None:
    """Refuses the plan that runs already, and a trial beside any other."""
    if running.plan.key == plan.key:
        # A trial whose time is over may not have been ended by the job yet.
        raise TrialUsed if _is_over(running, now) else PlanRunning
    if plan.is_trial and running.operative_at(now):
        raise OtherPlanRunning


def _is_over(running: Subscription, now: datetime) -> bool:
    return running.state == "TRIALING" and running.period is not None and running.period.end <= now
