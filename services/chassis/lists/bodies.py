"""What answers of lists have in common."""

from decimal import Decimal
from typing import Any, Literal

from services.chassis.bodies import AnswerBody
from services.chassis.lists.columns import Operator
from services.chassis.lists.pagination import Condition, Number, PageRequest

__all__ = ["PageInfo", "page_info"]

# What a filter of a list compares with.
FilterValue = str | bool | Number | None


class SortRule(AnswerBody):
    """One column to sort by."""

    field: str
    direction: Literal["asc", "desc"] = "asc"


class FilterRule(AnswerBody):
    """A condition on a column, as it was read."""

    operator: Operator
    value: FilterValue | list[FilterValue] = None


class PageInfo(AnswerBody):
    """Which page an answer holds."""

    current_page: int
    page_size: int
    total_items: int
    total_pages: int
    sort: list[SortRule]
    filters: dict[str, FilterRule | FilterValue | list[FilterValue]]


def page_info(request: PageRequest, total: int) -> dict[str, Any]:
    """The `pagination` of an answer: the page that was asked for, and how many there are."""
    given = request.given
    filters: dict[str, Any] = {name: _plain(each) for name, each in given.filters.items()}
    return {
        "currentPage": given.page,
        "pageSize": given.page_size,
        "totalItems": total,
        "totalPages": -(-total // given.page_size),
        "sort": [{"field": each.field, "direction": each.direction} for each in given.sort],
        "filters": filters,
    }


def _plain(entry: Any) -> Any:
    if isinstance(entry, Condition):
        return {"operator": entry.operator, "value": _plain(entry.value)}
    if isinstance(entry, list):
        return [_plain(each) for each in entry]
    # A whole number may have more digits than the JSON encoder takes of one.
    return Decimal(entry) if isinstance(entry, int) and not isinstance(entry, bool) else entry
