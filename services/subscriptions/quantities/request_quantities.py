"""Asking for the quantities of a subscription at Stripe: absolute, and numbered, so that the newest counts."""

from dataclasses import replace
from datetime import datetime
from uuid import UUID, uuid5

from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts.registry import QUANTITY_REQUESTED_V1
from rappen_contracts.stripe.v1 import Quantities, QuantityRequested
from services.chassis.outbox import append_outbox, outbox_row
from services.subscriptions.quantities.domain import Counts, KeptInStep, next_look
from services.subscriptions.quantities.repository import in_use, lock_kept, note_request

__all__ = ["ask_for", "request_quantities"]


async def request_quantities(
    connection: AsyncConnection,
    subscription_id: UUID,
    *,
    paid_at_once: bool = False,
    wanted: Counts | None = None,
    expires_at: datetime | None = None,
    cause: str,
    now: datetime,
) -> UUID | None:
    """Asks, in the caller's transaction, for what is in use or the counts that are given, and gives the request's id;
    None where nothing of that subscription is charged at Stripe."""
    kept = await lock_kept(connection, subscription_id)
    if kept is None:
        return None
    wanted = wanted or await in_use(connection, kept.mandate_id)
    return await ask_for(
        connection, kept, wanted, paid_at_once=paid_at_once, expires_at=expires_at, cause=cause, now=now
    )


async def ask_for(
    connection: AsyncConnection,
    kept: KeptInStep,
    wanted: Counts,
    *,
    paid_at_once: bool = False,
    expires_at: datetime | None = None,
    cause: str,
    now: datetime,
) -> UUID:
    """Asks for the counts of a subscription whose row is locked."""
    tries = kept.tries + 1 if kept.requested == wanted else 0
    asked = replace(kept, version=kept.version + 1, requested=wanted, requested_at=now, tries=tries)
    request_id = uuid5(kept.subscription_id, f"quantities/{asked.version}")
    data = QuantityRequested(
        mandate_id=kept.mandate_id,
        subscription_id=kept.subscription_id,
        request_id=request_id,
        version=asked.version,
        quantities=Quantities(members=wanted.members, feature_instances=wanted.feature_instances),
        paid_at_once=paid_at_once,
        requested_at=now,
        expires_at=expires_at,
        cause=cause,
    )
    await note_request(connection, asked, check_at=next_look(asked, wanted, now) or now)
    row = outbox_row(QUANTITY_REQUESTED_V1, data, event_id=request_id, occurred_at=now, key=kept.mandate_id)
    await append_outbox(connection, [row])
    return request_id
