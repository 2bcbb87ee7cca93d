"""Who changed what: append-only, in the transaction of the change."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.money import plain
from services.billing.tables import audit_log

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
    await connection.execute(
        sa.insert(audit_log).values(
            mandate_no=mandate_no, actor=actor, action=action, before=_state(before), after=_state(after), at=now
        )
    )


def _state(values: Mapping[str, Any] | None) -> sa.ColumnElement[Any]:
    """What was or is set, with exact amounts as text."""
    if values is None:
        return sa.null()
    return sa.cast(sa.literal(orjson.dumps(values, default=_text).decode(), sa.Text), JSONB)


def _text(value: object) -> str:
    return plain(value) if isinstance(value, Decimal) else str(value)
