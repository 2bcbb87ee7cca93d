"""Small blocks of workflows become one for each span of an account's chain, so that a search reads few."""

from services.billing.ledger.workflow_blocks import merge_spans, next_mandates, spans_to_merge
from services.chassis.database import Database
from services.chassis.faults import FaultPoints

__all__ = ["MergeWorkflowBlocks"]

# Mandates that are looked at in one run, and spans that are merged in one transaction.
SLICE = 200
AT_ONCE = 500


class MergeWorkflowBlocks:
    """Looks at mandates, some in each run, in turn."""

    def __init__(self, database: Database, *, faults: FaultPoints) -> None:
        self._database = database
        self._faults = faults
        self._after = 0

    async def __call__(self) -> int:
        """Merges what there is to merge, up to a number of spans; returns of how many."""
        async with self._database.reading() as connection:
            numbers = await next_mandates(connection, after=self._after, limit=SLICE)
            spans = await spans_to_merge(connection, numbers, limit=AT_ONCE) if numbers else []
        if len(spans) < AT_ONCE:
            self._after = numbers[-1] if len(numbers) == SLICE else 0
        if spans:
            async with self._database.transaction() as connection:
                # No lock: charges only add blocks, and what is deleted is written by the same statement.
                await merge_spans(connection, spans)
                self._faults.reach("merge_before_commit")
        return len(spans)
