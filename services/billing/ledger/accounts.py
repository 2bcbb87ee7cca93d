"""Members' accounts by their owners, and changes of accounts that move no money."""

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.tables import accounts, directory_members

__all__ = ["enabled_member_accounts", "member_account", "own_accounts", "set_enabled"]


async def set_enabled(connection: AsyncConnection, account_no: int, *, enabled: bool) -> int:
    """Enables or disables an account; returns its mandate's number."""
    change = sa.update(accounts).where(accounts.c.no == account_no).values(enabled=enabled)
    mandate_no: int = (await connection.execute(change.returning(accounts.c.mandate_no))).scalar_one()
    return mandate_no


async def member_account(connection: AsyncConnection, mandate_no: int, user_id: str) -> int | None:
    """The number of a member's account, if there is one."""
    of_member = sa.and_(accounts.c.mandate_no == mandate_no, accounts.c.type == "USER", accounts.c.user_id == user_id)
    return await connection.scalar(sa.select(accounts.c.no).where(of_member))


async def enabled_member_accounts(connection: AsyncConnection, mandate_no: int, mandate_id: str) -> list[int]:
    """The numbers of the enabled members' accounts, in id order: those who share what concerns the whole mandate."""
    members = directory_members.c
    enabled = sa.and_(members.mandate_id == mandate_id, members.user_id == accounts.c.user_id, members.enabled)
    read = sa.select(accounts.c.no).select_from(accounts.join(directory_members, enabled))
    of_members = sa.and_(accounts.c.mandate_no == mandate_no, accounts.c.type == "USER")
    return list(await connection.scalars(read.where(of_members).order_by(accounts.c.no)))


async def own_accounts(connection: AsyncConnection, mandate_no: int) -> list[int]:
    """The numbers of the pool and of the members' accounts."""
    of_mandate = sa.and_(accounts.c.mandate_no == mandate_no, accounts.c.type.in_(("MANDATE", "USER")))
    return list(await connection.scalars(sa.select(accounts.c.no).where(of_mandate)))
