"""What waits for an operator: dead letters, usage without a price, usage that the directory does not know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import asyncpg

_TIMEOUT_S = 10.0
# The services that consume from Kafka.
CONSUMERS = ("billing", "subscriptions", "payments", "gateway")

_DEAD_LETTERS = "SELECT count(*) FROM quarantine WHERE replayed_at IS NULL AND closed_at IS NULL"
_UNPRICED = "SELECT count(*) FROM unposted_events WHERE reason NOT IN ('FREE', 'CANCELLED', 'CANCELLATION')"


@dataclass(frozen=True)
class PendingItems:
    """What waits for an operator, counted; dead letters by service, without those that were replayed or closed."""

    dead_letters: Mapping[str, int]
    unpriced: int
    unknown: int

    def lines(self) -> list[str]:
        """The counts in a line, with the command that lists each; a further line for other services' letters."""
        counts = (
            ("dead letters", sum(self.dead_letters.values()), "dlq list"),
            ("unpriced", self.unpriced, "unpriced"),
            ("unknown", self.unknown, "unknown"),
        )
        others = [
            f"of the dead letters {count} of {service} (rappen dlq --service {service} list)"
            for service, count in self.dead_letters.items()
            if count and service != "billing"
        ]
        return [", ".join(f"{name}: {count} (rappen {command})" for name, count, command in counts), *others]


async def count_pending(stack: Mapping[str, Any]) -> PendingItems | None:
    """Count in the databases of a stack; None when they do not answer, which shows in the table anyway."""
    from services.chassis.database import DatabaseUnavailable

    dsns: Mapping[str, str] = stack["postgres"]
    try:
        letters = {service: await _count(dsns[service], _DEAD_LETTERS) for service in CONSUMERS}
        unpriced = await _count(dsns["billing"], _UNPRICED)
        return PendingItems(letters, unpriced, await _unknown(dsns["billing"]))
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, DatabaseUnavailable):
        return None


async def _unknown(dsn: str) -> int:
    from services.billing.mandates.queries import count_unknown
    from services.chassis.database import Database
    from services.chassis.settings import DatabaseSettings

    database = Database(dsn, pool_size=1, settings=DatabaseSettings(statement_timeout_s=_TIMEOUT_S))
    try:
        async with database.reading() as connection:
            return await count_unknown(connection)
    finally:
        await database.stop()


async def _count(dsn: str, statement: str) -> int:
    connection = await _connect(dsn)
    try:
        count: int = await connection.fetchval(statement)
        return count
    finally:
        await connection.close(timeout=_TIMEOUT_S)


async def _connect(dsn: str) -> asyncpg.Connection:
    return await asyncpg.connect(
        dsn,
        timeout=_TIMEOUT_S,
        command_timeout=_TIMEOUT_S,
        server_settings={"default_transaction_read_only": "on", "application_name": "rappen-status"},
    )
