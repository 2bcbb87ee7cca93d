"""Who was in CREDIT_POSTPAY before there were invoices is asked for what was used since the switch, and for what was
owed before as a line of its own."""

import asyncio
import shutil
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from deploy.postgres.bootstrap import SERVICES, RolePasswords, bootstrap, database_dsn
from services.chassis.migrations import migrate
from tests.support.databases import connected, opened
from tests.support.invoicing import Postpaid
from tests.support.stack import ROOT, make_postgres

FOLDER = ROOT / "services" / "billing" / "migrations"
# Before the revision of invoices.
LAST = "0022"

ROW = """(1, gen_random_uuid(), 1, 1, {seq}, 'DEBIT', {amount}, {balance}, 'REVENUE', 'WORKFLOW', '{at}', '{at}',
          '2026-07-{day}', 1, '\\x00')"""
ROWS = f"""
INSERT INTO mandates (no, id, billing_model) VALUES (1, 'old', 'CREDIT_POSTPAY'), (2, 'new', 'PREPAY_MANDATE');
INSERT INTO accounts (mandate_no, no, type, balance, seq) VALUES (1, 1, 'MANDATE', -12000000, 2);
INSERT INTO dimensions (mandate_no, no, provider, model) VALUES (1, 1, 'openai', 'gpt-5');
INSERT INTO audit_log (mandate_no, actor, action, after, at)
VALUES (1, 'x', 'model', '{{"billingModel": "CREDIT_POSTPAY"}}', '2026-07-10T00:00:00Z');
INSERT INTO transactions (mandate_no, event_id, member_account_no, posted_account_no, seq, transaction_type, amount,
                          balance_after, contra_account, reference_type, occurred_at, recorded_at, period_day,
                          dimension_no, digest)
VALUES {ROW.format(seq=1, amount=7_000_000, balance=-7_000_000, at="2026-07-09T00:00:00Z", day="09")},
       {ROW.format(seq=2, amount=5_000_000, balance=-12_000_000, at="2026-07-11T00:00:00Z", day="11")};
"""


async def test_the_first_invoice_has_all_since_the_switch(tmp_path: Path) -> None:
    released = tmp_path / "released"
    released.mkdir()
    for file in FOLDER.glob("*.py"):
        if file.name[:4] <= LAST:
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
            old = Postpaid(database, datetime(2026, 8, 1, tzinfo=UTC), id="old")
            assert await old.close(2026, 7)
            (invoice,) = await old.invoices()
            assert (invoice["total"]["amount"], invoice["recipient"]["company"]) == ("12.000000", "old")
            asked = [(line["kind"], line["amount"]["amount"]) for line in invoice["lines"]]
            assert asked == [("BALANCE", "7.000000"), ("USAGE", "5.000000")]
            assert (invoice["periodStart"], invoice["periodEnd"]) == ("2026-07-10", "2026-07-31")
            assert not await Postpaid(database, datetime(2026, 8, 1, tzinfo=UTC), id="new").close(2026, 7)
