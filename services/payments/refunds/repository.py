"""Refunds and disputes, each statement in the caller's transaction."""

from dataclasses import replace
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.payments.checkouts.domain import Payment
from services.payments.checkouts.tables import payments
from services.payments.observations import observations
from services.payments.refunds.domain import Movement, Refund, RefundState
from services.payments.refunds.tables import refunds

__all__ = ["lock_payment", "note_look", "read_refunds", "save_movement"]

_LOCK = 7_263


async def lock_payment(connection: AsyncConnection, intent_id: str) -> Payment | None:
    """The payment of that intent; who asks for the same one waits until the end of the transaction. It is a row that
    nobody may change, so a lock by its name stands for it."""
    await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK, sa.func.hashtext(intent_id))))
    query = sa.select(payments).where(payments.c.stripe_payment_intent_id == intent_id)
    row = (await connection.execute(query)).mappings().first()
    return None if row is None else Payment(**row)


async def read_refunds(connection: AsyncConnection, payment_event_id: UUID) -> dict[str, Refund]:
    """What was told of a payment, by the id of refund or dispute."""
    columns = [refunds.c[name] for name in Refund.__dataclass_fields__]
    rows = await connection.execute(sa.select(*columns).where(refunds.c.payment_event_id == payment_event_id))
    found = [Refund(**row) for row in rows.mappings()]
    return {each.refund_id: replace(each, state=RefundState(each.state)) for each in found}


async def save_movement(connection: AsyncConnection, payment: Payment, movement: Movement, now: datetime) -> None:
    """Notes what is told of."""
    back = movement.back
    row = {
        "refund_id": back.id,
        "payment_event_id": payment.event_id,
        "kind": back.kind,
        "amount": movement.amount if movement.state is RefundState.NOT_TAKEN else movement.total,
        "stripe_amount": back.amount,
        "currency": back.currency,
        "state": movement.state.value,
        "recorded_at": now,
        "updated_at": now,
        "taken_count": movement.taken_count,
    }
    changed = {name: row[name] for name in ("amount", "stripe_amount", "state", "updated_at", "taken_count")}
    await connection.execute(
        insert(refunds).values(row).on_conflict_do_update(index_elements=["refund_id"], set_=changed)
    )


async def note_look(connection: AsyncConnection, payment: Payment) -> None:
    """Notes that everything that was told of a payment was looked at now, under its lock."""
    await connection.execute(
        sa.update(refunds)
        .where(refunds.c.payment_event_id == payment.event_id)
        .values(version=observations.next_value())
    )
