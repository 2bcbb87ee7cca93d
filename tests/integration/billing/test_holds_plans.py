"""Statements about holds find what they are about by its key, whatever the statistics were when they were planned."""

import asyncpg
import pytest

from services.billing.checks.limit_use import _STATEMENT as LIMIT_USE
from services.billing.ledger.holds import _FOUND, HELD_NOW
from tests.integration.billing.conftest import BillingApi
from tests.support.databases import connected
from tests.support.holding import Holding, chf
from tests.support.ledger import Books
from tests.support.stack import ServerPair

HOLDS = 40


async def _indexes(connection: asyncpg.Connection, statement: str, *types: str) -> set[str]:
    """The indexes of holds in the generic plan of a statement; `holds` where the table itself is read through."""
    lines = [line for line in await _plan(connection, statement, *types) if "on holds" in line]
    return {line.partition("using ")[2].partition(" ")[0] or "holds" for line in lines}


async def _conditions(connection: asyncpg.Connection, statement: str, column: str, *types: str) -> list[str]:
    """The conditions on a column by which indexes are read."""
    plan = await _plan(connection, statement, *types)
    return [line for line in plan if "Index Cond:" in line and column in line]


async def _plan(connection: asyncpg.Connection, statement: str, *types: str) -> list[str]:
    await connection.execute(f"PREPARE planned ({', '.join(types)}) AS {statement}")
    plan = await connection.fetch(f"EXPLAIN EXECUTE planned ({', '.join('NULL' for _ in types)})")
    await connection.execute("DEALLOCATE planned")
    return [row[0] for row in plan]


@pytest.mark.parametrize("analysed", [False, True])
async def test_no_statement_of_a_hold_leads_through_all_open_ones(
    api: BillingApi, books: Books, mandate: str, servers: ServerPair, analysed: bool
) -> None:
    holding = Holding(api, books, mandate)
    await holding.credit(100)
    # Statistics that have seen settled holds alone take the index of the open ones for the cheapest.
    for _ in range(HOLDS):
        assert (await holding.capture(await holding.hold("0.01"), cost=chf("0"))).status_code == 200
    async with connected(servers.admin_dsn, schema="billing") as connection:
        await connection.execute("SET plan_cache_mode = force_generic_plan")
        await connection.execute("SET enable_seqscan = off")
        if analysed:
            await connection.execute("ANALYZE holds")
        held = f"SELECT {HELD_NOW.format('a', '$1::timestamptz')} FROM accounts a"
        assert await _indexes(connection, held, "timestamptz") == {"ix_holds_open"}
        assert await _indexes(connection, f"{_FOUND} SELECT * FROM found", "int[]", "uuid[]", "uuid[]") == {"pk_holds"}
        due = "SELECT mandate_no FROM holds WHERE settled_at IS NULL AND expires_at <= $1 ORDER BY expires_at LIMIT $2"
        assert await _indexes(connection, due, "timestamptz", "int") == {"ix_holds_due"}
        of_limits = ("int[]", "text[]", "text[]", "date[]", "date[]", "date[]", "timestamptz")
        assert await _indexes(connection, LIMIT_USE, *of_limits) == {"ix_holds_open"}
        # Those of the mandates that are asked about, and of these only the ones that are due.
        (condition,) = await _conditions(connection, LIMIT_USE, "expires_at", *of_limits)
        assert "mandate_no =" in condition
