"""The event of an invoice."""

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from uuid import uuid5

from rappen_contracts.billing.v1 import InvoiceIssued, InvoiceLine, InvoiceRecipient
from rappen_contracts.registry import INVOICE_ISSUED_V1
from rappen_contracts.types import Money, NonNegativeBalance
from services.billing.invoices.domain import IssuedLine
from services.billing.invoices.repository import NewInvoice
from services.billing.invoices.texts import describe_line, describe_rest
from services.billing.ledger.domain import LEDGER_NAMESPACE
from services.billing.mandates.repository import LockedMandate
from services.billing.money import from_micro
from services.chassis.outbox import OutboxRow, outbox_row

__all__ = ["invoice_issued"]

# As many as the contract takes, and as long.
LINES_MAX = 500
DESCRIPTION_LENGTH_MAX = 120


def invoice_issued(mandate: LockedMandate, invoice: NewInvoice) -> OutboxRow:
    """invoice.issued, with the lines that there is room for, and what is left of them in one."""
    calendar = mandate.calendar
    recipient = {name: text for name, text in invoice.recipient.items() if name != "vat_number"}
    data = InvoiceIssued(
        mandate_id=mandate.id,
        invoice_id=invoice.id,
        number=invoice.number,
        period_start=calendar.begin(invoice.period_start),
        period_end=calendar.begin(invoice.period_end + timedelta(days=1)),
        issued_at=invoice.issued_at,
        due_at=invoice.due_at,
        recipient=InvoiceRecipient(**recipient, vat_number=invoice.recipient["vat_number"]),
        lines=_lines(invoice.lines, invoice.language),
        net=_amount(invoice.net),
        vat_percent=invoice.vat_percent,
        vat=_amount(invoice.vat),
        total=_amount(invoice.total),
        language="de" if invoice.language == "de" else "en",
        cause=f"invoice/{invoice.cause.lower()}",
    )
    event_id = uuid5(LEDGER_NAMESPACE, f"invoice issued/{invoice.id}")
    return outbox_row(INVOICE_ISSUED_V1, data, event_id=event_id, occurred_at=invoice.issued_at, key=mandate.id)


def _lines(lines: Sequence[IssuedLine], language: str) -> list[InvoiceLine]:
    shown = lines if len(lines) <= LINES_MAX else lines[: LINES_MAX - 1]
    found = [_line(describe_line(line.draft, language), line.net) for line in shown]
    if len(shown) < len(lines):
        rest = lines[len(shown) :]
        found.append(_line(describe_rest(len(rest), language), sum(line.net for line in rest)))
    return found


def _line(description: str, net: int) -> InvoiceLine:
    return InvoiceLine(description=description[:DESCRIPTION_LENGTH_MAX], net=Money(amount=_chf(net), currency="CHF"))


def _amount(micros: int) -> NonNegativeBalance:
    return NonNegativeBalance(amount=_chf(micros), currency="CHF")


def _chf(micros: int) -> Decimal:
    return from_micro(micros)
