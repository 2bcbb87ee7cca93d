"""Following a mandate's subscription: the terms of its plan, and once per period its storage and the plan's budget."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts.subscription.v1 import SubscriptionChanged
from services.billing.credits.credit_mandate import MandateCredit, credit_mandate
from services.billing.credits.refunded_budgets import Period
from services.billing.credits.repository import budget_cause, count_members, mark_budget, read_budget
from services.billing.credits.return_budget import take_told_refunds
from services.billing.ledger.errors import BalanceOutOfRange
from services.billing.ledger.keys import ensure_mandates
from services.billing.ledger.low_balances import note_low_balances_of_mandate
from services.billing.mandates.repository import LockedMandate, lock_mandates
from services.billing.mandates.subscriptions import follow_subscriptions, keep_subscription
from services.billing.money import to_micro
from services.billing.storage.settle_periods import settle_storage_periods
from services.chassis.clock import Clock
from services.chassis.consumer import Received, data_of
from services.chassis.database import Database, savepoint
from services.chassis.metrics import EVENTS_CONSUMED
from services.chassis.quarantine import Refused, quarantine

__all__ = ["ApplySubscription"]


class ApplySubscription:
    """The handler of subscription.changed. An event older than the stored version changes no terms, but its budget is
    credited and the storage before it charged."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def __call__(self, events: Sequence[Received], refused: Sequence[Refused]) -> Sequence[Refused]:
        """Settles a batch in one transaction."""
        now = self._clock()
        rejected = list(refused)
        async with self._database.transaction() as connection:
            numbers = await ensure_mandates(
                connection, [data_of(received.event, SubscriptionChanged).mandate_id for received in events]
            )
            mandates = await lock_mandates(connection, numbers.values())
            for received in events:
                changed = data_of(received.event, SubscriptionChanged)
                mandate = mandates[numbers[changed.mandate_id]]
                try:
                    async with savepoint(connection):
                        ended_at = await keep_subscription(
                            connection, mandate.no, changed, changed_at=received.event.time
                        )
                        await follow_subscriptions(connection, mandate.no)
                        await settle_storage_periods(connection, mandate, changed, ended_at=ended_at, now=now)
                        await _credit_budget(connection, mandate, changed, now)
                        # The storage of one period and the budget of the next warn together.
                        await note_low_balances_of_mandate(connection, mandate.no, now=now)
                except BalanceOutOfRange:
                    too_large = "with this budget or storage the balance would leave the range of the ledger"
                    rejected.append(Refused(received.record, "AMOUNT_TOO_LARGE", too_large))
            await quarantine(connection, rejected, group="billing", now=now)
        EVENTS_CONSUMED.labels("subscription.changed", "applied").inc(len(events) + len(refused) - len(rejected))
        return rejected


async def _credit_budget(
    connection: AsyncConnection, mandate: LockedMandate, changed: SubscriptionChanged, now: datetime
) -> None:
    """Credits the plan's budget once per period: its identity is the subscription and the start of the period."""
    if not changed.budget_due or changed.period_start is None or changed.plan.budget.amount <= 0:
        return
    # The mark is the identity, not the rows: a budget that came to nothing, or was shared, is not counted anew either.
    if await read_budget(connection, mandate.no, changed.subscription_id, changed.period_start) is not None:
        return
    amount = to_micro(changed.plan.budget.amount)
    if changed.plan.budget_per == "member":
        amount *= await count_members(connection, changed.mandate_id)
    credit = MandateCredit(
        user_id=None,
        cause=budget_cause(changed.subscription_id, changed.period_start),
        amount=amount,
        contra_account="SUBSCRIPTION_GRANT",
        reference_type="SUBSCRIPTION",
        reference_id=str(changed.subscription_id),
        description=f"Budget {changed.plan.key}",
        occurred_at=changed.period_start,
        grant="BUDGET",
        expires_at=None if changed.plan.rollover else changed.period_end,
    )
    given = await credit_mandate(connection, mandate, credit, now=now)
    await mark_budget(
        connection,
        mandate.no,
        changed.subscription_id,
        changed.period_start,
        amount=amount,
        grant_nos=[part.grant_no for part in given],
        now=now,
    )
    period = Period(mandate.no, changed.subscription_id, changed.period_start)
    await take_told_refunds(connection, mandate, period, now=now)
