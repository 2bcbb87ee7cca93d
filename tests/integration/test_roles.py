"""What the roles of the database may do: the ledger cannot be changed, and no service sees another's schema."""

from collections.abc import AsyncIterator

import asyncpg
import pytest
from asyncpg.exceptions import InsufficientPrivilegeError

from services.billing.audit import audit
from tests.support.databases import connected, unseen
from tests.support.events import new_mandate
from tests.support.ledger import Books
from tests.support.stack import SERVICES, ServerPair

APPEND_ONLY = (
    "transactions",
    "audit_log",
    "prices",
    "rates",
    "subscription_budgets",
    "budget_refunds",
    "budget_movements",
    "payment_credits",
)
KEPT = (*APPEND_ONLY, "accounts", "mandates", "rollups", "quarantine")


@pytest.fixture
async def app(servers: ServerPair) -> AsyncIterator[asyncpg.Connection]:
    """A session of billing's application role."""
    async with connected(servers.dsn("billing")) as connection:
        yield connection


@pytest.mark.parametrize("table", APPEND_ONLY)
async def test_the_application_cannot_update_rows_that_are_kept_for_ever(app: asyncpg.Connection, table: str) -> None:
    columns = await app.fetch(
        "SELECT attname FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped",
        table,
    )
    assert columns
    for row in columns:
        with pytest.raises(InsufficientPrivilegeError):
            await app.execute(f'UPDATE {table} SET "{row["attname"]}" = NULL')


@pytest.mark.parametrize("table", KEPT)
@pytest.mark.parametrize(
    "statement", ["DELETE FROM {}", "TRUNCATE {}", "DROP TABLE {}", "ALTER TABLE {} DISABLE RULE x"]
)
async def test_the_application_cannot_remove_rows_or_change_tables(
    app: asyncpg.Connection, table: str, statement: str
) -> None:
    with pytest.raises(InsufficientPrivilegeError):
        await app.execute(statement.format(table))


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE mine (id int)",
        "CREATE TABLE public.mine (id int)",
        "CREATE SCHEMA mine",
        "CREATE ROLE mine",
        "SET ROLE billing_owner",
        "SET ROLE postgres",
        "ALTER ROLE billing_app SUPERUSER",
        "CREATE TRIGGER mine BEFORE INSERT ON transactions EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    ],
)
async def test_the_application_cannot_give_itself_more(app: asyncpg.Connection, statement: str) -> None:
    with pytest.raises(InsufficientPrivilegeError):
        await app.execute(statement)


async def test_the_application_cannot_grant_itself_a_right(app: asyncpg.Connection) -> None:
    # PostgreSQL only warns here, so what counts is what it did.
    await app.execute("GRANT ALL ON transactions TO billing_app")
    for right in ("UPDATE", "DELETE", "TRUNCATE", "TRIGGER"):
        assert not await app.fetchval("SELECT has_table_privilege('transactions', $1)", right)


async def test_the_application_writes_what_it_may_not_change(servers: ServerPair, app: asyncpg.Connection) -> None:
    transaction = app.transaction()
    await transaction.start()
    await app.execute("INSERT INTO rates (currency, valid_from, rate) VALUES ('EUR', now(), 1)")
    assert await app.fetchval("SELECT count(*) FROM rates WHERE currency = 'EUR'") > 0
    await transaction.rollback()


@pytest.mark.parametrize("role", ["app", "owner"])
@pytest.mark.parametrize("service", SERVICES)
async def test_no_role_of_a_service_enters_the_schema_of_another(servers: ServerPair, service: str, role: str) -> None:
    others = [other for other in SERVICES if other != service]
    own_dsn = servers.dsn(service, owner=role == "owner")
    async with connected(servers.admin_dsn) as admin, connected(own_dsn) as connection:
        try:
            for other in others:
                # A table that is there, made by its owner like all others, so that the refusal is about the right.
                await admin.execute(f'SET ROLE "{other}_owner"')
                await admin.execute(f"CREATE TABLE IF NOT EXISTS {other}.secret (id int)")
                await admin.execute("RESET ROLE")
                for statement in (f"SELECT * FROM {other}.secret", f"CREATE TABLE {other}.mine (id int)"):
                    with pytest.raises(InsufficientPrivilegeError):
                        await connection.execute(statement)
                for right in ("USAGE", "CREATE"):
                    assert not await connection.fetchval("SELECT has_schema_privilege($1, $2)", other, right)
            assert await connection.fetchval("SELECT has_schema_privilege($1, 'USAGE')", service)
        finally:
            for other in others:
                await admin.execute(f"DROP TABLE IF EXISTS {other}.secret")


async def test_the_audit_names_the_account_whose_row_somebody_changed(servers: ServerPair, books: Books) -> None:
    mandate = new_mandate()
    async with unseen(servers.admin_dsn, schema="billing") as admin:
        number = await admin.fetchval("INSERT INTO mandates (id) VALUES ($1) RETURNING no", mandate)
        account = await admin.fetchval(
            "INSERT INTO accounts (mandate_no, type, balance, seq) VALUES ($1, 'MANDATE', 7, 1) RETURNING no", number
        )
        contra_account = "INSERT INTO accounts (mandate_no, type, balance, seq) VALUES ($1, 'ADMIN', -7, 1)"
        await admin.execute(contra_account, number)
        await admin.execute(
            "INSERT INTO transactions (mandate_no, event_id, member_account_no, posted_account_no, seq,"
            " transaction_type,"
            " amount, balance_after, contra_account, reference_type, occurred_at, recorded_at, period_day, digest)"
            " VALUES ($1, gen_random_uuid(), $2, $2, 1, 'CREDIT', 7, 7, 'ADMIN', 'ADMIN', now(), now(),"
            " now() AT TIME ZONE 'Europe/Zurich', '')",
            number,
            account,
        )
        log = "INSERT INTO audit_log (mandate_no, actor, action, after, at) VALUES ($1, 'a', 'credit', $2, now())"
        await admin.execute(log, number, '{"amount": "0.000007"}')
        assert await _failing(admin) == {}
        await admin.execute("UPDATE transactions SET amount = 8 WHERE posted_account_no = $1", account)
        failing = await _failing(admin)
        assert {check for check, accounts in failing.items() if str(account) in accounts} == {"balance", "chain"}
        assert failing["credits"] == {None}


async def _failing(connection: asyncpg.Connection) -> dict[str, set[str | None]]:
    """The audit inside the test's own transaction, which sees what nobody else ever will."""
    return {
        check.name: {entry["accountId"] for entry in check.failing}
        for check in await audit(connection)
        if check.failing_count
    }
