"""Which subscriptions are charged at Stripe by members and feature instances, and what was asked for each."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts.stripe.v1 import QuantitySettled, StripeSubscription
from services.subscriptions.directory.queries import count_members
from services.subscriptions.quantities.domain import Counts, KeptInStep
from services.subscriptions.quantities.queries import charged_instances
from services.subscriptions.tables import quantities

__all__ = [
    "follow_subscription",
    "hold_quantities",
    "in_use",
    "lock_due",
    "lock_kept",
    "look_again",
    "look_at_mandates",
    "note_answer",
    "note_request",
]

_KEPT = quantities.c


async def in_use(connection: AsyncConnection, mandate_id: str) -> Counts:
    """What a mandate is to be charged for; a subscription has one member at least."""
    members = await count_members(connection, mandate_id)
    return Counts(max(1, members), await charged_instances(connection, mandate_id))


async def follow_subscription(
    connection: AsyncConnection,
    subscription_id: UUID,
    mandate_id: str,
    observed: StripeSubscription | None,
    *,
    now: datetime,
) -> None:
    """Keeps a subscription in step from now on, or, where there is none at Stripe, no more."""
    this = _KEPT.subscription_id == subscription_id
    if observed is None:
        await connection.execute(sa.update(quantities).where(this, _KEPT.live).values(live=False, check_at=None))
        return
    charged = _charged(observed)
    new = insert(quantities).values(
        subscription_id=subscription_id,
        mandate_id=mandate_id,
        version=0,
        tries=0,
        live=True,
        charged_members=charged.members,
        charged_feature_instances=charged.feature_instances,
        check_at=now,
    )
    differs = sa.or_(
        ~_KEPT.live,
        _KEPT.charged_members.is_distinct_from(charged.members),
        _KEPT.charged_feature_instances.is_distinct_from(charged.feature_instances),
    )
    names = ("live", "charged_members", "charged_feature_instances", "check_at")
    await connection.execute(
        new.on_conflict_do_update(
            index_elements=["subscription_id"], set_={name: new.excluded[name] for name in names}, where=differs
        )
    )


async def look_at_mandates(connection: AsyncConnection, mandate_ids: Collection[str], *, now: datetime) -> None:
    """Has the subscriptions of mandates looked at, because their members or instances may have changed."""
    due = sa.and_(_KEPT.mandate_id.in_(sorted(mandate_ids)), _KEPT.live)
    await connection.execute(sa.update(quantities).where(due).values(check_at=now))


async def hold_quantities(connection: AsyncConnection, subscription_id: UUID, *, until: datetime | None) -> None:
    """Leaves a subscription alone until then, for who asks for its quantities and waits for the answer; None for not
    any longer."""
    await connection.execute(
        sa.update(quantities).where(_KEPT.subscription_id == subscription_id).values(held_until=until)
    )


async def lock_due(connection: AsyncConnection, *, now: datetime, limit: int) -> Sequence[KeptInStep]:
    """Subscriptions to be looked at, the longest due first; another worker's and those that are held are left out."""
    rows = await connection.execute(
        sa.select(quantities)
        .where(_KEPT.check_at <= now, sa.or_(_KEPT.held_until.is_(None), _KEPT.held_until <= now))
        .order_by(_KEPT.check_at, _KEPT.subscription_id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return [_kept(row) for row in rows.mappings()]


async def lock_kept(connection: AsyncConnection, subscription_id: UUID) -> KeptInStep | None:
    """A subscription that is kept in step, locked; None where there is none at Stripe."""
    this = sa.and_(_KEPT.subscription_id == subscription_id, _KEPT.live)
    row = (await connection.execute(sa.select(quantities).where(this).with_for_update())).mappings().first()
    return None if row is None else _kept(row)


async def look_again(connection: AsyncConnection, subscription_id: UUID, at: datetime | None) -> None:
    """Says when to look at it again."""
    await connection.execute(sa.update(quantities).where(_KEPT.subscription_id == subscription_id).values(check_at=at))


async def note_request(connection: AsyncConnection, kept: KeptInStep, *, check_at: datetime) -> None:
    """Notes what was asked for."""
    requested = kept.requested
    await connection.execute(
        sa.update(quantities)
        .where(_KEPT.subscription_id == kept.subscription_id)
        .values(
            version=kept.version,
            requested_members=None if requested is None else requested.members,
            requested_feature_instances=None if requested is None else requested.feature_instances,
            requested_at=kept.requested_at,
            tries=kept.tries,
            check_at=check_at,
        )
    )


async def note_answer(connection: AsyncConnection, settled: QuantitySettled, *, now: datetime) -> None:
    """Notes the answer to the newest request; one to an older says nothing any more.

    What could not be done is looked at again when `next_look` says so.
    """
    newest = sa.and_(_KEPT.subscription_id == settled.subscription_id, _KEPT.version == settled.version)
    values: dict[str, Any] = {"check_at": now}
    if settled.outcome == "settled":
        done = settled.quantities
        values |= {
            "tries": 0,
            "held_until": None,
            "charged_members": _KEPT.requested_members if done is None else done.members,
            "charged_feature_instances": (
                _KEPT.requested_feature_instances if done is None else done.feature_instances
            ),
        }
    await connection.execute(sa.update(quantities).where(newest, _KEPT.live).values(values))


def _charged(observed: StripeSubscription) -> Counts:
    counts = {"members": 0, "feature_instances": 0}
    for item in observed.items:
        counts[item.kind] += item.quantity
    return Counts(**counts)


def _kept(row: Mapping[Any, Any]) -> KeptInStep:
    return KeptInStep(
        subscription_id=UUID(bytes=row["subscription_id"].bytes),
        mandate_id=row["mandate_id"],
        version=row["version"],
        requested=_counts(row["requested_members"], row["requested_feature_instances"]),
        requested_at=row["requested_at"],
        tries=row["tries"],
        charged=_counts(row["charged_members"], row["charged_feature_instances"]),
    )


def _counts(members: int | None, feature_instances: int | None) -> Counts | None:
    return None if members is None or feature_instances is None else Counts(members, feature_instances)
