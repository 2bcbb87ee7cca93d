"""Following a mandate's subscription: the terms of its plan, and the plan's budget once per period."""

from collections.abc import Sequence
from datetime import datetime

import asyncpg

from rappen_contracts.subscription.v1 import SubscriptionChanged
from services.billing.domain.money import to_micro
from services.billing.repository.keys import ensure_mandates
from services.billing.use_cases.credit_mandate import MandateCredit, credit_mandate
from services.chassis.clock import Clock
from services.chassis.consumer import Received
from services.chassis.database import Database
from services.chassis.metrics import EVENTS_CONSUMED
from services.chassis.quarantine import Refused, quarantine

__all__ = ["ApplySubscription"]


class ApplySubscription:
    """The handler of subscription.changed. What is older than what is here changes no terms, but its budget counts."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def __call__(self, events: Sequence[Received], refused: Sequence[Refused]) -> None:
        """Settles a batch in one transaction."""
        now = self._clock()
        async with self._database.bare() as connection, connection.transaction():
            for received in events:
                changed = received.event.data
                if not isinstance(changed, SubscriptionChanged):
                    raise TypeError(f"{type(changed).__name__} is no subscription change")
                await _apply_terms(connection, changed)
                await _credit_budget(connection, changed, now)
            await quarantine(connection, refused, group="billing", now=now)
        EVENTS_CONSUMED.labels("subscription.changed", "applied").inc(len(events))


async def _apply_terms(connection: asyncpg.Connection, changed: SubscriptionChanged) -> None:
    """An operative subscription's terms hold; the end of one that is not the mandate's present one changes nothing."""
    await ensure_mandates(connection, [changed.mandate_id])
    await connection.execute(
        "UPDATE mandates SET subscription_id = $2, subscription_version = $3, subscription_operative = $4,"
        " plan_key = $5, plan_markup_percent = CASE WHEN $4 THEN $6::numeric END, version = version + 1"
        " WHERE id = $1 AND CASE WHEN subscription_id = $2 THEN subscription_version < $3"
        " ELSE subscription_id IS NULL OR $4 END",
        changed.mandate_id,
        changed.subscription_id,
        changed.version,
        changed.operative,
        changed.plan.key,
        changed.plan.markup_percent,
    )


async def _credit_budget(connection: asyncpg.Connection, changed: SubscriptionChanged, now: datetime) -> None:
    """L16: the budget's identity is the subscription and the start of its period."""
    if not changed.budget_due or changed.period_start is None or changed.plan.budget.amount <= 0:
        return
    amount = to_micro(changed.plan.budget.amount)
    if changed.plan.budget_per == "member":
        amount *= await connection.fetchval(
            "SELECT count(*) FROM directory_members WHERE mandate_id = $1 AND enabled", changed.mandate_id
        )
    identity = f"budget/{changed.subscription_id}/{changed.period_start.isoformat()}"
    credit = MandateCredit(
        mandate_id=changed.mandate_id,
        user_id=None,
        cause=identity,
        amount=amount,
        counter="SUBSCRIPTION_GRANT",
        reference_type="SUBSCRIPTION",
        reference_id=str(changed.subscription_id),
        description=f"Budget {changed.plan.key}",
        occurred_at=changed.period_start,
    )
    posted = await credit_mandate(connection, credit, now=now)
    if posted:
        await connection.execute(
            "INSERT INTO subscription_budgets (mandate_no, subscription_id, period_start, amount, credited_at)"
            " VALUES ($1, $2, $3, $4, $5)",
            posted[0].mandate_no,
            changed.subscription_id,
            changed.period_start,
            amount,
            now,
        )
