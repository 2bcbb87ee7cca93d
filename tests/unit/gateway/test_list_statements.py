"""How the statements of lists are written."""

from __future__ import annotations

import pytest
from sqlalchemy.dialects import postgresql

from services.chassis.lists.columns import Filter, Operator
from services.chassis.lists.conditions import matches
from services.gateway.directory import queries
from services.gateway.directory.domain.entries import KIND_BY_NAME
from services.gateway.directory.queries import View

MANY = tuple(f"id-{number}" for number in range(1000))


@pytest.mark.parametrize("operator", ["in", "equals", "notEquals"])
@pytest.mark.parametrize(("kind", "name"), [("user", "displayName"), ("membership", "roles"), ("membership", "userId")])
def test_a_statement_does_not_grow_with_the_values_of_a_filter(kind: str, name: str, operator: Operator) -> None:
    """Written out, a thousand values cost the process more time than the database, while everybody else waits."""
    column = queries.columns_of(KIND_BY_NAME[kind], View(None)).by_name[name]
    condition = matches(Filter(column, operator, (*MANY, None)))
    compiled = condition.compile(dialect=postgresql.dialect())  # type: ignore[no-untyped-call]
    assert list(MANY) in compiled.params.values()
    assert len(compiled.params) < 10
