"""A database of an earlier release is brought up to date with its rows, and its books still add up."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4, uuid5

import pytest

from deploy.postgres.bootstrap import SERVICES, RolePasswords, bootstrap, database_dsn
from services.billing.audit import audit
from services.billing.credits.apply_subscription import ApplySubscription
from services.billing.credits.credit_payment import CreditPayments
from services.billing.ledger.domain import LEDGER_NAMESPACE
from services.chassis.clock import system_clock
from services.chassis.database import Database
from services.chassis.migrations import migrate
from tests.support.charging import charge
from tests.support.databases import connected, opened
from tests.support.events import usage_record
from tests.support.facts import paid, subscription
from tests.support.stack import ROOT, make_postgres

FOLDER = ROOT / "services" / "billing" / "migrations"
FIRST_RELEASE = ("0001", "0002", "0003")
PAYMENT = uuid5(LEDGER_NAMESPACE, "old/payment/cs_old")
USAGE, FREE = UUID(int=7), UUID(int=8)

NOTHING = {"markup": "0", "carry_before": "0", "carry_after": "0"}
DERIVATION = json.dumps({"cost": "1", "currency": "CHF", "rate": "1", "exact": "1", **NOTHING})
# A mandate with a payment of 10, usage of 1 on the first day of the calendar, free usage, and a subscription; another
# with two members, of whom one came when an opening credit was 10 and one when it was nothing.
ROWS = f"""
INSERT INTO mandates (no, id, subscription_id, subscription_version, subscription_operative, plan_key)
VALUES (1, 'old', '{UUID(int=9)}', 3, true, 'STARTER');
INSERT INTO accounts (mandate_no, no, type, user_id, balance, seq)
VALUES (1, 1, 'MANDATE', NULL, 9000000, 2), (1, 2, 'USER', 'user-1', 0, 0), (1, 3, 'INTERNAL', NULL, 0, 0),
       (1, 4, 'PAYMENT_PROVIDER', NULL, -10000000, 1);
INSERT INTO dimensions (mandate_no, no, provider, model) VALUES (1, 1, 'anthropic', 'claude-sonnet-4-5');
INSERT INTO transactions (mandate_no, event_id, account_no, moved_account_no, seq, transaction_type, amount,
                          balance_after, counter, reference_type, reference_id, description, occurred_at, recorded_at,
                          period_day, dimension_no, derivation, digest)
VALUES (1, '{PAYMENT}', 1, 1, 1, 'CREDIT', 10000000, 10000000, 'PAYMENT_PROVIDER', 'PAYMENT', 'cs_old',
        'Stripe payment', now(), now(), now() AT TIME ZONE 'Europe/Zurich', NULL, NULL, '\\x00'),
       (1, '{USAGE}', 2, 1, 2, 'DEBIT', 1000000, 9000000, 'REVENUE', 'WORKFLOW', NULL, NULL, '0001-01-01T00:00:00Z',
        now(), '0001-01-01', 1,
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
SELECT setval(pg_get_serial_sequence('mandates', 'no'), 10), setval(pg_get_serial_sequence('accounts', 'no'), 10),
       setval(pg_get_serial_sequence('dimensions', 'no'), 10);
"""


@pytest.fixture
async def upgraded(tmp_path: Path) -> AsyncIterator[Database]:
    """A database that the first release made and filled, after the newest one has migrated it."""
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
        await asyncio.to_thread(migrate, owner_dsn, schema="billing", folder=FOLDER)
        app_dsn = database_dsn(server.admin_dsn, "billing_app", passwords["billing"].app)
        async with opened(app_dsn, pool_size=2) as database:
            yield database


async def test_rows_of_the_first_release_are_kept_and_recognised(upgraded: Database) -> None:
    async with upgraded.bare() as connection:
        assert [check for check in await audit(connection) if check.failing_count] == []
    again = paid("old", 10, reference="cs_old")
    await CreditPayments(upgraded, clock=system_clock)([again], [])
    await charge(upgraded, usage_record("old", event_id=FREE, amount="3"), usage_record("old", event_id=PAYMENT))
    async with upgraded.bare() as connection:
        rows = await connection.fetch(
            "SELECT event_id, own, counter FROM transactions WHERE mandate_no = 1 ORDER BY seq"
        )
        refused = await connection.fetch("SELECT error_code FROM quarantine")
        assert [check for check in await audit(connection) if check.failing_count] == []
    assert [(row["event_id"], row["own"], row["counter"]) for row in rows] == [
        (PAYMENT, True, "PAYMENT_PROVIDER"),
        (USAGE, False, "REVENUE"),
        (PAYMENT, False, "REVENUE"),
    ]
    assert [row["error_code"] for row in refused] == ["CONFLICT"], "usage that was free before came with a cost"


async def test_an_old_letter_after_the_upgrade_does_not_replace_the_terms_in_force(upgraded: Database) -> None:
    tell = ApplySubscription(upgraded, clock=system_clock)
    await tell([subscription("old", uuid4(), 1, "ACTIVE", plan_key="TRIAL_7D")], [])
    async with upgraded.bare() as connection:
        row = await connection.fetchrow("SELECT subscription_id, plan_key FROM mandates WHERE id = 'old'")
    assert tuple(row) == (UUID(int=9), "STARTER")
    await tell([subscription("old", UUID(int=9), 4, "EXPIRED", at=datetime.now(UTC))], [])
    async with upgraded.bare() as connection:
        assert await connection.fetchval("SELECT plan_key FROM mandates WHERE id = 'old'") == "TRIAL_7D"
