"""The subscriptions of a mandate, as their newest events describe them, and the terms that follow from them."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts.subscription.v1 import SubscriptionChanged
from services.billing.tables import mandate_subscriptions, mandates

__all__ = ["follow_subscriptions", "keep_subscription"]


async def keep_subscription(
    connection: AsyncConnection, mandate_no: int, changed: SubscriptionChanged, *, changed_at: datetime
) -> datetime | None:
    """Keeps the subscription as its newest version describes it, and whether any version was operative; gives when it
    ended, None for one that has not.

    The result does not depend on the order in which versions arrive, or on repeats.
    """
    kept, described = mandate_subscriptions.c, ("operative", "plan_key", "markup_percent", "changed_at", "ended_at")
    given = insert(mandate_subscriptions).values(
        mandate_no=mandate_no,
        subscription_id=changed.subscription_id,
        version=changed.version,
        operative=changed.operative,
        was_operative=changed.operative,
        plan_key=changed.plan.key,
        markup_percent=changed.plan.markup_percent,
        changed_at=changed_at,
        ended_at=(changed.period_end or changed_at) if changed.to_state == "EXPIRED" else None,
    )
    newer = given.excluded.version > kept.version
    ended_at: datetime | None = await connection.scalar(
        given.on_conflict_do_update(
            index_elements=[kept.mandate_no, kept.subscription_id],
            set_={
                "version": sa.func.greatest(kept.version, given.excluded.version),
                "was_operative": sa.or_(kept.was_operative, given.excluded.operative),
                **{name: sa.case((newer, given.excluded[name]), else_=kept[name]) for name in described},
            },
        ).returning(kept.ended_at)
    )
    return ended_at


async def follow_subscriptions(connection: AsyncConnection, mandate_no: int) -> None:
    """Sets the mandate's terms by its subscriptions: the operative one holds, of several the one that changed last.

    Where none is operative the mandate has no active subscription, unless none ever was: an unfinished checkout takes
    nothing away from a mandate that spends its credit.
    """
    known, ever_operative = mandate_subscriptions.c, sa.func.bool_or(mandate_subscriptions.c.was_operative).over()
    latest = (
        sa.select(
            known.subscription_id,
            known.version.label("subscription_version"),
            sa.case((ever_operative, known.operative)).label("subscription_operative"),
            known.plan_key,
            sa.case((known.operative, known.markup_percent)).label("plan_markup_percent"),
        )
        .where(known.mandate_no == mandate_no)
        .order_by(known.operative.desc(), known.changed_at.desc(), known.subscription_id.desc())
        .limit(1)
        .cte("latest")
    )
    markup_changes = mandates.c.plan_markup_percent.is_distinct_from(latest.c.plan_markup_percent)
    changes = sa.or_(*(mandates.c[term.name].is_distinct_from(term) for term in latest.c))
    await connection.execute(
        sa.update(mandates)
        .where(mandates.c.no == mandate_no, changes)
        .values(
            {term.name: term for term in latest.c}
            | {"pricing_version": mandates.c.pricing_version + sa.cast(markup_changes, sa.Integer)}
        )
    )
