"""Response models of the routes of invoices."""

from typing import Annotated, Literal

from pydantic import WithJsonSchema

from rappen_contracts.types import Money
from services.billing.invoices.domain import LineKind, PaymentState
from services.chassis.bodies import AnswerBody, Time

__all__ = ["Invoice", "InvoicePage", "InvoiceSummary"]

Day = Annotated[str, WithJsonSchema({"type": "string", "format": "date"})]
Percent = Annotated[str, WithJsonSchema({"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?$"})]


class InvoiceParty(AnswerBody):
    """Who issued an invoice, or whom it is for, as it was then."""

    company: str
    street: str
    zip: str
    city: str
    country: str
    vat_number: str | None


class InvoiceSummary(AnswerBody):
    """An issued invoice: `net` and `vat` are its `total`, of which `paid` was paid and `open` is not yet. `carryBefore`
    and `carryAfter` are what rounding left over before and after it."""

    id: str
    mandate_id: str
    number: str
    period_start: Day
    period_end: Day
    cause: Literal["MONTH", "SWITCH"]
    issued_at: Time
    due_at: Time
    reference: str
    language: Literal["de", "en"]
    seller: InvoiceParty
    recipient: InvoiceParty
    vat_percent: Percent
    net: Money
    vat: Money
    total: Money
    carry_before: Money
    carry_after: Money
    paid: Money
    open: Money
    state: PaymentState
    paid_at: Time | None


class InvoiceItem(AnswerBody):
    """What a line is for, its exact cost, and the amount of it in Rappen with and without VAT; deductions are below
    zero."""

    position: int
    kind: LineKind
    first_day: Day
    last_day: Day
    provider: str | None
    model: str | None
    feature_code: str | None
    feature_instance_id: str | None
    count: int
    cost: Money
    amount: Money
    net: Money


class Invoice(InvoiceSummary):
    """An invoice with its lines."""

    lines: list[InvoiceItem]


class InvoicePage(AnswerBody):
    """Invoices, the newest first."""

    items: list[InvoiceSummary]
    next_cursor: str | None
