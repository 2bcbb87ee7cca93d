"""Enabling and disabling an account: by the system administrator, audited."""

from typing import Any

from services.billing.credits.errors import NoAccount
from services.billing.ledger.accounts import set_enabled
from services.billing.mandates.audit_log import record_change
from services.billing.reports.balances import read_account
from services.chassis.caller import Caller
from services.chassis.clock import Clock
from services.chassis.database import Database

__all__ = ["change_account"]

ACCOUNT_NUMBER_MAX = 2**60


async def change_account(
    database: Database, account_id: str, *, enabled: bool, caller: Caller, clock: Clock
) -> dict[str, Any]:
    """Enables or disables the account and returns it; a value that is set already is no change."""
    number, now = _account_number(account_id), clock()
    async with database.transaction() as connection:
        before = await read_account(connection, number, now=now)
        if before is None:
            raise NoAccount
        if before["enabled"] != enabled:
            mandate_no = await set_enabled(connection, number, enabled=enabled)
            await record_change(
                connection,
                mandate_no=mandate_no,
                actor=caller.user_id,
                action="account",
                before={"id": account_id, "enabled": before["enabled"]},
                after={"id": account_id, "enabled": enabled},
                now=now,
            )
        after = await read_account(connection, number, now=now)
        if after is None:
            raise NoAccount
        return after


def _account_number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 19 and int(text) < ACCOUNT_NUMBER_MAX):
        raise NoAccount
    return int(text)
