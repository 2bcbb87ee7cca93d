"""Looking for workflows in their blocks (`ledger/workflow_blocks.py`): which events are of those that are sought."""

from collections.abc import Callable, Iterable
from typing import Any

import sqlalchemy as sa
from pydantic import TypeAdapter, ValidationError

from rappen_contracts.types import Identifier
from services.billing.reports.extent import Extent
from services.billing.reports.movement_values import among, row
from services.billing.tables import transactions, workflow_blocks
from services.chassis.lists.columns import Filter
from services.chassis.statements import one_of

__all__ = ["can_be_in_workflow", "events_with_text", "lower", "of_workflows"]

_Condition = sa.ColumnElement[bool]
_ROW = transactions.alias("each_row")
_IDENTIFIER: TypeAdapter[str] = TypeAdapter(Identifier)


def lower(text: str) -> str:
    """The text in lower case as the database has it: letter by letter, so a capital I with a dot is an i."""
    return "".join(each.lower()[0] for each in text)


def can_be_in_workflow(text: str) -> bool:
    """Whether an id can have the text in it: a part of an identifier is one, too."""
    try:
        _IDENTIFIER.validate_python(lower(text))
    except ValidationError:
        return False
    return True


def events_with_text(extent: Extent, text: str) -> sa.Select[Any]:
    """The events of rows whose workflow has the text in it, whatever its case."""
    # All letters of identifiers are of ASCII. Comparing a pattern takes a quarter longer.
    in_block = sa.func.strpos(sa.func.lower(workflow_blocks.c.workflow_ids), sa.literal(lower(text), sa.Text)) > 0
    return _events_in_blocks(extent, in_block, lambda value: value.icontains(text, autoescape=True))


def of_workflows(extent: Extent, filters: Iterable[Filter]) -> list[_Condition]:
    """What filters by workflows say of a row's event, so that rows are found by their blocks."""
    return [
        _of_workflows(extent, [str(value) for value in each.values])
        for each in filters
        if each.column.name == "workflowId" and each.operator in ("equals", "in") and None not in each.values
    ]


def _of_workflows(extent: Extent, workflow_ids: list[str]) -> _Condition:
    # An overlap of arrays would compare each with each, and there can be a thousand of both; these are hashed.
    lines = sa.func.string_to_table(workflow_blocks.c.workflow_ids, sa.func.chr(10), type_=sa.Text)
    in_block = sa.exists().where(one_of(lines.column_valued("line"), workflow_ids)).correlate(workflow_blocks)
    return among(row.event_id, _events_in_blocks(extent, in_block, lambda value: one_of(value, workflow_ids)))


def _events_in_blocks(
    extent: Extent, in_block: _Condition, is_sought: Callable[[sa.ColumnElement[str]], _Condition]
) -> sa.Select[Any]:
    """The events of rows whose workflow is sought, in blocks that have one of those; events of other mandates may have
    the same ids."""
    block, each = workflow_blocks.c, _ROW.c
    of_block = (each.mandate_no == block.mandate_no, each.posted_account_no == block.account_no)
    rows = sa.select(each.event_id).where(*of_block, each.seq.between(block.first_seq, block.last_seq))
    # OFFSET 0 keeps it a look-up of each block, whatever the statistics.
    sought = rows.where(is_sought(each.workflow_id)).correlate(workflow_blocks).offset(0).lateral("of_block")
    read = sa.select(sought.c.event_id).select_from(workflow_blocks.join(sought, sa.true()))
    return read.where(extent.has_mandate(block.mandate_no), in_block)
