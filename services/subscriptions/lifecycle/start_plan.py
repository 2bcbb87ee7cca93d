"""Starting a plan that needs no payment; a trial that runs ends for it in the same transaction."""

from datetime import datetime
from uuid import UUID

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.caller import Caller
from services.chassis.database import Database
from services.chassis.problems import IdempotencyMismatch, Problem
from services.subscriptions.lifecycle.domain import Change, Subscription, begin, end
from services.subscriptions.lifecycle.errors import (
    OtherPlanRunning,
    PlanNeedsCheckout,
    PlanRunning,
    StartedMeanwhile,
    TrialUsed,
)
from services.subscriptions.lifecycle.record_changes import record_changes
from services.subscriptions.lifecycle.repository import lock_occupying, plan_of, use_trial
from services.subscriptions.plans.catalogue import Catalogue
from services.subscriptions.plans.domain import Plan

__all__ = ["start_plan"]

# Unique indexes that refuse a second start: of many concurrent ones exactly one succeeds.
_VIOLATIONS: dict[str, type[Problem]] = {
    "uq_subscriptions_operative": StartedMeanwhile,
    "pk_subscriptions": StartedMeanwhile,
    "pk_trials": TrialUsed,
    "uq_trials_user_id": TrialUsed,
}


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
    """Starts the plan for the mandate, at once. A subscription of that id is the same request again, and stands."""
    caller.require_admin(mandate_id)
    plan = catalogue.plan(plan_key)
    if plan.operator_only:
        caller.require_system_admin()
    if plan.requires_stripe:
        raise PlanNeedsCheckout
    begun = begin(plan, subscription_id=subscription_id, mandate_id=mandate_id, user_id=caller.user_id, now=now)
    # A trial that the operator gives to somebody else's mandate is not the operator's own.
    trial_user = caller.user_id if mandate_id in caller.mandates else None
    try:
        async with database.transaction() as connection:
            running = await lock_occupying(connection, mandate_id)
            # After the lock: what runs may have been started by this very request, a moment ago.
            if await _is_started(connection, subscription_id, plan_key):
                return
            ended = _replaced(running, plan, now)
            await record_changes(connection, [*ended, begun], cause=cause, actor=caller.user_id, now=now)
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


def _replaced(running: Subscription | None, plan: Plan, now: datetime) -> list[Change]:
    """The end of what runs now, where it ends for another plan."""
    if running is None:
        return []
    if running.plan.key == plan.key:
        # A trial whose time is over may not have been ended by the job yet.
        raise TrialUsed if _is_over(running, now) else PlanRunning
    if running.state != "TRIALING":
        raise OtherPlanRunning
    return [end(running, at=now)]


def _is_over(running: Subscription, now: datetime) -> bool:
    return running.state == "TRIALING" and running.period is not None and running.period.end <= now
