"""Writes of the store: activations, removals and personal mandates, each under the lock of its mandate."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.statements import one_of
from services.subscriptions.lifecycle.repository import lock_mandate
from services.subscriptions.store.domain import ACTIVE, OPEN, Activation, OpenRemoval, Plight
from services.subscriptions.tables import (
    activations,
    directory_feature_access,
    directory_feature_instances,
    personal_mandates,
    removals,
)

__all__ = [
    "activation_of_key",
    "add_activation",
    "add_personal_mandate",
    "add_removal",
    "change_activation",
    "close_removals",
    "lock_activation",
    "lock_awaiting_payment",
    "lock_mandates",
    "lock_open_activations",
    "mandates_with_open_work",
    "open_removals",
    "waited_until",
    "with_open_work",
]

# The ledger's smallest unit, a millionth of a franc.
_MICRO = 1_000_000

_activation, _removal = activations.c, removals.c
_instance, _access = directory_feature_instances.c, directory_feature_access.c


async def lock_mandates(connection: AsyncConnection, mandate_ids: Collection[str]) -> None:
    """Takes the locks of mandates, in one order for everybody, until the transaction ends.

    Under it alone subscriptions change, instances are counted against a limit, activations and removals move. Whoever
    takes it has locked nothing before but entries of the directory's copy.
    """
    for mandate_id in sorted(set(mandate_ids)):
        await lock_mandate(connection, mandate_id)


async def activation_of_key(connection: AsyncConnection, request_key: UUID) -> Activation | None:
    """What a request with that key began, unless it came to nothing."""
    begun = sa.select(activations).where(_activation.request_key == request_key, _activation.state.in_(ACTIVE))
    row = (await connection.execute(begun)).mappings().first()
    return None if row is None else activation_of(row)


async def add_activation(
    connection: AsyncConnection, activation: Activation, *, request_key: UUID | None, now: datetime
) -> None:
    """Notes that an instance is being provisioned, which counts towards the limit from here on."""
    row = {name: getattr(activation, name) for name in Activation.__slots__}
    row["price"] = int(activation.price * _MICRO)
    await connection.execute(
        sa.insert(activations).values(**row, request_key=request_key, created_at=now, changed_at=now)
    )


async def change_activation(
    connection: AsyncConnection, activation: Activation, *, now: datetime, **changed: Any
) -> None:
    """Moves an activation that is locked."""
    await connection.execute(
        sa.update(activations)
        .where(_activation.instance_id == activation.instance_id)
        .values(**changed, changed_at=now)
    )


async def lock_activation(connection: AsyncConnection, instance_id: UUID) -> Activation:
    """One activation, locked."""
    read = sa.select(activations).where(_activation.instance_id == instance_id).with_for_update()
    return activation_of((await connection.execute(read)).mappings().one())


async def lock_open_activations(
    connection: AsyncConnection, mandate_ids: Collection[str]
) -> list[tuple[Activation, Plight]]:
    """What is on its way in these mandates, locked, the oldest first, and what the directory has of each."""
    id_ = sa.cast(_activation.instance_id, sa.Text)
    enabled = sa.select(_instance.enabled).where(_instance.id == id_).scalar_subquery()
    newest = (
        sa.select(sa.func.max(_access.version)).where(_access.instance_id == id_, _access.enabled).scalar_subquery()
    )
    own = sa.exists().where(_access.instance_id == id_, _access.user_id == _activation.user_id, _access.enabled)
    rows = await connection.execute(
        sa.select(activations, enabled.label("there"), newest.label("newest"), own.label("own"))
        .where(one_of(_activation.mandate_id, mandate_ids), _activation.state.in_(OPEN))
        .order_by(_activation.created_at, _activation.instance_id)
        .with_for_update(of=activations)
    )
    return [(activation_of(row), _plight(row)) for row in rows.mappings()]


def _plight(row: Mapping[Any, Any]) -> Plight:
    # Disabled: what is not there at all may be on its way, because requests are applied in their order.
    disabled, newest = row["there"] is False, row["newest"]
    return Plight(
        provisioned=row["there"] is True and row["own"],
        gone=disabled and newest is None,
        left=newest if disabled else None,
    )


async def lock_awaiting_payment(
    connection: AsyncConnection, subscription_id: UUID, *, up_to_version: int
) -> list[Activation]:
    """The activations whose payment is part of quantities up to that version, locked."""
    rows = await connection.execute(
        sa.select(activations)
        .where(
            _activation.subscription_id == subscription_id,
            _activation.state == "BILLING",
            _activation.quantity_version <= up_to_version,
        )
        .order_by(_activation.created_at, _activation.instance_id)
        .with_for_update()
    )
    return [activation_of(row) for row in rows.mappings()]


async def waited_until(connection: AsyncConnection, subscription_id: UUID) -> datetime | None:
    """Until when somebody waits for a payment of the subscription; None where nobody does."""
    waiting = sa.select(sa.func.max(_activation.deadline_at)).where(
        _activation.subscription_id == subscription_id, _activation.state == "BILLING"
    )
    until: datetime | None = await connection.scalar(waiting)
    return until


async def with_open_work(connection: AsyncConnection, mandate_ids: Collection[str]) -> list[str]:
    """In which of these mandates something is on its way."""
    if not mandate_ids:
        return []
    open_ = sa.union(
        sa.select(_activation.mandate_id).where(
            _activation.state.in_(OPEN), one_of(_activation.mandate_id, mandate_ids)
        ),
        sa.select(_removal.mandate_id).where(_removal.done_at.is_(None), one_of(_removal.mandate_id, mandate_ids)),
    )
    return list(await connection.scalars(open_))


async def mandates_with_open_work(connection: AsyncConnection, *, limit: int, after: str) -> list[str]:
    """Mandates in which something is on its way, in the order of their ids."""
    open_ = sa.union(
        sa.select(_activation.mandate_id).where(_activation.state.in_(OPEN), _activation.mandate_id > after),
        sa.select(_removal.mandate_id).where(_removal.done_at.is_(None), _removal.mandate_id > after),
    ).subquery()
    return list(await connection.scalars(sa.select(open_.c.mandate_id).order_by(open_.c.mandate_id).limit(limit)))


async def add_removal(
    connection: AsyncConnection,
    *,
    removal_id: UUID,
    instance_id: str,
    mandate_id: str,
    user_id: str,
    instance_removed: bool,
    cause: str,
    now: datetime,
) -> None:
    """Notes that somebody's access is being removed, and with the last one the instance."""
    await connection.execute(
        sa.insert(removals).values(
            id=removal_id,
            instance_id=instance_id,
            mandate_id=mandate_id,
            user_id=user_id,
            instance_removed=instance_removed,
            cause=cause,
            requested_at=now,
        )
    )


async def open_removals(connection: AsyncConnection, mandate_ids: Collection[str]) -> list[OpenRemoval]:
    """What is on its way out in these mandates, the oldest first."""
    holds = sa.exists().where(
        _access.instance_id == _removal.instance_id, _access.user_id == _removal.user_id, _access.enabled
    )
    stands = sa.exists().where(_instance.id == _removal.instance_id, _instance.enabled)
    rows = await connection.execute(
        sa.select(_removal.id, _removal.instance_removed, holds.label("holds"), stands.label("stands"))
        .where(one_of(_removal.mandate_id, mandate_ids), _removal.done_at.is_(None))
        .order_by(_removal.requested_at, _removal.id)
    )
    return [OpenRemoval(**{**row, "id": UUID(bytes=row["id"].bytes)}) for row in rows.mappings()]


async def close_removals(connection: AsyncConnection, ids: Sequence[UUID], *, now: datetime) -> None:
    """Notes that the directory has none of these accesses any more."""
    if ids:
        await connection.execute(sa.update(removals).where(one_of(_removal.id, ids)).values(done_at=now))


async def add_personal_mandate(connection: AsyncConnection, user_id: str, mandate_id: str, *, now: datetime) -> bool:
    """Notes that the user has their personal mandate; False where they had it before, or another request makes it."""
    new = insert(personal_mandates).values(user_id=user_id, mandate_id=mandate_id, created_at=now)
    return (await connection.execute(new.on_conflict_do_nothing())).rowcount > 0


def activation_of(row: Mapping[Any, Any]) -> Activation:
    """The activation of a row."""
    fields = {name: row[name] for name in Activation.__slots__}
    # The driver's own kind of UUID has no JSON form.
    for name in ("instance_id", "subscription_id"):
        fields[name] = UUID(bytes=fields[name].bytes)
    fields["price"] = Decimal(fields["price"]) / _MICRO
    return Activation(**fields)
