"""Reading a list: in one snapshot, by a plan of its own, within its bound of time."""

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.database import Database
from services.chassis.lists.errors import ListTooCostly

__all__ = ["list_reading"]

# What lists ask differs from one to the next, so a plan for all values would often be a bad one. Compiling a statement
# to machine code takes longer than most of them. A list has one core of the server, and leaves the others to charges.
# Tables are joined in the order in which they are written: to weigh all orders took longer than a page takes.
_SESSION = {
    "plan_cache_mode": "force_custom_plan",
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
    "join_collapse_limit": "1",
}


@asynccontextmanager
async def list_reading(database: Database, *, statement_s: float) -> AsyncIterator[AsyncConnection]:
    """A transaction that only reads and sees one state of the books; `ListTooCostly` where a statement of it takes
    longer than `statement_s`."""
    session = {**_SESSION, "statement_timeout": str(math.ceil(statement_s * 1000))}
    try:
        async with database.transaction() as connection:
            await connection.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
            await connection.execute(sa.select(*(sa.func.set_config(*each, True) for each in session.items())))
            yield connection
    except asyncpg.QueryCanceledError:
        raise ListTooCostly from None
