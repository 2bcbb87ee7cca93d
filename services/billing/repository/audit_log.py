"""Who changed what: append-only, in the transaction of the change."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import asyncpg
import orjson

__all__ = ["record_change"]


async def record_change(
    connection: asyncpg.Connection,
    *,
    mandate_no: int | None,
    actor: str,
    action: str,
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any] | None,
    now: datetime,
) -> None:
    """Writes one line of the audit log."""
    await connection.execute(
        "INSERT INTO audit_log (mandate_no, actor, action, before, after, at) VALUES ($1, $2, $3, $4, $5, $6)",
        mandate_no,
        actor,
        action,
        None if before is None else orjson.dumps(before, default=str).decode(),
        None if after is None else orjson.dumps(after, default=str).decode(),
        now,
    )
