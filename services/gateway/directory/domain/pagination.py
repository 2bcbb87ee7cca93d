"""The `pagination` of a list: read from its JSON, every fault named, columns checked against those the list has."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel

from rappen_contracts.types import Text

__all__ = [
    "ColumnType",
    "Filter",
    "Operator",
    "PageRequest",
    "Pagination",
    "PaginationFault",
    "parse_pagination",
]

ColumnType = Literal["text", "flag", "names"]
Operator = Literal[
    "equals", "notEquals", "contains", "startsWith", "gt", "gte", "lt", "lte", "between", "in", "isEmpty"
]

# The filter operators of each type of column. A list of names is filtered by one of its members.
OPERATORS: Mapping[ColumnType, tuple[str, ...]] = {
    "text": get_args(Operator),
    "flag": ("equals", "notEquals", "in", "isEmpty"),
    "names": ("equals", "notEquals", "contains", "in", "isEmpty"),
}
VALUES_MAX = 1000
NAME_SHOWN_MAX = 100
# Keeps the offset within the range of the database's integers.
PAGE_MAX = 1_000_000_000

Scalar = Annotated[Text, Field(max_length=500)] | bool | None


class PaginationFault(Exception):  # noqa: N818 - it becomes a refusal; the field's word is fault.
    """What is wrong with the pagination, as a phrase in English and German; `error` has it where it is no such JSON."""

    def __init__(self, en: str, de: str, error: ValidationError | None = None) -> None:
        super().__init__(en)
        self.texts = {"en": en, "de": de}
        self.error = error


class _Part(BaseModel):
    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", alias_generator=to_camel, validate_by_name=False
    )


class Sort(_Part):
    """One column to sort by."""

    field: Text
    direction: Literal["asc", "desc"] = "asc"


class Condition(_Part):
    """A filter with an operator of its own."""

    operator: Operator
    value: Scalar | Annotated[list[Scalar], Field(max_length=VALUES_MAX)] = None


class Pagination(_Part):
    """Which page of a list, in which order, of which rows."""

    page: Annotated[int, Field(ge=1, le=PAGE_MAX)] = 1
    page_size: Annotated[int, Field(ge=1)] = 50
    sort: Annotated[list[Sort], Field(max_length=10)] = []
    filters: Annotated[
        dict[Text, Condition | Scalar | Annotated[list[Scalar], Field(max_length=VALUES_MAX)]], Field(max_length=50)
    ] = {}
    search: Annotated[Text, Field(max_length=200)] | None = None


@dataclass(frozen=True, slots=True)
class Filter:
    """One condition on a column; `values` are of the column's type."""

    column: str
    operator: str
    values: tuple[str | bool | None, ...]


@dataclass(frozen=True, slots=True)
class PageRequest:
    """A pagination that fits its list; `given` is echoed in the answer."""

    given: Pagination
    filters: tuple[Filter, ...]


_reader = TypeAdapter(Pagination)


def parse_pagination(text: str, columns: Mapping[str, ColumnType], *, page_size_max: int) -> PageRequest:
    """Reads the query parameter; raises `PaginationFault`."""
    try:
        given = _reader.validate_json(text)
    except ValidationError as error:
        place = error.errors(include_url=False, include_input=False, include_context=False)[0]["loc"]
        if len(place) < 2 or place[0] != "filters":
            name = ".".join(str(part) for part in place) or "pagination"
            raise PaginationFault(name, name, error) from None
        raise PaginationFault(*_filter_texts(str(place[1])[:NAME_SHOWN_MAX], place[-1])) from None
    if given.page_size > page_size_max:
        raise PaginationFault(f"pageSize is at most {page_size_max}", f"pageSize ist höchstens {page_size_max}")
    for sort in given.sort:
        _known(sort.field, columns)
    return PageRequest(given, tuple(_filter(name, entry, columns) for name, entry in given.filters.items()))


def _filter_texts(name: str, part: object) -> tuple[str, str]:
    """A filter can have several forms, of which the first that does not fit says nothing; only its operator does."""
    if part == "operator":
        known = ", ".join(get_args(Operator))
        return f"filters.{name}.operator: one of {known} is expected", f"filters.{name}.operator: eines von {known}"
    return (
        f"filters.{name}: text, true, false, null, a list of them, or operator and value are expected",
        f"filters.{name}: Text, true, false, null, eine Liste davon oder operator und value werden erwartet",
    )


def _known(name: str, columns: Mapping[str, ColumnType]) -> ColumnType:
    if name not in columns:
        shown, known = name[:NAME_SHOWN_MAX], ", ".join(columns)
        raise PaginationFault(f"{shown} is no column; there are {known}", f"{shown} ist keine Spalte; es gibt {known}")
    return columns[name]


def _filter(name: str, given: Any, columns: Mapping[str, ColumnType]) -> Filter:
    type_ = _known(name, columns)
    if isinstance(given, Condition):
        operator: str = given.operator
        value = given.value
    else:
        operator, value = ("in" if isinstance(given, list) else "equals"), given
    if operator not in OPERATORS[type_]:
        raise PaginationFault(f"{name} cannot be asked {operator}", f"{name} kann nicht mit {operator} gefragt werden")
    values = tuple(value) if isinstance(value, list) else (value,)
    _check_values(name, operator, type_, value, values)
    return Filter(name, operator, values)


def _check_values(name: str, operator: str, type_: ColumnType, value: object, values: tuple[object, ...]) -> None:
    if operator == "isEmpty":
        if value is not None and not isinstance(value, bool):
            raise PaginationFault(f"{name}: isEmpty takes true or false", f"{name}: isEmpty nimmt true oder false")
        return
    if operator == "between":
        if not isinstance(value, list) or len(values) != 2:
            raise PaginationFault(f"{name}: between takes two values", f"{name}: between nimmt zwei Werte")
    elif isinstance(value, list) != (operator == "in"):
        en, de = ("a list", "eine Liste") if operator == "in" else ("one value", "einen Wert")
        raise PaginationFault(f"{name}: {operator} takes {en}", f"{name}: {operator} nimmt {de}")
    expected = bool if type_ == "flag" else str
    # Null is allowed only in a test of equality.
    allowed = (expected, type(None)) if operator in ("equals", "notEquals", "in") else (expected,)
    if not all(isinstance(entry, allowed) for entry in values):
        en, de = ("true or false", "true oder false") if type_ == "flag" else ("text", "Text")
        raise PaginationFault(f"{name} is compared with {en}", f"{name} wird mit {de} verglichen")
