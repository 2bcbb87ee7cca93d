"""Looking for accounts to recharge, which every worker does all the time, leads through no whole table."""

from datetime import UTC, datetime, timedelta

import asyncpg
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from services.billing.ledger.low_balances import _OF_ACCOUNTS
from services.billing.recharges import repository
from services.billing.recharges.repository import Due
from services.billing.tables import mandates
from tests.support.databases import connected
from tests.support.stack import ServerPair

DUE = Due(datetime(2026, 5, 4, tzinfo=UTC), timedelta(days=1), 10**11)


async def _read_by(connection: asyncpg.Connection, statement: str, *types: str) -> set[str]:
    """The indexes of the generic plan of a statement; `table` where one is read through."""
    declared, given = (f"({', '.join(names)})" if types else "" for names in (types, ["NULL"] * len(types)))
    await connection.execute(f"PREPARE planned {declared} AS {statement}")
    plan = await connection.fetch(f"EXPLAIN EXECUTE planned {given}")
    await connection.execute("DEALLOCATE planned")
    lines = [row[0] for row in plan if " on " in row[0]]
    found = {line.rpartition(" using ")[2].partition(" ")[0] for line in lines if " using " in line}
    return found | {"table" for line in lines if "Seq Scan" in line}


async def test_each_statement_is_planned_by_index(servers: ServerPair) -> None:
    candidates = sa.exists().where(repository._is_due(DUE)).correlate(mandates)
    read = sa.select(mandates.c.no).where(repository._recharges_itself(DUE), candidates)
    text = str(read.compile(dialect=postgresql.dialect(), compile_kwargs={"literal_binds": True}))
    async with connected(servers.admin_dsn, schema="billing") as connection:
        await connection.execute("SET plan_cache_mode = force_generic_plan")
        await connection.execute("SET enable_seqscan = off")
        read_by = await _read_by(connection, text)
        # From which of the two it begins is a matter of the statistics.
        assert "ix_accounts_low" in read_by
        assert "table" not in read_by
        noted = await _read_by(connection, _OF_ACCOUNTS, "timestamptz", "int[]", "bigint[]")
        assert noted <= {"pk_accounts", "ix_accounts_no", "pk_mandates"}
