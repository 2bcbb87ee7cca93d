"""Balances that moved and were not told yet. `update_accounts` marks them, in the transaction that moves them."""

from collections.abc import Sequence

import asyncpg

__all__ = ["forget_told", "read_untold"]


async def read_untold(connection: asyncpg.Connection, limit: int) -> list[asyncpg.Record]:
    """Accounts that are marked, as they are now, with their mandate's id."""
    rows: list[asyncpg.Record] = await connection.fetch(
        "SELECT m.id AS mandate_id, a.mandate_no, a.no, a.type, a.user_id, a.balance, a.held, a.seq"
        " FROM (SELECT mandate_no, account_no FROM untold_balances LIMIT $1) u"
        " JOIN accounts a ON a.mandate_no = u.mandate_no AND a.no = u.account_no"
        " JOIN mandates m ON m.no = a.mandate_no",
        limit,
    )
    return rows


async def forget_told(connection: asyncpg.Connection, told: Sequence[asyncpg.Record]) -> None:
    """Takes the marks of told balances away, but for those that have moved on since they were read.

    The accounts are locked, so that none of them moves while its mark goes; one that a charge has moved already keeps
    its mark, because it is about to move on. So nothing is waited for.
    """
    await connection.execute(
        "WITH still AS MATERIALIZED (SELECT a.mandate_no, a.no"
        " FROM unnest($1::int[], $2::bigint[], $3::bigint[]) AS told (mandate_no, account_no, seq)"
        " JOIN accounts a ON a.mandate_no = told.mandate_no AND a.no = told.account_no AND a.seq = told.seq"
        " FOR UPDATE OF a SKIP LOCKED)"
        " DELETE FROM untold_balances u USING still WHERE u.mandate_no = still.mandate_no AND u.account_no = still.no",
        [row["mandate_no"] for row in told],
        [row["no"] for row in told],
        [row["seq"] for row in told],
    )
