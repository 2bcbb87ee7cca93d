"""The workflows of the ledger's rows, kept as texts that a search reads, instead of an index with an entry of each row.

Nearly every charge may name a workflow of its own, so an index of them costs each charge as much as a key does. A block
has the workflows of the rows of one account from one number of its chain to another. It is written by the statement
that moves the account, so it costs no row of its own where many charges of an account come at once. Whoever looks for a
workflow reads the texts of the blocks, and then the rows of those in which it is, by the key of the chain.

Where few charges come at once, blocks are many and small. A job merges those of a span of the chain into one
(`ledger/merge_workflow_blocks.py`): the spans are fixed, so that a block never grows beyond its own, and with it the
number of rows that a search looks at for one workflow.
"""

from collections.abc import Collection, Sequence
from typing import Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.tables import accounts, mandates, workflow_blocks

__all__ = ["KEPT_WORKFLOWS", "MANY", "SPAN", "Span", "merge_spans", "next_mandates", "spans_to_merge", "workflows_text"]

# Rows of a span of the chain: a search reads as many for each workflow that it finds.
SPAN: Final = 200
# So many blocks of a span are merged before the span is over.
MANY: Final = 64
_SEPARATOR: Final = "\n"

# An account, as (mandate, account), and the number of a span of its chain.
Span = tuple[int, int, int]

# Writes the block of each account that was `moved`, where its rows have workflows.
KEPT_WORKFLOWS: Final = (
    "kept AS (INSERT INTO workflow_blocks (mandate_no, account_no, first_seq, last_seq, workflow_ids)"
    " SELECT mandate_no, no, seq - rows + 1, seq, workflow_ids FROM moved WHERE workflow_ids IS NOT NULL)"
)


def workflows_text(workflow_ids: Collection[str]) -> str | None:
    """Different ones, a line each: no id has a line break in it. None where there are none."""
    return _SEPARATOR.join(workflow_ids) if workflow_ids else None


async def next_mandates(connection: AsyncConnection, *, after: int, limit: int) -> Sequence[int]:
    """The next mandates, in the order of their numbers."""
    read = sa.select(mandates.c.no).where(mandates.c.no > after).order_by(mandates.c.no).limit(limit)
    return (await connection.scalars(read)).all()


async def spans_to_merge(connection: AsyncConnection, numbers: Sequence[int], *, limit: int) -> list[Span]:
    """Spans of these mandates, given from the first to the last one, that have several blocks although they are over,
    or many."""
    block, account = workflow_blocks.c, accounts.c
    rows = sa.literal_column(str(SPAN), sa.BigInteger)
    span, of_blocks = block.first_seq // rows, sa.func.count()
    is_over = sa.func.min(account.seq) // rows > span
    found = (
        sa.select(block.mandate_no, block.account_no, span)
        .join(accounts, sa.and_(account.mandate_no == block.mandate_no, account.no == block.account_no))
        .where(block.mandate_no.between(numbers[0], numbers[-1]))
        .group_by(block.mandate_no, block.account_no, span)
        .having(sa.and_(of_blocks > 1, sa.or_(of_blocks >= MANY, is_over)))
        .order_by(block.mandate_no, block.account_no, span)
        .limit(limit)
    )
    return [tuple(row) for row in await connection.execute(found)]


async def merge_spans(connection: AsyncConnection, spans: Sequence[Span]) -> None:
    """Puts one block in the place of those of each span; one statement. Of a block that somebody else has merged
    meanwhile nothing is deleted, and so nothing written. A workflow that several of them have is there as often: it is
    no more than the rows of the span are, and to sort them out would take three times as long as all the rest."""
    mandate_nos, account_nos, numbers = zip(*spans, strict=True)
    await connection.execute(
        sa.text(
            "WITH merged AS (DELETE FROM workflow_blocks b"
            " USING unnest(CAST(:mandate_nos AS int[]), CAST(:account_nos AS bigint[]), CAST(:numbers AS bigint[]))"
            " AS given (mandate_no, account_no, number)"
            " WHERE b.mandate_no = given.mandate_no AND b.account_no = given.account_no"
            f" AND b.first_seq >= given.number * {SPAN} AND b.first_seq < (given.number + 1) * {SPAN}"
            " RETURNING b.mandate_no, b.account_no, given.number, b.first_seq, b.last_seq, b.workflow_ids)"
            " INSERT INTO workflow_blocks (mandate_no, account_no, first_seq, last_seq, workflow_ids)"
            " SELECT mandate_no, account_no, min(first_seq), max(last_seq), string_agg(workflow_ids, chr(10))"
            " FROM merged GROUP BY mandate_no, account_no, number"
        ),
        {"mandate_nos": list(mandate_nos), "account_nos": list(account_nos), "numbers": list(numbers)},
    )
