"""The service as real processes: every role serves, works and stops; a bad configuration is refused; the schema."""

from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from rappen_contracts.directory.v1 import Mandate
from services.subscriptions import tables
from tests.integration.subscriptions.harness import Service, changed, new_admin_of
from tests.support.described import NO_OPERATIONS
from tests.support.events import new_mandate
from tests.support.processes import ServiceProcess, run_command
from tests.support.stack import ROOT

MIGRATIONS = ROOT / "services" / "subscriptions" / "migrations"


def process(service: Service, role: str, folder: Path) -> ServiceProcess:
    """A process of that role beside the service of the tests."""
    return ServiceProcess(service.servers, "subscriptions", role, folder / f"{role}.log", anew=True)


async def test_a_process_with_both_roles_starts_plans_and_ends_trials_by_the_clock(
    service: Service, tmp_path: Path
) -> None:
    # This one's trial was over long ago by the machine's clock, which the process goes by.
    overdue, mandate_id = new_mandate(), new_mandate()
    await service.start(overdue, "TRIAL_7D", new_admin_of(overdue))
    async with process(service, "all", tmp_path) as every, httpx.AsyncClient(base_url=every.url) as client:
        path, headers = f"/api/subscriptions/{mandate_id}", service.headers(new_admin_of(mandate_id))
        answer = await client.post(path, headers=headers, json={"planKey": "TRIAL_7D"})
        assert answer.status_code == 200, answer.text
        assert (await client.get(path, headers=headers)).json() == answer.json()["subscription"]
        assert len((await client.get("/api/subscriptions/plans", headers=headers)).json()) == 5
        _, ended = await service.billing.events(overdue, 2)
        assert changed(ended).to_state == "EXPIRED"
    (started,) = await service.billing.events(mandate_id, 1)
    assert changed(started).to_state == "TRIALING"


async def test_api_and_worker_are_processes_of_their_own(service: Service, tmp_path: Path) -> None:
    mandate_id = new_mandate()
    async with (
        process(service, "api", tmp_path) as api,
        process(service, "worker", tmp_path) as worker,
        httpx.AsyncClient() as client,
    ):
        headers = service.headers(new_admin_of(mandate_id))
        assert (await client.get(f"{api.url}/api/subscriptions/plans", headers=headers)).status_code == 200
        unknown = await client.get(f"{worker.url}/api/subscriptions/plans", headers=headers, extensions=NO_OPERATIONS)
        assert unknown.status_code == 404
        assert "rappen_outbox_rows" in (await client.get(f"{worker.url}/metrics")).text
        await service.publish_directory(mandate_id, [(1, Mandate(id=mandate_id))])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "No such file"),
        ('{"plans": []}', "plans: has fewer entries than 1"),
        ('{"plans": [{"planKey": "X"}]}', "plans.0.label: is required"),
    ],
)
def test_a_process_without_a_sound_catalogue_says_so_and_does_not_start(
    service: Service, tmp_path: Path, text: str | None, said: str
) -> None:
    path = tmp_path / "plans.json"
    if text is not None:
        path.write_text(text)
    more = {"SUBSCRIPTIONS_PLANS_FILE": str(path)}
    run = run_command(service.servers, "subscriptions", "all", more=more, anew=True)
    assert run.returncode == 1
    assert f"SUBSCRIPTIONS_PLANS_FILE: {path}" in run.stderr
    assert said in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("FEATURES_FILE", "/nowhere/features.json", "/nowhere/features.json: No such file"),
        ("PERSONAL_PLAN", "STARTER", "STARTER is no trial of the catalogue"),
        ("PERSONAL_PLAN", "NO_SUCH_PLAN", "NO_SUCH_PLAN is no trial of the catalogue"),
    ],
)
def test_a_process_without_what_the_store_needs_says_so_and_does_not_start(
    service: Service, name: str, value: str, said: str
) -> None:
    run = run_command(service.servers, "subscriptions", "all", more={f"SUBSCRIPTIONS_{name}": value}, anew=True)
    assert run.returncode == 1
    assert f"SUBSCRIPTIONS_{name}: {said}" in run.stderr
    assert "Traceback" not in run.stderr


async def test_the_tables_are_those_of_the_migrations_and_the_way_down_and_up_again_is_sound(service: Service) -> None:
    # Not the owner, whose search path makes the schema the default one, which the comparison takes for nameless.
    engine = create_async_engine(make_url(service.servers.admin_dsn).set(drivername="postgresql+asyncpg"))
    try:
        async with engine.connect() as connection:
            differences = await connection.run_sync(_differences)
            await connection.rollback()
            await connection.run_sync(_down_and_up)
            assert await connection.run_sync(_differences) == differences == []
            # Nothing of it is committed.
            await connection.rollback()
    finally:
        await engine.dispose()


def _differences(connection: sa.Connection) -> list[Any]:
    options = {
        "include_schemas": True,
        "include_name": lambda name, kind, _: kind != "schema" or name == "subscriptions",
        "version_table_schema": "subscriptions",
        "compare_type": True,
        "compare_server_default": False,
    }
    context = MigrationContext.configure(connection, opts=options)
    return list(compare_metadata(context, tables.metadata))


def _down_and_up(connection: sa.Connection) -> None:
    scripts = ScriptDirectory(str(MIGRATIONS), version_locations=[str(MIGRATIONS)])
    newest_first = list(scripts.walk_revisions())
    connection.execute(sa.text("SET LOCAL lock_timeout = '5s'"))
    with Operations.context(MigrationContext.configure(connection)):
        for script in newest_first:
            script.module.downgrade()
        for script in reversed(newest_first):
            script.module.upgrade()
