"""The schema: what the migrations make is what the tables of the subjects say."""

from typing import Any

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from services.chassis.dead_letter_limit import stopped_consumers_table
from services.chassis.migrations import service_metadata
from services.chassis.outbox import outbox_table
from services.chassis.quarantine import quarantine_table
from services.payments.checkouts import tables as checkouts
from services.payments.customers import tables as customers
from services.payments.inbox import tables as inbox
from services.payments.invoices import tables as invoices
from services.payments.recharges import tables as recharges
from services.payments.refunds import tables as refunds
from services.payments.requests import tables as requests
from services.payments.subscriptions import tables as subscriptions
from tests.integration.payments.world import World

SUBJECTS = (checkouts, customers, inbox, invoices, recharges, refunds, requests, subscriptions)


def _metadata() -> sa.MetaData:
    metadata = service_metadata("payments")
    for table in (outbox_table, quarantine_table, stopped_consumers_table):
        table(metadata)
    for subject in SUBJECTS:
        for known in vars(subject).values():
            if isinstance(known, sa.Table) and known.key not in metadata.tables:
                known.to_metadata(metadata)
    return metadata


def _differences(connection: sa.Connection) -> list[Any]:
    def ours(name: str | None, kind: str, _: Any) -> bool:
        return name == "payments" if kind == "schema" else name != "alembic_version"

    options = {"include_schemas": True, "include_name": ours, "compare_type": True, "compare_server_default": False}
    return list(compare_metadata(MigrationContext.configure(connection, opts=options), _metadata()))


async def test_the_tables_are_what_the_migrations_make(world: World) -> None:
    # With another search path the tables are named with their schema, as the description names them.
    url = make_url(world.servers.dsn("payments", owner=True)).set(drivername="postgresql+asyncpg")
    engine = create_async_engine(url, connect_args={"server_settings": {"search_path": "pg_catalog"}})
    try:
        async with engine.connect() as connection:
            await connection.execute(sa.text("SET search_path = pg_catalog"))
            assert await connection.run_sync(_differences) == []
    finally:
        await engine.dispose()


async def test_the_application_role_can_neither_change_money_nor_forget_it(world: World) -> None:
    grants = await world.rows(
        "SELECT table_name, privilege_type FROM information_schema.role_table_grants"
        " WHERE grantee = 'payments_app' AND table_schema = 'payments' AND privilege_type IN ('DELETE', 'TRUNCATE')"
    )
    assert {row["table_name"] for row in grants} == {"outbox", "webhook_events", "stripe_requests"}
