"""Whether the books add up: balances, chains, days, sums, credits, holds and more, in one snapshot of the database.

A check is one statement over the whole ledger, hashed or sorted, never a look-up for each row. It gives a row for every
account (or mandate) that it looks at: `failing` is whether that one is wrong, `detail` how. Two things are not in the
database and come as arguments: where days begin, computed by the code that charges, and what was published. That of
prices alone reads the charges one by one, because the database cannot price usage.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from services.billing.audit import (
    accounts,
    balances,
    corrections,
    descriptions,
    grants,
    holds,
    invoices,
    limits,
    low_balances,
    recorded_credits,
    reversals,
    storage,
    sums,
    usage,
    workflows,
)
from services.billing.audit.days import DAYS, day_borders
from services.billing.audit.published import PUBLISHED, PublishedBalance, published_arguments, read_published
from services.billing.audit.recomputed import recompute_prices
from services.billing.audit.sealed import check_sealed_days

__all__ = ["AuditCheck", "PublishedBalance", "audit", "read_published"]

FAILING_MAX = 1000
TIMEOUT_S = 1800

_STATEMENTS = {
    **balances.CHECKS,
    **usage.CHECKS,
    **reversals.CHECKS,
    **corrections.CHECKS,
    **accounts.CHECKS,
    **recorded_credits.CHECKS,
    **holds.CHECKS,
    **grants.CHECKS,
    **limits.CHECKS,
    **storage.CHECKS,
    **sums.CHECKS,
    **invoices.CHECKS,
    **low_balances.CHECKS,
    **workflows.CHECKS,
    **descriptions.CHECKS,
}


@dataclass(frozen=True)
class AuditCheck:
    """One check: how many accounts it looked at, how many fail, and the first of those with what is wrong."""

    name: str
    looked_at: int
    failing_count: int
    failing: list[dict[str, str | None]]


async def audit(
    connection: asyncpg.Connection, published: Sequence[PublishedBalance] | None = None
) -> list[AuditCheck]:
    """Runs every check on one snapshot, so that it is true at any moment, whatever is being charged meanwhile.

    `published` are balances that were read from the topic before this: the rows after which they were so must be there.
    """
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        await connection.execute(f"SET LOCAL statement_timeout = '{TIMEOUT_S}s'")
        await connection.execute("SET LOCAL work_mem = '128MB'")
        # These statements run once, and their arguments decide on the plan.
        await connection.execute("SET LOCAL plan_cache_mode = force_custom_plan")
        results = [await _check(connection, name, statement) for name, statement in _STATEMENTS.items()]
        results.append(await _check_prices(connection))
        results.append(await _check_sealed(connection))
        results.append(await _check(connection, "days", DAYS, *await day_borders(connection)))
        if published is not None:
            results.append(await _check(connection, "published", PUBLISHED, *published_arguments(published)))
    return results


async def _check_prices(connection: asyncpg.Connection) -> AuditCheck:
    accounts = await recompute_prices(connection)
    wrong = sorted(account for account in accounts if account.detail is not None)
    named = dict(await connection.fetch("SELECT no, id FROM mandates")) if wrong else {}
    failing = [
        {"mandateId": named.get(mandate_no), "accountId": str(account_no), "detail": detail}
        for mandate_no, account_no, detail in wrong[:FAILING_MAX]
    ]
    return AuditCheck("prices", len(accounts), len(wrong), failing)


async def _check_sealed(connection: asyncpg.Connection) -> AuditCheck:
    days = await check_sealed_days(connection)
    failing: list[dict[str, str | None]] = [
        {"mandateId": None, "accountId": None, "detail": fault} for fault in days.failing[:FAILING_MAX]
    ]
    return AuditCheck("sealed", days.looked_at, len(days.failing), failing)


async def _check(connection: asyncpg.Connection, name: str, statement: str, *arguments: object) -> AuditCheck:
    # One run of the statement gives both the count and, first, what fails.
    rows = await connection.fetch(
        "SELECT m.id AS mandate_id, checked.* FROM ("
        " SELECT *, count(*) OVER () AS looked_at, count(*) FILTER (WHERE failing) OVER () AS failing_count"
        f" FROM ({statement}) AS account ORDER BY failing DESC, mandate_no, account_no LIMIT {FAILING_MAX}) AS checked"
        " LEFT JOIN mandates m ON m.no = checked.mandate_no ORDER BY failing DESC, mandate_id, account_no",
        *arguments,
        timeout=TIMEOUT_S,
    )
    failing = [
        {
            "mandateId": row["mandate_id"],
            "accountId": None if row["account_no"] is None else str(row["account_no"]),
            "detail": row["detail"],
        }
        for row in rows
        if row["failing"]
    ]
    looked_at, failing_count = (rows[0]["looked_at"], rows[0]["failing_count"]) if rows else (0, 0)
    return AuditCheck(name, looked_at, failing_count, failing)
