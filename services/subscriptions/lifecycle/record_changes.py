"""Changes of subscriptions, written together with their events; nothing changes a subscription in another way."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.outbox import append_outbox
from services.subscriptions.lifecycle.domain import Change
from services.subscriptions.lifecycle.publications import subscription_changed
from services.subscriptions.lifecycle.repository import save

__all__ = ["record_changes"]


async def record_changes(
    connection: AsyncConnection, changes: Sequence[Change], *, cause: str, actor: str | None, now: datetime
) -> None:
    """Writes and publishes changes in the caller's transaction; a null actor is the platform itself."""
    await save(connection, changes, cause=cause, actor=actor, now=now)
    await append_outbox(connection, [subscription_changed(change, cause=cause) for change in changes])
