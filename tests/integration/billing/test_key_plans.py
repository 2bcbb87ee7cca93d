"""Narrow keys are found by their whole names, so that a batch is not compared with every row of its mandate, also where
statistics are of a time when each mandate had a few rows."""

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import asyncpg
import pytest

from services.billing.ledger.keys import _FOUND_ACCOUNTS, _FOUND_CHARGE_KEYS, _FOUND_DIMENSIONS
from tests.support.databases import unseen
from tests.support.stack import ServerPair

SMALL, LARGE = 3_000, 4_000
LOOKED_UP = 500

MANDATES = "INSERT INTO mandates (id) SELECT 'small-' || n FROM generate_series(1, $1::int) n RETURNING no"
LARGE_MANDATE = "INSERT INTO mandates (id) VALUES ('large') RETURNING no"
OWN_ACCOUNTS = """
    INSERT INTO accounts (mandate_no, type)
    SELECT no, type FROM mandates, unnest(ARRAY['MANDATE', 'INTERNAL']) AS type WHERE no >= $1
"""
FEW_MEMBERS = "INSERT INTO accounts (mandate_no, type, user_id) SELECT unnest($1::int[]), 'USER', 'member'"
FEW_DIMENSIONS = """
    INSERT INTO dimensions (mandate_no, provider, model, feature_code, feature_instance_id)
    SELECT no, 'p', 'm', CASE WHEN no % 2 = 0 THEN 'f' END, CASE WHEN no % 3 = 0 THEN 'i' END
      FROM unnest($1::int[]) AS no
"""
MANY_MEMBERS = """
    INSERT INTO accounts (mandate_no, type, user_id)
    SELECT $1, 'USER', 'member-' || n FROM generate_series(1, $2::int) n
    RETURNING mandate_no, type, user_id
"""
# One column makes a name its own; which of the others are null goes through all ways.
MANY_DIMENSIONS = """
    INSERT INTO dimensions (mandate_no, provider, model, feature_code, feature_instance_id)
    SELECT $1,
           CASE WHEN n % 4 = 0 THEN 'p-' || n WHEN n & 8 > 0 THEN 'p' END,
           CASE WHEN n % 4 = 1 THEN 'm-' || n WHEN n & 16 > 0 THEN 'm' END,
           CASE WHEN n % 4 = 2 THEN 'f-' || n WHEN n & 32 > 0 THEN 'f' END,
           CASE WHEN n % 4 = 3 THEN 'i-' || n WHEN n & 64 > 0 THEN 'i' END
      FROM generate_series(1, $2::int) n
    RETURNING mandate_no, provider, model, feature_code, feature_instance_id
"""


def _literal(column: Sequence[object]) -> str:
    return f"ARRAY[{', '.join('NULL' if each is None else repr(each) for each in column)}]"


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from _nodes(below)


def _read(plan: dict[str, Any]) -> float:
    """How many rows of tables a plan read, those that it passed over with them."""
    passed_over = ("Rows Removed by Filter", "Rows Removed by Index Recheck")
    return sum(
        (node["Actual Rows"] + sum(node.get(kind, 0) for kind in passed_over)) * node["Actual Loops"]
        for node in _nodes(plan)
        if "Relation Name" in node
    )


@pytest.fixture(params=["force_generic_plan", "force_custom_plan"])
async def connection(servers: ServerPair, request: pytest.FixtureRequest) -> AsyncIterator[asyncpg.Connection]:
    async with unseen(servers.admin_dsn, schema="billing") as connection:
        await connection.execute(f"SET LOCAL plan_cache_mode = {request.param}")
        yield connection


@pytest.mark.parametrize("analyzed", ["before", "after", "before and after"])
async def test_rows_are_read_for_each_name_not_for_each_pair(connection: asyncpg.Connection, analyzed: str) -> None:
    small = [row["no"] for row in await connection.fetch(MANDATES, SMALL)]
    large = await connection.fetchval(LARGE_MANDATE)
    await connection.execute(OWN_ACCOUNTS, small[0])
    if "before" in analyzed:
        await connection.execute(FEW_MEMBERS, small)
        await connection.execute(FEW_DIMENSIONS, small)
        await connection.execute("ANALYZE mandates, accounts, dimensions")
    members = [tuple(row) for row in await connection.fetch(MANY_MEMBERS, large, LARGE)]
    dimensions = [tuple(row) for row in await connection.fetch(MANY_DIMENSIONS, large, LARGE)]
    if "after" in analyzed:
        await connection.execute("ANALYZE mandates, accounts, dimensions")

    charged = [("large", "member-1", *names) for _, *names in dimensions if names[0] and names[1]]
    for statement, types, names in (
        (_FOUND_ACCOUNTS, ["int[]", *["text[]"] * 2], members),
        (_FOUND_DIMENSIONS, ["int[]", *["text[]"] * 4], dimensions),
        (_FOUND_CHARGE_KEYS, ["text[]"] * 6, charged),
    ):
        asked = names[-LOOKED_UP:]
        arguments = ", ".join(_literal(column) for column in zip(*asked, strict=True))
        await connection.execute(f"PREPARE looked_up ({', '.join(types)}) AS {statement}")
        found = await connection.fetch(f"EXECUTE looked_up ({arguments})")
        (explained,) = await connection.fetch(
            f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) EXECUTE looked_up ({arguments})"
        )
        await connection.execute("DEALLOCATE looked_up")
        assert len(found) == LOOKED_UP
        # Of a charge key also its mandate, maybe upon reading all of them, and three accounts.
        read = _read(json.loads(explained[0])[0]["Plan"])
        assert read <= LOOKED_UP * LARGE / 40, (read, statement)
