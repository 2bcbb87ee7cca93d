"""Changes of accounts that move no money."""

import asyncpg

__all__ = ["set_enabled"]


async def set_enabled(connection: asyncpg.Connection, account_no: int, *, enabled: bool) -> int:
    """Enables or disables an account; returns its mandate's number."""
    mandate_no: int = await connection.fetchval(
        "UPDATE accounts SET enabled = $2 WHERE no = $1 RETURNING mandate_no", account_no, enabled
    )
    return mandate_no
