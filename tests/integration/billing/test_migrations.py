"""The migrated schema is the one the tables describe."""

from typing import Any

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.ext.asyncio import create_async_engine

from services.billing import tables
from tests.support.stack import ServerPair


def _differences(connection: sa.Connection) -> list[Any]:
    options = {
        "include_schemas": True,
        "include_name": lambda name, kind, _: kind != "schema" or name == "billing",
        "compare_type": True,
        "compare_server_default": False,
        "version_table_schema": "billing",
    }
    return list(compare_metadata(MigrationContext.configure(connection, opts=options), tables.metadata))


async def test_the_tables_are_those_of_the_migrations(servers: ServerPair) -> None:
    # Not the owner, whose search path makes the schema the default one, which the comparison takes for nameless.
    url = sa.make_url(servers.admin_dsn).set(drivername="postgresql+asyncpg")
    engine = create_async_engine(url)
    try:
        async with engine.connect() as connection:
            assert await connection.run_sync(_differences) == []
    finally:
        await engine.dispose()
