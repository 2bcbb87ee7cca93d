"""Looking at billing's books from outside: counts by mandate, balances, and the audit."""

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

import asyncpg

from services.billing.audit import audit
from tests.support.databases import kept
from tests.support.waiting import eventually

__all__ = ["Books"]


class Books:
    """A connection as the database's administrator, to look at everything."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    async def fetch(self, statement: str, *values: object) -> list[asyncpg.Record]:
        """Rows of one statement."""
        async with kept(self._dsn, schema="billing") as connection:
            rows: list[asyncpg.Record] = await connection.fetch(statement, *values)
            return rows

    async def value(self, statement: str, *values: object) -> Any:
        """The first value of the first row."""
        rows = await self.fetch(statement, *values)
        return rows[0][0] if rows else None

    async def charged(self, mandates: Sequence[str]) -> int:
        """How many usage rows the ledger has of these mandates."""
        return int(
            await self.value(
                "SELECT count(*) FROM transactions t JOIN mandates m ON m.no = t.mandate_no"
                " WHERE m.id = ANY($1) AND t.contra_account = 'REVENUE' AND NOT t.own",
                list(mandates),
            )
        )

    async def cost(self, mandates: Sequence[str]) -> int:
        """What they were charged, in micro-CHF, also where it was taken back."""
        return int(
            await self.value(
                "SELECT coalesce(sum(t.amount), 0) FROM transactions t JOIN mandates m ON m.no = t.mandate_no"
                " WHERE m.id = ANY($1) AND t.contra_account = 'REVENUE' AND NOT t.own",
                list(mandates),
            )
        )

    async def rows(self, mandate: str) -> list[asyncpg.Record]:
        """The ledger of a mandate, each account's rows in their order."""
        return await self.fetch(
            "SELECT t.* FROM transactions t JOIN mandates m ON m.no = t.mandate_no WHERE m.id = $1"
            " ORDER BY t.seq, t.posted_account_no",
            mandate,
        )

    async def rollups(self, mandate: str) -> tuple[int, int]:
        """Cost (micro-CHF) and count of a mandate's usage, as statistics show them."""
        (row,) = await self.fetch(
            "SELECT coalesce(sum(r.cost), 0) AS cost, coalesce(sum(r.count), 0) AS count FROM rollups r"
            " JOIN mandates m ON m.no = r.mandate_no WHERE m.id = $1",
            mandate,
        )
        return int(row["cost"]), int(row["count"])

    async def balances(self, mandate: str) -> dict[str, int]:
        """The balances of a mandate in micro-CHF, by member, or `pool` or `internal`."""
        rows = await self.fetch(
            "SELECT coalesce(a.user_id, CASE a.type WHEN 'MANDATE' THEN 'pool' ELSE 'internal' END) AS name, a.balance"
            " FROM accounts a JOIN mandates m ON m.no = a.mandate_no"
            " WHERE m.id = $1 AND a.type IN ('MANDATE', 'USER', 'INTERNAL')",
            mandate,
        )
        return {row["name"]: row["balance"] for row in rows}

    async def cancelled(self, mandates: Sequence[str]) -> set[UUID]:
        """The usage events that are cancelled, whether or not they have arrived."""
        rows = await self.fetch(
            "SELECT c.event_id FROM cancellations c JOIN mandates m ON m.no = c.mandate_no WHERE m.id = ANY($1)",
            list(mandates),
        )
        return {row["event_id"] for row in rows}

    async def pool(self, mandate: str) -> int:
        """The balance of a mandate's pool, in micro-CHF."""
        return await self._balance(mandate, "MANDATE")

    async def money(self, mandate: str) -> int:
        """What pool and members have together, in micro-CHF."""
        return await self._balance(mandate, "MANDATE", "USER")

    async def _balance(self, mandate: str, *types: str) -> int:
        return int(
            await self.value(
                "SELECT sum(a.balance) FROM accounts a JOIN mandates m ON m.no = a.mandate_no"
                " WHERE m.id = $1 AND a.type = ANY($2)",
                mandate,
                list(types),
            )
        )

    async def quarantined(self) -> dict[str, int]:
        """Dead letters by code, of all topics."""
        rows = await self.fetch("SELECT error_code, count(*) FROM quarantine GROUP BY 1")
        return {row[0]: row[1] for row in rows}

    async def parked(self, mandates: Sequence[str]) -> int:
        """Events that wait for a price or a rate."""
        return int(
            await self.value(
                "SELECT count(*) FROM unposted_events e JOIN mandates m ON m.no = e.mandate_no"
                " WHERE m.id = ANY($1) AND e.reason NOT IN ('FREE', 'CANCELLED', 'CANCELLATION')",
                list(mandates),
            )
        )

    async def refused(self, mandate: str) -> dict[str, int]:
        """Dead letters by code, of the records that were published with the mandate as their key."""
        rows = await self.fetch(
            "SELECT error_code, count(*) FROM quarantine WHERE key = $1 GROUP BY 1", mandate.encode()
        )
        return {row[0]: row[1] for row in rows}

    async def event_ids(self, mandates: Sequence[str]) -> list[UUID]:
        """The ids of all usage events that these mandates were charged for or that were claimed without a posting,
        sorted; an event that is in both tables is there twice."""
        rows = await self.fetch(
            "SELECT t.event_id FROM transactions t JOIN mandates m ON m.no = t.mandate_no"
            " WHERE m.id = ANY($1) AND t.contra_account = 'REVENUE' AND NOT t.own"
            " UNION ALL SELECT e.event_id FROM unposted_events e JOIN mandates m ON m.no = e.mandate_no"
            " WHERE m.id = ANY($1) AND e.reason <> 'CANCELLATION'",
            list(mandates),
        )
        return sorted(row[0] for row in rows)

    async def wait_charged(self, mandates: Sequence[str], count: int, *, timeout_s: float = 60.0) -> None:
        """Waits until the mandates have so many charges."""

        async def there() -> bool:
            return await self.charged(mandates) >= count

        await eventually(there, timeout_s=timeout_s, what=f"{count} charges")

    async def settled(self, mandates: Sequence[str], ids: Iterable[UUID]) -> None:
        """Asserts what must hold after every fault: each event is there once, the books add up, the outbox drains."""
        assert await self.event_ids(mandates) == sorted(ids)
        assert await self.failing() == {}
        await self.relayed()

    async def letters_relayed(self) -> None:
        """Waits until every dead letter is on its topic."""

        async def relayed() -> bool:
            return not await self.value("SELECT count(*) FROM quarantine WHERE relayed_at IS NULL")

        await eventually(relayed, what="relayed dead letters")

    async def relayed(self) -> None:
        """Waits until nothing is left to be published."""

        async def published() -> bool:
            return await self.outbox_rows() == 0 and await self.unpublished_balances() == 0

        await eventually(published, what="an empty outbox")

    async def failing(self) -> dict[str, int]:
        """The audit's failures by check; empty when the books add up."""
        async with kept(self._dsn, schema="billing") as connection:
            return {check.name: check.failing_count for check in await audit(connection) if check.failing_count}

    async def outbox_rows(self) -> int:
        """Events that were not relayed yet."""
        return int(await self.value("SELECT count(*) FROM outbox"))

    async def unpublished_balances(self) -> int:
        """Accounts whose newest balance was not relayed yet."""
        return int(await self.value("SELECT count(*) FROM unpublished_balances"))
