"""A re-rating that runs while billing is upgraded goes on where it was, in parts."""

import asyncio
import shutil
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

from deploy.postgres.bootstrap import SERVICES, RolePasswords, bootstrap, database_dsn
from services.billing.corrections.charges import Position
from services.billing.corrections.price_charges import NotPriced
from services.billing.corrections.reratings import PARTS, find_rerating, lock_part, save_progress
from services.chassis.migrations import migrate
from tests.support.databases import connected, opened
from tests.support.stack import ROOT, make_postgres

FOLDER = ROOT / "services" / "billing" / "migrations"
PARTED = "0038"
AT = datetime(2026, 5, 4, 10, tzinfo=UTC)
WHY = NotPriced("NO_PRICE", "anthropic", "model", None)


async def test_one_that_runs_goes_on_in_each_part_where_it_was(tmp_path: Path) -> None:
    before = tmp_path / "migrations"
    before.mkdir()
    for file in FOLDER.glob("*.py"):
        if file.name < PARTED:
            shutil.copy(file, before)
    passwords = {name: RolePasswords(uuid4().hex, uuid4().hex) for name in SERVICES}
    running, done, event = uuid4(), uuid4(), uuid4()
    with make_postgres(tmp_path / "postgres") as server:
        await bootstrap(server.admin_dsn, passwords)
        owner_dsn = database_dsn(server.admin_dsn, "billing_owner", passwords["billing"].owner)
        await asyncio.to_thread(migrate, owner_dsn, schema="billing", folder=before)
        async with connected(owner_dsn, schema="billing") as connection:
            for rerating, position, finished_at in ((running, (6, AT, event), None), (done, (9, None, None), AT)):
                await connection.execute(
                    "INSERT INTO reratings (id, from_time, to_time, started_at, mandate_no, occurred_at, event_id,"
                    " finished_at, not_priced) VALUES ($1, '2026-01-01', '2027-01-01', $2, $3, $4, $5, $6,"
                    """ '[["NO_PRICE", "anthropic", "model", null, 3]]')""",
                    rerating,
                    AT,
                    *position,
                    finished_at,
                )
        await asyncio.to_thread(migrate, owner_dsn, schema="billing", folder=FOLDER)
        app_dsn = database_dsn(server.admin_dsn, "billing_app", passwords["billing"].app)
        async with opened(app_dsn, pool_size=1) as database, database.transaction() as connection:
            for rerating, finished_at in ((running, None), (done, AT)):
                found = await find_rerating(connection, rerating)
                assert found is not None
                assert (found.finished_at, found.not_priced) == (finished_at, {WHY: 3})
            positions = {}
            while (part := await lock_part(connection, None, (UUID(int=0), 0))) is not None:
                assert part.rerating_id == running
                positions[part.part.number] = part.position
                await save_progress(connection, part, finished_at=AT)
            assert positions == dict.fromkeys(range(PARTS), Position(6, AT, event))
