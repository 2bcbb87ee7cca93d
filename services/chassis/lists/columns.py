"""The columns of a list: what they are called, what they hold, and how the database computes them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal, get_args

import sqlalchemy as sa

from services.chassis.lists.errors import PaginationFault

__all__ = ["OPERATORS", "Column", "ColumnType", "Columns", "Filter", "Operator", "Value"]

ColumnType = Literal["text", "number", "time", "flag", "ids"]
Operator = Literal[
    "equals", "notEquals", "contains", "startsWith", "gt", "gte", "lt", "lte", "between", "in", "isEmpty"
]
# What a filter compares with. A time can be a whole day.
Value = str | bool | Decimal | datetime | date | None

_IN_ORDER: tuple[Operator, ...] = ("equals", "notEquals", "gt", "gte", "lt", "lte", "between", "in", "isEmpty")
# The operators of each type of column. A list of ids is filtered by those that it contains.
OPERATORS: Mapping[ColumnType, tuple[Operator, ...]] = {
    "text": get_args(Operator),
    "number": _IN_ORDER,
    "time": _IN_ORDER,
    "flag": ("equals", "notEquals", "in", "isEmpty"),
    "ids": ("equals", "notEquals", "contains", "in", "isEmpty"),
}
NAME_SHOWN_MAX = 100

_Condition = sa.ColumnElement[bool]


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """One column, by its name in JSON; `value` is its SQL, of the SQL type that fits its type.

    `needs` names the tables beside the list's own that `value` reads, so that no statement joins one in vain.
    `equals` compares in another way than by `value`, where that can use an index or a smaller table, and needs none;
    `order` is what rows are sorted by in place of `value`, where that is quicker.
    """

    name: str
    type: ColumnType
    value: sa.ColumnElement[Any]
    needs: frozenset[str] = frozenset()
    nullable: bool = True
    searchable: bool = False
    filterable: bool = True
    sortable: bool = True
    equals: Callable[[Sequence[Value]], _Condition] | None = None
    order: sa.ColumnElement[Any] | None = None


@dataclass(frozen=True, slots=True)
class Filter:
    """One condition on a column; `values` are of the column's type."""

    column: Column
    operator: Operator
    values: tuple[Value, ...]

    @property
    def needs(self) -> frozenset[str]:
        """The tables that the condition looks at beside the list's own."""
        column, values = self.column, self.values
        equality = self.operator in ("equals", "notEquals", "in")
        return frozenset() if column.equals is not None and equality and None not in values else column.needs


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a list, by name. `aliases` are other names of some, `computed` makes a column of a name that is
    none of them, or None."""

    by_name: Mapping[str, Column]
    aliases: Mapping[str, str] = field(default_factory=dict)
    computed: Callable[[str], Column | None] = lambda name: None

    @classmethod
    def of(
        cls,
        columns: Iterable[Column],
        *,
        aliases: Mapping[str, str] | None = None,
        computed: Callable[[str], Column | None] = lambda name: None,
    ) -> "Columns":
        """Those columns, in their order."""
        return cls({column.name: column for column in columns}, aliases or {}, computed)

    def to_filter_by(self, name: str) -> Column:
        """The column to filter by; `PaginationFault` where there is none of that name."""
        column = self._find(name) or self.computed(name)
        return self._known(name, column if column is not None and column.filterable else None, "filterable")

    def to_sort_by(self, name: str) -> Column:
        """The column to sort by; `PaginationFault` where there is none of that name."""
        column = self._find(name)
        return self._known(name, column if column is not None and column.sortable else None, "sortable")

    @property
    def searchable(self) -> list[Column]:
        """Those that a search looks into by their values."""
        return [each for each in self.by_name.values() if each.searchable]

    def _find(self, name: str) -> Column | None:
        return self.by_name.get(self.aliases.get(name, name))

    def _known(self, name: str, column: Column | None, use: str) -> Column:
        if column is None:
            known = ", ".join(each.name for each in self.by_name.values() if getattr(each, use))
            shown = name[:NAME_SHOWN_MAX]
            raise PaginationFault(
                f"{shown} is no column; there are {known}", f"{shown} ist keine Spalte; es gibt {known}"
            )
        return column
