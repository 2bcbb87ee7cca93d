"""The `pagination` of a list: read from its JSON, every fault named, columns checked against those the list has."""

from collections.abc import Collection
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, WithJsonSchema
from pydantic.alias_generators import to_camel

from rappen_contracts.types import Text
from services.chassis.exact_json import BodyTooLarge, DuplicateKey, MalformedJson, NumberOutOfRange, read_json
from services.chassis.lists.columns import NAME_SHOWN_MAX, Column, Columns, Filter, Operator
from services.chassis.lists.errors import PaginationFault
from services.chassis.lists.values import read_filter
from services.chassis.operations import reference

__all__ = ["Condition", "Number", "PageRequest", "Pagination", "PaginationText", "SortedBy", "parse_pagination"]

VALUES_MAX = 1000
# More than any text that rows have: what a list shows or offers as a value can be filtered by.
TEXT_MAX = 1000
FILTERS_MAX = 50
# Keeps the offset within the range of the database's integers.
PAGE_MAX = 1_000_000_000

# A number is exact.
Number = Annotated[int | Decimal, WithJsonSchema({"type": "number"})]
Scalar = Annotated[Text, Field(max_length=TEXT_MAX)] | bool | Number | None
Scalars = Annotated[list[Scalar], Field(max_length=VALUES_MAX)]


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
    value: Scalar | Scalars = None


class Pagination(_Part):
    """Which page of a list, in which order, of which rows."""

    page: Annotated[int, Field(ge=1, le=PAGE_MAX)] = 1
    page_size: Annotated[int, Field(ge=1)] = 50
    sort: Annotated[list[Sort], Field(max_length=10)] = []
    filters: Annotated[dict[Text, Condition | Scalar | Scalars], Field(max_length=FILTERS_MAX)] = {}
    search: Annotated[Text, Field(max_length=200)] | None = None


# JSON in the query; its own reader names every fault.
PaginationText = Annotated[
    str,
    WithJsonSchema({"type": "string", "contentMediaType": "application/json", "contentSchema": reference(Pagination)}),
]


@dataclass(frozen=True, slots=True)
class SortedBy:
    """A column to sort by."""

    column: Column
    descending: bool = False


@dataclass(frozen=True, slots=True)
class PageRequest:
    """A pagination that fits its list; `given` is echoed in the answer."""

    given: Pagination
    filters: tuple[Filter, ...]
    sort: tuple[SortedBy, ...]

    @property
    def search(self) -> str:
        """The text that is looked for; empty for none."""
        return self.given.search or ""

    @property
    def offset(self) -> int:
        """How many rows are before the page."""
        return (self.given.page - 1) * self.given.page_size


_reader = TypeAdapter(Pagination)
_UNREADABLE = {
    MalformedJson: ("this is not valid JSON", "das ist kein gültiges JSON"),
    DuplicateKey: ("an object has a key twice", "ein Objekt hat einen Schlüssel zweimal"),
    NumberOutOfRange: ("a number is too large, too small or too long", "eine Zahl ist zu gross, zu klein oder zu lang"),
    BodyTooLarge: ("this is too long", "das ist zu lang"),
}


def parse_pagination(text: str, columns: Columns, *, page_size_max: int) -> PageRequest:
    """Reads the query parameter; raises `PaginationFault`."""
    try:
        given = _reader.validate_python(read_json(text.encode("utf-8", "surrogatepass")))
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        place = found[0]["loc"]
        if len(place) < 2 or place[0] != "filters":
            raise PaginationFault.of(error) from None
        # Which of the forms of a filter was meant, nobody knows; what is too long, or has a NUL, is so in any of them.
        of_filter = [each for each in found if each["loc"][:2] == place[:2]]
        too_long = {each["ctx"]["field_type"] for each in of_filter if each["type"] == "too_long"}
        name = str(place[1]).replace("\x00", "")[:NAME_SHOWN_MAX]
        if any(each["type"] == "BAD_TEXT" for each in of_filter):
            raise PaginationFault(
                f"filters.{name}: text must not contain NUL", f"filters.{name}: Text darf kein NUL enthalten"
            ) from None
        raise PaginationFault(*_filter_texts(name, place[-1], too_long)) from None
    except tuple(_UNREADABLE) as problem:
        raise PaginationFault(*(f"pagination: {text}" for text in _UNREADABLE[type(problem)])) from None
    if given.page_size > page_size_max:
        raise PaginationFault(f"pageSize is at most {page_size_max}", f"pageSize ist höchstens {page_size_max}")
    sort = tuple(SortedBy(columns.to_sort_by(each.field), each.direction == "desc") for each in given.sort)
    filters = tuple(_filter(name, entry, columns) for name, entry in given.filters.items())
    return PageRequest(given, filters, sort)


def _filter(name: str, entry: object, columns: Columns) -> Filter:
    column = columns.to_filter_by(name)
    if isinstance(entry, Condition):
        return read_filter(column, entry.operator, entry.value)
    return read_filter(column, "in" if isinstance(entry, list) else "equals", entry)  # type: ignore[arg-type]


def _filter_texts(name: str, part: object, too_long: Collection[str]) -> tuple[str, str]:
    """A filter can have several forms, of which the first that does not fit says nothing; only its operator does."""
    if part == "operator":
        known = ", ".join(get_args(Operator))
        return f"filters.{name}.operator: one of {known} is expected", f"filters.{name}.operator: eines von {known}"
    if "List" in too_long:
        return (
            f"filters.{name}: a list has more than {VALUES_MAX} values",
            f"filters.{name}: eine Liste hat mehr als {VALUES_MAX} Werte",
        )
    if too_long:
        return (
            f"filters.{name}: a text is longer than {TEXT_MAX} characters",
            f"filters.{name}: ein Text ist länger als {TEXT_MAX} Zeichen",
        )
    return (
        f"filters.{name}: text, a number, true, false, null, a list of them, or operator and value are expected",
        f"filters.{name}: Text, eine Zahl, true, false, null, eine Liste davon oder operator und value werden erwartet",
    )
