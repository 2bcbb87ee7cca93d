"""A database of an earlier release is brought up to date with its rows, and its books still add up."""

import asyncio
import json
import re
import shutil
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID, uuid4, uuid5

import asyncpg
import pytest

from deploy.postgres.bootstrap import SERVICES, RolePasswords, bootstrap, database_dsn
from services.billing.audit import audit
from services.billing.credits.apply_subscription import ApplySubscription
from services.billing.credits.payment_events import CreditPayments
from services.billing.ledger.domain import LEDGER_NAMESPACE
from services.chassis.clock import system_clock
from services.chassis.database import Database
from services.chassis.migrations import migrate
from tests.support.charging import charge
from tests.support.databases import connected, on_driver, opened
from tests.support.events import usage_record
from tests.support.facts import paid, subscription
from tests.support.processes import run_command
from tests.support.stack import ROOT, ServerPair, make_postgres

FOLDER = ROOT / "services" / "billing" / "migrations"
FIRST_RELEASE = ("0001", "0002", "0003")
PAYMENT = uuid5(LEDGER_NAMESPACE, "old/payment/cs_old")
USAGE, FREE = UUID(int=7), UUID(int=8)

NOTHING = {"markup": "0", "carry_before": "0", "carry_after": "0"}
DERIVATION = json.dumps({"cost": "1", "currency": "CHF", "rate": "1", "exact": "1", **NOTHING})
BUDGET_OF, PERIOD = UUID(int=11), "2026-01-01T00:00:00Z"
PRICE = json.dumps(
    {
        "provider": "anthropic",
        "model": "claude-sonnet-4-5",
        "currency": "USD",
        "valid_from": "2026-01-01T00:00:00Z",
        "lists": [{"prices": {"input": "0.000003", "output": "0.000015"}}],
    }
)
# Rows in every table. A mandate with a payment of 10, usage of 1 on the first day of the calendar, free usage, and a
# subscription; another with two members, of whom one came when an opening credit was 10 and one when it was nothing; a
# third with a budget of 5, a tenth of what it had before, known to the directory. A price, a rate, an event and a
# balance that wait for the relay, and a refused record.
ROWS = f"""
INSERT INTO mandates (no, id, subscription_id, subscription_version, subscription_operative, plan_key)
VALUES (1, 'old', '{UUID(int=9)}', 3, true, 'STARTER');
INSERT INTO accounts (mandate_no, no, type, user_id, balance, seq, level)
VALUES (1, 1, 'MANDATE', NULL, 9000000, 2, 10000000), (1, 2, 'USER', 'user-1', 0, 0, 0),
       (1, 3, 'INTERNAL', NULL, 0, 0, 0), (1, 4, 'PAYMENT_PROVIDER', NULL, -10000000, 1, 0);
INSERT INTO untold_balances (mandate_no, account_no) VALUES (1, 1);
INSERT INTO dimensions (mandate_no, no, provider, model) VALUES (1, 1, 'anthropic', 'claude-sonnet-4-5');
INSERT INTO transactions (mandate_no, event_id, account_no, moved_account_no, seq, transaction_type, amount,
                          balance_after, counter, reference_type, reference_id, description, occurred_at, recorded_at,
                          period_day, dimension_no, workflow_id, derivation, digest)
VALUES (1, '{PAYMENT}', 1, 1, 1, 'CREDIT', 10000000, 10000000, 'PAYMENT_PROVIDER', 'PAYMENT', 'cs_old',
        'Stripe payment', now(), now(), now() AT TIME ZONE 'Europe/Zurich', NULL, NULL, NULL, '\\x00'),
       (1, '{USAGE}', 2, 1, 2, 'DEBIT', 1000000, 9000000, 'REVENUE', 'WORKFLOW', NULL, 'Asked', '0001-01-01T00:00:00Z',
        now(), '0001-01-01', 1, 'Flow-1',
        '{DERIVATION}', '\\x00');
INSERT INTO rollups (mandate_no, account_no, day, dimension_no, cost, count) VALUES (1, 2, '-infinity', 1, 1000000, 1);
INSERT INTO uncharged_events (mandate_no, event_id, digest, reason, detail, occurred_at, recorded_at, price_revision)
VALUES (1, '{FREE}', '\\x00', 'FREE', '', 'infinity', now(), 1);
INSERT INTO uncharged_events (mandate_no, event_id, digest, reason, detail, occurred_at, recorded_at, event,
                              price_revision)
VALUES (1, '{UUID(int=10)}', '\\x00', 'NO_PRICE', '', now(), now(), 'no JSON', 1);
INSERT INTO mandates (no, id, billing_model) VALUES (2, 'members', 'PREPAY_USER');
INSERT INTO audit_log (mandate_no, actor, action, after, at)
VALUES (2, 'admin', 'model', '{{"billingModel": "PREPAY_USER"}}', now());
INSERT INTO accounts (mandate_no, no, type, user_id, balance, seq, opening_credit_at)
VALUES (2, 5, 'USER', 'user-1', 10000000, 1, now()), (2, 6, 'USER', 'user-2', 0, 0, now()),
       (2, 7, 'PROMOTIONAL', NULL, -10000000, 1, NULL);
INSERT INTO transactions (mandate_no, event_id, account_no, moved_account_no, seq, transaction_type, amount,
                          balance_after, counter, reference_type, occurred_at, recorded_at, period_day, digest)
VALUES (2, gen_random_uuid(), 5, 5, 1, 'CREDIT', 10000000, 10000000, 'PROMOTIONAL', 'SYSTEM', now(), now(),
        now() AT TIME ZONE 'Europe/Zurich', '\\x00');
INSERT INTO mandates (no, id) VALUES (3, 'budgeted');
INSERT INTO accounts (mandate_no, no, type, balance, seq, level)
VALUES (3, 8, 'MANDATE', 5000000, 1, 50000000), (3, 9, 'SUBSCRIPTION_GRANT', -5000000, 1, 0);
INSERT INTO transactions (mandate_no, event_id, account_no, moved_account_no, seq, transaction_type, amount,
                          balance_after, counter, reference_type, reference_id, occurred_at, recorded_at, period_day,
                          digest)
VALUES (3, gen_random_uuid(), 8, 8, 1, 'CREDIT', 5000000, 5000000, 'SUBSCRIPTION_GRANT', 'SUBSCRIPTION', '{BUDGET_OF}',
        '{PERIOD}', now(), '2026-01-01', '\\x00');
INSERT INTO subscription_budgets (mandate_no, subscription_id, period_start, amount, credited_at)
VALUES (3, '{BUDGET_OF}', '{PERIOD}', 5000000, now());
INSERT INTO directory_mandates (id, name, label, enabled, is_system, version)
VALUES ('budgeted', 'Budgeted', '', true, false, 1);
INSERT INTO directory_users (id, username, display_name, enabled, version)
VALUES ('user-1', 'one', 'User One', true, 2);
INSERT INTO directory_members (mandate_id, user_id, roles, enabled, version)
VALUES ('budgeted', 'user-1', '{{admin}}', true, 3);
INSERT INTO provider_permissions (mandate_id, role, providers, version)
VALUES ('budgeted', 'member', '{{anthropic}}', 4);
INSERT INTO prices (provider, model, valid_from, version)
VALUES ('anthropic', 'claude-sonnet-4-5', '{PERIOD}', '{PRICE}');
INSERT INTO rates (currency, valid_from, rate) VALUES ('USD', '{PERIOD}', 0.8);
INSERT INTO outbox (topic, key, type, event_id, occurred_at, data)
VALUES ('balance.changed', 'old/1', 'ch.rappen.balance.changed.v1', gen_random_uuid(), now(), '{{}}');
INSERT INTO quarantine (group_id, topic, partition, "offset", headers, value, length, sha256, error_code, error_detail,
                        attempts, quarantined_at)
VALUES ('billing', 'usage.recorded', 0, 7, '[]', '{{', 1, sha256('{{'), 'NOT_JSON', 'not JSON', 1, now());
SELECT setval(pg_get_serial_sequence('mandates', 'no'), 10), setval(pg_get_serial_sequence('accounts', 'no'), 10),
       setval(pg_get_serial_sequence('dimensions', 'no'), 10);
"""


# The tables that are called otherwise now.
RENAMED = {"untold_balances": "unpublished_balances", "uncharged_events": "unposted_events"}


class Dsns(NamedTuple):
    """How the schema's owner and the application reach the database."""

    owner: str
    app: str


@pytest.fixture
async def first_release(tmp_path: Path) -> AsyncIterator[Dsns]:
    """A database that the first release made and filled."""
    released = tmp_path / "released"
    released.mkdir()
    for file in FOLDER.glob("*.py"):
        if file.name.startswith(FIRST_RELEASE):
            shutil.copy(file, released)
    passwords = {name: RolePasswords(uuid4().hex, uuid4().hex) for name in SERVICES}
    with make_postgres(tmp_path / "postgres") as server:
        await bootstrap(server.admin_dsn, passwords)
        owner_dsn = database_dsn(server.admin_dsn, "billing_owner", passwords["billing"].owner)
        await asyncio.to_thread(migrate, owner_dsn, schema="billing", folder=released)
        async with connected(owner_dsn) as connection:
            await connection.execute(ROWS)
        yield Dsns(owner_dsn, database_dsn(server.admin_dsn, "billing_app", passwords["billing"].app))


@pytest.fixture
async def upgraded(first_release: Dsns) -> AsyncIterator[Database]:
    """That database after the newest release has migrated it."""
    await asyncio.to_thread(migrate, first_release.owner, schema="billing", folder=FOLDER)
    async with opened(first_release.app, pool_size=2) as database:
        yield database


async def _counts(dsn: str) -> dict[str, int]:
    """The number of rows of every table."""
    async with connected(dsn) as connection:
        tables = await connection.fetch(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'billing' AND tablename <> 'alembic_version'"
        )
        return {name: await connection.fetchval(f"SELECT count(*) FROM billing.{name}") for (name,) in tables}


async def test_every_table_of_the_first_release_keeps_its_rows(first_release: Dsns) -> None:
    before = await _counts(first_release.owner)
    assert [table for table, count in before.items() if not count] == [], "this test is about tables with rows"
    await asyncio.to_thread(migrate, first_release.owner, schema="billing", folder=FOLDER)
    after = await _counts(first_release.owner)
    assert {table: after.get(RENAMED.get(table, table)) for table in before} == before


async def test_a_schema_of_a_newer_release_is_left_as_it_is_and_the_operator_told(
    first_release: Dsns, servers: ServerPair
) -> None:
    async with connected(first_release.owner) as connection:
        await connection.execute("UPDATE billing.alembic_version SET version_num = '9999'")
    before = await _counts(first_release.owner)
    more = {"BILLING_DATABASE_OWNER_URL": first_release.owner}
    ended = await asyncio.to_thread(run_command, servers, "billing", "migrate", more=more)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert re.fullmatch(
        r"billing: schema billing is at revision 9999, and this release ends at \d{4}: use a newer one\n", ended.stderr
    )
    assert await _counts(first_release.owner) == before


async def test_whether_there_is_something_to_migrate_is_said_without_doing_it(
    first_release: Dsns, servers: ServerPair
) -> None:
    more = {"BILLING_DATABASE_OWNER_URL": first_release.owner}
    before = await _counts(first_release.owner)
    ended = await asyncio.to_thread(run_command, servers, "billing", "migrate", "--check", more=more)
    assert (ended.returncode, ended.stdout) == (3, "")
    assert re.fullmatch(r"billing: schema billing is at revision 0003, and this release ends at \d{4}\n", ended.stderr)
    assert await _counts(first_release.owner) == before
    newest = await asyncio.to_thread(migrate, first_release.owner, schema="billing", folder=FOLDER)
    ended = await asyncio.to_thread(run_command, servers, "billing", "migrate", "--check", more=more)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"billing: at revision {newest}\n", "")


async def test_migrate_takes_no_word_that_it_does_not_know(servers: ServerPair) -> None:
    ended = await asyncio.to_thread(run_command, servers, "billing", "migrate", "--dry-run")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.endswith("migrate: error: unrecognized arguments: --dry-run\n")
    ended = await asyncio.to_thread(run_command, servers, "billing", "migrate", "--help")
    assert (ended.returncode, "at revision" in ended.stdout, "--check" in ended.stdout) == (0, False, True)


async def test_renamed_columns_have_what_was_in_them_and_their_rights(upgraded: Database, first_release: Dsns) -> None:
    async with on_driver(upgraded) as connection:
        row = await connection.fetchrow(
            "SELECT member_account_no, posted_account_no, contra_account FROM transactions WHERE event_id = $1", USAGE
        )
        assert tuple(row) == (2, 1, "REVENUE")
        account = "SELECT rounding_remainder, balance_after_last_credit FROM accounts WHERE no = 1"
        assert tuple(await connection.fetchrow(account)) == (0, 10_000_000)
        assert await connection.fetchval("SELECT member_account_no FROM rollups WHERE mandate_no = 1") == 2
        assert await connection.fetchval("SELECT has_unposted FROM mandates WHERE no = 1") is True
        await connection.execute("DELETE FROM unpublished_balances")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("UPDATE transactions SET posted_account_no = 2")


async def test_workflows_of_the_first_release_are_in_blocks(upgraded: Database) -> None:
    async with on_driver(upgraded) as connection:
        rows = await connection.fetch("SELECT * FROM workflow_blocks")
        assert [tuple(row) for row in rows] == [(1, 1, 2, 2, "Flow-1")]
        # They may be merged, and nothing is changed in place.
        await connection.execute("DELETE FROM workflow_blocks")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("UPDATE workflow_blocks SET last_seq = 3")


async def test_descriptions_of_the_first_release_are_kept(upgraded: Database) -> None:
    async with on_driver(upgraded) as connection:
        rows = await connection.fetch("SELECT * FROM usage_descriptions")
        assert [tuple(row) for row in rows] == [(1, 1, "Asked")]
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("DELETE FROM usage_descriptions")


async def test_of_charges_of_before_without_a_description_that_is_kept(first_release: Dsns, upgraded: Database) -> None:
    said = [("a", None), ("a", ""), ("b", None), ("b", "Asked"), ("c", "Asked"), *(("d", f"{n}") for n in range(101))]
    usage = [usage_record("old", amount="0.001", model=model, description=text) for model, text in said]
    await charge(upgraded, *usage, usage_record("old", amount="0.001", model="d"))
    read = "SELECT mandate_no, dimension_no, description FROM usage_descriptions ORDER BY 1, 2, 3"
    async with connected(first_release.owner) as owner, on_driver(upgraded) as connection:
        kept = await connection.fetch(read)
        assert [row["description"] for row in kept] == ["Asked", "", "", "Asked", "Asked", None]
        await owner.execute("DELETE FROM usage_descriptions WHERE description = ''")
        assert [check.name for check in await audit(connection) if check.failing_count] == ["descriptions"]
        migration = _migration("0039_undescribed_charges.py")
        async with owner.transaction():
            for statement in migration.STATEMENTS:
                await owner.execute(statement)
        assert await connection.fetch(read) == kept
        assert [check for check in await audit(connection) if check.failing_count] == []


async def test_the_way_back_leaves_empty_descriptions_that_rows_have(first_release: Dsns, upgraded: Database) -> None:
    said = [("a", None), ("b", ""), ("b", "Asked"), ("c", None), ("c", "Asked")]
    usage = [usage_record("old", amount="0.001", model=model, description=text) for model, text in said]
    await charge(upgraded, *usage)
    async with connected(first_release.owner) as owner:
        await owner.execute(_migration("0039_undescribed_charges.py").BACK)
        kept = await owner.fetch("SELECT dimension_no, description FROM usage_descriptions ORDER BY 1, 2")
        of_rows = (
            "SELECT DISTINCT dimension_no, description FROM transactions"
            " WHERE description IS NOT NULL AND contra_account = 'REVENUE' ORDER BY 1, 2"
        )
        assert kept == await owner.fetch(of_rows)
        assert [row["description"] for row in kept] == ["Asked", "", "Asked", "Asked"]


def _migration(name: str) -> Any:
    spec = spec_from_file_location("migration", FOLDER / name)
    assert spec is not None
    assert spec.loader is not None
    migration = module_from_spec(spec)
    spec.loader.exec_module(migration)
    return migration


async def test_what_is_low_already_is_noted_and_not_told(upgraded: Database) -> None:
    async with on_driver(upgraded) as connection:
        rows = await connection.fetch("SELECT no, crossings FROM accounts WHERE low")
        assert [tuple(row) for row in rows] == [(8, 0)]
        assert await connection.fetchval("SELECT count(*) FROM outbox WHERE topic = 'balance.low'") == 0


async def test_rows_of_the_first_release_are_kept_and_recognised(upgraded: Database) -> None:
    async with on_driver(upgraded) as connection:
        assert [check for check in await audit(connection) if check.failing_count] == []
    again = paid("old", 10, reference="cs_old")
    await CreditPayments(upgraded, clock=system_clock)([again], [])
    await charge(upgraded, usage_record("old", event_id=FREE, amount="3"), usage_record("old", event_id=PAYMENT))
    async with on_driver(upgraded) as connection:
        rows = await connection.fetch(
            "SELECT event_id, own, contra_account FROM transactions WHERE mandate_no = 1 ORDER BY seq"
        )
        refused = await connection.fetch("SELECT error_code FROM quarantine ORDER BY id")
        assert [check for check in await audit(connection) if check.failing_count] == []
    assert [(row["event_id"], row["own"], row["contra_account"]) for row in rows] == [
        (PAYMENT, True, "PAYMENT_PROVIDER"),
        (USAGE, False, "REVENUE"),
        (PAYMENT, False, "REVENUE"),
    ]
    assert [row["error_code"] for row in refused] == ["NOT_JSON", "CONFLICT"], (
        "usage that was free before came with a cost"
    )


async def test_an_old_letter_after_the_upgrade_does_not_replace_the_terms_in_force(upgraded: Database) -> None:
    tell = ApplySubscription(upgraded, clock=system_clock)
    await tell([subscription("old", uuid4(), 1, "ACTIVE", plan_key="TRIAL_7D")], [])
    async with on_driver(upgraded) as connection:
        row = await connection.fetchrow("SELECT subscription_id, plan_key FROM mandates WHERE id = 'old'")
    assert tuple(row) == (UUID(int=9), "STARTER")
    await tell([subscription("old", UUID(int=9), 4, "EXPIRED", at=datetime.now(UTC))], [])
    async with on_driver(upgraded) as connection:
        assert await connection.fetchval("SELECT plan_key FROM mandates WHERE id = 'old'") == "TRIAL_7D"
