"""Recharges, each statement in the caller's transaction."""

from dataclasses import asdict
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.payments.recharges.domain import Recharge, RechargeState
from services.payments.recharges.tables import recharges

__all__ = ["add_recharge", "lock_recharge", "lock_recharge_of", "save_recharge"]

_COLUMNS = [recharges.c[name] for name in Recharge.__dataclass_fields__]


async def add_recharge(connection: AsyncConnection, recharge: Recharge, now: datetime) -> None:
    """Adds a recharge, unless it is there."""
    await connection.execute(
        insert(recharges)
        .values(**asdict(recharge), updated_at=now)
        .on_conflict_do_nothing(index_elements=["recharge_id"])
    )


async def lock_recharge(connection: AsyncConnection, recharge_id: UUID) -> Recharge | None:
    """The recharge of that id, held until the end of the transaction."""
    return await _find(connection, recharges.c.recharge_id == recharge_id)


async def lock_recharge_of(connection: AsyncConnection, intent_id: str) -> Recharge | None:
    """The recharge that a payment of Stripe's is for, held until the end of the transaction."""
    return await _find(connection, recharges.c.stripe_payment_intent_id == intent_id)


async def _find(connection: AsyncConnection, condition: sa.ColumnElement[bool]) -> Recharge | None:
    query: sa.Select[Any] = sa.select(*_COLUMNS).where(condition).with_for_update()
    row = (await connection.execute(query)).first()
    return None if row is None else Recharge(*row)


async def save_recharge(
    connection: AsyncConnection,
    recharge_id: UUID,
    state: RechargeState,
    *,
    intent_id: str | None,
    decline_code: str | None,
    now: datetime,
) -> None:
    """Notes where it stands; the payment that is known stays."""
    values = {
        "state": state.value,
        "stripe_payment_intent_id": sa.func.coalesce(recharges.c.stripe_payment_intent_id, intent_id),
        "decline_code": decline_code,
        "updated_at": now,
    }
    await connection.execute(sa.update(recharges).where(recharges.c.recharge_id == recharge_id).values(values))
