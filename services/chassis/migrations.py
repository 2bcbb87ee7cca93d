"""Alembic, configured in code: each service migrates its own schema as that schema's owner."""

import asyncio
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from services.chassis.database import raise_what_the_driver_raised

__all__ = ["NewerSchemaError", "OlderSchemaError", "migrate", "service_metadata"]

# A migration that cannot get its lock must not queue every charge behind it.
LOCK_TIMEOUT = "4s"
STATEMENT_TIMEOUT = "60s"

NAMING_CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


class NewerSchemaError(Exception):
    """The schema is at a revision that this release does not have: a newer one has migrated it."""


class OlderSchemaError(Exception):
    """The schema is not at the newest revision yet."""


def service_metadata(schema: str) -> sa.MetaData:
    """The metadata of a service's tables: their schema, and how constraints and indexes are named."""
    return sa.MetaData(schema=schema, naming_convention=NAMING_CONVENTION)


def migrate(owner_url: str, *, schema: str, folder: Path, check: bool = False) -> str:
    """Brings the schema to the newest revision in one transaction and returns it. Safe to repeat and to run
    concurrently. Raises NewerSchemaError, with nothing changed, where a newer release has migrated it; with `check`
    OlderSchemaError, with nothing changed either, where there is something to migrate."""
    return asyncio.run(_migrate(owner_url, schema, folder, check=check))


async def _migrate(owner_url: str, schema: str, folder: Path, *, check: bool) -> str:
    url = make_url(owner_url).set(drivername="postgresql+asyncpg")
    engine = create_async_engine(url, poolclass=NullPool)
    sa.event.listen(engine.sync_engine, "handle_error", raise_what_the_driver_raised)
    try:
        async with engine.begin() as connection:
            return await connection.run_sync(_upgrade, schema, folder, check)
    finally:
        await engine.dispose()


def _upgrade(connection: sa.Connection, schema: str, folder: Path, check: bool) -> str:
    # A service imports this module for the metadata of its tables, and starts faster without Alembic.
    from alembic.migration import MigrationContext  # noqa: PLC0415
    from alembic.operations import Operations  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    scripts = ScriptDirectory(str(folder), version_locations=[str(folder)])
    head = scripts.get_current_head()
    if head is None:
        raise RuntimeError(f"{folder} holds no revision")
    # Two processes that migrate at once take turns.
    connection.execute(sa.text("SELECT pg_advisory_xact_lock(hashtext(:schema))"), {"schema": schema})
    connection.execute(sa.text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"))
    connection.execute(sa.text(f"SET LOCAL statement_timeout = '{STATEMENT_TIMEOUT}'"))
    migration = MigrationContext.configure(
        connection,
        opts={
            "fn": lambda revision, _: scripts._upgrade_revs(head, revision),  # noqa: SLF001 - Alembic's own way in.
            "version_table_schema": schema,
            "transactional_ddl": True,
        },
    )
    current = migration.get_current_revision()
    if current not in {None, *(script.revision for script in scripts.walk_revisions())}:
        raise NewerSchemaError(
            f"schema {schema} is at revision {current}, and this release ends at {head}: use a newer one"
        )
    if check:
        if current != head:
            before = current or "none"
            raise OlderSchemaError(f"schema {schema} is at revision {before}, and this release ends at {head}")
        return head
    with Operations.context(migration):
        migration.run_migrations()
    return head
