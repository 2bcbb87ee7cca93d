"""Asks payments for the quantities that a subscription is to have at Stripe now."""

from datetime import datetime
from uuid import UUID, uuid5

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts.registry import QUANTITY_REQUESTED_V1
from rappen_contracts.stripe.v1 import Quantities, QuantityRequested
from services.chassis.outbox import append_outbox, outbox_row
from services.subscriptions.directory.queries import count_members
from services.subscriptions.quantities.queries import charged_instances
from services.subscriptions.tables import activations, quantities

__all__ = ["request_quantities"]


async def request_quantities(
    connection: AsyncConnection, *, subscription_id: UUID, mandate_id: str, cause: str, now: datetime
) -> int:
    """Publishes what the mandate uses now, in the caller's transaction; returns the version of the request.

    While an activation waits for its payment, every request of its subscription is one that is paid at once: it takes
    the place of the one before, and would let the activation pass unpaid.
    """
    used = Quantities(
        members=await count_members(connection, mandate_id),
        feature_instances=await charged_instances(connection, mandate_id),
    )
    expires_at = await _waited_until(connection, subscription_id)
    version = await _next_version(connection, subscription_id, mandate_id, used, now=now)
    data = QuantityRequested(
        mandate_id=mandate_id,
        subscription_id=subscription_id,
        request_id=uuid5(subscription_id, f"quantities/{version}"),
        version=version,
        quantities=used,
        paid_at_once=expires_at is not None,
        requested_at=now,
        expires_at=expires_at,
        cause=cause,
    )
    row = outbox_row(QUANTITY_REQUESTED_V1, data, event_id=data.request_id, occurred_at=now, key=mandate_id)
    await append_outbox(connection, [row])
    return version


async def _waited_until(connection: AsyncConnection, subscription_id: UUID) -> datetime | None:
    """Until when somebody waits for a payment of the subscription; None where nobody does."""
    waiting = sa.select(sa.func.max(activations.c.deadline_at)).where(
        activations.c.subscription_id == subscription_id, activations.c.state == "BILLING"
    )
    until: datetime | None = await connection.scalar(waiting)
    return until


async def _next_version(
    connection: AsyncConnection, subscription_id: UUID, mandate_id: str, used: Quantities, *, now: datetime
) -> int:
    asked = {**used.model_dump(), "requested_at": now}
    new = insert(quantities).values(
        subscription_id=subscription_id, mandate_id=mandate_id, version=1, settled_version=0, **asked
    )
    written = new.on_conflict_do_update(
        index_elements=[quantities.c.subscription_id], set_={**asked, "version": quantities.c.version + 1}
    )
    return int((await connection.execute(written.returning(quantities.c.version))).scalar_one())
