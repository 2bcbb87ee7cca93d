"""`rappen ensure`: accounts for the members that the directory had before billing followed it."""

from services.chassis.database import Database
from tests.integration.billing.conftest import BillingApi
from tests.support.callers import admin_of
from tests.support.databases import on_driver
from tests.support.events import new_mandate
from tests.support.processes import run_command
from tests.support.stack import ServerPair

ACCOUNTS = "/api/billing/admin/accounts/{}"


async def _write_directory(database: Database, mandate: str) -> None:
    """Entries alone, as a copy of the directory brings them: nothing follows from them."""
    async with on_driver(database) as driver:
        await driver.execute(
            "INSERT INTO directory_mandates (id, enabled, is_system, version) VALUES ($1, true, false, 1)", mandate
        )
        await driver.executemany(
            "INSERT INTO directory_members (mandate_id, user_id, roles, enabled, version) VALUES ($1, $2, '{}', $3, 1)",
            [(mandate, "user-1", True), (mandate, "user-2", True), (mandate, "user-3", False)],
        )


async def test_every_enabled_member_gets_an_account_however_often_it_runs(
    servers: ServerPair, database: Database, api: BillingApi
) -> None:
    mandates = [new_mandate() for _ in range(2)]
    for mandate in mandates:
        await _write_directory(database, mandate)
    done = [run_command(servers, "billing", "ensure") for _ in range(2)]
    assert [each.returncode for each in done] == [0, 0], done[0].stderr
    assert done[0].stdout == done[1].stdout
    for mandate in mandates:
        accounts = (await api.call(admin_of(mandate), "GET", ACCOUNTS.format(mandate))).json()
        assert [account["userId"] for account in accounts] == ["user-1", "user-2"]
