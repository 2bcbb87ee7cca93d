"""Members' accounts by their owners, and changes of accounts that move no money."""

from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.database import driver_connection

__all__ = ["enabled_member_accounts", "member_account", "set_enabled"]


async def set_enabled(connection: AsyncConnection, account_no: int, *, enabled: bool) -> int:
    """Enables or disables an account; returns its mandate's number."""
    driver = driver_connection(connection)
    mandate_no: int = await driver.fetchval(
        "UPDATE accounts SET enabled = $2 WHERE no = $1 RETURNING mandate_no", account_no, enabled
    )
    return mandate_no


async def member_account(connection: AsyncConnection, mandate_no: int, user_id: str) -> int | None:
    """The number of a member's account, if there is one."""
    driver = driver_connection(connection)
    number: int | None = await driver.fetchval(
        "SELECT no FROM accounts WHERE mandate_no = $1 AND type = 'USER' AND user_id = $2", mandate_no, user_id
    )
    return number


async def enabled_member_accounts(connection: AsyncConnection, mandate_no: int, mandate_id: str) -> list[int]:
    """The numbers of the enabled members' accounts, in id order: those who share what concerns the whole mandate."""
    driver = driver_connection(connection)
    rows = await driver.fetch(
        "SELECT a.no FROM accounts a"
        " JOIN directory_members d ON d.mandate_id = $2 AND d.user_id = a.user_id AND d.enabled"
        " WHERE a.mandate_no = $1 AND a.type = 'USER' ORDER BY a.no",
        mandate_no,
        mandate_id,
    )
    return [row["no"] for row in rows]
