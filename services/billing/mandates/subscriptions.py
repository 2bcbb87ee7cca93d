"""The subscriptions of a mandate, as their newest events describe them, and the terms that follow from them."""

from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts.subscription.v1 import SubscriptionChanged
from services.chassis.database import driver_connection

__all__ = ["follow_subscriptions", "keep_subscription"]


async def keep_subscription(
    connection: AsyncConnection, mandate_no: int, changed: SubscriptionChanged, *, changed_at: datetime
) -> None:
    """Keeps the subscription as its newest version describes it, and whether any version was operative.

    The result does not depend on the order in which versions arrive, or on repeats.
    """
    driver = driver_connection(connection)
    await driver.execute(
        "INSERT INTO mandate_subscriptions AS s"
        " (mandate_no, subscription_id, version, operative, was_operative, plan_key, markup_percent, changed_at)"
        " VALUES ($1, $2, $3, $4, $4, $5, $6, $7)"
        " ON CONFLICT (mandate_no, subscription_id) DO UPDATE SET"
        " version = greatest(s.version, excluded.version), was_operative = s.was_operative OR excluded.operative,"
        " operative = CASE WHEN excluded.version > s.version THEN excluded.operative ELSE s.operative END,"
        " plan_key = CASE WHEN excluded.version > s.version THEN excluded.plan_key ELSE s.plan_key END,"
        " markup_percent = CASE WHEN excluded.version > s.version THEN excluded.markup_percent"
        " ELSE s.markup_percent END,"
        " changed_at = CASE WHEN excluded.version > s.version THEN excluded.changed_at ELSE s.changed_at END",
        mandate_no,
        changed.subscription_id,
        changed.version,
        changed.operative,
        changed.plan.key,
        changed.plan.markup_percent,
        changed_at,
    )


async def follow_subscriptions(connection: AsyncConnection, mandate_no: int) -> None:
    """Sets the mandate's terms by its subscriptions: the operative one holds, of several the one that changed last.

    Where none is operative the mandate has no active subscription, unless none ever was: an unfinished checkout takes
    nothing away from a mandate that spends its credit.
    """
    driver = driver_connection(connection)
    await driver.execute(
        "WITH latest AS ("
        " SELECT subscription_id, version, operative, plan_key, CASE WHEN operative THEN markup_percent END AS markup,"
        "        bool_or(was_operative) OVER () AS ever"
        " FROM mandate_subscriptions WHERE mandate_no = $1"
        " ORDER BY operative DESC, changed_at DESC, subscription_id DESC LIMIT 1)"
        " UPDATE mandates m SET subscription_id = l.subscription_id, subscription_version = l.version,"
        " subscription_operative = CASE WHEN l.ever THEN l.operative END, plan_key = l.plan_key,"
        " plan_markup_percent = l.markup,"
        " pricing_version = m.pricing_version + (m.plan_markup_percent IS DISTINCT FROM l.markup)::int"
        " FROM latest l WHERE m.no = $1"
        " AND (m.subscription_id, m.subscription_version, m.subscription_operative, m.plan_key, m.plan_markup_percent)"
        " IS DISTINCT FROM"
        " (l.subscription_id, l.version, CASE WHEN l.ever THEN l.operative END, l.plan_key, l.markup)",
        mandate_no,
    )
