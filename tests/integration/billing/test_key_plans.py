"""Narrow keys are found by their whole names, so that a batch is not compared with every row of its mandate."""

from itertools import pairwise

import asyncpg
import pytest

from services.billing.ledger.keys import _FOUND_ACCOUNTS, _FOUND_CHARGE_KEYS, _FOUND_DIMENSIONS
from tests.support.databases import connected
from tests.support.stack import ServerPair


async def _conditions(connection: asyncpg.Connection, statement: str, types: str, index: str) -> list[str]:
    """The conditions by which an index is read in the generic plan of a statement."""
    await connection.execute(f"PREPARE planned ({types}) AS {statement}")
    nulls = ", ".join("NULL" for _ in types.split(","))
    lines = [row[0] for row in await connection.fetch(f"EXPLAIN EXECUTE planned ({nulls})")]
    await connection.execute("DEALLOCATE planned")
    return [after for line, after in pairwise(lines) if f"using {index} " in line]


ACCOUNT = ("mandate_no", "type", "user_id")
DIMENSION = ("mandate_no", "provider", "model", "feature_code", "feature_instance_id")


@pytest.mark.parametrize(
    ("statement", "texts", "columns", "ways"),
    # Of a mandate's own accounts, which have no user, there are few.
    [(_FOUND_ACCOUNTS, 2, ACCOUNT, 1), (_FOUND_DIMENSIONS, 4, DIMENSION, 16), (_FOUND_CHARGE_KEYS, 5, DIMENSION, 4)],
    ids=["accounts", "dimensions", "charge keys"],
)
async def test_every_column_of_a_name_is_looked_up_by_the_index(
    servers: ServerPair, statement: str, texts: int, columns: tuple[str, ...], ways: int
) -> None:
    first = "text[]" if statement is _FOUND_CHARGE_KEYS else "int[]"
    types = ", ".join([first, *["text[]"] * texts])
    index = "uq_accounts_mandate_no_type_user_id" if columns is ACCOUNT else "uq_dimensions_names"
    async with connected(servers.admin_dsn, schema="billing") as connection:
        await connection.execute("SET plan_cache_mode = force_generic_plan")
        await connection.execute("SET enable_seqscan = off")
        conditions = await _conditions(connection, statement, types, index)
    assert len(conditions) >= ways
    for condition in conditions:
        assert "Index Cond: " in condition
        assert all(f"({name} " in condition for name in columns), condition
