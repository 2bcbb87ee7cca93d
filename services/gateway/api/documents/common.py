"""Parts that many documented bodies share; kept paths write money as JSON numbers, new ones as objects."""

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, WithJsonSchema
from pydantic.alias_generators import to_camel

from rappen_contracts.types import Money
from services.gateway.domain.pagination import Operator

__all__ = [
    "Amount",
    "Currency",
    "Document",
    "MoneyObject",
    "PageInfo",
    "ProblemDocument",
    "Time",
]

# Exact decimals on both sides; the schema says what stands on the wire.
Amount = Annotated[Decimal, WithJsonSchema({"type": "number"})]
Currency = Annotated[str, WithJsonSchema({"type": "string", "pattern": "^[A-Z]{3}$"})]
Time = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]
MoneyObject = Money
# What a filter of a list compares with.
FilterValue = str | bool | None


class Document(BaseModel):
    """Base of bodies that a service reads or writes and the gateway only documents."""

    model_config = ConfigDict(alias_generator=to_camel)


class FieldFault(Document):
    """One fault and where it is."""

    field: str
    message: str


class ProblemDocument(Document):
    """RFC 9457; `errors` with 422 alone, `idempotencyKey` where it is not known what became of a change."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: list[FieldFault] = []
    idempotency_key: str | None = None


class SortRule(Document):
    """One column to sort by."""

    field: str
    direction: Literal["asc", "desc"] = "asc"


class FilterRule(Document):
    """A condition on a column, as it was read."""

    operator: Operator
    value: FilterValue | list[FilterValue] = None


class PageInfo(Document):
    """Which page an answer holds."""

    current_page: int
    page_size: int
    total_items: int
    total_pages: int
    sort: list[SortRule]
    filters: dict[str, FilterRule | FilterValue | list[FilterValue]]
