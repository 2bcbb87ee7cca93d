"""A row of the table of subscriptions as the subscription that the rules work with."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from services.subscriptions.lifecycle.domain import Subscription
from services.subscriptions.lifecycle.periods import Period
from services.subscriptions.plans.json_form import PlanForm
from services.subscriptions.tables import subscriptions

__all__ = ["SUBSCRIPTIONS", "subscription_of"]

# The terms as their text, so that no number in them is read by anybody but `PlanForm`.
_TERMS = sa.cast(subscriptions.c.terms, sa.Text).label("terms")
SUBSCRIPTIONS = sa.select(*(_TERMS if column.name == "terms" else column for column in subscriptions.c))


def subscription_of(row: Mapping[Any, Any]) -> Subscription:
    """The subscription of a row, whose terms are text."""
    start, end = row["period_start"], row["period_end"]
    return Subscription(
        # The driver's own kind of UUID has no JSON form.
        id=UUID(bytes=row["id"].bytes),
        mandate_id=row["mandate_id"],
        plan=PlanForm.plan_of(row["terms"]),
        state=row["state"],
        version=row["version"],
        effective_from=row["effective_from"],
        period=None if start is None or end is None else Period(start, end),
        trial_ends_at=row["trial_ends_at"],
        grace_ends_at=row["grace_ends_at"],
        recurring=row["recurring"],
        starts_at=row["starts_at"],
        settle_at=row["settle_at"],
        created_by=row["created_by"],
        created_at=row["created_at"],
    )
