"""What a list has, as parts of the ledger of which none has a row of another.

Plain charges are most of them, and whether one is listed follows in most lists from what is in the index by time. So
they are a part, found by that index alone, which the rollups count; all other rows are another one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.reports.charge_counts import PlainCharges, about_members
from services.billing.reports.extent import Extent, extent_of
from services.billing.reports.movement_columns import movement_columns
from services.billing.reports.movement_search import Search, find_search
from services.billing.reports.movement_values import KEY, rows_of
from services.billing.reports.plain_charges import (
    INDEXED,
    NUMBERS,
    OTHERS,
    is_plain,
    of_plain_charge,
    row_columns,
)
from services.billing.reports.scope import Scope
from services.billing.reports.workflow_search import of_workflows
from services.chassis.lists.columns import Column, Columns
from services.chassis.lists.conditions import conditions_of
from services.chassis.lists.errors import InvalidPagination, PaginationFault
from services.chassis.lists.order import Term, order_of
from services.chassis.lists.pagination import PageRequest, SortedBy, parse_pagination

__all__ = ["ListLimits", "Listing", "Part"]

_Condition = sa.ColumnElement[bool]


@dataclass(frozen=True, slots=True)
class ListLimits:
    """Rows of a page, distinct values in an answer, seconds that one statement of a list may take, in how many places
    of a kind a search is found before rows are read, and of how many of the newest rows descriptions are read first."""

    page_size_max: int
    values_max: int
    statement_s: float
    found_max: int = 10_000
    recent_rows: int = 2_000


@dataclass(frozen=True, slots=True)
class Part:
    """Rows that meet conditions, in the order of the list by values that may be computed in a shorter way for them."""

    conditions: Sequence[_Condition]
    order: Sequence[Term]


@dataclass(frozen=True, slots=True)
class _Plain:
    """What of a list is plain charges: those that meet the filters, and the search by their numbers."""

    filters: Sequence[_Condition]
    # Of these one has to be met where there is a search.
    sought: Sequence[_Condition] | None

    @property
    def is_empty(self) -> bool:
        """Whether none can be found by its numbers."""
        return self.sought is not None and not self.sought

    @property
    def is_whole(self) -> bool:
        """Whether all that meet the filters are found by their numbers."""
        return self.sought is None or any(each is sa.true() for each in self.sought)

    @property
    def known(self) -> _Condition:
        """Whether one is found by its numbers; never null."""
        return sa.or_(*self.sought) if self.sought else sa.false()

    @property
    def conditions(self) -> list[_Condition]:
        return [*self.filters, *([] if self.sought is None else [self.known])]


@dataclass(frozen=True)
class Listing:
    """What is listed: rows of an extent that meet the conditions of a request, in its order."""

    extent: Extent
    columns: Columns
    request: PageRequest
    search: Search | None

    @classmethod
    async def read(cls, connection: AsyncConnection, scope: Scope, pagination: str, limits: ListLimits) -> Self:
        """The list of a scope that a `pagination` asks for; 400 where it is none. What it searches for is found."""
        extent = await extent_of(connection, scope)
        columns = movement_columns(extent)
        try:
            request = parse_pagination(pagination, columns, page_size_max=limits.page_size_max)
        except PaginationFault as fault:
            raise InvalidPagination(fault=fault.texts) from None
        search = None
        if request.search:
            search = await find_search(connection, extent, request.search, found_max=limits.found_max)
        return cls(extent, columns, request, search)

    @property
    def order(self) -> list[Term]:
        """The order of the rows; the newest first where nothing else is asked for."""
        return order_of(self.request.sort or (SortedBy(self.columns.by_name["createdAt"], descending=True),), KEY)

    @property
    def is_narrowed(self) -> bool:
        """Whether it has fewer rows than there are in its mandates."""
        return bool(self.request.filters or self.request.search) or not self.extent.is_whole

    def conditions(self) -> list[_Condition]:
        """What a row of its mandates has to be to be listed."""
        return [*self._filters, *([] if self._anywhere is None else [self._anywhere])]

    @cached_property
    def filtered_by(self) -> frozenset[str]:
        """The tables that conditions look at."""
        return frozenset(name for each in self.request.filters for name in each.needs)

    def tables(self, *more: Column) -> frozenset[str]:
        """The tables that conditions, order and more columns look at."""
        looked_at = [*(each.column for each in self.request.sort), *more]
        return self.filtered_by.union(name for column in looked_at for name in column.needs)

    def parts(self) -> list[Part]:
        """Its rows; one part where plain charges have to be looked at, too."""
        whole = Part(self.conditions(), self.order)
        order = [Term(self._for_plain(each.value), each.descending, each.nullable) for each in self.order]
        plain = self._plain(INDEXED, *(each.value for each in order))
        if plain is None or not self.is_narrowed:
            return [whole]
        parts = [] if plain.is_empty else [Part([*plain.conditions, is_plain()], order)]
        return [*parts, *(Part(conditions, self.order) for conditions in self._beside(plain))]

    def count(self) -> sa.Select[Any]:
        """How many rows it has."""
        of_parts: list[sa.ColumnElement[int]]
        plain = self._plain(NUMBERS)
        if plain is None or "moved" in self.filtered_by:
            of_parts = [self._count_rows(part.conditions) for part in self.parts()]
        else:
            of_parts = [*self._count_charges(plain), *map(self._count_rows, self._beside(plain))]
        total: Any = of_parts[0]
        for each in of_parts[1:]:
            total = total + each
        return sa.select(total)

    def distinct(self, numbers: frozenset[str]) -> tuple[list[sa.Select[Any]], list[list[_Condition]]] | None:
        """These numbers of its plain charges, and the conditions of its other rows; None where plain charges have to be
        looked at, too."""
        plain = self._plain(NUMBERS)
        if plain is None or "moved" in self.filtered_by:
            return None
        return [each.distinct(numbers) for each in self._charges(plain)], self._beside(plain)

    @cached_property
    def _filters(self) -> list[_Condition]:
        asked = conditions_of(self.request.filters, "", self.columns, self.extent.days())
        return [self.extent.shows(), *asked, *of_workflows(self.extent, self.request.filters)]

    @cached_property
    def _anywhere(self) -> _Condition | None:
        return None if self.search is None else self.search.anywhere()

    @cached_property
    def _of_plain(self) -> _Plain:
        sought = None if self.search is None else self.search.of_plain_charge()
        return _Plain([self._for_plain(condition) for condition in self._filters], sought)

    def _for_plain(self, value: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        return of_plain_charge(value, described=self.extent.described)

    def _plain(self, known: frozenset[str], *values: sa.ColumnElement[Any]) -> _Plain | None:
        """Its conditions for plain charges; None where these, or values, look at more than is known of each."""
        plain = self._of_plain
        return plain if all(row_columns(each) <= known for each in [*plain.conditions, *values]) else None

    def _beside(self, plain: _Plain) -> list[list[_Condition]]:
        """The conditions of its rows that are no plain charges, and of plain charges that are found in another way than
        by what is known of each."""
        others: list[_Condition] = [OTHERS, *self.conditions()]
        beside = None if self.search is None or plain.is_whole else self.search.beside()
        if beside is None:
            return [others]
        return [others, [beside, sa.not_(OTHERS), sa.not_(plain.known), *self._filters]]

    def _charges(self, plain: _Plain) -> list[PlainCharges]:
        """Its plain charges as the rollups know them; where only a part of a search is about members, apart from those
        that are found without."""
        if plain.is_empty:
            return []
        every = PlainCharges(self.extent, plain.conditions, self.filtered_by)
        if plain.sought is None or replace(every, conditions=plain.filters).are_by_member:
            return [every]
        of_members = [each for each in plain.sought if about_members(each)]
        others = [each for each in plain.sought if not about_members(each)]
        if not (of_members and others):
            return [every]
        of_all = sa.or_(*others)
        also = [sa.or_(*of_members), sa.not_(of_all)]
        return [replace(every, conditions=[*plain.filters, *more]) for more in ([of_all], also)]

    def _count_charges(self, plain: _Plain) -> Sequence[sa.ColumnElement[int]]:
        """How many plain charges it has, in parts. What most members have is counted by what the others have not."""
        every = PlainCharges(self.extent, plain.filters, self.filtered_by)
        if self.search is None or not self.search.is_of_most_members or plain.is_whole or every.are_by_member:
            return [each.count() for each in self._charges(plain)]
        others = replace(every, conditions=[*plain.filters, sa.not_(plain.known)])
        return [every.count() - others.count()]

    def _count_rows(self, conditions: Sequence[_Condition]) -> sa.ScalarSelect[Any]:
        rows = sa.select(sa.func.count()).select_from(rows_of(self.filtered_by))
        return rows.where(self.extent.of_mandates(), *conditions).scalar_subquery()
