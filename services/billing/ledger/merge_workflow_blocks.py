"""Small blocks of workflows become one for each span of an account's chain, so that a search reads few."""

import asyncio

import sqlalchemy as sa

from services.billing.ledger.workflow_blocks import merge_spans, next_mandates, spans_to_merge
from services.chassis.database import Database
from services.chassis.faults import FaultPoints

__all__ = ["MergeWorkflowBlocks"]

# Mandates that are looked at in one run, and spans that are merged in it.
SLICE = 200
SPANS = 500
# Spans of one statement. It pauses between them, because charges would wait for a core as long as it takes.
AT_ONCE = 50
PAUSE_S = 0.05
# One worker at a time merges: another would compute the same, only to find that nothing is left of it.
_LOCK = sa.select(sa.func.pg_try_advisory_xact_lock(sa.func.hashtext("billing.workflow_blocks")))


class MergeWorkflowBlocks:
    """Looks at mandates, some in each run, in turn."""

    def __init__(self, database: Database, *, faults: FaultPoints) -> None:
        self._database = database
        self._faults = faults
        self._after = 0

    async def __call__(self) -> int:
        """Merges what there is to merge, up to a number of spans; returns of how many."""
        async with self._database.transaction() as connection:
            if not await connection.scalar(_LOCK):
                return 0
            numbers = await next_mandates(connection, after=self._after, limit=SLICE)
            spans = await spans_to_merge(connection, numbers, limit=SPANS) if numbers else []
            for start in range(0, len(spans), AT_ONCE):
                if start:
                    await asyncio.sleep(PAUSE_S)
                # No lock on accounts: charges only add blocks, and what is deleted is written by the same statement.
                await merge_spans(connection, spans[start : start + AT_ONCE])
            if spans:
                self._faults.reach("merge_before_commit")
        if len(spans) < SPANS:
            self._after = numbers[-1] if len(numbers) == SLICE else 0
        return len(spans)
