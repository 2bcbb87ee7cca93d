"""Subscriptions at Stripe, each statement in the caller's transaction."""

from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.payments.plans.domain import PlanPrices
from services.payments.subscriptions.domain import Record
from services.payments.subscriptions.tables import invoice_attempts, stripe_subscriptions

__all__ = [
    "add_record",
    "find_record",
    "forget_session",
    "lock_record",
    "lock_record_of",
    "lock_record_of_session",
    "mark_taken_back",
    "note_failed_attempts",
    "save_observation",
    "save_prices",
    "save_quantity_version",
    "save_session",
]

_RECORD = stripe_subscriptions.c
_TAKEN_BACK_AT = _RECORD.taken_back_at
_COLUMNS = [_RECORD[name] for name in Record.__dataclass_fields__]

# What each event does is made once, because making such a statement costs more than executing it.
_LOCK_OF = (
    sa.select(*_COLUMNS)
    .where(_RECORD.stripe_subscription_id == sa.bindparam("stripe_subscription_id"))
    .with_for_update()
)
_NOW, _STRIPE_ID = sa.bindparam("now", type_=sa.DateTime(timezone=True)), sa.bindparam("stripe_id", type_=sa.Text)
# Ids that are known stay, what is not told of stays too.
_OBSERVE = (
    sa.update(stripe_subscriptions)
    .where(_RECORD.subscription_id == sa.bindparam("id_"))
    .values(
        updated_at=_NOW,
        version=sa.bindparam("told_version"),
        stripe_subscription_id=sa.func.coalesce(_RECORD.stripe_subscription_id, _STRIPE_ID),
        # One that was told of before this was noted was told of at some time before.
        begun_told_at=sa.case(
            (_STRIPE_ID.is_(None), _RECORD.begun_told_at),
            else_=sa.func.coalesce(
                _RECORD.begun_told_at,
                sa.case((_RECORD.stripe_subscription_id.is_not(None), _RECORD.created_at)),
                _NOW,
            ),
        ),
        status=sa.func.coalesce(sa.bindparam("told_status", type_=sa.Text), _RECORD.status),
        checkout_session_id=sa.func.coalesce(_RECORD.checkout_session_id, sa.bindparam("session_id", type_=sa.Text)),
    )
)


async def add_record(
    connection: AsyncConnection, subscription_id: UUID, *, mandate_id: str, plan_key: str | None, now: datetime
) -> None:
    """Adds a subscription, unless it is there."""
    await connection.execute(
        insert(stripe_subscriptions)
        .values(
            subscription_id=subscription_id, mandate_id=mandate_id, plan_key=plan_key, created_at=now, updated_at=now
        )
        .on_conflict_do_nothing(index_elements=["subscription_id"])
    )


async def find_record(connection: AsyncConnection, subscription_id: UUID) -> Record | None:
    """The subscription of that id of ours."""
    return await _find(connection, _where(stripe_subscriptions.c.subscription_id == subscription_id))


async def lock_record(connection: AsyncConnection, subscription_id: UUID) -> Record | None:
    """The same, held until the end of the transaction."""
    condition = stripe_subscriptions.c.subscription_id == subscription_id
    return await _find(connection, _where(condition).with_for_update())


async def lock_record_of(connection: AsyncConnection, stripe_subscription_id: str) -> Record | None:
    """The subscription of that id of Stripe's, held until the end of the transaction."""
    row = (await connection.execute(_LOCK_OF, {"stripe_subscription_id": stripe_subscription_id})).first()
    return None if row is None else Record(*row)


async def lock_record_of_session(connection: AsyncConnection, session_id: str) -> Record | None:
    """The subscription that a session begins, held until the end of the transaction."""
    condition = stripe_subscriptions.c.checkout_session_id == session_id
    return await _find(connection, _where(condition).with_for_update())


def _where(condition: sa.ColumnElement[bool]) -> sa.Select[Any]:
    return sa.select(*_COLUMNS).where(condition)


async def _find(connection: AsyncConnection, query: sa.Select[Any]) -> Record | None:
    row = (await connection.execute(query)).first()
    return None if row is None else Record(*row)


async def note_failed_attempts(
    connection: AsyncConnection, stripe_invoice_id: str, count: int, now: datetime
) -> list[int]:
    """Notes the first so many attempts to pay an invoice as failed; gives those that were not noted before."""
    if not count:
        return []
    noted = insert(invoice_attempts).values(
        [{"stripe_invoice_id": stripe_invoice_id, "attempt": number + 1, "noted_at": now} for number in range(count)]
    )
    new = await connection.scalars(noted.on_conflict_do_nothing().returning(invoice_attempts.c.attempt))
    return sorted(new)


async def save_prices(connection: AsyncConnection, subscription_id: UUID, prices: PlanPrices, now: datetime) -> None:
    """Notes the prices that it is begun with."""
    await _update(
        connection, subscription_id, now, members_price_id=prices.members, instances_price_id=prices.feature_instances
    )


async def save_session(connection: AsyncConnection, subscription_id: UUID, session_id: str, now: datetime) -> None:
    """Notes the session in which it is begun."""
    await _update(connection, subscription_id, now, checkout_session_id=session_id)


async def forget_session(connection: AsyncConnection, subscription_id: UUID, now: datetime) -> None:
    """Notes that the session it was to be begun in is not used any more."""
    await _update(connection, subscription_id, now, checkout_session_id=None)


async def mark_taken_back(connection: AsyncConnection, subscription_id: UUID, now: datetime) -> None:
    """Notes that it is cancelled and that what is paid for it goes back."""
    await _update(connection, subscription_id, now, taken_back_at=sa.func.coalesce(_TAKEN_BACK_AT, now))


async def save_quantity_version(
    connection: AsyncConnection, subscription_id: UUID, version: int, now: datetime
) -> None:
    """Notes that Stripe is asked for these quantities."""
    newest = sa.func.greatest(stripe_subscriptions.c.quantity_version, version)
    await _update(connection, subscription_id, now, quantity_version=newest)


async def save_observation(
    connection: AsyncConnection,
    subscription_id: UUID,
    *,
    version: int,
    stripe_subscription_id: str | None,
    status: str | None,
    session_id: str | None,
    now: datetime,
) -> None:
    """Notes what is published."""
    noted = {
        "id_": subscription_id,
        "now": now,
        "told_version": version,
        "stripe_id": stripe_subscription_id,
        "told_status": status,
        "session_id": session_id,
    }
    await connection.execute(_OBSERVE, noted)


async def _update(connection: AsyncConnection, subscription_id: UUID, now: datetime, **values: Any) -> None:
    await connection.execute(
        sa.update(stripe_subscriptions)
        .where(stripe_subscriptions.c.subscription_id == subscription_id)
        .values(updated_at=now, **values)
    )
