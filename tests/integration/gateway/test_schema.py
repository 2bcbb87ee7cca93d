"""The schema: what the migration makes is what the tables say, and the application may do no more than it needs."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from services.gateway.tables import metadata
from tests.support.databases import connected
from tests.support.stack import ServerPair


def _differences(connection: sa.Connection) -> list[Any]:
    def ours(name: str | None, kind: str, _: Any) -> bool:
        return name == "gateway" if kind == "schema" else name != "alembic_version"

    options = {"include_schemas": True, "include_name": ours, "compare_type": True, "compare_server_default": False}
    return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))


async def test_the_tables_are_what_the_migration_makes(servers: ServerPair) -> None:
    # With another search path the tables are named with their schema, as the description names them.
    url = make_url(servers.dsn("gateway", owner=True)).set(drivername="postgresql+asyncpg")
    engine = create_async_engine(url, connect_args={"server_settings": {"search_path": "pg_catalog"}})
    try:
        async with engine.connect() as connection:
            await connection.execute(sa.text("SET search_path = pg_catalog"))
            assert await connection.run_sync(_differences) == []
    finally:
        await engine.dispose()


# What was published, and requests of a minute that is over.
REMOVED = ("outbox", "rate_windows")


@pytest.mark.parametrize("table", [table.name for table in metadata.sorted_tables if table.name not in REMOVED])
async def test_the_application_can_remove_nothing(servers: ServerPair, table: str) -> None:
    async with connected(servers.dsn("gateway")) as connection:
        for statement in (f"DELETE FROM {table}", f"TRUNCATE {table}", f"DROP TABLE {table}"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
