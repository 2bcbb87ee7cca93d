"""Facts of subscriptions as outbox rows."""

from uuid import uuid5

from rappen_contracts.registry import SUBSCRIPTION_CHANGED_V1
from rappen_contracts.subscription.v1 import Plan as PlanInForce
from rappen_contracts.subscription.v1 import SubscriptionChanged
from rappen_contracts.types import NonNegativeMoney
from services.chassis.outbox import OutboxRow, outbox_row
from services.subscriptions.lifecycle.domain import Change
from services.subscriptions.plans.domain import Plan

__all__ = ["subscription_changed"]


def subscription_changed(change: Change, *, cause: str) -> OutboxRow:
    """The event of one change; its id follows from the subscription's version, so a repeat is the same event."""
    after = change.after
    data = SubscriptionChanged(
        mandate_id=after.mandate_id,
        subscription_id=after.id,
        version=after.version,
        from_state=change.before.state if change.before else None,
        to_state=after.state,
        operative=after.operative_at(change.occurred_at),
        budget_due=change.budget_due,
        plan=_in_force(after.plan),
        period_start=after.period.start if after.period else None,
        period_end=after.period.end if after.period else None,
        cause=cause,
    )
    return outbox_row(
        SUBSCRIPTION_CHANGED_V1,
        data,
        event_id=uuid5(after.id, str(after.version)),
        occurred_at=change.occurred_at,
        key=after.mandate_id,
    )


def _in_force(plan: Plan) -> PlanInForce:
    return PlanInForce(
        key=plan.key,
        budget=NonNegativeMoney(amount=plan.budget_ai, currency="CHF"),
        budget_per=plan.budget_per,
        rollover=plan.rollover,
        max_users=plan.max_users,
        max_feature_instances=plan.max_feature_instances,
        max_data_volume_mb=plan.max_data_volume_mb,
        markup_percent=plan.markup_percent,
        storage_price_per_gb_month=NonNegativeMoney(amount=plan.storage_price_per_gb_month, currency="CHF"),
    )
