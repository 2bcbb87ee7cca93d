"""Which texts a workflow's id can have in it."""

import pytest

from services.billing.reports.workflow_search import can_be_in_workflow


@pytest.mark.parametrize("text", ["a", "Workflow-1", "a.b:c@d|e_f", "0", "x" * 64, "FLOW-\u0130", "\u212a"])
def test_a_part_of_an_identifier_is_looked_for_in_blocks(text: str) -> None:
    assert can_be_in_workflow(text)


@pytest.mark.parametrize("text", ["a b", "Z\u00fcrich", "50%", "a\nb", "back\\slash", "x" * 65])
def test_what_no_identifier_has_is_not(text: str) -> None:
    assert not can_be_in_workflow(text)
