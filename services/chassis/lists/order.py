"""The order of a list, and what comes behind a place in it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from services.chassis.lists.columns import Column
from services.chassis.lists.pagination import SortedBy

__all__ = ["Term", "behind", "order_of"]


@dataclass(frozen=True, slots=True, eq=False)
class Term:
    """A value to order by. Rows without one come last, in both directions."""

    value: sa.ColumnElement[Any]
    descending: bool = False
    nullable: bool = False

    @property
    def ordered(self) -> sa.ColumnElement[Any]:
        """As it stands in ORDER BY; without a word about nulls where there are none, so that an index can serve."""
        value = self.value.desc() if self.descending else self.value.asc()
        return value.nulls_last() if self.nullable else value

    def named(self, value: sa.ColumnElement[Any]) -> "Term":
        """The same term of another statement, where its value has a name."""
        return Term(value, self.descending, self.nullable)


def order_of(sort: Sequence[SortedBy], ties: Sequence[sa.ColumnElement[Any]]) -> list[Term]:
    """The order by the columns; ties break by the key, in the direction of the first column, so that an index that has
    both serves both directions."""
    descending = bool(sort) and sort[0].descending
    terms = [Term(_order(each.column), each.descending, each.column.nullable) for each in sort]
    return [*terms, *(Term(tie, descending) for tie in ties)]


def _order(column: Column) -> sa.ColumnElement[Any]:
    return column.value if column.order is None else column.order


def behind(terms: Sequence[Term], place: Sequence[Any]) -> sa.ColumnElement[bool]:
    """Whether a row comes behind the one whose values are given."""
    values = [sa.literal(value, term.value.type) for term, value in zip(terms, place, strict=True)]
    if len({term.descending for term in terms}) == 1 and not any(term.nullable for term in terms):
        row, given = sa.tuple_(*(term.value for term in terms)), sa.tuple_(*values)
        return row < given if terms[0].descending else row > given
    either: list[sa.ColumnElement[bool]] = []
    same: list[sa.ColumnElement[bool]] = []
    for term, value, known in zip(terms, values, place, strict=True):
        either.append(sa.and_(*same, _after(term, value, known)))
        same.append(term.value.is_(None) if known is None else term.value == value)
    return sa.or_(*either)


def _after(term: Term, value: sa.ColumnElement[Any], known: Any) -> sa.ColumnElement[bool]:
    if known is None:
        return sa.false()
    after = term.value < value if term.descending else term.value > value
    return sa.or_(after, term.value.is_(None)) if term.nullable else after
