"""Who changed what: append-only, in the transaction of the change."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

import orjson
from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.money import plain
from services.chassis.database import driver_connection

__all__ = ["record_change"]


async def record_change(
    connection: AsyncConnection,
    *,
    mandate_no: int | None,
    actor: str,
    action: str,
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any] | None,
    now: datetime,
) -> None:
    """Writes one line of the audit log."""
    driver = driver_connection(connection)
    await driver.execute(
        "INSERT INTO audit_log (mandate_no, actor, action, before, after, at) VALUES ($1, $2, $3, $4, $5, $6)",
        mandate_no,
        actor,
        action,
        None if before is None else orjson.dumps(before, default=_text).decode(),
        None if after is None else orjson.dumps(after, default=_text).decode(),
        now,
    )


def _text(value: object) -> str:
    return plain(value) if isinstance(value, Decimal) else str(value)
