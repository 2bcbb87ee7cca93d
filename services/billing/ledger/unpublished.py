"""Balances and held amounts that changed and are not published yet. They are marked in the statement that changes them:
by `update_accounts`, and in `holds`.

What is published of an account is numbered by its rows and the changes of its held amount together: both only grow, so
the number does with either.
"""

from collections.abc import Sequence

import asyncpg

__all__ = ["mark_published", "read_unpublished"]


async def read_unpublished(connection: asyncpg.Connection, limit: int) -> list[asyncpg.Record]:
    """Accounts that are marked, as they are now, with their mandate's id."""
    rows: list[asyncpg.Record] = await connection.fetch(
        "SELECT m.id AS mandate_id, a.mandate_no, a.no, a.type, a.user_id, a.balance, a.held, a.seq,"
        " a.seq + a.held_changes AS version"
        " FROM (SELECT mandate_no, account_no FROM unpublished_balances LIMIT $1) u"
        " JOIN accounts a ON a.mandate_no = u.mandate_no AND a.no = u.account_no"
        " JOIN mandates m ON m.no = a.mandate_no",
        limit,
    )
    return rows


async def mark_published(connection: asyncpg.Connection, published: Sequence[asyncpg.Record]) -> None:
    """Deletes the marks of published balances, except of those that have moved since they were read.

    The accounts are locked, so that none of them moves while its mark is deleted. One that a charge holds keeps its
    mark, because its balance is about to change. So nothing is waited for.
    """
    await connection.execute(
        "WITH still AS MATERIALIZED (SELECT a.mandate_no, a.no"
        " FROM unnest($1::int[], $2::bigint[], $3::bigint[]) AS published (mandate_no, account_no, version)"
        " JOIN accounts a ON a.mandate_no = published.mandate_no AND a.no = published.account_no"
        " AND a.seq + a.held_changes = published.version"
        " FOR UPDATE OF a SKIP LOCKED)"
        " DELETE FROM unpublished_balances u USING still WHERE u.mandate_no = still.mandate_no"
        " AND u.account_no = still.no",
        [row["mandate_no"] for row in published],
        [row["no"] for row in published],
        [row["version"] for row in published],
    )
